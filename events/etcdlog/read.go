// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"cmp"
	"context"
	"maps"
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
		guard, err := decodeGuard[events.Pool](l, kv)
		if err != nil {
			return nil, 0, err
		}
		guard.Value.Space = events.Space(space)
		pools = append(pools, PoolEntry{ID: id, Guarded: guard})
	}
	return pools, l.revision(resp.Header.Revision), nil
}

// Guards reads all guards of a pool at one revision, which it returns. A pool
// that does not exist has none.
func (l *Log) Guards(ctx context.Context, space events.Space, pool events.ID) (events.Guards, int64, error) {
	g := events.NewGuards()
	resp, err := l.get(ctx, l.keys.pool(space, pool))
	if err != nil {
		return g, 0, errors.Wrap(err, "read a pool's guards")
	}
	own := resp.Header.Revision
	for _, kv := range resp.Kvs {
		if err := l.readGuard(&g, pool, string(kv.Key), kv); err != nil {
			return g, 0, err
		}
	}
	for _, prefix := range []string{l.keys.grantsIn(pool), l.keys.heldIn(pool)} {
		for from, end := prefix, endOf(prefix); ; {
			resp, err := l.get(ctx, from, clientv3.WithRange(end), clientv3.WithRev(own), clientv3.WithLimit(guardPage))
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
	return g, l.revision(own), nil
}

// GrantHosts lists the hosts that have a grant in each pool, as it was at one revision.
func (l *Log) GrantHosts(ctx context.Context) (map[events.ID]map[string]bool, error) {
	hosts := map[events.ID]map[string]bool{}
	pin, prefix := int64(0), l.keys.grants()
	for from, more := prefix, true; more; {
		resp, err := l.get(ctx, from, clientv3.WithRange(endOf(prefix)), l.at(pin), clientv3.WithLimit(guardPage))
		if errors.Is(err, rpctypes.ErrCompacted) {
			return l.GrantHosts(ctx) // too slow for the store's memory: from a newer revision
		}
		if err != nil {
			return nil, errors.Wrap(err, "read the grants")
		}
		pin, more = l.revision(resp.Header.Revision), resp.More
		for _, kv := range resp.Kvs {
			text, _, _ := strings.Cut(lastPart(kv.Key, prefix), "/")
			pool, err := events.ParseID(text)
			if err != nil {
				return nil, err
			}
			guard, err := decodeGuard[events.Grant](l, kv)
			if err != nil {
				return nil, err
			}
			if hosts[pool] == nil {
				hosts[pool] = map[string]bool{}
			}
			hosts[pool][guard.Value.Host] = true
			from = string(kv.Key) + "\x00"
		}
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
		guard, err = decodeGuard[T](l, kv)
	}
	return guard, l.revision(resp.Header.Revision), err
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
	return found, l.sealedCommits(ctx, stream, ids, found)
}

// Read returns the records of the given streams, or of all when none is given,
// as they were at one revision, which it returns, in the order of their
// revisions. at is that revision; 0 means now. progress, if not nil, is told how
// many records have come so far.
func (l *Log) Read(ctx context.Context, at int64, progress func(int), streams ...events.Stream) ([]events.Record, int64, error) {
	for {
		heads, pin, err := l.Heads(ctx)
		if err != nil {
			return nil, 0, err
		}
		wanted := streams
		if len(wanted) == 0 {
			wanted = slices.Sorted(maps.Keys(heads))
		}
		records, err := l.readAt(ctx, pin, progress, whole(wanted))
		if errors.Is(err, rpctypes.ErrCompacted) {
			continue // log keys outlive compaction; only the pin is gone
		}
		if err != nil {
			return nil, 0, err
		}
		if at > 0 {
			n, _ := slices.BinarySearchFunc(records, at+1, func(r events.Record, at int64) int { return cmp.Compare(r.Revision, at) })
			records, pin = records[:n], min(pin, at)
		}
		return records, pin, nil
	}
}

// ReadBetween returns the records after one revision up to another, of which there
// are so many, in their order. It reads what is under IDs of a time and later, and
// where that is not all, every stream that has come on since, whole. progress, if not
// nil, is told how many records have come so far.
func (l *Log) ReadBetween(ctx context.Context, after, until int64, since time.Time, commits int, progress func(int)) ([]events.Record, error) {
	from := lowestID(uint64(max(since.Add(-overlap).UnixMilli(), 0)))
	for commits > 0 {
		heads, pin, err := l.Heads(ctx)
		if err != nil {
			return nil, err
		}
		maps.DeleteFunc(heads, func(_ events.Stream, head Head) bool { return head.Revision <= after })
		stretches := whole(slices.Sorted(maps.Keys(heads)))
		if !from.IsZero() {
			for i := range stretches {
				stretches[i].from = from
			}
		}
		records, err := l.readAt(ctx, pin, progress, stretches)
		if errors.Is(err, rpctypes.ErrCompacted) {
			continue
		}
		if err != nil {
			return nil, err
		}
		records = slices.DeleteFunc(records, func(r events.Record) bool { return r.Revision <= after || r.Revision > until })
		if len(records) == commits || from.IsZero() {
			return records, nil
		}
		from = events.ID{}
	}
	return nil, nil
}

// Since returns a stream's records whose IDs are of time from or later, in the
// order of their revisions: its recent tail.
func (l *Log) Since(ctx context.Context, stream events.Stream, from time.Time) ([]events.Record, error) {
	for {
		pin, err := l.Revision(ctx)
		if err != nil {
			return nil, err
		}
		records, err := l.readAt(ctx, pin, nil, []stretch{{stream: stream, from: lowestID(ulid.Timestamp(from)), width: time.Minute}})
		if errors.Is(err, rpctypes.ErrCompacted) {
			continue
		}
		return records, err
	}
}

// readGuard files a guard's key and value under what the key names.
func (l *Log) readGuard(g *events.Guards, pool events.ID, key string, kv *mvccpb.KeyValue) error {
	var err error
	switch {
	case strings.HasPrefix(key, l.keys.heldIn(pool)):
		var addr netip.Addr
		if addr, err = netip.ParseAddr(lastPart(kv.Key, l.keys.heldIn(pool))); err == nil {
			g.Held[addr], err = decodeGuard[events.Held](l, kv)
		}
	case strings.HasPrefix(key, l.keys.grantsIn(pool)):
		var id events.ID
		if id, err = events.ParseID(lastPart(kv.Key, l.keys.grantsIn(pool))); err == nil {
			g.Grants[id], err = decodeGuard[events.Grant](l, kv)
		}
	case strings.HasPrefix(key, l.keys.host("")):
		g.Hosts[lastPart(kv.Key, l.keys.host(""))], err = decodeGuard[events.HostGuard](l, kv)
	default:
		for _, space := range events.Spaces() {
			if strings.HasPrefix(key, l.keys.poolsIn(space)) {
				g.Pool, err = decodeGuard[events.Pool](l, kv)
				g.Pool.Value.Space = space
				return errors.Wrapf(err, "read the guard %s", key)
			}
		}
		err = errors.New("no guard lives there")
	}
	return errors.Wrapf(err, "read the guard %s", key)
}
