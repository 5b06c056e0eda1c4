// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/oklog/ulid/v2"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events"
)

// Stretch is a contiguous part of the log, of all streams.
type Stretch struct {
	Commits []RawCommit // in the order of their revisions
	Times   []time.Time // by their writers' clocks; zero where those were suspect, or a commit is not understood
	Running time.Time   // of the log after them
}

// Oldest reads the part of the log behind a revision and its running time then, as far
// as the running time stays before a moment: about so many commits, or more if one
// millisecond has more. It is complete: no commit can come into it any more. It is empty
// if there is nothing so old.
func (l *Log) Oldest(ctx context.Context, after int64, running, until time.Time, commits int) (Stretch, error) {
	for {
		heads, pin, err := l.Heads(ctx)
		if err != nil {
			return Stretch{}, err
		}
		part, err := l.oldest(ctx, pin, slices.Sorted(maps.Keys(heads)), after, running, until, int64(commits))
		if errors.Is(err, rpctypes.ErrCompacted) {
			continue // it took too long: from a newer revision
		}
		return part, err
	}
}

func (l *Log) oldest(ctx context.Context, pin int64, streams []events.Stream, after int64, running, until time.Time, commits int64) (Stretch, error) {
	for {
		bound, err := l.bound(ctx, pin, streams, until, commits)
		if err != nil {
			return Stretch{}, err
		}
		part, err := l.oldestUntil(ctx, pin, streams, after, running, bound)
		// One whose ID is older than its time, as that of a late release, may be all that
		// was found; the next ones are further on.
		if err != nil || len(part.Commits) > 0 || !bound.Before(until) {
			return part, err
		}
		commits *= 2
	}
}

// bound is a time, until at most, before which about so many commits lie by their IDs.
func (l *Log) bound(ctx context.Context, pin int64, streams []events.Stream, until time.Time, commits int64) (time.Time, error) {
	// What stays in the store is read each time, and is no reason to read less.
	streams = slices.DeleteFunc(slices.Clone(streams), stays)
	low, high := int64(0), until.UnixMilli()
	n, err := l.countBefore(ctx, pin, streams, high)
	if err != nil || n <= commits {
		return until, err
	}
	for err == nil && n > commits && high-low > 1 {
		middle := (low + high) / 2
		var before int64
		if before, err = l.countBefore(ctx, pin, streams, middle); before > commits/2 {
			high, n = middle, before
		} else {
			low = middle
		}
	}
	return time.UnixMilli(high), err
}

// countBefore counts the commits in the store whose IDs are of before a time.
func (l *Log) countBefore(ctx context.Context, pin int64, streams []events.Stream, ms int64) (int64, error) {
	var n int64
	for chunk := range slices.Chunk(streams, maxOperations) {
		ops := make([]clientv3.Op, 0, len(chunk))
		for _, s := range chunk {
			from, end := l.bounds(stretch{stream: s, to: lowestID(uint64(max(ms, 1)))})
			ops = append(ops, clientv3.OpGet(from, clientv3.WithRange(end), clientv3.WithCountOnly(), l.at(pin)))
		}
		answers, err := l.ask(ctx, ops)
		if err != nil {
			return 0, err
		}
		for _, a := range answers {
			n += a.Count
		}
	}
	return n, nil
}

func (l *Log) oldestUntil(ctx context.Context, pin int64, streams []events.Stream, after int64, running, until time.Time) (Stretch, error) {
	border := lowestID(ulid.Timestamp(until))
	old, rest := whole(streams), whole(streams)
	for i := range old {
		old[i].to, rest[i].from = border, border
	}
	candidates, err := l.rawBetween(ctx, pin, old, after, math.MaxInt64)
	if err != nil {
		return Stretch{}, err
	}
	part := cut(candidates, running, until)
	if len(part.Commits) == 0 {
		return part, nil
	}
	// A commit's ID may be a little later than its time, and a clock that was wrong can
	// have put it anywhere.
	last := part.Commits[len(part.Commits)-1].Revision
	astray, err := l.rawBetween(ctx, pin, rest, after, last)
	if err != nil || len(astray) == 0 {
		return part, err
	}
	candidates = append(candidates, astray...)
	slices.SortFunc(candidates, func(a, b RawCommit) int { return cmp.Compare(a.Revision, b.Revision) })
	return cut(candidates, running, until), nil
}

// cut leaves the commits up to where the running time reaches a moment.
func cut(commits []RawCommit, running, until time.Time) Stretch {
	part := Stretch{Running: running}
	for _, c := range commits {
		var at time.Time
		if record, err := c.record(); err == nil && !record.ClockSuspect {
			if at = record.Time; at.After(running) {
				running = at
			}
		}
		if !running.Before(until) {
			break
		}
		part.Commits, part.Times, part.Running = append(part.Commits, c), append(part.Times, at), running
	}
	return part
}

// rawBetween reads the commits of stretches after one revision and up to another, in the
// order of their revisions.
func (l *Log) rawBetween(ctx context.Context, pin int64, stretches []stretch, after, until int64) ([]RawCommit, error) {
	var mu sync.Mutex
	var commits []RawCommit
	err := l.walk(ctx, pin, stretches, func(kvs []*mvccpb.KeyValue) error {
		mu.Lock()
		defer mu.Unlock()
		for _, kv := range kvs {
			c, err := l.raw(kv)
			if err != nil {
				return err
			}
			if c.Revision > after && c.Revision <= until {
				commits = append(commits, c)
			}
		}
		return nil
	}, l.writtenUntil(until))
	slices.SortFunc(commits, func(a, b RawCommit) int { return cmp.Compare(a.Revision, b.Revision) })
	return commits, err
}

// writtenUntil leaves out what was written into this store after a revision of the log.
// What a restore has put there may be older than that, and is not left out.
func (l *Log) writtenUntil(revision int64) clientv3.OpOption {
	if revision == math.MaxInt64 {
		return func(*clientv3.Op) {}
	}
	own := l.own(revision)
	if known := l.identity.Load(); known != nil && own < known.since {
		own = known.since
	}
	return clientv3.WithMaxCreateRev(own)
}

// raw reads a log key and its value.
func (l *Log) raw(kv *mvccpb.KeyValue) (RawCommit, error) {
	stream, id, err := l.keys.parseCommit(string(kv.Key))
	if err != nil {
		return RawCommit{}, errors.Mark(err, events.ErrMalformed)
	}
	value, revision, err := l.unmark(kv)
	return RawCommit{revision, stream, id, value}, err
}
