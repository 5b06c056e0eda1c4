// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"iter"
	"net/netip"
	"time"

	"github.com/ipamlog/ipamlog/events"
)

// Sealed is what a [Timeline] knew after one revision, kept elsewhere so that it
// can be read piece by piece. It never changes. Its rows are the holdings, numbered
// from 0 in the order they began.
//
// A piece that cannot be read is left out of an answer, and Err tells of it from
// then on: no answer may be given that was made since. A Sealed is safe for
// concurrent use.
type Sealed interface {
	// Past is all but the rows. The caller may change it.
	Past() Past
	// Row reads a holding; pools are those of Past, in their order.
	Row(n int, pools []*PoolLife) (Holding, bool)
	// Find tells which row an allocation began.
	Find(allocation events.ID) (int, bool)
	// Of goes over the rows of an address, Select over those whose outline is wanted,
	// in their order.
	Of(address netip.Addr) iter.Seq[int]
	Select(wanted func(Outline) bool) iter.Seq[int]
	// Until, Later, Running and Commits are a timeline's.
	Until(moment time.Time) int64
	Later(moment time.Time) time.Time
	Running(revision int64) time.Time
	Commits(until int64) int
	// Passages goes over the revisions of all records, and the running time after
	// each.
	Passages() iter.Seq2[int64, time.Time]
	// Err says what could not be read; nil if all could.
	Err() error
}

// Past is what a timeline knows beside its holdings.
type Past struct {
	Revision int64     // that of the last record
	Running  time.Time // after it
	Rows     int       // how many holdings there are
	Leads    []Lead    // in the order of the log; the last one may be contradicted yet
	Pools    []*PoolLife
	Unread   []Unread
	Misfits  []string
}

// Outline is what of a holding decides whether a question is about it.
type Outline struct {
	Address  netip.Addr
	From, To int64 // revisions; To is 0 while it is held
}

// Outline is the holding's.
func (h *Holding) Outline() Outline {
	return Outline{Address: h.Address, From: h.From.Revision, To: h.To.Revision}
}

// NewTimelineOn returns the timeline that goes on where a sealed one ends.
func NewTimelineOn(base Sealed) *Timeline {
	t := NewTimeline()
	past := base.Past()
	t.base, t.rows, t.changed = base, past.Rows, map[int]*Holding{}
	t.last = passage{past.Revision, past.Running}
	t.leads, t.born, t.misfits = past.Leads, past.Pools, past.Misfits
	t.sealed = len(past.Pools)
	for _, p := range past.Pools {
		t.streams[events.PoolStream(p.ID)] = p
	}
	for _, u := range past.Unread {
		t.unread[u.Type] = &u
	}
	return t
}

// Err says what of the past could not be read; what was asked since may lack it.
// It is nil for a timeline that rests on none, and safe for concurrent use.
func (t *Timeline) Err() error {
	if t.base == nil {
		return nil
	}
	return t.base.Err()
}

// Past is what the timeline knows beside its holdings.
func (t *Timeline) Past() Past {
	return Past{
		Revision: t.last.revision, Running: t.last.running, Rows: t.rows + t.holdings.n,
		Leads: t.leads, Pools: t.born, Unread: t.Unread(), Misfits: t.misfits,
	}
}

// Passages goes over the revisions of all records, and the running time after
// each.
func (t *Timeline) Passages() iter.Seq2[int64, time.Time] {
	return func(yield func(int64, time.Time) bool) {
		if t.base != nil {
			for revision, running := range t.base.Passages() {
				if !yield(revision, running) {
					return
				}
			}
		}
		for p := range t.passed.all() {
			if !yield(p.revision, p.running) {
				return
			}
		}
	}
}

// row returns a holding of the base as it is by now.
func (t *Timeline) row(n int) (*Holding, bool) {
	if h, ok := t.changed[n]; ok {
		return h, true
	}
	h, ok := t.base.Row(n, t.born[:t.sealed])
	return &h, ok
}

// Of goes over the holdings of an address in the order they began.
func (t *Timeline) Of(address netip.Addr) iter.Seq[*Holding] {
	wanted := func(o Outline) bool { return o.Address == address }
	if t.base == nil {
		return t.selected(nil, wanted)
	}
	return t.selected(t.base.Of(address), wanted)
}

// Between goes over the holdings that stood in the log at any time from after one
// revision up to another, in the order they began.
func (t *Timeline) Between(after, until int64) iter.Seq[*Holding] {
	wanted := func(o Outline) bool { return o.From <= until && (o.To == 0 || o.To > after) }
	if t.base == nil {
		return t.selected(nil, wanted)
	}
	return t.selected(t.base.Select(wanted), wanted)
}

// selected goes over the holdings that are wanted, those of the base first. Whatever came to one since it
// was sealed only ever ended it: one that is not wanted open may be wanted no more.
func (t *Timeline) selected(sealed iter.Seq[int], wanted func(Outline) bool) iter.Seq[*Holding] {
	return func(yield func(*Holding) bool) {
		if sealed != nil {
			for n := range sealed {
				if h, ok := t.row(n); ok && wanted(h.Outline()) && !yield(h) {
					return
				}
			}
		}
		for h := range t.holdings.all() {
			if wanted(h.Outline()) && !yield(h) {
				return
			}
		}
	}
}
