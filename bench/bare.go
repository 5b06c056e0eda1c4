// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// shape is what a lone allocation of ours writes, which bare clients write too.
type shape struct {
	entry int // the bytes of its entry in the log
	guard int // and of its address' guard
}

// connection is a client's way to etcd.
type connection struct {
	etcd *clientv3.Client
	own  bool // this client's to close
}

// Close ends the connection, for those who share it too.
func (c connection) Close() error {
	if !c.own {
		return nil
	}
	return errors.Wrap(c.etcd.Close(), "leave etcd")
}

// sharers is how many bare clients share a connection: etcd was a tenth faster or
// more so than with a connection for each, and shall be measured at its best.
const sharers = 8

// newBare makes n bare clients of etcd, each with keys of its own.
func newBare(etcd string, n int, begin func(c connection, key string) (client, error)) ([]client, error) {
	var clients []client
	var shared *clientv3.Client
	for i := range n {
		c := connection{own: i%sharers == 0}
		if c.own {
			var err error
			if shared, err = dial(etcd); err != nil {
				return nil, errors.CombineErrors(err, closeAll(clients))
			}
		}
		c.etcd = shared
		one, err := begin(c, fmt.Sprintf("/bench/%d-%d", time.Now().UnixNano(), i))
		if err != nil {
			return nil, errors.CombineErrors(errors.CombineErrors(err, c.Close()), closeAll(clients))
		}
		clients = append(clients, one)
	}
	return clients, nil
}

func dial(etcd string) (*clientv3.Client, error) {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd}, Logger: zap.NewNop()})
	return c, errors.Wrap(err, "connect to etcd")
}

// putter puts values straight into etcd, each under a new key.
type putter struct {
	connection
	key   string
	count int
	value string
}

// newPutters makes n putters.
func newPutters(etcd string, size shape, n int) ([]client, error) {
	return newBare(etcd, n, func(c connection, key string) (client, error) {
		return &putter{connection: c, key: key, value: strings.Repeat("v", size.entry)}, nil
	})
}

func (p *putter) turn(ctx context.Context) (int, time.Duration, error) {
	p.count++
	begun := time.Now()
	_, err := p.etcd.Put(ctx, fmt.Sprintf("%s/%08d", p.key, p.count), p.value)
	return 1, time.Since(begun), errors.Wrap(err, "put into etcd")
}

// transactor writes what an allocation and a release of ours write, each alone in a
// transaction, with as many conditions.
type transactor struct {
	connection
	key     string
	count   int
	entry   string
	guard   string
	leansOn []clientv3.Cmp // the store's identity, the pool and the grant
}

// newTransactors makes n transactors.
func newTransactors(ctx context.Context, etcd string, size shape, n int) ([]client, error) {
	return newBare(etcd, n, func(c connection, key string) (client, error) {
		t := &transactor{connection: c, key: key, entry: strings.Repeat("v", size.entry), guard: strings.Repeat("g", size.guard)}
		for i, name := range []string{"/store", "/pool", "/grant"} {
			resp, err := c.etcd.Put(ctx, key+name, t.guard)
			if err != nil {
				return nil, errors.Wrap(err, "put into etcd")
			}
			if i == 0 {
				t.leansOn = append(t.leansOn, clientv3.Compare(clientv3.Value(key+name), "=", t.guard))
				continue
			}
			t.leansOn = append(t.leansOn, clientv3.Compare(clientv3.ModRevision(key+name), "=", resp.Header.Revision))
		}
		return t, nil
	})
}

func (t *transactor) turn(ctx context.Context) (int, time.Duration, error) {
	begun := time.Now()
	held := fmt.Sprintf("%s/held/%08d", t.key, t.count)
	revision, err := t.commit(ctx, clientv3.OpPut(held, t.guard), append(t.leansOn, clientv3.Compare(clientv3.ModRevision(held), "=", 0))...)
	if err != nil {
		return 0, 0, err
	}
	took := time.Since(begun)
	_, err = t.commit(ctx, clientv3.OpDelete(held), t.leansOn[0], clientv3.Compare(clientv3.ModRevision(held), "=", revision))
	return 2, took, err
}

// commit writes a log entry, a head and a guard.
func (t *transactor) commit(ctx context.Context, guard clientv3.Op, ifs ...clientv3.Cmp) (int64, error) {
	t.count++
	key := fmt.Sprintf("%s/log/%08d", t.key, t.count)
	resp, err := t.etcd.Txn(ctx).If(append(ifs, clientv3.Compare(clientv3.CreateRevision(key), "=", 0))...).
		Then(clientv3.OpPut(key, t.entry), clientv3.OpPut(t.key+"/head", key), guard).Else(clientv3.OpGet(key)).Commit()
	switch {
	case err != nil:
		return 0, errors.Wrap(err, "write a transaction into etcd")
	case !resp.Succeeded:
		return 0, errors.Newf("the transaction of %s was refused", key)
	}
	return resp.Header.Revision, nil
}
