// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"cmp"
	"encoding/binary"
	"iter"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/ipamlog/ipamlog/projection"
)

// survey makes a [Lookup]. It is told of the holdings one by one, and keeps nothing
// but numbers of them either: they may be read from an index, and all of them at
// once be too much.
type survey struct {
	h     *History
	clock clockwork
	to    *Lookup
	texts *gathering
	count []uint32 // how many spans there are of each life
	spans []span   // in the order of the holdings' beginning, as are the rows
	// Few of them have names that change, or are in doubt.
	names  [][]naming
	doubts []doubted

	renamed map[renaming]uint32 // rows of holders by a later name
	// For one life at a time.
	bounds       []int64
	open         []uint32
	held, before []uint32 // rows
}

// span is when a holding stood, by its number.
type span struct {
	from, to int64  // instants; to is not in it
	life     uint32 // of which address
	name     uint32 // in names, from 1 on; 0: it is always the row's
	doubt    uint32 // in doubts, from 1 on; 0: there is none
}

// doubted is where a holding may have begun and ended, as instants; with nothing
// between where that is not in doubt.
type doubted struct{ beginFrom, beginTo, endFrom, endTo int64 }

// covers is the stretch that a moment is in. Where it is in both, it is the
// beginning that counts, as for [History.doubt].
func (d doubted) covers(moment int64) (from, to int64, covers bool) {
	switch {
	case d.beginFrom <= moment && moment < d.beginTo:
		return d.beginFrom, d.beginTo, true
	case d.endFrom <= moment && moment < d.endTo:
		return d.endFrom, d.endTo, true
	}
	return 0, 0, false
}

type renaming struct{ row, name uint32 }

// newSurvey returns one of so many holdings, about; 0: of few of the history's.
func newSurvey(h *History, holdings int) *survey {
	return &survey{
		spans: make([]span, 0, holdings),
		h:     h, clock: newClockwork(h.timeline, holdings > 0), texts: newGathering(), renamed: map[renaming]uint32{},
		to: &Lookup{
			began: h.timeline.Later(time.Time{}), short: map[uint32]uint32{}, long: map[[16]byte]uint32{},
			answers: make([]answer, 1, 1+holdings), // nobody
			rows:    make([]row, 0, holdings),
		},
	}
}

// after goes over the holdings on which an answer for a later moment may rest. They
// are those that had not ended; and if the clocks leave open when one ended, it is
// as long as the running time has not moved on since.
func (h *History) after(moment time.Time) iter.Seq[*projection.Holding] {
	if moment.IsZero() {
		return h.timeline.Holdings()
	}
	running := h.timeline.Running(h.timeline.Until(moment))
	return h.timeline.Between(h.timeline.Until(running.Add(-1)), math.MaxInt64)
}

// add takes in a holding.
func (s *survey) add(x *projection.Holding) {
	told := ofContainer(x.Told)
	r := rowOf(x, told, s.texts)
	p := span{from: s.clock.running(x.From.Revision), to: math.MaxInt64, life: s.life(x.Address)}
	if x.To.Reached() {
		p.to = s.clock.running(x.To.Revision)
		if x.Early && !x.To.Suspect {
			p.to = min(p.to, instant(x.To.Time))
		}
	}
	switch {
	case len(told) == 1 && told[0].Since.IsZero():
		r.container = s.texts.number(told[0].ContainerName)
	case len(told) > 0:
		s.names = append(s.names, s.h.namings(x, told))
		p.name = uint32(len(s.names))
	}
	if !s.sure(x.From) || x.To.Reached() && (x.Early || !s.sure(x.To)) {
		p.doubt = s.doubt(x)
	}
	s.to.rows = append(s.to.rows, r)
	s.spans = append(s.spans, p)
}

// life is the number of an address.
func (s *survey) life(address netip.Addr) uint32 {
	next := uint32(len(s.count))
	var n uint32
	var known bool
	if address.Is4() {
		a := address.As4()
		key := binary.BigEndian.Uint32(a[:])
		if n, known = s.to.short[key]; !known {
			s.to.short[key] = next
		}
	} else {
		key := address.As16()
		if n, known = s.to.long[key]; !known {
			s.to.long[key] = next
		}
	}
	if !known {
		n = next
		s.count = append(s.count, 0)
	}
	s.count[n]++
	return n
}

// sure says whether a commit came when its clock said so, as nearly all did. It is
// false for some of which it turns out to be so as well.
func (s *survey) sure(at projection.Mark) bool {
	_, contradicted := s.h.timeline.Contradicted(at.Revision)
	return !at.Suspect && !contradicted && s.clock.running(at.Revision) == instant(at.Time)
}

func (s *survey) doubt(x *projection.Holding) uint32 {
	begun, beginning := s.h.begun(x)
	ended, end := s.h.ended(x)
	if !beginning && !end {
		return 0
	}
	var d doubted
	if beginning {
		d.beginFrom, d.beginTo = begun.instants()
	}
	if end {
		d.endFrom, d.endTo = ended.instants()
	}
	s.doubts = append(s.doubts, d)
	return uint32(len(s.doubts))
}

// instants are the ends of a doubt, also those that are open.
func (d Doubt) instants() (from, to int64) {
	from, to = math.MinInt64, math.MaxInt64
	if !d.From.IsZero() {
		from = instant(d.From)
	}
	if !d.To.IsZero() {
		to = instant(d.To)
	}
	return from, to
}

// lookup finds the stretches of each life.
func (s *survey) lookup() *Lookup {
	l := s.to
	l.lives = make([]uint32, 0, len(s.count)+1)
	l.from, l.what = make([]int64, 0, 2*len(s.spans)), make([]Answer, 0, 2*len(s.spans))
	// The spans by lives, in the order of their beginning in each.
	ends := make([]uint32, len(s.count)+1)
	for n, spans := range s.count {
		ends[n+1] = ends[n] + spans
	}
	byLife := make([]uint32, len(s.spans))
	next := slices.Clone(ends)
	for n := range s.spans {
		life := s.spans[n].life
		byLife[next[life]] = uint32(n)
		next[life]++
	}
	for n := range s.count {
		l.lives = append(l.lives, uint32(len(l.from)))
		s.survey(byLife[ends[n]:ends[n+1]])
	}
	l.lives = append(l.lives, uint32(len(l.from)))
	l.from, l.what, l.answers = slices.Clip(l.from), slices.Clip(l.what), slices.Clip(l.answers)
	l.texts = s.texts.texts()
	return l
}

// survey finds the stretches of a life, which has these spans.
func (s *survey) survey(life []uint32) {
	l := s.to
	s.mark(life)
	// Those that may have begun are looked at until nothing of them can be any more.
	// There are few at a time, however many there ever were.
	slices.SortStableFunc(life, func(a, b uint32) int { return cmp.Compare(s.begins(a), s.begins(b)) })
	s.open, s.before = s.open[:0], s.before[:0]
	first := len(l.from)
	var last answer
	for _, at := range s.bounds {
		for ; len(life) > 0 && s.begins(life[0]) <= at; life = life[1:] {
			n, _ := slices.BinarySearch(s.open, life[0])
			s.open = slices.Insert(s.open, n, life[0])
		}
		s.open = slices.DeleteFunc(s.open, func(n uint32) bool { return s.ends(n) <= at })
		now := s.at(at)
		if slices.Equal(s.held, s.before) && now == last && (len(l.from) > first || now == (answer{})) {
			continue
		}
		last = now
		s.before = append(s.before[:0], s.held...)
		l.from, l.what = append(l.from, at), append(l.what, s.answer(now))
	}
}

// at is the answer at a moment, but for the rows of the holders, which are in held.
func (s *survey) at(moment int64) (now answer) {
	s.held = s.held[:0]
	for _, n := range s.open {
		p := &s.spans[n]
		if p.from <= moment && moment < p.to {
			s.held = append(s.held, s.row(n, moment))
		}
		if p.doubt == 0 {
			continue
		}
		if from, to, covers := s.doubts[p.doubt-1].covers(moment); covers && now == (answer{}) {
			now.from, now.to = from, to
		} else if covers {
			now.from, now.to = min(now.from, from), max(now.to, to)
		}
	}
	now.holders = uint32(len(s.held))
	return now
}

// mark finds the instants at which an answer about these spans may change.
func (s *survey) mark(life []uint32) {
	s.bounds = s.bounds[:0]
	for _, n := range life {
		p := &s.spans[n]
		s.bounds = append(s.bounds, p.from, p.to)
		if p.doubt > 0 {
			d := s.doubts[p.doubt-1]
			s.bounds = append(s.bounds, d.beginFrom, d.beginTo, d.endFrom, d.endTo)
		}
		if p.name > 0 {
			for _, name := range s.names[p.name-1] {
				s.bounds = append(s.bounds, instant(name.from), instant(name.by))
			}
		}
	}
	slices.Sort(s.bounds)
	s.bounds = slices.Compact(s.bounds)
	if n := len(s.bounds) - 1; n >= 0 && s.bounds[n] == math.MaxInt64 {
		s.bounds = s.bounds[:n] // nothing ever changes there
	}
}

// begins is the first instant at which a span matters, and ends the first at which it
// does not any more.
func (s *survey) begins(n uint32) int64 {
	p := &s.spans[n]
	if p.doubt == 0 {
		return p.from
	}
	d := &s.doubts[p.doubt-1]
	return min(p.from, d.beginFrom, d.endFrom)
}

func (s *survey) ends(n uint32) int64 {
	p := &s.spans[n]
	if p.doubt == 0 {
		return p.to
	}
	d := &s.doubts[p.doubt-1]
	return max(p.to, d.beginTo, d.endTo)
}

// row is that of a span's holder with the name that it had at a moment.
func (s *survey) row(n uint32, moment int64) uint32 {
	p := &s.spans[n]
	if p.name == 0 {
		return n
	}
	name := s.texts.number(named(s.names[p.name-1], time.Unix(0, moment)))
	key := renaming{n, name}
	row, ok := s.renamed[key]
	if !ok {
		row = uint32(len(s.to.rows))
		renamed := s.to.rows[n]
		renamed.container = name
		s.to.rows = append(s.to.rows, renamed)
		s.renamed[key] = row
	}
	return row
}

// answer is the number of one, whose holders are in held.
func (s *survey) answer(a answer) Answer {
	switch len(s.held) {
	case 0:
		if a == (answer{}) {
			return Nobody
		}
	case 1:
		a.first = s.held[0]
	default:
		a.first = uint32(len(s.to.several))
		s.to.several = append(s.to.several, s.held...)
	}
	number := Answer(len(s.to.answers)) << answerBits
	if a.holders > 0 {
		number |= isHeld
	}
	if a.from != 0 || a.to != 0 {
		number |= isDoubted
	}
	s.to.answers = append(s.to.answers, a)
	return number
}
