// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/ipamlog/ipamlog/projection"
)

// Lookup answers what [History.Who] answers by time, for very many addresses and
// times.
//
// Between two moments at which something changes for an address, the answer is the
// same. Those stretches are found once; what is kept of them is numbers, so that a
// million events fit into some dozens of megabytes, and the history is needed no
// more.
//
// It never changes, and is safe for concurrent use.
type Lookup struct {
	began time.Time

	short map[uint32]uint32   // the life of each IPv4 address
	long  map[[16]byte]uint32 // and of each IPv6 address
	lives []uint32            // where the stretches of each life begin, and at last where they end

	// The stretches: when each begins, an [instant], and what is so until the next
	// one of the life.
	from []int64
	what []Answer

	answers []answer
	several []uint32 // rows, for answers that have more than one
	rows    []row
	texts   texts
}

// Answer is what is known of an address at a moment. The same number is the same
// answer of a lookup, whatever the address and the moment: what is made of it may be
// kept.
type Answer uint32 // a number, and the two that are asked of each

// Nobody says that nobody held the address, and that no clock leaves that open.
const Nobody Answer = 0

const (
	isHeld Answer = 1 << iota
	isDoubted
	answerBits = iota
)

// Held says whether somebody held the address.
func (a Answer) Held() bool { return a&isHeld != 0 }

// Doubted says whether the clocks leave open who held the address.
func (a Answer) Doubted() bool { return a&isDoubted != 0 }

// answer is the holders in a stretch, and what is in doubt.
type answer struct {
	first, holders uint32 // a row, or how many there are of several
	from, to       int64  // of the doubt, as instants; both 0: there is none
}

// NewLookup returns a lookup in the given pools or, if they are nil, in any. It
// answers for moments that are later than after; for any where that is zero.
func NewLookup(h *History, in []*projection.PoolLife, after time.Time) *Lookup {
	expected := 0
	if after.IsZero() {
		expected = h.timeline.Past().Rows
	}
	s := newSurvey(h, expected)
	for x := range h.after(after) {
		if in == nil || slices.Contains(in, x.Pool) {
			s.add(x)
		}
	}
	return s.lookup()
}

// Who is the answer for an address at a moment.
func (l *Lookup) Who(address netip.Addr, at time.Time) Answer {
	address = address.Unmap()
	var life uint32
	var ever bool
	if address.Is4() {
		a := address.As4()
		life, ever = l.short[binary.BigEndian.Uint32(a[:])]
	} else {
		life, ever = l.long[address.As16()]
	}
	if !ever {
		return Nobody
	}
	first, last := l.lives[life], l.lives[life+1]
	moment := instant(at)
	low, high := first, last
	for low < high {
		if middle := (low + high) / 2; l.from[middle] > moment {
			high = middle
		} else {
			low = middle + 1
		}
	}
	if low == first {
		return Nobody
	}
	return l.what[low-1]
}

// Holders appends who held the address, in the order in which [Who] lists them.
func (l *Lookup) Holders(list []Holder, a Answer) []Holder {
	switch of := l.answers[a>>answerBits]; of.holders {
	case 0:
		return list
	case 1:
		return append(list, l.holder(of.first))
	default:
		for _, n := range l.several[of.first : of.first+of.holders] {
			list = append(list, l.holder(n))
		}
		return list
	}
}

// Doubt is the whole stretch in which the clocks leave open who held the address;
// false if they do not. It does not say whether it is an end that is in doubt.
func (l *Lookup) Doubt(a Answer) (Doubt, bool) {
	of := l.answers[a>>answerBits]
	return Doubt{From: ofInstant(of.from), To: ofInstant(of.to)}, a.Doubted()
}

// Began is the first time that the log is sure of: of what was before, it cannot
// know. Zero if it has none.
func (l *Lookup) Began() time.Time { return l.began }

// instant is a time as nanoseconds since 1970. What lies before 1678 or after 2262
// is the first or the last there is.
func instant(t time.Time) int64 {
	const perSecond = int64(time.Second)
	switch s := t.Unix(); {
	case s <= math.MinInt64/perSecond:
		return math.MinInt64
	case s >= math.MaxInt64/perSecond:
		return math.MaxInt64
	}
	return t.UnixNano()
}

// ofInstant is the time, which is none at the first and the last.
func ofInstant(n int64) time.Time {
	if n == math.MinInt64 || n == math.MaxInt64 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
