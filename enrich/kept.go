// SPDX-License-Identifier: Apache-2.0

package enrich

import "github.com/ipamlog/ipamlog/replay"

const (
	// places is how many answers a worker keeps as they are written: those to the
	// lines of a while, for whom many are of the same holders.
	places     = 1 << placesBits
	placesBits = 15
	// longAnswer is what is not kept: names of a length that nobody gives.
	longAnswer = 4 << 10
)

// kept is an answer as it was written once.
type kept struct {
	era    int // its number
	answer replay.Answer
	there  bool
	cut    int // where what is in doubt begins
	text   []byte
}

// text is what is added for an address, and what is in doubt, until the next one is
// asked for.
func (w *worker) text(f found) (text, doubt []byte) {
	place := &w.kept[uint32(f.answer)*2654435769>>(32-placesBits)]
	if !place.there || place.answer != f.answer || place.era != f.era.number {
		w.fill(place, f)
	}
	return place.text[:place.cut], place.text[place.cut:]
}

func (w *worker) fill(place *kept, f found) {
	w.holders = f.era.lookup.Holders(w.holders[:0], f.answer)
	var doubt *replay.Doubt
	if d, doubtful := f.era.lookup.Doubt(f.answer); doubtful {
		doubt = &d
	}
	w.written, place.cut = w.form(w.written[:0], w.holders, doubt)
	if place.there = len(w.written) <= longAnswer; !place.there {
		place.text = w.written
		return
	}
	if cap(place.text) > longAnswer {
		place.text = nil // it was not its own
	}
	place.era, place.answer = f.era.number, f.answer
	place.text = append(place.text[:0], w.written...)
}
