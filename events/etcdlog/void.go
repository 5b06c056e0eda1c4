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
// returns what stands there now, void or not, or [ErrOtherStore], [ErrRejected], or
// [ErrUnknown] when ctx ended first.
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
		then:   append(l.keys.putCommit(stream, id, value), clientv3.OpGet(key)),
		orElse: []clientv3.Op{clientv3.OpGet(l.keys.store()), clientv3.OpGet(key)},
	}
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		t.ifs = append(l.isKnown(), clientv3.Compare(clientv3.CreateRevision(key), "=", 0))
		resp, err := l.try(ctx, t)
		if err == nil {
			stands := resp.Responses[len(resp.Responses)-1].GetResponseRange().GetKvs()
			if len(stands) > 0 {
				return l.decodeRecord(stands[0])
			}
			// Only another identity can have stood in the way, or one written anew.
			if err := l.stillThis(resp.Responses[0].GetResponseRange().GetKvs()); err != nil {
				return events.Record{}, errors.Wrap(err, "close a commit")
			}
			err = errors.New("the store's identity was written anew")
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

// isKnown demands that the store is the one that was read, once one was.
func (l *Log) isKnown() []clientv3.Cmp {
	known := l.identity.Load()
	if known == nil {
		return nil
	}
	return []clientv3.Cmp{clientv3.Compare(clientv3.Value(l.keys.store()), "=", known.raw)}
}
