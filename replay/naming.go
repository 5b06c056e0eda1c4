// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"slices"
	"time"

	"github.com/ipamlog/ipamlog/projection"
)

// naming is a name that a container got, as one telling has it, and when that was.
type naming struct {
	name string
	// from is the earliest it can have been. From by on it was so for sure; zero: no
	// clock to be believed has said so yet.
	from, by time.Time
	// always says that it was so from the beginning of the holding.
	always bool
}

// namings are the names that a holding's container had, in the order of the log.
func (h *History) namings(x *projection.Holding, told []projection.Told) []naming {
	list := make([]naming, 0, len(told))
	for i, t := range told {
		n := naming{name: t.ContainerName, always: i == 0 && !t.Since.After(x.From.Time)}
		if !n.always {
			before := x.From
			if i > 0 {
				before = told[i-1].Mark
			}
			n.from, n.by = h.renamed(x, before, t)
		}
		list = append(list, n)
	}
	return list
}

// renamed is where a container can have got a name, which it had not yet when
// something else was told before.
//
// The engine's moment is not believed without bound. It was read off the same
// host's clock as the commit that tells of it, and is as wrong as that one may be.
// One that does not lie between the beginning of the holding and that commit is no
// time at all.
func (h *History) renamed(x *projection.Holding, before projection.Mark, t projection.Told) (from, by time.Time) {
	told := Doubt{From: t.Time, To: t.Time}
	if d, doubtful := h.stretch(t.Mark); doubtful {
		told = d
	}
	if !t.Since.IsZero() && !t.Since.Before(x.From.Time) && !t.Since.After(t.Time) {
		from = t.Since.Add(told.From.Sub(t.Time))
		if told.To.IsZero() {
			return from, time.Time{}
		}
		return from, t.Since.Add(told.To.Sub(t.Time))
	}
	from = before.Time
	if d, doubtful := h.stretch(before); doubtful {
		from = d.From
	}
	return from.Add(1), told.To // at that very moment it had the other one
}

// named is the name among these at a moment; empty if it is not known which.
func named(list []naming, at time.Time) string {
	found := ""
	for _, n := range slices.Backward(list) {
		begun := n.always || !at.Before(n.from)
		sure := n.always || begun && !n.by.IsZero() && !at.Before(n.by)
		switch {
		case begun && found != "" && n.name != found:
			return "" // either of them
		case sure:
			return n.name
		case begun && n.name == "":
			return ""
		case begun:
			found = n.name
		}
	}
	return "" // what it was called before is not known
}
