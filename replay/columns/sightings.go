// SPDX-License-Identifier: Apache-2.0

package columns

import (
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
)

// Sighting is a holding and where it stands to the moment that was asked about.
type Sighting struct {
	replay.Holding
	When string // [Held], [Before] or [After]
}

// Where a holding may stand to a moment.
const (
	Before = "before"
	Held   = "held"
	After  = "after"
)

// Sighted lists what an answer tells of: who held the address or, if nobody did, who
// held it before and after. What the clocks leave open of the answer is said of each,
// for it may be about a holding that is not among them.
func Sighted(who replay.Who) []Sighting {
	var list []Sighting
	add := func(x replay.Holding, when string) {
		x.Doubt = who.ClockDoubt()
		list = append(list, Sighting{x, when})
	}
	if who.Before != nil {
		add(*who.Before, Before)
	}
	for _, x := range who.Holdings {
		add(x, Held)
	}
	if who.After != nil {
		add(*who.After, After)
	}
	return list
}

// Sightings are the columns of sightings: where they stand, and those of the
// holdings, which are [Holdings] or what became of them.
func Sightings(holdings []render.Column[replay.Holding]) []render.Column[Sighting] {
	return append(
		[]render.Column[Sighting]{{Name: "when", Value: func(x Sighting) string { return x.When }}},
		render.Within(holdings, func(x Sighting) *replay.Holding { return &x.Holding })...,
	)
}
