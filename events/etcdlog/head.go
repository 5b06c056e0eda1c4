// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"context"

	"github.com/cockroachdb/errors"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events"
)

// Head is where a stream ends, and how long it is. Every commit writes its stream's
// head anew, in the same transaction and without looking at it: it keeps nobody
// waiting, and etcd counts the writes.
type Head struct {
	// Commits is how many the stream ever had.
	Commits int64
	// Revision is that of the last one.
	Revision int64
}

// putCommit are the writes of a commit beside its guards.
func (k keys) putCommit(s events.Stream, id events.ID, value []byte) []clientv3.Op {
	return []clientv3.Op{clientv3.OpPut(k.commit(s, id), string(value)), clientv3.OpPut(k.head(s), id.String())}
}

// PutCommit returns the operations that put an encoded commit into the log below a
// prefix, all in one transaction, with no condition and no guard: for who makes a log
// that nobody else writes to.
func PutCommit(prefix string, s events.Stream, id events.ID, value []byte) []clientv3.Op {
	return keys(prefix).putCommit(s, id, value)
}

// Heads reads the heads of all streams there ever were, at one revision, which it
// returns. Its cost follows their number, some 2 µs each, and not the log's length.
func (l *Log) Heads(ctx context.Context) (map[events.Stream]Head, int64, error) {
	resp, err := l.get(ctx, l.keys.heads(), clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return nil, 0, errors.Wrap(err, "read where the log's streams end")
	}
	heads := make(map[events.Stream]Head, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		heads[events.Stream(lastPart(kv.Key, l.keys.heads()))] = Head{Commits: kv.Version, Revision: kv.ModRevision}
	}
	return heads, resp.Header.Revision, nil
}
