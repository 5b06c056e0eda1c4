// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"encoding/json"
	"net/netip"
	"slices"
	"time"

	"github.com/ipamlog/ipamlog/projection"
)

// Who is the answer to: who held this address at that moment?
type Who struct {
	Address  netip.Addr
	At       Moment
	Holdings []Holding // an address may be held in several pools, and shared
	// Doubts are what the clocks leave open near the moment, of this or another
	// holding of the address; without any the answer is sure. A revision has none.
	Doubts []Holding
	// Before and After are, when nobody held the address, the last holding that
	// had ended and the first that was to come; nil if there is none.
	Before, After *Holding
	// Forgotten is up to when the log was forgotten, if the moment is before that: then
	// who had ended by it is not known any more. Zero: it was not.
	Forgotten time.Time
}

// Who answers who held an address at a moment, in the given pools or, if it is
// nil, in any.
func (h *History) Who(address netip.Addr, in []*projection.PoolLife, m Moment) Who {
	// Pools know the plain form alone; logs of dual-stack sockets have the other.
	address = address.Unmap().WithZone("")
	who := Who{Address: address, At: m, Holdings: []Holding{}}
	if h.Lacks(m) {
		who.Forgotten = h.Border.Running
	}
	for _, x := range m.describeAll(h.timeline.Of(address), func(x *projection.Holding) bool {
		return in == nil || slices.Contains(in, x.Pool)
	}) {
		if doubt := h.doubt(m, &x.Holding); doubt != nil {
			doubted := x
			doubted.Doubt = doubt
			who.Doubts = append(who.Doubts, doubted)
		}
		switch {
		case m.Holds(&x.Holding):
			who.Holdings = append(who.Holdings, x)
		case x.From.Revision > m.Revision:
			if who.After == nil {
				who.After = &x
			}
		case who.Before == nil || x.To.Revision >= who.Before.To.Revision:
			who.Before = &x
		}
	}
	if len(who.Holdings) > 0 {
		who.Before, who.After = nil, nil
	}
	return who
}

// ClockDoubt is the whole stretch in which the clocks leave an answer open, of this
// or another holding of the address; nil if they do not.
func (w Who) ClockDoubt() *Doubt {
	if len(w.Doubts) == 0 {
		return nil
	}
	all := *w.Doubts[0].Doubt
	for _, x := range w.Doubts[1:] {
		all = all.with(*x.Doubt)
	}
	return &all
}

// MarshalJSON is the promised form of the answer.
func (w Who) MarshalJSON() ([]byte, error) {
	type answer struct {
		Address    netip.Addr `json:"address"`
		At         *string    `json:"at"`
		AtRevision int64      `json:"at_revision"`
		ClockDoubt *Doubt     `json:"clock_doubt,omitempty"`
		Forgotten  *string    `json:"forgotten_until,omitempty"`
		Holdings   []Holding  `json:"holdings"`
	}
	a := answer{w.Address, known(Stamp(w.At.Time)), w.At.Revision, w.ClockDoubt(), nil, w.Holdings}
	if !w.Forgotten.IsZero() {
		a.Forgotten = known(Stamp(w.Forgotten))
	}
	if len(w.Holdings) > 0 {
		return json.Marshal(a)
	}
	return json.Marshal(struct {
		answer
		Before *Holding `json:"before"`
		After  *Holding `json:"after"`
	}{a, w.Before, w.After})
}
