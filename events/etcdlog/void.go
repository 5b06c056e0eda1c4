// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"context"
	"time"

	"github.com/cockroachdb/errors"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events"
)

// Close settles what became of a commit whose answer never came: if nothing is
// under its ID, a void commit is put there, and nothing else ever will be. It
// returns what stands there now, void or not, or [ErrUnknown] when ctx ended
// first.
func (w *Writer) Close(ctx context.Context, stream events.Stream, id events.ID) (events.Record, error) {
	return w.log.close(ctx, stream, id)
}

// close implements [Writer.Close]; the void commit is signed by nobody in
// particular, since it changes nothing.
func (l *Log) close(ctx context.Context, stream events.Stream, id events.ID) (events.Record, error) {
	key := l.keys.commit(stream, id)
	now, suspect := l.Clock.Stamp()
	value, err := events.Encode(events.Commit{Time: now, ClockSuspect: suspect, Host: "-"})
	if err != nil {
		return events.Record{}, err
	}
	t := &transaction{
		logKey: key,
		ifs:    []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", 0)},
		then:   append(l.keys.putCommit(stream, id, value), clientv3.OpGet(key)),
		orElse: []clientv3.Op{clientv3.OpGet(key)},
	}
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		resp, err := l.try(ctx, t)
		if err == nil {
			for _, r := range resp.Responses {
				for _, kv := range r.GetResponseRange().GetKvs() {
					return l.decodeRecord(kv)
				}
			}
			return events.Record{}, errors.AssertionFailedf("no commit under %s after it was closed", key)
		}
		if definite(err) {
			return events.Record{}, errors.Mark(errors.Wrap(err, "close a commit"), ErrRejected)
		}
		select {
		case <-ctx.Done():
			return events.Record{}, errors.Mark(errors.Wrap(err, "close a commit"), ErrUnknown)
		case <-time.After(pause):
		}
	}
}
