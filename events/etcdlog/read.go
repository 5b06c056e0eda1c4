// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/oklog/ulid/v2"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events"
)

const (
	// pageKeys is how many commits one read of the log should bring: enough to
	// be fast, few enough that nobody else waits for it.
	pageKeys = 5000
	// guardPage is the same for guards, whose keys are in no order that could
	// bound a page at both ends.
	guardPage = 20_000
)

// PoolEntry is a pool as the catalogue lists it.
type PoolEntry struct {
	ID events.ID
	events.Guarded[events.Pool]
}

// Pools reads the catalogue of both spaces at one revision, which it returns. The
// answer is never stale.
func (l *Log) Pools(ctx context.Context) ([]PoolEntry, int64, error) {
	resp, err := l.get(ctx, l.keys.pools(), clientv3.WithPrefix())
	if err != nil {
		return nil, 0, errors.Wrap(err, "read the catalogue of pools")
	}
	pools := make([]PoolEntry, 0, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		space, text, ok := strings.Cut(lastPart(kv.Key, l.keys.pools()), "/")
		if !ok {
			return nil, 0, errors.Newf("%q is no key of a pool", kv.Key)
		}
		id, err := events.ParseID(text)
		if err != nil {
			return nil, 0, err
		}
		guard, err := decodeGuard[events.Pool](kv)
		if err != nil {
			return nil, 0, err
		}
		guard.Value.Space = events.Space(space)
		pools = append(pools, PoolEntry{ID: id, Guarded: guard})
	}
	return pools, resp.Header.Revision, nil
}

// Guards reads all guards of a pool at one revision, which it returns. A pool
// that does not exist has none.
func (l *Log) Guards(ctx context.Context, space events.Space, pool events.ID) (events.Guards, int64, error) {
	g := events.NewGuards()
	resp, err := l.get(ctx, l.keys.pool(space, pool))
	if err != nil {
		return g, 0, errors.Wrap(err, "read a pool's guards")
	}
	revision := resp.Header.Revision
	for _, kv := range resp.Kvs {
		if err := l.readGuard(&g, pool, string(kv.Key), kv); err != nil {
			return g, 0, err
		}
	}
	for _, prefix := range []string{l.keys.grantsIn(pool), l.keys.heldIn(pool)} {
		for from, end := prefix, endOf(prefix); ; {
			resp, err := l.get(ctx, from, clientv3.WithRange(end), clientv3.WithRev(revision), clientv3.WithLimit(guardPage))
			if errors.Is(err, rpctypes.ErrCompacted) {
				return l.Guards(ctx, space, pool) // too slow for the store's memory: from a newer revision
			}
			if err != nil {
				return g, 0, errors.Wrap(err, "read a pool's guards")
			}
			for _, kv := range resp.Kvs {
				if err := l.readGuard(&g, pool, string(kv.Key), kv); err != nil {
					return g, 0, err
				}
				from = string(kv.Key) + "\x00"
			}
			if !resp.More {
				break
			}
		}
	}
	return g, revision, nil
}

// GrantHosts lists the hosts that have a grant in a pool.
func (l *Log) GrantHosts(ctx context.Context, pool events.ID) (map[string]bool, error) {
	resp, err := l.get(ctx, l.keys.grantsIn(pool), clientv3.WithPrefix())
	if err != nil {
		return nil, errors.Wrap(err, "read a pool's grants")
	}
	hosts := map[string]bool{}
	for _, kv := range resp.Kvs {
		guard, err := decodeGuard[events.Grant](kv)
		if err != nil {
			return nil, err
		}
		hosts[guard.Value.Host] = true
	}
	return hosts, nil
}

// Holding reads the guard of one address from the store, for a decision that must
// not rest on a projection, and the store's revision then.
func (l *Log) Holding(ctx context.Context, pool events.ID, addr netip.Addr) (events.Guarded[events.Held], int64, error) {
	return readOne[events.Held](ctx, l, l.keys.held(pool, addr))
}

// Grant reads the guard of one grant from the store, and the store's revision
// then.
func (l *Log) Grant(ctx context.Context, pool, grant events.ID) (events.Guarded[events.Grant], int64, error) {
	return readOne[events.Grant](ctx, l, l.keys.grant(pool, grant))
}

func readOne[T events.Grant | events.Held](ctx context.Context, l *Log, key string) (guard events.Guarded[T], revision int64, err error) {
	resp, err := l.get(ctx, key)
	if err != nil {
		return guard, 0, errors.Wrapf(err, "read %s", key)
	}
	for _, kv := range resp.Kvs {
		guard, err = decodeGuard[T](kv)
	}
	return guard, resp.Header.Revision, err
}

// Commits reads single commits by their IDs; those that are not there are left
// out.
func (l *Log) Commits(ctx context.Context, stream events.Stream, ids []events.ID) (map[events.ID]events.Record, error) {
	found := make(map[events.ID]events.Record, len(ids))
	for chunk := range slices.Chunk(ids, MaxEvents) {
		gets := make([]clientv3.Op, 0, len(chunk))
		for _, id := range chunk {
			gets = append(gets, clientv3.OpGet(l.keys.commit(stream, id)))
		}
		resp, err := l.client.Txn(ctx).Then(gets...).Commit()
		if err != nil {
			return nil, errors.Wrap(err, "read commits")
		}
		for _, r := range resp.Responses {
			for _, kv := range r.GetResponseRange().Kvs {
				record, err := l.decodeRecord(kv)
				if err != nil {
					return nil, err
				}
				found[record.ID] = record
			}
		}
	}
	return found, nil
}

// Streams lists the streams that have a commit, at any time.
func (l *Log) Streams(ctx context.Context) ([]events.Stream, error) {
	var streams []events.Stream
	for from, end := l.keys.logs(), endOf(l.keys.logs()); ; {
		resp, err := l.get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(1), clientv3.WithKeysOnly())
		if err != nil {
			return nil, errors.Wrap(err, "list the streams of the log")
		}
		if len(resp.Kvs) == 0 {
			return streams, nil
		}
		stream, _, err := l.keys.parseCommit(string(resp.Kvs[0].Key))
		if err != nil {
			return nil, err
		}
		streams = append(streams, stream)
		from = endOf(l.keys.stream(stream))
	}
}

// Read returns the records of the given streams, or of all when none is given,
// as they were at one revision, which it returns, in the order of their
// revisions. at is that revision; 0 means now. progress, if not nil, is told how
// many records have come so far.
func (l *Log) Read(ctx context.Context, at int64, progress func(int), streams ...events.Stream) ([]events.Record, int64, error) {
	for {
		pin, err := l.Revision(ctx)
		if err != nil {
			return nil, 0, err
		}
		wanted := streams
		if len(wanted) == 0 {
			// After the pin: a stream that is younger than it has nothing there,
			// but none that is older is missed.
			if wanted, err = l.Streams(ctx); err != nil {
				return nil, 0, err
			}
		}
		records, err := l.readAt(ctx, pin, progress, wanted)
		if errors.Is(err, rpctypes.ErrCompacted) {
			continue // log keys outlive compaction; only the pin is gone
		}
		if err != nil {
			return nil, 0, err
		}
		slices.SortFunc(records, func(a, b events.Record) int { return int(a.Revision - b.Revision) })
		if at > 0 {
			n, _ := slices.BinarySearchFunc(records, at+1, func(r events.Record, at int64) int { return int(r.Revision - at) })
			records, pin = records[:n], min(pin, at)
		}
		return records, pin, nil
	}
}

func (l *Log) readAt(ctx context.Context, pin int64, progress func(int), streams []events.Stream) ([]events.Record, error) {
	var records []events.Record
	for _, stream := range streams {
		w := window{log: l, stream: stream, pin: pin, width: time.Hour}
		for {
			page, err := w.next(ctx)
			if err != nil {
				return nil, err
			}
			if page == nil {
				break
			}
			records = append(records, page...)
			if progress != nil {
				progress(len(records))
			}
		}
	}
	return records, nil
}

// Since returns a stream's records whose IDs are of time from or later, in the
// order of their revisions: its recent tail.
func (l *Log) Since(ctx context.Context, stream events.Stream, from time.Time) ([]events.Record, error) {
	pin, err := l.Revision(ctx)
	if err != nil {
		return nil, err
	}
	w := window{log: l, stream: stream, pin: pin, width: time.Minute, from: lowestID(ulid.Timestamp(from))}
	var records []events.Record
	for {
		page, err := w.next(ctx)
		if errors.Is(err, rpctypes.ErrCompacted) {
			return l.Since(ctx, stream, from)
		}
		if err != nil {
			return nil, err
		}
		if page == nil {
			slices.SortFunc(records, func(a, b events.Record) int { return int(a.Revision - b.Revision) })
			return records, nil
		}
		records = append(records, page...)
	}
}

// window walks a stream in the order of its keys. Each range has both ends:
// etcd counts all the rest of an open one, so that pages of it cost the square
// of their number. ULIDs begin with a time, so a window of time is a range; its
// width follows how full the last one was, and over a gap it jumps.
type window struct {
	log    *Log
	stream events.Stream
	pin    int64
	width  time.Duration
	from   events.ID
}

// next returns the records of the next window, nil at the end.
func (w *window) next(ctx context.Context) ([]events.Record, error) {
	l := w.log
	for {
		// Past every timestamp a ULID can carry there is nothing.
		upper := min(ulid.ULID(w.from).Time()+uint64(max(w.width.Milliseconds(), 1)), ulid.MaxTime())
		to := lowestID(upper)
		from, end := l.keys.commit(w.stream, w.from), l.keys.commit(w.stream, to)
		if upper == ulid.MaxTime() {
			end = endOf(l.keys.stream(w.stream))
		}
		count, err := l.get(ctx, from, clientv3.WithRange(end), clientv3.WithRev(w.pin), clientv3.WithCountOnly())
		if err != nil {
			return nil, errors.Wrap(err, "read the log")
		}
		switch {
		case count.Count == 0:
			first, err := l.get(ctx, end, clientv3.WithRange(endOf(l.keys.stream(w.stream))), clientv3.WithRev(w.pin), clientv3.WithLimit(1), clientv3.WithKeysOnly())
			if err != nil {
				return nil, errors.Wrap(err, "read the log")
			}
			if len(first.Kvs) == 0 || upper == ulid.MaxTime() {
				return nil, nil
			}
			if _, w.from, err = l.keys.parseCommit(string(first.Kvs[0].Key)); err != nil {
				return nil, err
			}
			w.width *= 2
			continue
		case count.Count > 2*pageKeys && w.width > time.Millisecond:
			w.width = max(w.width/time.Duration(count.Count)*pageKeys, time.Millisecond)
			continue
		}
		resp, err := l.get(ctx, from, clientv3.WithRange(end), clientv3.WithRev(w.pin))
		if err != nil {
			return nil, errors.Wrap(err, "read the log")
		}
		records := make([]events.Record, 0, len(resp.Kvs))
		for _, kv := range resp.Kvs {
			record, err := l.decodeRecord(kv)
			if err != nil {
				return nil, err
			}
			records = append(records, record)
		}
		if w.from = to; upper == ulid.MaxTime() {
			w.stream += "/" // nothing can be below it: the walk is over
		}
		if len(records) < pageKeys/4 {
			w.width = min(2*w.width, 1000*24*time.Hour)
		}
		return records, nil
	}
}

// lowestID is the first ID of a millisecond.
func lowestID(ms uint64) events.ID {
	var id ulid.ULID
	_ = id.SetTime(min(ms, ulid.MaxTime())) // fails only beyond MaxTime
	return events.ID(id)
}

// readGuard files a guard's key and value under what the key names.
func (l *Log) readGuard(g *events.Guards, pool events.ID, key string, kv *mvccpb.KeyValue) error {
	var err error
	switch {
	case strings.HasPrefix(key, l.keys.heldIn(pool)):
		var addr netip.Addr
		if addr, err = netip.ParseAddr(lastPart(kv.Key, l.keys.heldIn(pool))); err == nil {
			g.Held[addr], err = decodeGuard[events.Held](kv)
		}
	case strings.HasPrefix(key, l.keys.grantsIn(pool)):
		var id events.ID
		if id, err = events.ParseID(lastPart(kv.Key, l.keys.grantsIn(pool))); err == nil {
			g.Grants[id], err = decodeGuard[events.Grant](kv)
		}
	case strings.HasPrefix(key, l.keys.host("")):
		g.Hosts[lastPart(kv.Key, l.keys.host(""))], err = decodeGuard[events.HostGuard](kv)
	default:
		for _, space := range events.Spaces() {
			if strings.HasPrefix(key, l.keys.poolsIn(space)) {
				g.Pool, err = decodeGuard[events.Pool](kv)
				g.Pool.Value.Space = space
				return errors.Wrapf(err, "read the guard %s", key)
			}
		}
		err = errors.New("no guard lives there")
	}
	return errors.Wrapf(err, "read the guard %s", key)
}
