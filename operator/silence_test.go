// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/operator"
)

// mute is a store whose transactions have no answer for a while, whether they are
// carried out or not.
type mute struct {
	clientv3.KV
	carriedOut bool
	until      func() bool
}

func (m mute) Txn(ctx context.Context) clientv3.Txn { return muteTxn{m.KV.Txn(ctx), m} }

type muteTxn struct {
	clientv3.Txn
	m mute
}

func (t muteTxn) If(cs ...clientv3.Cmp) clientv3.Txn   { return muteTxn{t.Txn.If(cs...), t.m} }
func (t muteTxn) Then(ops ...clientv3.Op) clientv3.Txn { return muteTxn{t.Txn.Then(ops...), t.m} }
func (t muteTxn) Else(ops ...clientv3.Op) clientv3.Txn { return muteTxn{t.Txn.Else(ops...), t.m} }

func (t muteTxn) Commit() (*clientv3.TxnResponse, error) {
	speaks := t.m.until()
	if speaks || t.m.carriedOut {
		resp, err := t.Txn.Commit()
		if speaks || err != nil {
			return resp, err
		}
	}
	return nil, status.Error(codes.Unavailable, "nobody answers")
}

// What was not answered is found out before the person is told.
func TestSilence(t *testing.T) {
	for name, c := range map[string]struct {
		carriedOut, forEver bool
		written             bool
		mark                error
	}{
		"written, and known":     {carriedOut: true, written: true},
		"not written":            {mark: etcdlog.ErrUnknown},
		"written, and not known": {carriedOut: true, forEver: true, written: true, mark: operator.ErrUnsettled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each mostly waits
			b := newBed(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var over atomic.Bool
			context.AfterFunc(ctx, func() { over.Store(!c.forEver) })
			client := clientv3.NewCtxClient(t.Context())
			client.KV = mute{KV: b.client.KV, carriedOut: c.carriedOut, until: over.Load}
			o, err := operator.New(b.ctx(), etcdlog.New(client, etcdlog.DefaultPrefix), operator.Options{Host: "h1", Version: "test"})
			if err != nil {
				t.Fatal(err)
			}
			out, err := o.AddRange(ctx, "", span(t, "10.0.0.10/24", "10.0.0.20/24"), actor.Wish{})
			if c.mark == nil && (err != nil || !out.Changed || out.Revision == 0) {
				t.Errorf("%+v, %v", out, err)
			}
			if c.mark != nil && (!errors.Is(err, c.mark) || errors.Is(err, operator.ErrUnsettled) != c.forEver) {
				t.Errorf("%v, want %v", err, c.mark)
			}
			pools, _, err := b.log.Pools(b.ctx())
			if err != nil || (len(pools) == 1) != c.written {
				t.Errorf("%d pools, %v", len(pools), err)
			}
			b.agree()
		})
	}
}
