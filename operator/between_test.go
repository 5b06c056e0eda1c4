// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"context"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/operator"
)

// between is a store before whose transactions something happens, each time it is
// written to. What that returns as an error is the store's answer.
type between struct {
	clientv3.KV
	commits *atomic.Int64
	happens func(commit int) error
}

func (k between) Txn(ctx context.Context) clientv3.Txn { return betweenTxn{k.KV.Txn(ctx), k} }

type betweenTxn struct {
	clientv3.Txn
	kv between
}

func (t betweenTxn) If(cs ...clientv3.Cmp) clientv3.Txn { return betweenTxn{t.Txn.If(cs...), t.kv} }
func (t betweenTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	return betweenTxn{t.Txn.Then(ops...), t.kv}
}

func (t betweenTxn) Else(ops ...clientv3.Op) clientv3.Txn {
	return betweenTxn{t.Txn.Else(ops...), t.kv}
}

func (t betweenTxn) Commit() (*clientv3.TxnResponse, error) {
	if err := t.kv.happens(int(t.kv.commits.Add(1))); err != nil {
		return nil, err
	}
	return t.Txn.Commit()
}

// between is a person at a host; before each commit that is sent, counted from 1,
// something happens.
func (b *bed) between(host string, happens func(commit int) error) *operator.Operator {
	b.tb.Helper()
	client := clientv3.NewCtxClient(b.tb.Context())
	client.KV = b.client.KV
	log := etcdlog.New(client, etcdlog.DefaultPrefix)
	if _, err := log.Store(b.ctx()); err != nil {
		b.tb.Fatal(err)
	}
	o, err := operator.New(b.ctx(), log, operator.Options{Host: host, Version: "test", Machine: machine})
	if err != nil {
		b.tb.Fatal(err)
	}
	client.KV = between{KV: b.client.KV, commits: new(atomic.Int64), happens: happens}
	return o
}
