// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"cmp"
	"encoding/json"
	"net/netip"
	"slices"

	"github.com/ipamlog/ipamlog/projection"
)

// The changes of hands there are.
const (
	Gained  = "gained"  // held after, by nobody before
	Lost    = "lost"    // held before, by nobody after
	Changed = "changed" // held by one before and by another after
)

// Change is what became of one address between two moments.
type Change struct {
	Address netip.Addr
	Change  string   // [Gained], [Lost] or [Changed]
	Before  *Holding // nil: gained
	After   *Holding // nil: lost
}

// MarshalJSON is the promised form of a change.
func (c Change) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Address netip.Addr `json:"address"`
		Change  string     `json:"change"`
		Before  *Holding   `json:"before"`
		After   *Holding   `json:"after"`
	}(c))
}

// Diff lists what became of the addresses of the pools, of all if it is nil,
// between two moments, by address. What happened in between and was undone is left
// out, and so is a container that gave its address back and has it again. Of an
// address that several hold, each hand counts for itself.
func (h *History) Diff(pools []*projection.PoolLife, before, after Moment) []Change {
	was, is := h.hands(pools, before), h.hands(pools, after)
	changes := []Change{}
	for place, lost := range was {
		gained := is[place]
		// Who kept what they had first, then one for the other on the same host, and
		// what is left over has no counterpart.
		lost, gained, _ = pair(lost, gained, sameHand)
		lost, gained, changed := pair(lost, gained, func(a, b Holding) bool { return !a.Shared || a.Host == b.Host })
		changes = append(changes, changed...)
		for _, x := range lost {
			changes = append(changes, Change{Address: x.Address, Change: Lost, Before: &x})
		}
		is[place] = gained
	}
	for _, gained := range is {
		for _, x := range gained {
			changes = append(changes, Change{Address: x.Address, Change: Gained, After: &x})
		}
	}
	slices.SortFunc(changes, func(a, b Change) int {
		return cmp.Or(a.Address.Compare(b.Address), byAddress(a.either(), b.either()))
	})
	return changes
}

func (c Change) either() Holding {
	if c.Before != nil {
		return *c.Before
	}
	return *c.After
}

// place is an address of a pool, whose incarnations are one and the same.
type place struct {
	space, pool string
	address     netip.Addr
}

func (h *History) hands(pools []*projection.PoolLife, m Moment) map[place][]Holding {
	hands := map[place][]Holding{}
	for _, x := range h.Holders(nil, m) {
		if pools == nil || slices.Contains(pools, x.Pool) {
			at := place{string(x.Pool.Space), Title(x.Pool), x.Address}
			hands[at] = append(hands[at], x)
		}
	}
	return hands
}

func sameHand(a, b Holding) bool {
	return a.Allocation == b.Allocation ||
		a.Container != nil && b.Container != nil && a.Container.ID == b.Container.ID
}

// pair takes out of both lists those that belong together.
func pair(before, after []Holding, together func(a, b Holding) bool) (restBefore, restAfter []Holding, pairs []Change) {
	restAfter = slices.Clone(after)
	for _, a := range before {
		i := slices.IndexFunc(restAfter, func(b Holding) bool { return together(a, b) })
		if i < 0 {
			restBefore = append(restBefore, a)
			continue
		}
		b := restAfter[i]
		pairs = append(pairs, Change{Address: a.Address, Change: Changed, Before: &a, After: &b})
		restAfter = slices.Delete(restAfter, i, i+1)
	}
	return restBefore, restAfter, pairs
}
