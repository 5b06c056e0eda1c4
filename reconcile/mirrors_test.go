// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/reconcile"
)

// node is a managed plugin on a node of a swarm.
func (b *bed) node(name string) *actor.Host {
	b.t.Helper()
	host, err := actor.Join(b.t.Context(), actor.Options{
		Client: b.client, Log: b.log, Identity: actor.Identity{Host: name, Machine: name, Version: "test"}, Mirrors: true,
		Routes: func() ([]netip.Prefix, error) { return nil, nil }, Observer: quiet{}, Logger: zerolog.Nop(),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.beside(func(ctx context.Context) { _ = host.Run(ctx) })
	return host
}

// beside runs something until the test ends.
func (b *bed) beside(run func(context.Context)) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	var running sync.WaitGroup
	running.Go(func() { run(ctx) })
	b.t.Cleanup(func() { cancel(); running.Wait() })
}

// mirror has a node ask for its part of the network, with one task on it.
func (b *bed) mirror(h *actor.Host, task netip.Addr) actor.Ref {
	b.t.Helper()
	got, err := h.RequestPool(b.t.Context(), actor.PoolRequest{Space: events.Local, Subnet: subnet})
	if err != nil || got.Host == "" {
		b.t.Fatalf("%+v, %v", got, err)
	}
	for _, ask := range []actor.AddressRequest{
		{Asking: actor.AskGateway, Address: subnet.Addr().Next()},
		{Asking: actor.AskEndpoint, Address: task, MAC: events.MAC{2, 0, 0, 0, 0, task.As4()[3]}},
	} {
		if _, err := h.RequestAddress(b.t.Context(), got.Ref, ask); err != nil {
			b.t.Fatal(err)
		}
	}
	return got.Ref
}

// TestMirrors: what a node has of a Swarm network goes with the network, as soon as
// for any other, and what it uses is its own whatever another node's mirror holds.
func TestMirrors(t *testing.T) {
	client := etcdtest.Start(t).Client()
	b := &bed{t: t, client: client, log: etcdlog.New(client, etcdlog.DefaultPrefix), engine: &docker{}, said: &lines{}}
	h1, h2 := b.node("h1"), b.node("h2")
	manager, err := h1.RequestPool(t.Context(), actor.PoolRequest{Space: events.Global, Subnet: subnet})
	if err != nil {
		t.Fatal(err)
	}
	task, lost, other := subnet.Addr().Next().Next(), netip.MustParseAddr("10.1.0.3"), netip.MustParseAddr("10.1.0.4")
	for range 4 {
		if _, err := h1.RequestAddress(t.Context(), manager.Ref, actor.AddressRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	b.ref = b.mirror(h1, task)
	b.mirror(h1, lost)
	b.mirror(h2, other) // it is down, and has not said that its task has gone to h1
	overlay := network("ov", task.String(), other.String())
	overlay.Driver = "overlay"
	overlay.Endpoints = append(overlay.Endpoints, engine.Endpoint{ID: "lb", Name: "ov-endpoint", Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.5/24")}})
	b.engine.change(func() { b.engine.networks = []engine.Network{overlay} })
	r := reconcile.New(reconcile.Options{
		Engine: b.engine, Mode: reconcile.Fix, Every: 5 * time.Millisecond, Grace: 30 * time.Millisecond, Logger: zerolog.New(b.said),
	})
	b.beside(func(ctx context.Context) { r.Run(ctx, h1) })

	eventually(t, "the end of what the engine does not know", func() bool { return len(b.held(lost)) == 0 })
	eventually(t, "the holding of what it uses", func() bool { return len(b.held(other)) == 1 && len(b.held(netip.MustParseAddr("10.1.0.5"))) == 1 })
	if h := b.held(task); len(h) != 1 || !h[0].Suspected.IsZero() {
		t.Errorf("of a task that runs is held %+v", h)
	}
	gone := func() bool {
		pools, _, err := b.log.Pools(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pools {
			if p.Value.Node == "h1" {
				return false
			}
		}
		return true
	}
	b.engine.change(func() { b.engine.networks = nil })
	eventually(t, "the mirror's end", gone)

	// A manager has the network, and no part of it: what is used there is told of, and
	// is nobody's conflict.
	b.engine.change(func() { b.engine.networks = []engine.Network{overlay} })
	eventually(t, "the word", func() bool { return b.said.count("not held, on a network without a grant") > 0 })
	b.engine.lookedAt(t, 10)
	for _, wrong := range []string{"conflict", "knows none of this host's networks"} {
		if n := b.said.count(wrong); n > 0 {
			t.Errorf("%q was said %d times", wrong, n)
		}
	}
	b.ref = manager.Ref
	if h := b.held(task); len(h) != 1 || h[0].Host != "" || !h[0].Suspected.IsZero() {
		t.Errorf("the swarm holds %+v", h)
	}
}
