// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/operator"
)

// member is a daemon that is present, and what it says of Swarm.
type member struct {
	b      *bed
	writer *etcdlog.Writer
	lease  clientv3.LeaseID
}

func (b *bed) member(host, swarm string) *member {
	b.tb.Helper()
	lease, err := b.client.Grant(b.ctx(), 60)
	if err != nil {
		b.tb.Fatal(err)
	}
	w, err := b.log.Join(b.ctx(), host, etcdlog.Presence{Machine: "machine-of-" + host, Swarm: swarm}, lease.ID, func(etcdlog.Presence) bool { return true })
	if err != nil {
		b.tb.Fatal(err)
	}
	return &member{b, w, lease.ID}
}

func (m *member) says(swarm string) {
	m.b.tb.Helper()
	if err := m.writer.Describe(m.b.ctx(), etcdlog.Presence{Machine: "machine-of-" + m.writer.Host(), Swarm: swarm}, m.lease); err != nil {
		m.b.tb.Fatal(err)
	}
}

func (m *member) dies() {
	m.b.tb.Helper()
	if _, err := m.b.client.Revoke(m.b.ctx(), m.lease); err != nil {
		m.b.tb.Fatal(err)
	}
}

// swarmPool makes a pool of the global space with so many tasks, and a gateway.
func (b *bed) swarmPool(subnet string, tasks int) (pool, grant events.ID) {
	b.tb.Helper()
	pool, grant = b.log.Clock.NewID(), b.log.Clock.NewID()
	b.write(pool,
		events.PoolCreated{Space: events.Global, Subnet: prefix(subnet), Policy: events.DefaultPolicy()},
		events.GrantOpened{Grant: grant})
	gateway := prefix(subnet).Addr().Next()
	list := []events.Event{events.AddressAllocated{Allocation: b.log.Clock.NewID(), Address: gateway, Kind: events.Gateway, Grant: grant}}
	for a := gateway; len(list) <= tasks; {
		a = a.Next()
		list = append(list, events.AddressAllocated{Allocation: b.log.Clock.NewID(), Address: a, Kind: events.Endpoint, Grant: grant})
	}
	for len(list) > 0 {
		n := min(len(list), 50)
		b.write(pool, list[:n]...)
		list = list[n:]
	}
	return pool, grant
}

// mirror makes a host's mirror of a Swarm network.
func (b *bed) mirror(subnet, host string) (pool events.ID) {
	b.tb.Helper()
	pool = b.log.Clock.NewID()
	b.write(pool,
		events.PoolCreated{Space: events.Local, Subnet: prefix(subnet), Policy: events.DefaultPolicy(), Node: host},
		events.GrantOpened{Grant: b.log.Clock.NewID(), Host: host})
	return pool
}

func TestReclaimSwarm(t *testing.T) {
	b := newBed(t)
	b.member("h1", etcdlog.SwarmInactive)
	b.member("h2", etcdlog.SwarmUnasked)
	large, _ := b.swarmPool("10.60.0.0/24", 130) // more than two commits
	kept, first := b.swarmPool("10.61.0.0/24", 2)
	second := b.log.Clock.NewID()
	b.write(kept, events.GrantOpened{Grant: second, Range: prefix("10.61.0.128/25")})
	b.write(kept, events.AddressAllocated{Allocation: b.log.Clock.NewID(), Address: addr("10.61.0.130"), Kind: events.Endpoint, Grant: second})
	b.write(kept, events.GrantClosing{Grant: first}) // the last manager died over that
	b.reserve(kept.String(), "10.61.0.99")
	mirror := b.mirror("10.60.0.0/24", "h1")
	local, grant := b.pool("web", "10.2.0.0/24", "h1")
	b.hold(local, grant, events.Endpoint, "10.2.0.2", "h1", "c", 0)

	before := b.keys()
	r, err := b.at("h1").Remains(b.ctx())
	if err != nil || r.Holdings != 135 || r.Grants != 3 || !cmp.Equal(r.Pools, []string{"10.60.0.0/24", "10.61.0.0/24"}) {
		t.Errorf("%+v, %v", r, err)
	}
	if diff := cmp.Diff(before, b.keys()); diff != "" {
		t.Errorf("the look has written:\n%s", diff)
	}
	out, err := b.at("h1").ReclaimSwarm(b.ctx())
	if err != nil {
		t.Fatal(err)
	}
	want := operator.SwarmReclaimed{
		Changed: true, Revision: out.Revision, Released: 135, Pools: []string{"10.60.0.0/24", "10.61.0.0/24"},
		Said: []string{"what the swarm left is given back: 135 holdings were ended in 2 pools"},
		Notes: []string{
			"nothing is left of pool 10.60.0.0/24: it is gone",
			"what host h1 mirrored of it is in nobody's way: the daemon there gives it back within minutes, unless it was told not to with --reconcile",
		},
	}
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	if got := b.layout(large); got != "gone" {
		t.Errorf("the empty pool is there: %s", got)
	}
	if diff := cmp.Diff(map[string]string{"10.61.0.99": "reserved test"}, b.held(kept)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"10.2.0.2": "endpoint h1 c"}, b.held(local)); diff != "" {
		t.Error(diff)
	}
	if b.layout(mirror) == "gone" {
		t.Error("a host's mirror was taken, which is its own to give back")
	}
	if diff := cmp.Diff([]string{
		"pool.created", "grant.opened", "address.allocated", "grant.closing", "address.released", "grant.closed", "pool.retired",
	}, b.told(events.PoolStream(large))); diff != "" {
		t.Error(diff)
	}
	b.agree()

	before = b.keys()
	out, err = b.at("h1").ReclaimSwarm(b.ctx())
	if err != nil || out.Changed || out.Said[0] != "nothing to do: nothing is held for a swarm" {
		t.Errorf("%+v, %v", out, err)
	}
	if diff := cmp.Diff(before, b.keys()); diff != "" {
		t.Errorf("something was written:\n%s", diff)
	}
}

// It can be run on a machine that is no host, and be repeated by anybody at once.
func TestReclaimSwarm_together(t *testing.T) {
	b := newBed(t)
	b.member("h1", etcdlog.SwarmInactive)
	pool, _ := b.swarmPool("10.60.0.0/24", 200)
	var all sync.WaitGroup
	for i := range 4 {
		o := b.at(fmt.Sprintf("h%d", i))
		all.Go(func() {
			if _, err := o.ReclaimSwarm(b.ctx()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := b.layout(pool); got != "gone" {
		t.Errorf("%v is left, %s", b.held(pool), got)
	}
	b.agree()
}

func TestReclaimSwarm_refused(t *testing.T) {
	b := newBed(t)
	b.swarmPool("10.60.0.0/24", 3)
	b.mirror("10.60.0.0/24", "h2")
	h1, h2 := b.member("h1", etcdlog.SwarmInactive), b.member("h2", etcdlog.SwarmInactive)
	refused := func(text string) {
		t.Helper()
		before := b.keys()
		_, err := b.at("h1").ReclaimSwarm(b.ctx())
		b.refused(before, err, nil, text)
		_, err = b.at("h1").Remains(b.ctx())
		b.refused(before, err, nil, text)
	}
	for _, state := range []string{"active", "pending", "locked", "error", "a newer word"} {
		h1.says(state)
		refused("the Docker of host h1 is in a swarm, and may use what is held")
	}
	h2.says("active")
	refused("the Docker of hosts h1 and h2 is in a swarm")
	h1.says("")
	h2.says(etcdlog.SwarmInactive)
	refused("it is not known yet whether the Docker of host h1 is in a swarm")
	h1.says(etcdlog.SwarmUnasked)
	h2.says(etcdlog.SwarmUnasked) // and yet it had part in one
	refused("it is not known yet whether the Docker of host h2 is in a swarm")
	h2.dies()
	refused("host h2 had part in a Swarm network, and no daemon is alive there")
	if _, err := b.at("h1").TakeOver(b.ctx(), "h2"); err != nil {
		t.Fatal(err)
	}
	if out, err := b.at("h1").ReclaimSwarm(b.ctx()); err != nil || out.Released != 4 {
		t.Errorf("%+v, %v", out, err)
	}
	for _, n := range []string{"h3", "h4", "h5", "h6"} {
		b.member(n, "active")
	}
	b.swarmPool("10.60.0.0/24", 3)
	refused("the Docker of hosts h3, h4, h5 and 1 more is in a swarm")
	b.agree()
}

// What is cut short at any place goes on when it is run again.
func TestReclaimSwarm_cutShort(t *testing.T) {
	b := newBed(t)
	b.member("h1", etcdlog.SwarmInactive)
	for i := range 3 {
		b.swarmPool(fmt.Sprintf("10.6%d.0.0/24", i), 120)
	}
	cut := 0
	for {
		_, start, err := b.log.Pools(b.ctx())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.ctx())
		var watching sync.WaitGroup
		watching.Go(func() { // as soon as anything is written
			defer cancel()
			for ctx.Err() == nil {
				if _, now, err := b.log.Hosts(ctx); err == nil && now > start {
					return
				}
			}
		})
		_, err = b.at("h1").ReclaimSwarm(ctx)
		cancel()
		watching.Wait()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		cut++
		b.agree()
	}
	if cut == 0 {
		t.Error("nothing was cut short")
	}
	if pools, _, err := b.log.Pools(b.ctx()); err != nil || len(pools) > 0 {
		t.Errorf("%+v is left, %v", pools, err)
	}
	b.agree()
}

// A swarm that comes in the very moment: what it was answered it holds.
func TestReclaimSwarm_amidst(t *testing.T) {
	b := newBed(t)
	client := etcdtest.Dial(t, b.etcd.Endpoint())
	log := etcdlog.New(client, etcdlog.DefaultPrefix)
	h, err := actor.Join(b.ctx(), actor.Options{
		Client: client, Log: log, Identity: actor.Identity{Host: "h1", Machine: machine, Version: "test"}, Mirrors: true,
		Routes: func() ([]netip.Prefix, error) { return nil, nil }, Observer: deaf{}, Logger: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	outcomes := map[string]int{}
	for round := range 30 {
		subnet := fmt.Sprintf("10.%d.0.0/24", 100+round)
		pool, _ := b.swarmPool(subnet, 3)
		told, tell := context.WithCancel(b.ctx())
		var telling sync.WaitGroup
		telling.Go(func() { h.TellSwarm(told, func(context.Context) (string, error) { return "inactive", nil }) })
		for deadline := time.Now().Add(patience); ; {
			alive, err := log.Alive(b.ctx())
			if err == nil && alive["h1"].Swarm == etcdlog.SwarmInactive {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("it is not told that there is no swarm", err)
			}
		}
		tell()
		telling.Wait()

		var swarm sync.WaitGroup
		var answers []actor.Answer
		var ref actor.Ref
		swarm.Go(func() {
			got, err := h.RequestPool(b.ctx(), actor.PoolRequest{Space: events.Global, Subnet: prefix(subnet)})
			if err != nil {
				t.Error(err)
				return
			}
			ref = got.Ref
			for n := range 5 {
				ask := actor.AddressRequest{}
				if n < 2 { // named, as by a leader that asks again
					ask.Address = prefix(subnet).Addr().Next().Next()
				}
				a, err := h.RequestAddress(b.ctx(), ref, ask)
				switch {
				case errors.Is(err, actor.ErrInUse): // by what is just being given back
				case err != nil:
					t.Error(err)
				default:
					answers = append(answers, a)
				}
			}
		})
		out, err := b.at("h2").ReclaimSwarm(b.ctx())
		swarm.Wait()
		switch {
		case err == nil && out.Changed:
			outcomes["given back"]++
		case err != nil && strings.Contains(err.Error(), "it is not known yet"):
			outcomes["refused"]++
		default:
			t.Errorf("%+v, %v", out, err)
		}
		guards, _ := b.guards(ref.Pool)
		for _, a := range answers {
			if _, held := guards.Held[a.Address].Value.Of(ref.Grant); !held {
				t.Fatalf("round %d: %v was answered, and is not held (the reclaiming: %+v, %v)", round, a, out, err)
			}
		}
		if ref.Pool != pool {
			outcomes["another pool"]++
		}
		if _, err := h.ReleasePool(b.ctx(), ref); err != nil {
			t.Fatal(err)
		}
	}
	t.Log(outcomes)
	b.agree()
}
