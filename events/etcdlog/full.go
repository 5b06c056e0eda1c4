// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"context"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events"
)

// ErrFull is returned while etcd takes no more writes for lack of space: its alarm
// NOSPACE stands until somebody has made room and ends it. Nothing was written, unless
// it comes with [ErrUnknown].
var ErrFull = errors.New("the store is full")

// full finds out what became of a transaction that was answered with no space, if no
// earlier send of it is still out. Etcd may have applied it all the same, as the last
// one that fitted; but then it has by now, and reading is not refused.
func (l *Log) full(ctx context.Context, t *transaction, refused error) (events.Record, error) {
	resp, err := l.try(ctx, &transaction{then: []clientv3.Op{clientv3.OpGet(t.logKey)}})
	if err != nil {
		return events.Record{}, errors.Mark(errors.Wrap(err, "look whether a full store took a commit"), errSilent)
	}
	if found := resp.Responses[0].GetResponseRange().GetKvs(); len(found) > 0 {
		return l.standing(found[0])
	}
	return events.Record{}, errors.Mark(errors.Wrap(refused, "append to the log"), ErrFull)
}

// isFull says whether etcd answered that it has no space.
func isFull(err error) bool { return errors.Is(err, rpctypes.ErrNoSpace) }

// Full says whether the last commit that the store answered to it refused for lack of
// space.
func (w *Writer) Full() bool { return w.full.Load() }

// answered notes what Full tells.
func (w *Writer) answered(err error) {
	switch {
	case err == nil:
		w.full.Store(false)
	case errors.Is(err, ErrFull):
		w.full.Store(true)
	}
}
