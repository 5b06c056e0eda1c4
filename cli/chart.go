// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"slices"
	"time"

	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
)

// lane is a holding as it is drawn.
type lane struct {
	replay.Holding
	address string // empty: that of the lane above
	bar     render.Bar
}

// roomForImages is how wide a terminal must be for the images beside the bars.
const roomForImages = 110

// draw shows holdings as bars over the time asked about, and those of one address
// together. It returns false where there is no room for that.
func (s *session) draw(h *replay.History, subject replay.Subject, span replay.Span, bounded bool, list []replay.Holding) (bool, error) {
	lanes := make([]lane, 0, len(list))
	for _, x := range list {
		lanes = append(lanes, lane{Holding: x, address: x.Address.String(), bar: bar(h, x)})
	}
	slices.SortStableFunc(lanes, func(a, b lane) int { return a.Address.Compare(b.Address) })
	pools := map[string]bool{}
	for i := range lanes {
		pools[title(lanes[i].Pool)] = true
		if i > 0 && lanes[i].Address == lanes[i-1].Address {
			lanes[i].address = ""
		}
	}
	from, to := s.axis(span, bounded, lanes)
	column := func(name string, value func(lane) string) render.Column[lane] {
		return render.Column[lane]{Name: name, Value: value}
	}
	chart := render.Chart[lane]{
		From: from.In(s.zone), To: to.In(s.zone),
		Bar:      func(l lane) render.Bar { return l.bar },
		Right:    column("end", func(l lane) string { return orHeld(string(l.End)) }),
		Emphasis: func(l lane) render.Emphasis { return emphasis(l.Holding) },
	}
	show := func(name string, when bool, value func(lane) string) {
		if when {
			chart.Left = append(chart.Left, column(name, value))
		}
	}
	show("address", subject.Kind != "address", func(l lane) string { return l.address })
	show("pool", len(pools) > 1, func(l lane) string { return title(l.Pool) })
	show("container", true, func(l lane) string { return occupant(l.Holding) })
	show("image", s.out.Width >= roomForImages, func(l lane) string { return image(l.Holding) })
	show("host", subject.Kind != "host", func(l lane) string { return l.Host })
	return chart.Draw(s.out, lanes)
}

// bar is where a holding is drawn: by the others' clocks where its own is wrong.
func bar(h *replay.History, x replay.Holding) render.Bar {
	drawn := func(m projection.Mark) time.Time {
		if running := h.Timeline().Running(m.Revision); m.Suspect && !running.IsZero() {
			return running
		}
		return m.Time
	}
	b := render.Bar{From: drawn(x.From), FromDoubt: x.From.Suspect, ToDoubt: x.To.Suspect}
	if x.To.Reached() {
		b.To = drawn(x.To)
	}
	return b
}

// axis is the time asked about; where no bounds were given, from the first
// beginning to now, or to the last end if nothing is held any more.
func (s *session) axis(span replay.Span, bounded bool, lanes []lane) (from, to time.Time) {
	from, to = span.From.Time, span.To.Time
	if from.IsZero() {
		from = slices.MinFunc(lanes, func(a, b lane) int { return a.bar.From.Compare(b.bar.From) }).bar.From
	}
	last := slices.MaxFunc(lanes, func(a, b lane) int { return a.bar.To.Compare(b.bar.To) }).bar.To
	open := slices.ContainsFunc(lanes, func(l lane) bool { return l.bar.To.IsZero() })
	if !bounded && !open {
		to = last
	}
	return from, to
}

func orHeld(end string) string {
	if end == "" {
		return "held"
	}
	return end
}
