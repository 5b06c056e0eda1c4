// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/oklog/ulid/v2"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events"
)

const (
	// straggle is how far behind the last one of its stream the ID of a commit
	// seldom lies; how far behind the running time that of a new stream.
	straggle = time.Hour
	// overlap is how much of that is read again; of the rest the commits are only
	// counted.
	overlap = time.Minute
	// afterlife is how long a retired pool's stream may still get a commit, such
	// as an attribution that was late, and is looked at with the others.
	afterlife = 24 * time.Hour
	// tailKeys is how many commits of one range are read with the others; more are
	// read page by page.
	tailKeys = 2000
)

// ErrAstray is returned by [Log.ReadOn] when the log is not the one that was read
// before, or has lost commits since.
var ErrAstray = errors.New("the log is not what was read of it before")

// Frontier is how far a log was read, and what it takes to read on from there
// without going through it again: how many commits there were in each stream, and
// under the IDs of each of its latest minutes. The zero value has read nothing.
type Frontier struct {
	// Revision is what the log was read up to.
	Revision int64 `json:"revision"`
	// Running is the log's running time there.
	Running time.Time                  `json:"running"`
	Streams map[events.Stream]*Reached `json:"streams"`
}

// Reached is how far one stream was read.
type Reached struct {
	Commits int64           `json:"commits"`          // all there were
	Recent  map[int64]int64 `json:"recent,omitempty"` // of those, by the minute of their ID
	Retired time.Time       `json:"retired,omitzero"` // the running time then
}

// Commits is how many were read in all.
func (f *Frontier) Commits() int64 {
	var n int64
	for _, r := range f.Streams {
		n += r.Commits
	}
	return n
}

// Clone returns a copy that shares nothing.
func (f *Frontier) Clone() *Frontier {
	c := *f
	c.Streams = make(map[events.Stream]*Reached, len(f.Streams))
	for s, r := range f.Streams {
		twin := *r
		twin.Recent = maps.Clone(r.Recent)
		c.Streams[s] = &twin
	}
	return &c
}

// minuteOf is the minute of an ID, and so of what is counted together.
func minuteOf(id events.ID) int64 { return int64(ulid.ULID(id).Time() / 60_000) }

func idOfMinute(m int64) events.ID { return lowestID(uint64(m) * 60_000) }

// reaches are the minutes from which on a stream's commits are counted, and from
// which on they are read again. They follow the stream's own IDs: the running time
// may have been carried ahead by another's.
func (r *Reached) reaches() (counted, reread int64) {
	var last int64
	for minute := range r.Recent {
		last = max(last, minute)
	}
	return max(last-int64(straggle/time.Minute), 0), max(last-int64(overlap/time.Minute), 0)
}

// youngest is a time that IDs of new streams are seldom before.
func (f *Frontier) youngest() events.ID {
	return lowestID(uint64(max(f.Running.Add(-straggle).UnixMilli(), 0)))
}

// add moves the frontier on over records, which came after it.
func (f *Frontier) add(records []events.Record, revision int64) {
	if f.Streams == nil {
		f.Streams = map[events.Stream]*Reached{}
	}
	for _, r := range records {
		if !r.ClockSuspect && r.Time.After(f.Running) {
			f.Running = r.Time
		}
		s := f.Streams[r.Stream]
		if s == nil {
			s = &Reached{Recent: map[int64]int64{}}
			f.Streams[r.Stream] = s
		}
		s.Commits++
		if s.Recent == nil {
			s.Recent = map[int64]int64{}
		}
		s.Recent[minuteOf(r.ID)]++
		for _, e := range r.Events {
			if _, retired := e.(events.PoolRetired); retired {
				s.Retired = f.Running
			}
		}
	}
	for _, s := range f.Streams {
		counted, _ := s.reaches()
		maps.DeleteFunc(s.Recent, func(minute, _ int64) bool { return minute < counted })
	}
	f.Revision = max(f.Revision, revision)
}

// between is how many commits of a stream are counted under IDs of the minutes
// from one up to, and without, another.
func (r *Reached) between(from, to int64) int64 {
	var n int64
	for minute, count := range r.Recent {
		if minute >= from && minute < to {
			n += count
		}
	}
	return n
}

// live lists the streams that likely still get commits, in the order of their keys.
func (f *Frontier) live() []events.Stream {
	var live []events.Stream
	for s, r := range f.Streams {
		if r.Retired.IsZero() || f.Running.Sub(r.Retired) < afterlife {
			live = append(live, s)
		}
	}
	slices.Sort(live)
	return live
}

// ReadOn returns the records that came after a frontier, in the order of their
// revisions, and moves it on over them; on an error it stays. Its cost is what
// came, the number of streams that likely get something, and a count of the log:
// some 40 ms a million commits. progress, if not nil, is told how many records have
// come so far. It returns [ErrAstray].
//
// It reads where commits are likely to have come. Since commits are never deleted,
// the count tells whether those are all; where they are not, as when a clock was
// wrong, it looks everywhere.
func (l *Log) ReadOn(ctx context.Context, f *Frontier, progress func(int)) ([]events.Record, error) {
	if f.Revision == 0 {
		records, revision, err := l.Read(ctx, 0, progress)
		if err == nil {
			f.add(records, revision)
		}
		return records, err
	}
	for {
		records, revision, err := l.readOn(ctx, f, progress)
		if errors.Is(err, rpctypes.ErrCompacted) {
			continue // it asked in several parts, too slowly: from a newer revision
		}
		if err == nil {
			f.add(records, revision)
		}
		return records, err
	}
}

// asked is one range of a question about a log's tail.
type asked struct {
	op     clientv3.Op
	stream events.Stream // whose end or recent past is asked for; empty: all streams, or new ones
	count  bool
}

// tail is what was read on at a revision, and what for.
type tail struct {
	pin     int64
	commits int64 // of the log, at that revision
	found   []events.Record
	from    map[events.Stream]int64 // the minute from which on each known stream was read
}

// newer is how many of what was read came after a frontier.
func (t *tail) newer(f *Frontier) int64 {
	var n int64
	for _, r := range t.found {
		if r.Revision > f.Revision {
			n++
		}
	}
	return n
}

func (l *Log) readOn(ctx context.Context, f *Frontier, progress func(int)) ([]events.Record, int64, error) {
	t, err := l.readLikely(ctx, f, progress)
	if err != nil {
		return nil, 0, err
	}
	if t.commits > f.Commits()+t.newer(f) {
		if err := l.readMissed(ctx, f, progress, t); err != nil {
			return nil, 0, err
		}
	}
	if err := f.recognise(t); err != nil {
		return nil, 0, err
	}
	slices.SortFunc(t.found, byRevision)
	n, _ := slices.BinarySearchFunc(t.found, f.Revision+1, func(r events.Record, at int64) int { return cmp.Compare(r.Revision, at) })
	return slices.Clip(t.found[n:]), t.pin, nil
}

// readLikely reads where commits are likely to have come, and counts the log.
func (l *Log) readLikely(ctx context.Context, f *Frontier, progress func(int)) (*tail, error) {
	t := &tail{from: map[events.Stream]int64{}}
	questions := []asked{{op: clientv3.OpGet(l.keys.logs(), clientv3.WithRange(endOf(l.keys.logs())), clientv3.WithCountOnly()), count: true}}
	for _, s := range f.live() {
		counted, reread := f.Streams[s].reaches()
		t.from[s] = reread
		settled, again, end := l.keys.commit(s, idOfMinute(counted)), l.keys.commit(s, idOfMinute(reread)), endOf(l.keys.stream(s))
		questions = append(questions,
			asked{clientv3.OpGet(again, clientv3.WithRange(end), clientv3.WithLimit(tailKeys)), s, false},
			asked{clientv3.OpGet(settled, clientv3.WithRange(again), clientv3.WithCountOnly()), s, true})
	}
	questions = append(questions, l.gaps(f)...)

	var rest []stretch
	var err error
	t.pin, err = l.askAll(ctx, 0, questions, func(q asked, got *clientv3.GetResponse) error {
		switch {
		case q.count && q.stream == "":
			t.commits = got.Count
			return nil
		case q.count:
			r := f.Streams[q.stream]
			if counted, reread := r.reaches(); got.Count != r.between(counted, reread) {
				t.from[q.stream] = counted
				rest = append(rest, stretch{stream: q.stream, from: idOfMinute(counted), to: idOfMinute(reread), width: overlap})
			}
			return nil
		case got.More && q.stream == "":
			return nil // new streams with much in them: the count tells
		case got.More:
			_, reread := f.Streams[q.stream].reaches()
			rest = append(rest, stretch{stream: q.stream, from: idOfMinute(reread), width: overlap})
			return nil
		}
		for _, kv := range got.Kvs {
			record, err := l.decodeRecord(kv)
			if err != nil {
				return err
			}
			t.found = append(t.found, record)
		}
		return nil
	})
	if err != nil || len(rest) == 0 {
		return t, err
	}
	more, err := l.readAt(ctx, t.pin, progress, rest)
	t.found = append(t.found, more...)
	return t, err
}

// readMissed counts each stream there is, and reads those whole of which something
// is not among what was read.
func (l *Log) readMissed(ctx context.Context, f *Frontier, progress func(int), t *tail) error {
	streams, err := l.Streams(ctx)
	if err != nil {
		return err
	}
	known := map[events.Stream]int64{}
	for s, r := range f.Streams {
		known[s] = r.Commits
	}
	for _, r := range t.found {
		if r.Revision > f.Revision {
			known[r.Stream]++
		}
	}
	var questions []asked
	for _, s := range streams {
		key := l.keys.stream(s)
		questions = append(questions, asked{clientv3.OpGet(key, clientv3.WithRange(endOf(key)), clientv3.WithCountOnly()), s, true})
	}
	missed := map[events.Stream]bool{}
	var rest []stretch
	if _, err := l.askAll(ctx, t.pin, questions, func(q asked, got *clientv3.GetResponse) error {
		if got.Count != known[q.stream] {
			missed[q.stream] = true
			rest = append(rest, stretch{stream: q.stream, width: overlap})
			if _, old := f.Streams[q.stream]; old {
				t.from[q.stream] = 0
			}
		}
		return nil
	}); err != nil {
		return err
	}
	whole, err := l.readAt(ctx, t.pin, progress, rest)
	t.found = append(slices.DeleteFunc(t.found, func(r events.Record) bool { return missed[r.Stream] }), whole...)
	return err
}

// gaps asks for the streams that are not known: beside those that are, from the
// time that a new one's ID likely has.
func (l *Log) gaps(f *Frontier) []asked {
	from, end := l.keys.logs()+f.youngest().String(), endOf(l.keys.logs())
	var questions []asked
	for _, s := range slices.Sorted(maps.Keys(f.Streams)) {
		stream := l.keys.stream(s)
		if stream < from {
			continue
		}
		questions = append(questions, asked{op: clientv3.OpGet(from, clientv3.WithRange(stream), clientv3.WithLimit(tailKeys))})
		from = endOf(stream)
	}
	return append(questions, asked{op: clientv3.OpGet(from, clientv3.WithRange(end), clientv3.WithLimit(tailKeys))})
}

// askAll asks questions at one revision, which it returns, as many at once as
// etcd takes; 0 is what is the revision then.
func (l *Log) askAll(ctx context.Context, pin int64, questions []asked, hear func(asked, *clientv3.GetResponse) error) (int64, error) {
	for chunk := range slices.Chunk(questions, maxOperations) {
		ops := make([]clientv3.Op, 0, len(chunk))
		for _, q := range chunk {
			if pin > 0 {
				clientv3.WithRev(pin)(&q.op)
			}
			ops = append(ops, q.op)
		}
		resp, err := l.asking(ctx, ops)
		if err != nil {
			return 0, errors.Wrap(err, "read on in the log")
		}
		if pin == 0 {
			pin = resp.Header.Revision
		}
		for i, r := range resp.Responses {
			if err := hear(chunk[i], (*clientv3.GetResponse)(r.GetResponseRange())); err != nil {
				return pin, err
			}
		}
	}
	return pin, nil
}

func (l *Log) asking(ctx context.Context, ops []clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, l.reading)
	defer cancel()
	return l.client.Txn(ctx).Then(ops...).Commit()
}

// recognise makes sure that what was read before is still there, and that nothing
// is missing of what came.
func (f *Frontier) recognise(t *tail) error {
	if t.pin < f.Revision {
		return errors.Wrapf(ErrAstray, "it is at revision %d, and was at %d", t.pin, f.Revision)
	}
	if all := f.Commits() + t.newer(f); t.commits != all {
		return errors.Wrapf(ErrAstray, "it has %d commits where there should be %d", t.commits, all)
	}
	again := map[events.Stream]int64{}
	for _, r := range t.found {
		if r.Revision > f.Revision {
			continue
		}
		if _, known := f.Streams[r.Stream]; !known {
			return errors.Wrapf(ErrAstray, "it has a stream %s of before revision %d", r.Stream, f.Revision)
		}
		again[r.Stream]++
	}
	for s, minute := range t.from {
		known := f.Streams[s].Commits
		if minute > 0 {
			known = f.Streams[s].between(minute, 1<<62)
		}
		if again[s] != known {
			return errors.Wrapf(ErrAstray, "stream %s has %d commits again where there were %d", s, again[s], known)
		}
	}
	return nil
}
