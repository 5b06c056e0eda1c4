// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"encoding/json"
	"time"

	"github.com/ipamlog/ipamlog/projection"
)

// Doubt is a stretch of time in which a holding began or ended, and no clock says
// where in it. Who asks for a moment in the stretch may get the wrong answer; by
// revision there is no doubt.
type Doubt struct {
	// From is the earliest it can have been; zero: at any time before To.
	From time.Time
	// To is when it had been for sure; zero: no clock to be believed has said so yet.
	To time.Time
	// Ended says that it is the end that is in doubt, not the beginning.
	Ended bool
}

// MarshalJSON is the promised form of a doubt.
func (d Doubt) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		From *string `json:"from"`
		To   *string `json:"to"`
	}{known(Stamp(d.From)), known(Stamp(d.To))})
}

func (d Doubt) covers(t time.Time) bool {
	return !t.Before(d.From) && (d.To.IsZero() || t.Before(d.To))
}

// with is the stretch that covers both.
func (d Doubt) with(other Doubt) Doubt {
	if other.From.Before(d.From) {
		d.From = other.From
	}
	if other.To.IsZero() || !d.To.IsZero() && other.To.After(d.To) {
		d.To = other.To
	}
	return d
}

// doubt says whether the moment is too near the beginning or the end of a holding
// for the clocks; nil if it is not. Revisions are counted, not read off a clock.
func (h *History) doubt(m Moment, x *projection.Holding) *Doubt {
	if !m.byTime {
		return nil
	}
	for _, stretch := range []func(*projection.Holding) (Doubt, bool){h.begun, h.ended} {
		if d, doubtful := stretch(x); doubtful && d.covers(m.Time) {
			return &d
		}
	}
	return nil
}

// begun is where a holding may have begun, if the clocks leave room.
func (h *History) begun(x *projection.Holding) (Doubt, bool) { return h.stretch(x.From) }

// ended is where a holding may have ended, if it did and the clocks leave room.
func (h *History) ended(x *projection.Holding) (Doubt, bool) {
	if !x.To.Reached() {
		return Doubt{}, false // it stands
	}
	running := h.timeline.Running(x.To.Revision)
	believed := running.After(h.timeline.Running(x.To.Revision - 1)) // the commit was not marked
	if x.Early && !x.To.Suspect {
		// Docker's own moment is known, unless the clock that told it was ahead.
		d := Doubt{From: h.earliest(x.From.Revision), To: x.To.Time, Ended: true}
		return d, believed && h.earliest(x.To.Revision).Before(running) && d.From.Before(d.To)
	}
	if x.To.Suspect && (x.Early || believed || !x.To.Time.After(running)) {
		// The moment at which Docker is said to have ended it cannot have been: it is
		// anywhere between the beginning and the commit.
		d := Doubt{From: h.earliest(x.From.Revision), To: running, Ended: true}
		if !believed {
			d.To = h.timeline.Later(running)
		}
		return d, true
	}
	d, doubtful := h.stretch(x.To)
	d.Ended = true
	return d, doubtful
}

// ordinary is by how much clocks may differ that are kept right. It is what writers
// allow one another too, before they mark a commit.
const ordinary = 10 * time.Second

// stretch is where the moment of a commit lies. One that is marked came after the
// running time before it, and before the next commit that moved the running time
// on. One whose clock is behind the others' came between its own time and theirs;
// if it is far behind it is likelier the wrong one, and as little a bound as one
// that is marked. One whose clock was ahead of what others said later came before
// its own time.
func (h *History) stretch(at projection.Mark) (Doubt, bool) {
	running := h.timeline.Running(at.Revision)
	if at.Suspect {
		return Doubt{From: h.earliest(at.Revision), To: h.timeline.Later(running)}, true
	}
	switch {
	case at.Time.Before(running.Add(-ordinary)):
		return Doubt{From: at.Time, To: h.timeline.Later(running)}, true
	case at.Time.Before(running):
		return Doubt{From: at.Time, To: running}, true
	}
	earliest := h.earliest(at.Revision)
	return Doubt{From: earliest, To: at.Time}, earliest.Before(at.Time)
}

// earliest is a time before which a commit cannot have come: the running time there
// or, if a later commit's clock was behind that, the last one before it that none
// contradicts.
func (h *History) earliest(revision int64) time.Time {
	for {
		running := h.timeline.Running(revision)
		said, contradicted := h.timeline.Contradicted(revision)
		if !contradicted || !said.Before(running) {
			return running
		}
		revision = h.timeline.Until(said) // before this one, whose running time is later
	}
}
