// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
)

// Holder is who held an address, as far as a line of a log has room for it. What is
// not known is empty or zero.
type Holder struct {
	Allocation  events.ID
	Container   string // its name then
	ContainerID string
	Image       string
	Network     string
	Host        string
	Pool        string
	Endpoint    string
	Kind        events.Kind
	MAC         events.MAC
	// From and To are to the microsecond; To is zero while it is held.
	From, To     time.Time
	ClockSuspect bool
}

// row is a holder in numbers.
type row struct {
	allocation events.ID
	from, to   int64 // microseconds since 1970
	// Of texts.
	container, containerID, image, network, host, pool, endpoint uint32

	mac     events.MAC
	kind    events.Kind
	suspect bool
}

// never is a time that is none.
const never = math.MinInt64

func micro(t time.Time) int64 {
	if t.IsZero() {
		return never
	}
	return t.UnixMicro()
}

func ofMicro(n int64) time.Time {
	if n == never {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// holder is the row with that number.
func (l *Lookup) holder(n uint32) Holder {
	r := &l.rows[n]
	return Holder{
		Allocation: r.allocation, Kind: r.kind, MAC: r.mac,
		Container: l.texts.text(r.container), ContainerID: l.texts.text(r.containerID), Image: l.texts.text(r.image),
		Network: l.texts.text(r.network), Host: l.texts.text(r.host), Pool: l.texts.text(r.pool), Endpoint: l.texts.text(r.endpoint),
		From: ofMicro(r.from), To: ofMicro(r.to), ClockSuspect: r.suspect,
	}
}

// rowOf is a holding in numbers, but for the name of its container. told are those
// that are of one.
func rowOf(x *projection.Holding, told []projection.Told, t *gathering) row {
	r := row{
		allocation: x.Allocation, from: micro(x.From.Time), to: micro(x.To.Time),
		host: t.number(x.Host), pool: t.number(x.Pool.Name), endpoint: t.number(x.Endpoint),
		mac: x.MAC, kind: x.Kind, suspect: x.From.Suspect || x.To.Suspect,
	}
	for _, told := range slices.Backward(x.Told) { // as networkOf does
		if told.NetworkID != "" {
			r.network = t.number(told.NetworkName)
			break
		}
	}
	if len(told) > 0 {
		r.containerID = t.add(told[len(told)-1].ContainerID)
	}
	// One that was told later may say less.
	for i := len(told) - 1; i >= 0 && r.image == 0; i-- {
		r.image = t.number(told[i].Image)
	}
	return r
}

// texts are many texts in one, by number; 0 is the empty one.
type texts struct {
	all  string
	ends []int // of each, and so the beginnings of the next
}

func (t *texts) text(n uint32) string {
	if n == 0 {
		return ""
	}
	return t.all[t.ends[n-1]:t.ends[n]]
}

// gathering is texts to which more are being added.
type gathering struct {
	all     strings.Builder
	ends    []int
	numbers map[string]uint32
}

func newGathering() *gathering { return &gathering{ends: []int{0}, numbers: map[string]uint32{"": 0}} }

// number is that of a text that many have.
func (t *gathering) number(text string) uint32 {
	n, ok := t.numbers[text]
	if !ok {
		n = t.add(text)
		t.numbers[text] = n
	}
	return n
}

// add is the number of a text that nobody else is likely to have.
func (t *gathering) add(text string) uint32 {
	if text == "" {
		return 0
	}
	t.all.WriteString(text)
	t.ends = append(t.ends, t.all.Len())
	return uint32(len(t.ends) - 1)
}

func (t *gathering) texts() texts { return texts{t.all.String(), t.ends} }
