// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/replay/timespec"
)

// Errors that say what is the matter with a question. Their texts are sentences
// of their own; test with errors.Is.
var (
	// ErrNotFound marks an error about something that is not in the log: no
	// such pool, nobody ever held it.
	ErrNotFound = errors.New("not found")
	// ErrAmbiguous marks an error about a word that means several things, which
	// the error lists.
	ErrAmbiguous = errors.New("ambiguous")
	// ErrNotYet marks an error about a moment that is still to come.
	ErrNotYet = errors.New("still to come")
)

// Source is where a log is read from: the store, or an archive of it. It is
// what etcdlog.Log does.
type Source interface {
	// Read returns the records of the streams, of all when none is named, as
	// they were at a revision (0: now), which it returns, in their order.
	Read(ctx context.Context, at int64, progress func(int), streams ...events.Stream) ([]events.Record, int64, error)
	// ReadBetween returns the records after one revision up to another, of which
	// there are so many, in their order. Most are under IDs of a time and later.
	ReadBetween(ctx context.Context, after, until int64, since time.Time, commits int, progress func(int)) ([]events.Record, error)
}

// History is every holding there ever was, up to one revision.
type History struct {
	// Border is up to where the log was forgotten: of what is before it, only what had not
	// ended by then is known.
	Border etcdlog.Border

	timeline *projection.Timeline
	revision int64
}

// Lacks says whether a moment is before the border: who held something then, and gave it
// back before the border, is not known any more.
func (h *History) Lacks(m Moment) bool {
	return m.Revision < h.Border.Last && !m.Time.After(h.Border.Running)
}

// NewHistory returns the history that a timeline tells, which is complete up to a
// revision. The timeline must not change from now on.
func NewHistory(timeline *projection.Timeline, revision int64) *History {
	return &History{timeline: timeline, revision: revision}
}

// Journal is a history together with records that it was made of: those of a part of
// the log, or of all.
type Journal struct {
	*History
	records []events.Record
}

// Journal is the history with the records of a span: see [History.Records].
func (h *History) Journal(ctx context.Context, source Source, pools []*projection.PoolLife, span Span, progress func(int)) (*Journal, error) {
	records, err := h.Records(ctx, source, pools, span, progress)
	return &Journal{h, records}, err
}

// Records reads the records of a span, at least those of the given pools or, if it is
// nil, all. Where the span has a beginning it costs what came since, and else the
// streams of the pools. progress, if not nil, is told how many commits have come so
// far.
func (h *History) Records(ctx context.Context, source Source, pools []*projection.PoolLife, span Span, progress func(int)) ([]events.Record, error) {
	var records []events.Record
	var err error
	if from, to := span.From.Revision, span.To.Revision; from > 0 {
		came := h.timeline.Commits(to) - h.timeline.Commits(from)
		records, err = source.ReadBetween(ctx, from, to, h.timeline.Running(from), came, progress)
	} else if pools == nil || len(pools) > 0 {
		streams := make([]events.Stream, 0, len(pools))
		for _, p := range pools {
			streams = append(streams, events.PoolStream(p.ID))
		}
		records, _, err = source.Read(ctx, to, progress, streams...)
	}
	return records, errors.Wrap(err, "read the log")
}

// Load reads the whole log as it is now. progress, if not nil, is told how many
// commits have come so far.
func Load(ctx context.Context, source Source, progress func(int)) (*Journal, error) {
	records, revision, err := source.Read(ctx, 0, progress)
	if err != nil {
		return nil, errors.Wrap(err, "read the log")
	}
	timeline := projection.NewTimeline()
	for _, r := range records {
		timeline.Apply(r)
	}
	return &Journal{NewHistory(timeline, revision), records}, nil
}

// Err tells that a part of the index, on which the history rests, could not be read:
// answers that were made since may lack what stood there, and must not be given. A
// history that was loaded from a log has none.
func (h *History) Err() error { return h.timeline.Err() }

// Revision is the revision the history is complete up to.
func (h *History) Revision() int64 { return h.revision }

// CommitsUntil is how many of the records there were up to a moment.
func (j *Journal) CommitsUntil(m Moment) int {
	n, _ := slices.BinarySearchFunc(j.records, m.Revision+1, func(r events.Record, at int64) int { return cmp.Compare(r.Revision, at) })
	return n
}

// Timeline is the history's holdings.
func (h *History) Timeline() *projection.Timeline { return h.timeline }

// Attribute adds to holdings that were read elsewhere, as from the guards, what the
// log tells of the containers and networks behind them.
func (h *History) Attribute(list []Holding) {
	for i, x := range list {
		if known, ok := h.timeline.Allocation(x.Allocation); ok && known.Address == x.Address {
			x.Told = known.Told
			list[i] = Moment{}.describe(&x.Holding)
		}
	}
}

// Moment is a place in the order of a log.
type Moment struct {
	// Revision is that of the last record that counts, or the one asked for;
	// 0 before the log began.
	Revision int64
	// Time is the moment asked for or, where a revision was, the running time
	// of the log there; zero before the log began.
	Time time.Time

	byTime  bool
	history *History // that the moment is in, where it is by time
}

// Now is the end of the history; now is the time it is there.
func (h *History) Now(now time.Time) Moment { return Moment{Revision: h.revision, Time: now} }

// Moment finds the place in the log that a user's words mean. It returns
// [ErrNotYet].
func (h *History) Moment(spec timespec.Spec, now time.Time) (Moment, error) {
	switch {
	case !spec.IsRevision() && spec.Time.After(now):
		return Moment{}, errors.Mark(errors.Newf("%s is still to come: name a moment that has been", spec), ErrNotYet)
	case !spec.IsRevision():
		return Moment{Revision: h.timeline.Until(spec.Time), Time: spec.Time, byTime: true, history: h}, nil
	case spec.Revision > h.revision:
		return Moment{}, errors.Mark(errors.Newf("revision %s is still to come, the store is at @%d: name one that has been", spec, h.revision), ErrNotYet)
	}
	return Moment{Revision: spec.Revision, Time: h.timeline.Running(spec.Revision)}, nil
}

// Holds says whether an address was held by this holding at the moment.
func (m Moment) Holds(x *projection.Holding) bool { return x.At(m.Revision) && !m.over(x) }

// over says whether Docker had ended a holding by this moment, though the log
// learnt of it only later.
func (m Moment) over(x *projection.Holding) bool {
	return m.byTime && x.Early && !x.To.Suspect && !x.To.Time.After(m.Time)
}

// Before is where to begin so that the moment a user means is the first that
// counts: a span from there on has the commit of that revision, or those of that
// very microsecond, in it. It returns [ErrNotYet].
func (h *History) Before(spec timespec.Spec, now time.Time) (Moment, error) {
	m, err := h.Moment(spec, now)
	if err != nil {
		return m, err
	}
	if m.byTime {
		m.Revision = h.timeline.Until(m.Time.Add(-time.Microsecond))
		return m, nil
	}
	m.Revision--
	return m, nil
}

// Since is [History.Before] for the beginning of a span. The revision next to the
// store's last one has no commit yet and is a beginning all the same: so a reader
// asks for what comes behind the last event it saw. Revisions beyond are of another
// store, or a mistake.
func (h *History) Since(spec timespec.Spec, now time.Time) (Moment, error) {
	if spec.Revision == h.revision+1 {
		return Moment{Revision: h.revision, Time: h.timeline.Running(h.revision)}, nil
	}
	return h.Before(spec, now)
}

// Until is [History.Moment] for the end of a span: one that is still to come is now.
func (h *History) Until(spec timespec.Spec, now time.Time) (Moment, error) {
	m, err := h.Moment(spec, now)
	if errors.Is(err, ErrNotYet) {
		return h.Now(now), nil
	}
	return m, err
}

// Span is a stretch of a log: what came after one moment, up to and with another.
type Span struct{ From, To Moment }

// meets says whether a holding stood at any time in the span.
func (s Span) meets(x *projection.Holding) bool {
	return x.From.Revision <= s.To.Revision && !s.From.over(x) &&
		(!x.To.Reached() || x.To.Revision > s.From.Revision)
}
