// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// host is a daemon without its socket, in this process, with a connection of its own.
type host struct {
	*actor.Host
	etcd *clientv3.Client
	ref  actor.Ref // its grant
	end  context.CancelFunc
	over chan error
}

// unwatched is an observer that keeps nothing.
type unwatched struct{}

// Committed implements [actor.Observer].
func (unwatched) Committed(int, time.Duration) {}

// Conflicted implements [actor.Observer].
func (unwatched) Conflicted() {}

func dial(endpoint string) (*clientv3.Client, error) {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	return c, errors.Wrap(err, "connect to etcd")
}

func join(ctx context.Context, endpoint, name string) (*host, error) {
	client, err := dial(endpoint)
	if err != nil {
		return nil, err
	}
	h, err := actor.Join(ctx, actor.Options{
		Client: client, Log: etcdlog.New(client, etcdlog.DefaultPrefix),
		Identity: actor.Identity{Host: name, Machine: "sim", Version: "sim"},
		Blocks:   actor.DefaultBlocks(events.ID{}),
		Routes:   func() ([]netip.Prefix, error) { return nil, nil },
		Observer: unwatched{}, Logger: zerolog.Nop(),
	})
	if err != nil {
		return nil, errors.CombineErrors(errors.Wrapf(err, "join as %s", name), client.Close())
	}
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	one := &host{Host: h, etcd: client, end: end, over: make(chan error, 1)}
	go func() { one.over <- h.Run(running) }()
	return one, nil
}

func (h *host) leave() error {
	h.end()
	return errors.CombineErrors(<-h.over, h.etcd.Close())
}

// open opens a grant in a pool.
func (h *host) open(ctx context.Context, name string, subnet netip.Prefix) error {
	grant, err := h.RequestPool(ctx, actor.PoolRequest{Space: events.Local, Subnet: subnet, Name: name})
	h.ref = grant.Ref
	return errors.Wrapf(err, "open a grant in %s", subnet)
}

// fleet is hosts that are to act together.
type fleet []*host

// joinAll starts hosts, with a grant each in the pool that they are told.
func joinAll(ctx context.Context, endpoint, stem string, n int, pool func(i int) (string, netip.Prefix)) (fleet, error) {
	var f fleet
	for i := range n {
		h, err := join(ctx, endpoint, fmt.Sprintf("%s-%d", stem, i+1))
		if err == nil {
			f = append(f, h)
			name, subnet := pool(i)
			err = h.open(ctx, name, subnet)
		}
		if err != nil {
			return nil, errors.CombineErrors(err, f.leave())
		}
	}
	return f, nil
}

func (f fleet) leave() error {
	failures := make([]error, len(f))
	var all sync.WaitGroup
	for i, h := range f {
		all.Go(func() { failures[i] = h.leave() })
	}
	all.Wait()
	return errors.Join(failures...)
}

// churn has each host start and stop containers for a while, so many at once, and tells
// how long the commits took.
func (f fleet) churn(ctx context.Context, d time.Duration, atOnce int) ([]time.Duration, error) {
	times := make([][]time.Duration, len(f)*atOnce)
	failures := make([]error, len(times))
	var all sync.WaitGroup
	begun := time.Now()
	for i := range times {
		h := f[i%len(f)]
		all.Go(func() {
			for n := 0; failures[i] == nil && (n == 0 || time.Since(begun) < d); n++ {
				var took [2]time.Duration
				took, failures[i] = h.turn(ctx, i, n)
				times[i] = append(times[i], took[:]...)
			}
		})
	}
	all.Wait()
	return slices.Concat(times...), errors.Join(failures...)
}

// turn asks for an address and gives it back.
func (h *host) turn(ctx context.Context, lane, n int) (took [2]time.Duration, err error) {
	mac := events.MAC{2, byte(lane >> 8), byte(lane), byte(n >> 16), byte(n >> 8), byte(n)}
	begun := time.Now()
	got, err := h.RequestAddress(ctx, h.ref, actor.AddressRequest{Asking: actor.AskEndpoint, MAC: mac})
	if err != nil {
		return took, errors.Wrap(err, "ask for an address")
	}
	answered := time.Now()
	_, err = h.ReleaseAddress(ctx, h.ref, got.Address)
	return [2]time.Duration{answered.Sub(begun), time.Since(answered)}, errors.Wrap(err, "give an address back")
}

// take asks for addresses, so many at once, and keeps them.
func (h *host) take(ctx context.Context, n, atOnce int) ([]netip.Addr, error) {
	got := make([]netip.Addr, n)
	var asking errgroup.Group
	asking.SetLimit(atOnce)
	for i := range got {
		asking.Go(func() error {
			answer, err := h.RequestAddress(ctx, h.ref, actor.AddressRequest{Asking: actor.AskEndpoint, MAC: events.MAC{2, 1, 0, 0, byte(i >> 8), byte(i)}})
			got[i] = answer.Address
			return errors.Wrap(err, "ask for an address")
		})
	}
	return got, asking.Wait()
}

func (h *host) giveBack(ctx context.Context, addresses []netip.Addr, atOnce int) error {
	var asking errgroup.Group
	asking.SetLimit(atOnce)
	for _, a := range addresses {
		asking.Go(func() error {
			_, err := h.ReleaseAddress(ctx, h.ref, a)
			return errors.Wrap(err, "give an address back")
		})
	}
	return asking.Wait()
}
