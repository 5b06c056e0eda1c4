// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"math"
	"net/netip"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/ipamlog/ipamlog/projection"
)

// Lookup answers what [History.Who] answers by time, for very many addresses and
// times: what is made of an answer (its JSON, its cells) is made once.
//
// Between two moments at which something changes for an address, the answer is the
// same. Those stretches are found when an address is first asked for.
//
// Safe for concurrent use.
type Lookup[T any] struct {
	history *History
	make    func([]Holding, *Doubt) T
	nobody  T
	lives   map[netip.Addr]*life[T]
}

// NewLookup returns a lookup in the given pools or, if they are nil, in any. what
// makes an answer of the holdings that [Who] lists, of none when nobody held the
// address, and of what the clocks leave open, nil if they do not; several goroutines
// may call it at once, and it must not keep the list.
func NewLookup[T any](h *History, in []*projection.PoolLife, what func([]Holding, *Doubt) T) *Lookup[T] {
	l := &Lookup[T]{history: h, make: what, nobody: what(nil, nil), lives: map[netip.Addr]*life[T]{}}
	for x := range h.timeline.Holdings() {
		if in != nil && !slices.Contains(in, x.Pool) {
			continue
		}
		of := l.lives[x.Address]
		if of == nil {
			of = &life[T]{}
			l.lives[x.Address] = of
		}
		of.holdings = append(of.holdings, x)
	}
	return l
}

// Who is what was made of the holdings of an address at a moment.
func (l *Lookup[T]) Who(address netip.Addr, at time.Time) T {
	of := l.lives[address.Unmap().WithZone("")]
	if of == nil {
		return l.nobody
	}
	of.cut.Do(func() { of.stretches = l.stretches(of.holdings) })
	moment := instant(at)
	n := sort.Search(len(of.stretches), func(i int) bool { return of.stretches[i].from > moment })
	if n == 0 || of.stretches[n-1].unheld() {
		return l.nobody
	}
	s := &of.stretches[n-1]
	s.once.Do(func() { s.answer = l.make(l.describe(s), s.doubt) })
	return s.answer
}

// Began is the first time that the log is sure of: of what was before, it cannot
// know. Zero if it has none.
func (l *Lookup[T]) Began() time.Time { return l.history.timeline.Later(time.Time{}) }

// life is all that an address ever was.
type life[T any] struct {
	holdings  []*projection.Holding // in the order of their beginning
	cut       sync.Once
	stretches []stretch[T] // in the order of time
}

// stretch is a time in which the same holders have the same names, and the same is
// in doubt. It lasts until the next one begins.
type stretch[T any] struct {
	from   int64 // an [instant]
	held   []*projection.Holding
	doubt  *Doubt // of these or others; nil: there is none
	once   sync.Once
	answer T
}

// unheld says whether nobody held the address, for sure.
func (s *stretch[T]) unheld() bool { return len(s.held) == 0 && s.doubt == nil }

func (l *Lookup[T]) stretches(all []*projection.Holding) []stretch[T] {
	doubts := l.doubts(all)
	bounds := l.bounds(all, doubts)
	list := make([]stretch[T], 0, len(bounds))
	// Those that the log has not ended yet. There are few of them at a time, however
	// many there ever were.
	var open []*projection.Holding
	var shared []*projection.Holding // by the stretches
	var doubted []doubtedHolding     // at the moment
	next := 0
	for _, from := range bounds {
		m := l.moment(from)
		for ; next < len(all) && all[next].From.Revision <= m.Revision; next++ {
			open = append(open, all[next])
		}
		open = slices.DeleteFunc(open, func(x *projection.Holding) bool { return !x.At(m.Revision) })
		first := len(shared)
		for _, x := range open {
			if m.Holds(x) {
				shared = append(shared, x)
			}
		}
		for ; len(doubts) > 0 && instant(doubts[0].From) <= from; doubts = doubts[1:] {
			doubted = append(doubted, doubts[0])
		}
		doubted = slices.DeleteFunc(doubted, func(d doubtedHolding) bool { return !d.covers(m.Time) })
		held, doubt := shared[first:len(shared):len(shared)], l.doubt(m, doubted)
		if n := len(list); len(held) == 0 && doubt == nil && (n == 0 || list[n-1].unheld()) {
			continue
		}
		list = append(list, stretch[T]{from: from, held: held, doubt: doubt})
	}
	return list
}

// doubtedHolding is a holding and one of the stretches in which it is in doubt.
type doubtedHolding struct {
	Doubt
	of *projection.Holding
}

// doubts are all there can be of these holdings, in the order of their beginning.
func (l *Lookup[T]) doubts(all []*projection.Holding) []doubtedHolding {
	var list []doubtedHolding
	for _, x := range all {
		for _, stretch := range []func(*projection.Holding) (Doubt, bool){l.history.begun, l.history.ended} {
			if d, doubtful := stretch(x); doubtful {
				list = append(list, doubtedHolding{d, x})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b doubtedHolding) int { return a.From.Compare(b.From) })
	return list
}

// doubt is what [Who] says of them together.
func (l *Lookup[T]) doubt(m Moment, list []doubtedHolding) *Doubt {
	var who Who
	for _, d := range list {
		if doubt := l.history.doubt(m, d.of); doubt != nil {
			who.Doubts = append(who.Doubts, Holding{Doubt: doubt})
		}
	}
	return who.doubt()
}

// bounds are the instants at which an answer about these holdings may change:
// [Moment.Holds], [Moment.describe] and [Doubt] compare a moment with nothing else.
func (l *Lookup[T]) bounds(all []*projection.Holding, doubts []doubtedHolding) []int64 {
	var list []int64
	add := func(t time.Time) { list = append(list, instant(t)) }
	for _, x := range all {
		add(l.history.timeline.Running(x.From.Revision))
		if x.To.Reached() {
			add(l.history.timeline.Running(x.To.Revision))
		}
		if x.Early {
			add(x.To.Time)
		}
		for _, told := range x.Told {
			add(told.Time)
			add(told.Time.Add(1)) // for what is compared as after it
			if !told.Since.IsZero() {
				add(told.Since)
			}
		}
	}
	for _, d := range doubts {
		add(d.From)
		if !d.To.IsZero() {
			add(d.To)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func (l *Lookup[T]) describe(s *stretch[T]) []Holding {
	m := l.moment(s.from)
	list := make([]Holding, 0, len(s.held))
	for _, x := range s.held {
		list = append(list, m.describe(x))
	}
	return list
}

func (l *Lookup[T]) moment(from int64) Moment {
	at := time.Unix(0, from).UTC()
	return Moment{Revision: l.history.timeline.Until(at), Time: at, byTime: true}
}

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
