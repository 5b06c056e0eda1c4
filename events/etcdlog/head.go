// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"context"
	"encoding/json"
	"time"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events"
)

// Head is where a stream ends, and how long it is. Every commit writes its stream's
// head anew, in the same transaction and without looking at it: it keeps nobody
// waiting, and etcd counts the writes. What was counted before a restore stands beside.
type Head struct {
	// Commits is how many the stream ever had.
	Commits int64 `json:"commits"`
	// Revision is that of the last one.
	Revision int64 `json:"revision"`
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
	heads, _, revision, err := l.headsAndBorder(ctx)
	return heads, revision, err
}

// headsAndBorder also tells up to where the log was forgotten.
func (l *Log) headsAndBorder(ctx context.Context) (map[events.Stream]Head, Border, int64, error) {
	asking, cancel := context.WithTimeout(ctx, l.reading)
	defer cancel()
	resp, err := l.client.Txn(asking).Then(
		clientv3.OpGet(l.keys.heads(), clientv3.WithPrefix(), clientv3.WithKeysOnly()),
		clientv3.OpGet(l.keys.restored(), clientv3.WithPrefix()),
		clientv3.OpGet(l.keys.segments(), clientv3.WithPrefix(), clientv3.WithLimit(1)),
	).Commit()
	if err != nil {
		return nil, Border{}, 0, errors.Wrap(err, "read where the log's streams end")
	}
	heads, err := l.headsOf(resp.Responses[0].GetResponseRange().GetKvs(), resp.Responses[1].GetResponseRange().GetKvs())
	if err != nil {
		return nil, Border{}, 0, err
	}
	first, err := decodeSegments(resp.Responses[2].GetResponseRange().GetKvs())
	return heads, borderOf(first), l.revision(resp.Header.Revision), err
}

// headsOf joins the heads that commits wrote with those that a restore did.
func (l *Log) headsOf(written, restored []*mvccpb.KeyValue) (map[events.Stream]Head, error) {
	heads := make(map[events.Stream]Head, len(written)+len(restored))
	for _, kv := range restored {
		var head Head
		if err := json.Unmarshal(kv.Value, &head); err != nil {
			return nil, errors.Wrapf(err, "read %s", kv.Key)
		}
		heads[events.Stream(lastPart(kv.Key, l.keys.restored()))] = head
	}
	for _, kv := range written {
		stream := events.Stream(lastPart(kv.Key, l.keys.heads()))
		heads[stream] = Head{Commits: heads[stream].Commits + kv.Version, Revision: l.revision(kv.ModRevision)}
	}
	return heads, nil
}

// Newest is the time in the newest ID of the log, which is the running time or near it;
// zero if no commit was written into this store.
func (l *Log) Newest(ctx context.Context) (time.Time, error) {
	resp, err := l.get(ctx, l.keys.heads(), clientv3.WithPrefix())
	if err != nil {
		return time.Time{}, errors.Wrap(err, "read where the log's streams end")
	}
	var newest time.Time
	for _, kv := range resp.Kvs {
		id, err := events.ParseID(string(kv.Value))
		if err != nil {
			return time.Time{}, errors.Wrapf(err, "read %s", kv.Key)
		}
		if at := id.Time(); at.After(newest) {
			newest = at
		}
	}
	return newest, nil
}
