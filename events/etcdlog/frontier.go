// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
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
	// overlap is how far behind the last one of its stream the ID of a commit
	// seldom lies.
	overlap = time.Minute
	// tailKeys is how many commits of one stream are read together with others;
	// more are read page by page.
	tailKeys = 2000
)

// ErrAstray is returned by [Log.ReadOn] when the log is not the one that was read
// before.
var ErrAstray = errors.New("the log is not what was read of it before")

// Frontier is how far a log was read, and what it takes to read on from there
// without going through it again. The zero value has read nothing.
type Frontier struct {
	// Revision is what the log was read up to.
	Revision int64 `json:"revision"`
	// Forgotten is up to where the log was forgotten then.
	Forgotten Border                    `json:"forgotten,omitzero"`
	Streams   map[events.Stream]Reached `json:"streams"`
}

// Reached is how far one stream was read: up to its head.
type Reached struct {
	Commits  int64     `json:"commits"`
	Revision int64     `json:"revision"`
	Latest   events.ID `json:"latest,omitzero"` // the highest that was read
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
	return &Frontier{Revision: f.Revision, Forgotten: f.Forgotten, Streams: maps.Clone(f.Streams)}
}

// behind lists the streams that have got commits since, in the order of their keys.
func (f *Frontier) behind(heads map[events.Stream]Head, revision int64) ([]events.Stream, error) {
	if revision < f.Revision {
		return nil, errors.Wrapf(ErrAstray, "it is at revision %d, and was at %d", revision, f.Revision)
	}
	var behind []events.Stream
	for s, head := range heads {
		known := f.Streams[s]
		switch {
		case head.Commits < known.Commits || (head.Commits == known.Commits) != (head.Revision == known.Revision):
			return nil, errors.Wrapf(ErrAstray, "stream %s has %d commits up to revision %d, and had %d up to %d", s, head.Commits, head.Revision, known.Commits, known.Revision)
		case head.Commits > known.Commits:
			behind = append(behind, s)
		}
	}
	for s, known := range f.Streams {
		if _, there := heads[s]; !there {
			return nil, errors.Wrapf(ErrAstray, "it has no stream %s, which had %d commits", s, known.Commits)
		}
	}
	slices.Sort(behind)
	return behind, nil
}

// from is a place before which the next commits of a stream seldom lie.
func (f *Frontier) from(s events.Stream) events.ID {
	ms := ulid.ULID(f.Streams[s].Latest).Time()
	return lowestID(ms - min(ms, uint64(overlap.Milliseconds())))
}

// move moves the frontier to where the log's streams end, over what was read.
func (f *Frontier) move(records []events.Record, heads map[events.Stream]Head, revision int64) {
	if f.Streams == nil {
		f.Streams = make(map[events.Stream]Reached, len(heads))
	}
	for s, head := range heads {
		f.Streams[s] = Reached{Commits: head.Commits, Revision: head.Revision, Latest: f.Streams[s].Latest}
	}
	for _, r := range records {
		if s := f.Streams[r.Stream]; r.ID.Compare(s.Latest) > 0 {
			s.Latest = r.ID
			f.Streams[r.Stream] = s
		}
	}
	f.Revision = revision
}

// ReadOn returns the records that came after a frontier, in the order of their
// revisions, and moves it on over them; on an error it stays. Its cost is what came,
// and the number of streams there ever were, whatever the log's length. progress, if
// not nil, is told how many records have come so far. It returns [ErrAstray], also where
// more of the log was forgotten since: what was read of that is to be forgotten, too.
//
// It reads where commits are likely to have come: behind the last ones. Where the
// stream's head says that those are not all, as when a clock was wrong, it reads the
// stream whole.
func (l *Log) ReadOn(ctx context.Context, f *Frontier, progress func(int)) ([]events.Record, error) {
	for {
		heads, border, revision, err := l.headsAndBorder(ctx)
		if err == nil {
			err = f.keeps(border)
		}
		if err != nil {
			return nil, err
		}
		records, err := l.came(ctx, f, heads, revision, progress)
		if errors.Is(err, rpctypes.ErrCompacted) {
			continue // it asked in several parts, too slowly: from a newer revision
		}
		if err == nil {
			f.move(records, heads, revision)
			f.Forgotten = border
		}
		return records, err
	}
}

// keeps returns [ErrAstray] if more of the log was forgotten since it was read.
func (f *Frontier) keeps(border Border) error {
	if f.Revision != 0 && border != f.Forgotten {
		return errors.Wrapf(ErrAstray, "it was forgotten up to revision %d, and before up to %d", border.Last, f.Forgotten.Last)
	}
	return nil
}

// came reads what came after a frontier.
func (l *Log) came(ctx context.Context, f *Frontier, heads map[events.Stream]Head, revision int64, progress func(int)) ([]events.Record, error) {
	behind, err := f.behind(heads, revision)
	if err != nil || len(behind) == 0 {
		return nil, err
	}
	if f.Revision == 0 {
		return l.readAt(ctx, revision, progress, whole(behind))
	}
	records, long, err := l.readTails(ctx, f, behind, revision)
	if err != nil {
		return nil, err
	}
	more, err := l.readAt(ctx, revision, progress, long)
	if err != nil {
		return nil, err
	}
	records = append(records, f.newer(more)...)
	if missing := f.missing(records, heads); len(missing) > 0 {
		more, err := l.readAt(ctx, revision, progress, whole(missing))
		if err != nil {
			return nil, err
		}
		records = slices.DeleteFunc(records, func(r events.Record) bool { return slices.Contains(missing, r.Stream) })
		records = append(records, f.newer(more)...)
	}
	if lost := f.missing(records, heads); len(lost) > 0 {
		return nil, errors.Wrapf(ErrAstray, "what came to stream %s since is not what its head tells of", lost[0])
	}
	return inOrder(records), nil
}

// readTails reads the ends of streams, all in few questions. Those of which more
// came than fits are left out, and returned as stretches.
func (l *Log) readTails(ctx context.Context, f *Frontier, behind []events.Stream, revision int64) (records []events.Record, long []stretch, err error) {
	for chunk := range slices.Chunk(behind, maxOperations) {
		ops := make([]clientv3.Op, 0, len(chunk))
		for _, s := range chunk {
			from, end := l.keys.commit(s, f.from(s)), endOf(l.keys.stream(s))
			ops = append(ops, clientv3.OpGet(from, clientv3.WithRange(end), clientv3.WithLimit(tailKeys), l.at(revision)))
		}
		answers, err := l.ask(ctx, ops)
		if err != nil {
			return nil, nil, err
		}
		for i, answer := range answers {
			if answer.More {
				long = append(long, stretch{stream: chunk[i], from: f.from(chunk[i]), width: overlap})
				continue
			}
			came, err := l.decodeRecords(answer.Kvs)
			if err != nil {
				return nil, nil, err
			}
			records = append(records, f.newer(came)...)
		}
	}
	return records, long, nil
}

// ask puts several reads in one question.
func (l *Log) ask(ctx context.Context, ops []clientv3.Op) ([]*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, l.reading)
	defer cancel()
	resp, err := l.client.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return nil, errors.Wrap(err, "read on in the log")
	}
	answers := make([]*clientv3.GetResponse, 0, len(resp.Responses))
	for _, r := range resp.Responses {
		answers = append(answers, (*clientv3.GetResponse)(r.GetResponseRange()))
	}
	return answers, nil
}

// newer leaves out what was read before.
func (f *Frontier) newer(records []events.Record) []events.Record {
	return slices.DeleteFunc(records, func(r events.Record) bool { return r.Revision <= f.Revision })
}

// missing lists the streams of which other commits came than are among those read.
func (f *Frontier) missing(records []events.Record, heads map[events.Stream]Head) []events.Stream {
	came := make(map[events.Stream]int64, len(heads))
	for _, r := range records {
		came[r.Stream]++
	}
	var missing []events.Stream
	for s, head := range heads {
		if came[s] != head.Commits-f.Streams[s].Commits {
			missing = append(missing, s)
		}
	}
	return missing
}

// whole are streams from beginning to end.
func whole(streams []events.Stream) []stretch {
	list := make([]stretch, 0, len(streams))
	for _, s := range streams {
		list = append(list, stretch{stream: s, width: time.Hour})
	}
	return list
}
