// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events"
)

// Snapshot is all that is worth keeping below the prefix, as it was at one revision
// and as it stands there: values are not looked into, so that one of a newer version
// loses nothing.
type Snapshot struct {
	Store    Store
	Revision int64
	Commits  []RawCommit // in the order of their revisions
	Heads    map[events.Stream]Head
	Guards   []RawGuard // by key
}

// RawCommit is a commit as it was appended.
type RawCommit struct {
	Revision int64
	Stream   events.Stream
	ID       events.ID
	Value    []byte
}

// RawGuard is a guard as it stands.
type RawGuard struct {
	Key   string // below the prefix
	Value []byte
}

// Snapshot reads everything, at one revision, while others write. It holds the whole
// log in memory. progress, if not nil, is told how many commits have come so far.
func (l *Log) Snapshot(ctx context.Context, progress func(int)) (*Snapshot, error) {
	identity, err := l.Store(ctx)
	if err != nil {
		return nil, err
	}
	s, err := l.readState(ctx)
	if err != nil {
		return nil, err
	}
	s.Store = identity
	// Commits outlive compaction: read later than the guards, those of the guards'
	// revision are all there still, or in segments that were sealed meanwhile. So these are
	// as they were when the commits were read.
	for {
		pin, err := l.Revision(ctx)
		if err != nil {
			return nil, err
		}
		s.Commits, err = l.readRaw(ctx, pin, s, progress)
		if err == nil {
			err = l.readSegments(ctx, pin, s)
		}
		if errors.Is(err, rpctypes.ErrCompacted) {
			continue
		}
		return s, err
	}
}

// readSegments puts the segments' records into a snapshot as they were at a revision.
func (l *Log) readSegments(ctx context.Context, pin int64, s *Snapshot) error {
	segments, resp, err := l.records(ctx, pin)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(segments, func(sealed Segment) bool { return sealed.Last > s.Revision }) {
		return errors.New("the log was archived up to what is younger than this backup: run it again")
	}
	for _, kv := range resp.Kvs {
		s.Guards = append(s.Guards, RawGuard{lastPart(kv.Key, string(l.keys)), kv.Value})
	}
	slices.SortFunc(s.Guards, func(a, b RawGuard) int { return cmp.Compare(a.Key, b.Key) })
	return nil
}

// readState reads all but the log and its segments, at one revision.
func (l *Log) readState(ctx context.Context) (*Snapshot, error) {
	for {
		pin, err := l.Revision(ctx)
		if err != nil {
			return nil, err
		}
		s := &Snapshot{Revision: pin}
		var written, restored []*mvccpb.KeyValue
		err = l.readKeys(ctx, pin, func(kv *mvccpb.KeyValue) {
			key := lastPart(kv.Key, string(l.keys))
			switch {
			case strings.HasPrefix(string(kv.Key), l.keys.heads()):
				written = append(written, kv)
			case strings.HasPrefix(string(kv.Key), l.keys.restored()):
				restored = append(restored, kv)
			case strings.HasPrefix(string(kv.Key), l.keys.segments()): // see readSegments
			case IsGuard(key):
				s.Guards = append(s.Guards, RawGuard{key, kv.Value})
			}
		})
		if errors.Is(err, rpctypes.ErrCompacted) {
			continue // too slow for the store's memory: from a newer revision
		}
		if err != nil {
			return nil, err
		}
		s.Heads, err = l.headsOf(written, restored)
		return s, err
	}
}

// readKeys goes over all keys but the log's, in their order, as they were at a
// revision.
func (l *Log) readKeys(ctx context.Context, pin int64, take func(*mvccpb.KeyValue)) error {
	for _, span := range [][2]string{{string(l.keys), l.keys.logs()}, {endOf(l.keys.logs()), endOf(string(l.keys))}} {
		for from, more := span[0], true; more; {
			resp, err := l.get(ctx, from, clientv3.WithRange(span[1]), l.at(pin), clientv3.WithLimit(guardPage))
			if err != nil {
				return errors.Wrap(err, "read the guards")
			}
			for _, kv := range resp.Kvs {
				take(kv)
				from = string(kv.Key) + "\x00"
			}
			more = resp.More
		}
	}
	return nil
}

// IsGuard says whether a key, below the prefix, is a guard's, which are all that
// this program does not know to be something else.
func IsGuard(key string) bool {
	kind, _, below := strings.Cut(key, "/")
	return below && kind != "" && !slices.Contains([]string{"log", "heads", "restored", "alive", "meta"}, kind)
}

// readRaw reads the commits up to the snapshot's revision.
func (l *Log) readRaw(ctx context.Context, pin int64, s *Snapshot, progress func(int)) ([]RawCommit, error) {
	var mu sync.Mutex
	var commits []RawCommit
	err := l.walk(ctx, pin, whole(slices.Sorted(maps.Keys(s.Heads))), func(kvs []*mvccpb.KeyValue) error {
		mu.Lock()
		defer mu.Unlock()
		for _, kv := range kvs {
			c, err := l.raw(kv)
			if err != nil {
				return err
			}
			if c.Revision <= s.Revision {
				commits = append(commits, c)
			}
		}
		if progress != nil {
			progress(len(commits))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(commits, func(a, b RawCommit) int { return cmp.Compare(a.Revision, b.Revision) })
	return commits, nil
}
