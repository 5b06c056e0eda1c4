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

// Oldest reads what is in the store of a log from its beginning on, stretch by stretch.
// Not safe for concurrent use.
//
// Commits lie under IDs, and a clock that was wrong can have put an old one anywhere
// among younger ones. Where those are is found out once, and not again for each stretch,
// which would cost the square of the log's length.
type Oldest struct {
	log    *Log
	known  int64   // the revision up to which grains tell of all commits
	grains []grain // of all streams
}

// grain is a few commits of a stream whose IDs follow each other.
type grain struct {
	stretch
	lowest int64 // of their revisions
}

// grainCommits is how many commits a grain has: so many are read in vain where one of
// them is old, and of so many it takes some bytes of memory.
const grainCommits = 64

// Oldest returns a reader of the log's beginning.
func (l *Log) Oldest() *Oldest { return &Oldest{log: l} }

// Count counts the commits in the store of before a moment, by their IDs, but for those of
// streams that stay there.
func (o *Oldest) Count(ctx context.Context, before time.Time) (int64, error) {
	for {
		heads, pin, err := o.log.Heads(ctx)
		if err != nil {
			return 0, err
		}
		streams := slices.DeleteFunc(slices.Sorted(maps.Keys(heads)), stays)
		n, err := o.log.countBefore(ctx, pin, streams, before.UnixMilli())
		if !errors.Is(err, rpctypes.ErrCompacted) {
			return n, err
		}
	}
}

// Next reads the part of the log behind a revision and its running time then, as far
// as the running time stays before a moment: about so many commits, or more if one
// millisecond has more. It is complete: no commit can come into it any more. It is empty
// if there is nothing so old.
func (o *Oldest) Next(ctx context.Context, after int64, running, until time.Time, commits int) (Stretch, error) {
	for {
		heads, pin, err := o.log.Heads(ctx)
		if err != nil {
			return Stretch{}, err
		}
		part, err := o.next(ctx, pin, slices.Sorted(maps.Keys(heads)), after, running, until, int64(commits))
		if errors.Is(err, rpctypes.ErrCompacted) {
			continue // it took too long: from a newer revision
		}
		return part, err
	}
}

func (o *Oldest) next(ctx context.Context, pin int64, streams []events.Stream, after int64, running, until time.Time, commits int64) (Stretch, error) {
	for {
		bound, err := o.log.bound(ctx, pin, streams, until, commits)
		if err != nil {
			return Stretch{}, err
		}
		part, err := o.before(ctx, pin, streams, after, running, bound)
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

// before reads what lies before a moment by its IDs, and what belongs among that.
func (o *Oldest) before(ctx context.Context, pin int64, streams []events.Stream, after int64, running, until time.Time) (Stretch, error) {
	border := lowestID(ulid.Timestamp(until))
	old := whole(streams)
	for i := range old {
		old[i].to = border
	}
	candidates, err := o.log.rawBetween(ctx, pin, old, after, math.MaxInt64)
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
	rest, err := o.behind(ctx, pin, streams, border, last)
	if err != nil {
		return part, err
	}
	astray, err := o.log.rawBetween(ctx, pin, rest, after, last)
	if err != nil || len(astray) == 0 {
		return part, err
	}
	candidates = append(candidates, astray...)
	slices.SortFunc(candidates, func(a, b RawCommit) int { return cmp.Compare(a.Revision, b.Revision) })
	return cut(candidates, running, until), nil
}

// behind lists where commits of up to a revision lie behind an ID.
func (o *Oldest) behind(ctx context.Context, pin int64, streams []events.Stream, border events.ID, last int64) ([]stretch, error) {
	if last > o.known {
		if err := o.survey(ctx, pin, streams); err != nil {
			return nil, err
		}
	}
	var list []stretch
	for _, g := range o.grains {
		if g.lowest > last || !g.to.IsZero() && g.to.Compare(border) <= 0 {
			continue
		}
		if g.from.Compare(border) < 0 {
			g.from = border
		}
		list = append(list, g.stretch)
	}
	return list, nil
}

// survey finds out where commits of which revisions lie. What comes later is younger than
// all of them.
func (o *Oldest) survey(ctx context.Context, pin int64, streams []events.Stream) error {
	var opts []clientv3.OpOption
	if o.log.base() == 0 {
		opts = append(opts, clientv3.WithKeysOnly()) // where a restore wrote, the value says the revision
	}
	var mu sync.Mutex
	o.grains = nil
	err := o.log.walk(ctx, pin, whole(streams), func(kvs []*mvccpb.KeyValue) error {
		var some []grain
		for few := range slices.Chunk(kvs, grainCommits) {
			g, err := o.log.grain(few)
			if err != nil {
				return err
			}
			some = append(some, g)
		}
		mu.Lock()
		defer mu.Unlock()
		o.grains = append(o.grains, some...)
		return nil
	}, opts...)
	if err == nil {
		o.known = pin
	}
	return err
}

// grain is what is to be known of commits whose keys follow each other.
func (l *Log) grain(kvs []*mvccpb.KeyValue) (grain, error) {
	g := grain{lowest: math.MaxInt64}
	for i, kv := range kvs {
		c, err := l.raw(kv)
		if err != nil {
			return g, err
		}
		if i == 0 {
			g.stretch = stretch{stream: c.Stream, from: c.ID, width: time.Hour}
		}
		g.lowest, g.to = min(g.lowest, c.Revision), successor(c.ID)
	}
	return g, nil
}

// successor is the lowest ID above another; zero, the end, above the highest.
func successor(id events.ID) events.ID {
	for i := len(id) - 1; i >= 0; i-- {
		if id[i]++; id[i] != 0 {
			break
		}
	}
	return id
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
	})
	slices.SortFunc(commits, func(a, b RawCommit) int { return cmp.Compare(a.Revision, b.Revision) })
	return commits, err
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
