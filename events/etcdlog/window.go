// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/oklog/ulid/v2"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/ipamlog/ipamlog/events"
)

const (
	// readers is how many pages of the log are fetched and decoded at once: more
	// than that etcd does not answer any faster.
	readers = 3
	// patientWindows is how many empty windows in a row are walked before the
	// next commit is looked for in all that is left.
	patientWindows = 8
)

// stretch is a part of a stream: what is under the IDs from one up to, and
// without, another.
type stretch struct {
	stream events.Stream
	from   events.ID     // zero: the beginning
	to     events.ID     // zero: the end
	width  time.Duration // of the first window
}

func (l *Log) bounds(s stretch) (from, end string) {
	end = endOf(l.keys.stream(s.stream))
	if !s.to.IsZero() {
		end = l.keys.commit(s.stream, s.to)
	}
	return l.keys.commit(s.stream, s.from), end
}

// page is a range of log keys that is small enough to be read at once.
type page struct{ from, end string }

// readAt reads stretches as they were at a revision, in the order of the
// revisions, from segments and from the store. It returns etcd's ErrCompacted where the
// store has forgotten the revision, and [ErrArchive].
func (l *Log) readAt(ctx context.Context, pin int64, progress func(int), stretches []stretch) ([]events.Record, error) {
	if len(stretches) == 0 {
		return nil, nil
	}
	segments, err := l.segmentsAt(ctx, pin)
	if err != nil {
		return nil, err
	}
	sealed, until, err := l.readSealed(ctx, segments, stretches, progress)
	if err != nil {
		return nil, err
	}
	told := progress
	if progress != nil {
		told = func(n int) { progress(len(sealed) + n) }
	}
	// What is read from a segment may be in the store as well: its removal is under way.
	live, err := l.readStored(ctx, pin, told, stretches, until)
	if err != nil {
		return nil, err
	}
	return inOrder(append(sealed, live...)), nil
}

// readStored reads what is in the store of stretches, as it was at a revision, in no
// order: what came after another revision, up to which segments have the rest.
func (l *Log) readStored(ctx context.Context, pin int64, progress func(int), stretches []stretch, after int64) ([]events.Record, error) {
	var mu sync.Mutex
	var records []events.Record
	err := l.walk(ctx, pin, stretches, func(kvs []*mvccpb.KeyValue) error {
		some, err := l.decodeRecords(kvs)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for _, r := range some {
			if r.Revision > after || stays(r.Stream) {
				records = append(records, r)
			}
		}
		if progress != nil {
			progress(len(records))
		}
		return nil
	})
	return records, err
}

// walk goes over stretches as they were at a revision, page by page: one goroutine
// finds the pages, some others read them, and take gets each from one of those. It
// returns etcd's ErrCompacted where the store has forgotten the revision. opts may leave
// commits out of the pages.
func (l *Log) walk(ctx context.Context, pin int64, stretches []stretch, take func([]*mvccpb.KeyValue) error, opts ...clientv3.OpOption) error {
	pages := make(chan page, 2*readers)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(pages)
		for _, s := range stretches {
			if err := l.pages(ctx, s, pin, pages); err != nil {
				return err
			}
		}
		return nil
	})
	for range readers {
		group.Go(func() error {
			for p := range pages {
				resp, err := l.get(ctx, p.from, append([]clientv3.OpOption{clientv3.WithRange(p.end), l.at(pin)}, opts...)...)
				if err != nil {
					return errors.Wrap(err, "read the log")
				}
				if err := take(resp.Kvs); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// pages walks a stretch in the order of its keys and sends it in pages. Each has
// both ends: etcd counts all the rest of an open range, so that pages of it cost
// the square of their number. IDs begin with a time, so a window of time is a
// range; its width follows how full the last one was, and over a gap it jumps.
// How many commits are left is known throughout: a few are one page.
func (l *Log) pages(ctx context.Context, s stretch, pin int64, send chan<- page) error {
	from, end := l.bounds(s)
	left, err := l.count(ctx, from, end, pin)
	if err != nil {
		return err
	}
	emit := func(from, end string) error {
		select {
		case send <- page{from, end}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	at, width := s.from, s.width
	vain := 0
	if at.IsZero() {
		vain = patientWindows // half a century of nothing
	}
	for left > 0 {
		if left <= 2*pageKeys {
			return emit(l.keys.commit(s.stream, at), end)
		}
		if vain == patientWindows {
			first, err := l.get(ctx, l.keys.commit(s.stream, at), clientv3.WithRange(end), l.at(pin), clientv3.WithLimit(1), clientv3.WithKeysOnly())
			if err != nil {
				return errors.Wrap(err, "read the log")
			}
			if len(first.Kvs) == 0 {
				return errors.AssertionFailedf("%d commits of stream %s are nowhere", left, s.stream)
			}
			if _, at, err = l.keys.parseCommit(string(first.Kvs[0].Key)); err != nil {
				return err
			}
			vain = 0
		}
		// Past every time that an ID can carry there is nothing.
		upper := ulid.ULID(at).Time() + uint64(max(width.Milliseconds(), 1))
		from, to := l.keys.commit(s.stream, at), end
		if next := lowestID(upper); upper < ulid.MaxTime() && l.keys.commit(s.stream, next) < end {
			to = l.keys.commit(s.stream, next)
		}
		n, err := l.count(ctx, from, to, pin)
		switch {
		case err != nil:
			return err
		case n > 2*pageKeys && width > time.Millisecond:
			width = max(width/time.Duration(n)*pageKeys, time.Millisecond)
			continue
		case n > 0:
			if err := emit(from, to); err != nil {
				return err
			}
			left, vain = left-n, 0
		default:
			vain++
		}
		if at = lowestID(upper); n < pageKeys/2 {
			width = min(2*width, 1000*24*time.Hour)
		}
	}
	return nil
}

func (l *Log) count(ctx context.Context, from, end string, pin int64) (int64, error) {
	resp, err := l.get(ctx, from, clientv3.WithRange(end), l.at(pin), clientv3.WithCountOnly())
	if err != nil {
		return 0, errors.Wrap(err, "read the log")
	}
	return resp.Count, nil
}

// lowestID is the first ID of a millisecond.
func lowestID(ms uint64) events.ID {
	var id ulid.ULID
	_ = id.SetTime(min(ms, ulid.MaxTime())) // fails only beyond MaxTime
	return events.ID(id)
}

// inOrder sorts records by their revisions: their places first, because they
// themselves are too large to be moved around by the million.
func inOrder(records []events.Record) []events.Record {
	type place struct {
		revision int64
		at       int
	}
	places := make([]place, len(records))
	for i, r := range records {
		places[i] = place{r.Revision, i}
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Compare(a.revision, b.revision) })
	sorted := make([]events.Record, len(records))
	for i, p := range places {
		sorted[i] = records[p.at]
	}
	return sorted
}
