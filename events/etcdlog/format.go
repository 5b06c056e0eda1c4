// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/cockroachdb/errors"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events"
)

// The formats of keys and values. A store says which one it is in, and nothing is
// written that a program of that format cannot read: so an upgrade, host after host,
// stops nobody. Format 1, of before the first release, had no heads: what was written in
// it cannot be told from nothing.
const (
	// Format is the newest that this program writes.
	Format = 4
	// OldestFormat is the oldest that it goes on with. Format 3 added what
	// [events.Format] says, format 4 that a part of the log may be in an archive alone.
	OldestFormat = 2
	// segmentsFormat is the first with archives.
	segmentsFormat = 4
)

// ErrStoreOld is returned for a commit that programs which may run on this store cannot
// read. Nothing was written.
var ErrStoreOld = errors.New("the store is in an older format")

// Format is the one that the store was in when this log looked last; the newest, if it
// has not looked.
func (l *Log) Format() int {
	if known := l.identity.Load(); known != nil {
		return known.Format
	}
	return Format
}

// readable says whether all who may run on this store can read events.
func (l *Log) readable(list []events.Event) error {
	in := l.Format()
	for _, e := range list {
		if needed := events.Format(e); needed > in {
			return errors.Wrapf(ErrStoreOld, "%s needs format %d, and the store is in format %d until no older ipamlog runs on any host: see `ipamlog hosts`, and `ipamlog adopt --format %d` where it was lowered by hand", e.Type(), needed, in, needed)
		}
	}
	return nil
}

// Raise puts the store into the newest format if every daemon that is alive can read
// that, and nobody has lowered it by hand. It returns the format that the store is in
// then, and the hosts whose daemons are too old.
func (l *Log) Raise(ctx context.Context) (format int, holdouts []string, err error) {
	return l.raise(ctx, false)
}

// Unlock is [Log.Raise] of a store that was lowered by hand.
func (l *Log) Unlock(ctx context.Context) (format int, holdouts []string, err error) {
	return l.raise(ctx, true)
}

func (l *Log) raise(ctx context.Context, byHand bool) (int, []string, error) {
	s, err := l.Store(ctx)
	if err != nil || s.Lowered && !byHand || s.Format == Format && !s.Lowered {
		return s.Format, nil, err
	}
	resp, err := l.get(ctx, l.keys.alive(""), clientv3.WithPrefix())
	if err != nil {
		return s.Format, nil, errors.Wrap(err, "look which hosts are alive")
	}
	alive, err := l.presences(resp.Kvs)
	if err != nil {
		return s.Format, nil, err
	}
	var holdouts []string
	for name, p := range alive {
		if max(p.Format, OldestFormat) < Format {
			holdouts = append(holdouts, name)
		}
	}
	if len(holdouts) > 0 {
		slices.Sort(holdouts)
		return s.Format, holdouts, nil
	}
	s.Format, s.Lowered = Format, false
	// Nobody may have come meanwhile.
	s, err = l.reformat(ctx, s, clientv3.Compare(clientv3.ModRevision(l.keys.alive("")), "<", resp.Header.Revision+1).WithPrefix())
	return s.Format, nil, err
}

// Lower puts the store into an older format, so that an older program may join, and
// keeps it there until [Log.Unlock]. The format is from [OldestFormat] up to and without
// [Format]. What newer events the store holds already stays.
func (l *Log) Lower(ctx context.Context, format int) error {
	if format < OldestFormat || format >= Format {
		return errors.AssertionFailedf("format %d is not between %d and %d", format, OldestFormat, Format)
	}
	var only []clientv3.Cmp
	if format < segmentsFormat {
		segments, resp, err := l.records(ctx, 0)
		if err != nil {
			return err
		}
		// Nor may one begin to be removed meanwhile.
		only = append(only, clientv3.Compare(clientv3.ModRevision(l.keys.segments()), "<", resp.Header.Revision+1).WithPrefix())
		if slices.ContainsFunc(segments, Segment.gone) {
			return errors.Newf("a part of the log is in an archive, which programs of format %d cannot read: the store stays in format %d", format, segmentsFormat)
		}
	}
	for range 10 { // others may be at it, too
		s, err := l.Store(ctx)
		if err != nil {
			return err
		}
		s.Format, s.Lowered = format, true
		if s, err = l.reformat(ctx, s, only...); err != nil || s.Format == format {
			return err
		}
	}
	return errors.New("others keep changing the store's format: try again")
}

// reformat writes the store's identity anew if it still is the one that was looked at
// last, and returns the one that is there then.
func (l *Log) reformat(ctx context.Context, s Store, only ...clientv3.Cmp) (Store, error) {
	value, err := json.Marshal(s)
	if err != nil {
		return s, errors.Wrap(err, "write the store's format")
	}
	only = append(only, clientv3.Compare(clientv3.Value(l.keys.store()), "=", l.identity.Load().raw))
	if _, err := l.client.Txn(ctx).If(only...).Then(clientv3.OpPut(l.keys.store(), string(value))).Commit(); err != nil {
		return s, errors.Mark(errors.Wrap(err, "write the store's format"), ErrUnknown)
	}
	return l.Store(ctx)
}
