// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/netip"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// local is a host in this process: the actors without daemon and socket, on an etcd
// that is elsewhere.
type local struct {
	*actor.Host
	etcd *clientv3.Client
	end  context.CancelFunc
	over chan error
}

// unwatched is an observer that keeps nothing.
type unwatched struct{}

// Committed implements [actor.Observer].
func (unwatched) Committed(int, time.Duration) {}

// Conflicted implements [actor.Observer].
func (unwatched) Conflicted() {}

// joinHere makes this process a host of its own name.
func joinHere(ctx context.Context, etcd, name string) (*local, error) {
	client, err := dial(etcd)
	if err != nil {
		return nil, err
	}
	identity, err := actor.ReadIdentity(name, "bench")
	if err != nil {
		return nil, errors.CombineErrors(err, client.Close())
	}
	host, err := actor.Join(ctx, actor.Options{
		Client: client, Log: etcdlog.New(client, etcdlog.DefaultPrefix), Identity: identity,
		Blocks:   actor.DefaultBlocks(events.ID{}),
		Routes:   func() ([]netip.Prefix, error) { return nil, nil },
		Observer: unwatched{},
		Logger:   zerolog.Nop(),
	})
	if err != nil {
		return nil, errors.CombineErrors(errors.Wrapf(err, "join as %s", name), client.Close())
	}
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	l := &local{Host: host, etcd: client, end: end, over: make(chan error, 1)}
	go func() { l.over <- host.Run(running) }()
	return l, nil
}

// open opens a grant in the pool of a subnet.
func (l *local) open(ctx context.Context, subnet string) (actor.Ref, error) {
	prefix, err := netip.ParsePrefix(subnet)
	if err != nil {
		return actor.Ref{}, errors.Wrap(err, "read a subnet")
	}
	grant, err := l.RequestPool(ctx, actor.PoolRequest{Space: events.Local, Subnet: prefix})
	return grant.Ref, err
}

// leave ends the host.
func (l *local) leave() error {
	l.end()
	return errors.CombineErrors(<-l.over, l.etcd.Close())
}
