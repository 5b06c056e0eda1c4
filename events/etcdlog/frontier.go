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
	// straggle is how far behind the running time the ID of a commit may lie that
	// only now comes into the log.
	straggle = time.Hour
	// overlap is how much of that is read again; of the rest the commits are only
	// counted.
	overlap = time.Minute
	// afterlife is how long a retired pool's stream may still get a commit, such
	// as an attribution that was late.
	afterlife = 24 * time.Hour
	// tailKeys is how many commits of one stream are read on with the others; more
	// are read page by page.
	tailKeys = 2000
)

// ErrAstray is returned by [Log.ReadOn] when the log is not the one that was read
// before, or has lost commits since.
var ErrAstray = errors.New("the log is not what was read of it before")

// Frontier is how far a log was read, and what it takes to read on from there
// without going through it again: how many commits there were in each stream
// under the IDs of each of the latest minutes. The zero value has read nothing.
//
// It trusts that no commit comes into the log under an ID more than an hour
// behind its running time; [Log.Whole] finds out.
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

// reaches are the minutes from which on commits are counted, and from which on
// they are read again.
func (f *Frontier) reaches() (counted, reread int64) {
	if f.Running.IsZero() {
		return 0, 0
	}
	minute := func(back time.Duration) int64 { return max(f.Running.Add(-back).UnixMilli()/60_000, 0) }
	return minute(straggle), minute(overlap)
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
	counted, _ := f.reaches()
	for _, s := range f.Streams {
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

// live lists the streams that may still get commits, in the order of their keys.
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
// came, and the number of streams that may get something. progress, if not nil,
// is told how many records have come so far. It returns [ErrAstray].
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
	stream events.Stream // whose end or recent past is asked for; empty: what streams are new
	count  bool
}

func (l *Log) readOn(ctx context.Context, f *Frontier, progress func(int)) ([]events.Record, int64, error) {
	counted, reread := f.reaches()
	var questions []asked
	for _, s := range f.live() {
		settled, again, end := l.keys.commit(s, idOfMinute(counted)), l.keys.commit(s, idOfMinute(reread)), endOf(l.keys.stream(s))
		questions = append(questions,
			asked{clientv3.OpGet(again, clientv3.WithRange(end), clientv3.WithLimit(tailKeys)), s, false},
			asked{clientv3.OpGet(settled, clientv3.WithRange(again), clientv3.WithCountOnly()), s, true})
	}
	questions = append(questions, l.gaps(f, idOfMinute(counted))...)

	var found []events.Record
	var rest []stretch
	pin, err := l.askAll(ctx, questions, func(q asked, got *clientv3.GetResponse) error {
		switch {
		case q.count:
			if got.Count != f.Streams[q.stream].between(counted, reread) {
				rest = append(rest, stretch{stream: q.stream, from: idOfMinute(counted), to: idOfMinute(reread), width: overlap})
			}
			return nil
		case got.More && q.stream != "":
			rest = append(rest, stretch{stream: q.stream, from: idOfMinute(reread), width: overlap})
			return nil
		}
		for _, kv := range got.Kvs {
			record, err := l.decodeRecord(kv)
			if err != nil {
				return err
			}
			found = append(found, record)
		}
		if got.More {
			return errManyNew
		}
		return nil
	})
	if errors.Is(err, errManyNew) {
		// Much has begun since: which streams there are is found the slow way.
		found, rest = nil, nil
		pin, rest, err = l.allSince(ctx, f, counted)
	}
	if err != nil {
		return nil, 0, err
	}
	if len(rest) > 0 {
		more, err := l.readAt(ctx, pin, progress, rest)
		if err != nil {
			return nil, 0, err
		}
		found = append(found, more...)
	}
	slices.SortFunc(found, byRevision)
	n, _ := slices.BinarySearchFunc(found, f.Revision+1, func(r events.Record, at int64) int { return cmp.Compare(r.Revision, at) })
	if err := f.recognise(found[:n], rest, pin, counted, reread); err != nil {
		return nil, 0, err
	}
	return slices.Clip(found[n:]), pin, nil
}

// errManyNew says that more commits in new streams came than are read at once.
var errManyNew = errors.New("many streams are new")

// gaps asks for the streams that are not known: beside those that are, from the
// youngest that a new one's ID can be of.
func (l *Log) gaps(f *Frontier, youngest events.ID) []asked {
	from, end := l.keys.logs()+youngest.String(), endOf(l.keys.logs())
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
// etcd takes.
func (l *Log) askAll(ctx context.Context, questions []asked, hear func(asked, *clientv3.GetResponse) error) (int64, error) {
	var pin int64
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

// allSince are the ends of all streams there are, old and new, and a revision to
// read them at.
func (l *Log) allSince(ctx context.Context, f *Frontier, counted int64) (int64, []stretch, error) {
	pin, err := l.Revision(ctx)
	if err != nil {
		return 0, nil, err
	}
	all, err := l.Streams(ctx)
	if err != nil {
		return 0, nil, err
	}
	var rest []stretch
	for _, s := range all {
		part := stretch{stream: s, width: overlap}
		if _, known := f.Streams[s]; known {
			part.from = idOfMinute(counted)
		}
		rest = append(rest, part)
	}
	return pin, rest, nil
}

// recognise makes sure that what was read again is what was read before.
func (f *Frontier) recognise(again []events.Record, rest []stretch, pin, counted, reread int64) error {
	if pin < f.Revision {
		return errors.Wrapf(ErrAstray, "it is at revision %d, and was at %d", pin, f.Revision)
	}
	seen := map[events.Stream]int64{}
	for _, r := range again {
		if _, known := f.Streams[r.Stream]; !known {
			return errors.Wrapf(ErrAstray, "it has a stream %s of before revision %d", r.Stream, f.Revision)
		}
		seen[r.Stream]++
	}
	from := map[events.Stream]int64{}
	for _, s := range f.live() {
		from[s] = reread
	}
	for _, part := range rest {
		if _, known := f.Streams[part.stream]; known && minuteOf(part.from) == counted {
			from[part.stream] = counted
		}
	}
	for s, minute := range from {
		if known := f.Streams[s].between(minute, 1<<62); seen[s] != known {
			return errors.Wrapf(ErrAstray, "stream %s has %d recent commits where there were %d", s, seen[s], known)
		}
	}
	return nil
}

// Whole says whether a frontier that was read on just now has missed nothing: it
// counts the whole log, at some 40 ms a million commits.
func (l *Log) Whole(ctx context.Context, f *Frontier) (bool, error) {
	n, err := l.count(ctx, l.keys.logs(), endOf(l.keys.logs()), f.Revision)
	return n == f.Commits(), err
}
