// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"context"
	"sync"
	"testing"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// The presence never says that there is no swarm when one was answered since.
func TestTellSwarm(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1", managed)
	want := func(what, want string) {
		t.Helper()
		if _, p, _ := b.host("h1"); p.Swarm != want {
			t.Errorf("%s: it says %q, want %q", what, p.Swarm, want)
		}
	}
	tell := func(says string, meanwhile func()) {
		t.Helper()
		err := d.TellSwarmOnce(b.ctx(), func(context.Context) (string, error) { meanwhile(); return says, nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	ask := func() actor.Ref {
		return d.pool(actor.PoolRequest{Space: events.Global, Subnet: prefix("10.1.0.0/24")})
	}
	nothing := func() {}

	want("before anything is known", "")
	tell(etcdlog.SwarmInactive, nothing)
	want("after the engine was asked", etcdlog.SwarmInactive)
	ref := ask()
	want("after a pool was asked for", "")
	tell(etcdlog.SwarmInactive, nothing)
	d.ask(ref, gateway(""))
	want("after an address was asked for", "")
	tell(etcdlog.SwarmInactive, func() { ask() })
	want("after a swarm asked that the engine did not know of", "")
	tell("active", func() { ask() })
	want("of a member", "active")
	d.ask(ref, gateway(""))
	want("of a member that was asked", "active")
	tell(etcdlog.SwarmInactive, nothing)
	d.pool(actor.PoolRequest{Subnet: prefix("10.9.0.0/24")})
	want("after a network of the host's own was asked for", etcdlog.SwarmInactive)
	b.loseLease()
	eventually(t, "the joining anew", func() bool { _, p, lives := b.host("h1"); return lives && p.Incarnation == 2 })
	want("after it joined anew", etcdlog.SwarmInactive)

	ctx, cancel := context.WithCancel(b.ctx())
	var telling sync.WaitGroup
	defer telling.Wait()
	defer cancel()
	telling.Go(func() { d.TellSwarm(ctx, func(context.Context) (string, error) { return "active", nil }) })
	eventually(t, "the word", func() bool { _, p, _ := b.host("h1"); return p.Swarm == "active" })
	d.settled(ref)
}

// A daemon that Swarm cannot ask says so from the start.
func TestTellSwarm_unasked(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	if _, p, _ := b.host("h1"); p.Swarm != etcdlog.SwarmUnasked {
		t.Errorf("it says %q", p.Swarm)
	}
	ref := d.pool(actor.PoolRequest{Space: events.Global, Subnet: prefix("10.1.0.0/24")})
	if _, p, _ := b.host("h1"); p.Swarm != "" {
		t.Errorf("it was asked all the same, and says %q", p.Swarm)
	}
	d.settled(ref)
}
