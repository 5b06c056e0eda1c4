// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"bytes"
	"context"
	"strconv"
	"time"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events"
)

// The log's revisions are not etcd's. A store that came out of a backup begins to
// count anew, and numbers once printed must stay true: so what is written to it is
// numbered from the backup's revision on (the base, 0 in a store that never was
// restored), and what was restored carries the number that it always had. Everything
// outside of this package knows the log's revisions alone.

// ErrUnfinished is returned by [Log.Store] and [Log.Found] for a store into which a
// backup was restored in part.
var ErrUnfinished = errors.New("a restore into this store was begun and not finished")

// Origin is what a restored store was restored from.
type Origin struct {
	Store    events.ID `json:"store"`
	Revision int64     `json:"revision"` // that it was at
	Time     time.Time `json:"time"`     // of the restore
}

// base is what the log's revisions are ahead of etcd's own. It is known once the
// store's identity was read, which everybody does first.
func (l *Log) base() int64 {
	if known := l.identity.Load(); known != nil {
		return known.Base
	}
	return 0
}

// revision turns a revision of etcd's own into the log's.
func (l *Log) revision(own int64) int64 { return own + l.base() }

// own turns a revision of the log into etcd's: 0 for none, and for one of before the
// restore one that nothing can have.
func (l *Log) own(revision int64) int64 {
	switch base := l.base(); {
	case revision == 0:
		return 0
	case revision <= base:
		return -1
	default:
		return revision - base
	}
}

// at reads as it was at a revision of the log.
func (l *Log) at(revision int64) clientv3.OpOption { return clientv3.WithRev(l.own(revision)) }

// AsRestored says whether a guard of this revision stands as a restore wrote it. The
// last commit that changed it is older, and its revision is in no guard any more.
func (l *Log) AsRestored(revision int64) bool {
	known := l.identity.Load()
	return known != nil && known.Base > 0 && revision > known.Base && revision <= known.Base+known.since
}

// A restored commit is, byte for byte, what it was, but that its first field is its
// revision. No commit that is appended has one.
const revisionField = `{"revision":`

// mark gives a commit's value its revision.
func mark(value []byte, revision int64) ([]byte, error) {
	rest, ok := bytes.CutPrefix(value, []byte("{"))
	if !ok {
		return nil, errors.Wrap(events.ErrMalformed, "it is no JSON object")
	}
	marked := strconv.AppendInt([]byte(revisionField), revision, 10)
	if !bytes.HasPrefix(rest, []byte("}")) {
		marked = append(marked, ',')
	}
	return append(marked, rest...), nil
}

// unmark returns a commit's value as it was appended, and its revision.
func (l *Log) unmark(kv *mvccpb.KeyValue) (value []byte, revision int64, err error) {
	rest, marked := bytes.CutPrefix(kv.Value, []byte(revisionField))
	if !marked {
		return kv.Value, l.revision(kv.CreateRevision), nil
	}
	end := bytes.IndexAny(rest, ",}")
	if end < 0 {
		return nil, 0, errors.Wrapf(events.ErrMalformed, "read the revision in %s", kv.Key)
	}
	revision, err = strconv.ParseInt(string(rest[:end]), 10, 64)
	if err != nil || revision < 1 || revision > l.base() {
		return nil, 0, errors.Wrapf(events.ErrMalformed, "the commit at %s says that it was restored, and that cannot be", kv.Key)
	}
	if rest[end] == ',' {
		end++
	}
	return append([]byte{'{'}, rest[end:]...), revision, nil
}

// noStore says why there is no identity.
func (l *Log) noStore(ctx context.Context) error {
	resp, err := l.get(ctx, l.keys.restoring(), clientv3.WithKeysOnly())
	switch {
	case err != nil:
		return errors.Wrap(err, "read the store's identity")
	case len(resp.Kvs) > 0:
		return errors.Mark(errors.Newf("a restore into this store, below %s, was begun and not finished: run the same `ipamlog restore` again", l.keys), ErrUnfinished)
	}
	return errors.Wrapf(ErrNoStore, "below %s", l.keys)
}
