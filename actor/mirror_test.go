// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
)

// managed is a daemon that Swarm uses.
func managed(o *actor.Options) { o.Mirrors = true }

// swarm is one of Swarm's networks, as the managers and the nodes ask for it.
type swarm struct {
	b      *bed
	subnet netip.Prefix
	name   string // of the pool; empty: none
	macs   byte
}

// manager asks for what the leader asks for: the pool, and its gateway.
func (s *swarm) manager(d *daemon, options actor.Wish) (ref actor.Ref, gw netip.Addr) {
	s.b.tb.Helper()
	ref = d.pool(actor.PoolRequest{Space: events.Global, Subnet: s.subnet, Name: s.name, Wish: options})
	return ref, d.ask(ref, gateway("")).Address
}

// node asks for what a node asks for that runs a task: the pool, the gateway, and
// then the load balancer's and the tasks' addresses, with names of theirs and MACs
// that are new each time.
func (s *swarm) node(d *daemon, gw netip.Addr, addrs ...netip.Addr) actor.Ref {
	s.b.tb.Helper()
	ref := d.pool(actor.PoolRequest{Subnet: s.subnet, Name: s.name})
	ask := gateway("")
	ask.Address = gw
	d.ask(ref, ask)
	for i, a := range addrs {
		s.macs++
		task := asked(actor.AskEndpoint, s.macs, fmt.Sprintf("web.%d.x", i), a.String())
		if got := d.ask(ref, task); got.Address != a || got.Kind != events.Endpoint {
			s.b.tb.Errorf("asked for %s, got %+v", a, got)
		}
	}
	return ref
}

func TestSwarmOnOneHost(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1", managed)
	for _, s := range []*swarm{{b: b, subnet: prefix("10.1.0.0/24")}, {b: b, subnet: prefix("fd00:5::/64")}, {b: b, subnet: prefix("10.2.0.0/24"), name: "net"}} {
		global, gw := s.manager(d, actor.Wish{Pick: new(events.PickLowest)})
		lb, task := d.ask(global, actor.AddressRequest{}).Address, d.ask(global, actor.AddressRequest{}).Address
		mirror := s.node(d, gw, lb, task)
		if mirror.Pool == global.Pool || mirror.Space != events.Local || mirror.Host != "h1" {
			t.Fatalf("the mirror is %+v of %+v", mirror, global)
		}
		held := map[string][]string{gw.String(): {"gateway"}, lb.String(): {"endpoint"}, task.String(): {"endpoint"}}
		b.same(global, held)
		b.same(mirror, held)
		if p := b.guards(mirror).Pool.Value; p.Node != "h1" || p.Name != "" || p.Policy != events.DefaultPolicy() {
			t.Errorf("the mirror's pool is %+v", p)
		}
		// No address of its own choice.
		for _, ask := range []actor.AddressRequest{{}, asked(actor.AskEndpoint, 99, "c1", "")} {
			_, err := d.RequestAddress(b.ctx(), mirror, ask)
			wantErr(t, err, actor.ErrMirror)
		}
		// The global half may end first.
		d.release(global, task)
		d.release(mirror, task)
		b.same(mirror, map[string][]string{gw.String(): {"gateway"}, lb.String(): {"endpoint"}})
		d.closeGrant(global) // the load balancer's address is never released
		if b.stands(global) {
			t.Error("the global pool is left")
		}
		d.release(mirror, lb)
		d.release(mirror, gw)
		d.closeGrant(mirror)
		if b.stands(mirror) {
			t.Error("the mirror is left")
		}
		b.agree(global)
		b.agree(mirror)
	}
}

// Three nodes run tasks of one network; one of them crashes, forgets, and asks for
// everything again, with new MACs.
func TestSwarmNodeCrashes(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	hosts := []*daemon{b.start("h1", managed), b.start("h2", managed), b.start("h3", managed)}
	s := &swarm{b: b, subnet: prefix("10.1.0.0/24")}
	global, gw := s.manager(hosts[0], actor.Wish{})
	addrs := make([][]netip.Addr, len(hosts))
	mirrors := make([]actor.Ref, len(hosts))
	for i, d := range hosts {
		for range 3 {
			addrs[i] = append(addrs[i], hosts[0].ask(global, actor.AddressRequest{}).Address)
		}
		mirrors[i] = s.node(d, gw, addrs[i]...)
		if mirrors[i].Pool == mirrors[(i+1)%len(hosts)].Pool {
			t.Error("two nodes have one mirror")
		}
	}
	before := b.held(mirrors[1])
	// The daemon may start anew, too, or not.
	for round, crash := range []func(){func() {}, func() {
		if err := hosts[1].stop(); err != nil {
			t.Fatal(err)
		}
		hosts[1] = b.start("h2", managed)
	}} {
		crash()
		again := s.node(hosts[1], gw, addrs[1]...)
		if again != mirrors[1] {
			t.Errorf("after the crash it is grant %+v, not %+v", again, mirrors[1])
		}
		b.same(again, before)
		if n := b.count(again, isReleased(events.Superseded)); n != 3*(round+1) {
			t.Errorf("%d holdings were superseded", n)
		}
		for a, guard := range b.guards(again).Held {
			if v := guard.Value[0]; v.Kind == events.Endpoint && v.MAC[5] <= s.macs-3 {
				t.Errorf("%s is held with the MAC of before the crash", a)
			}
		}
	}
	// An address of the node's that a task of another kind has now.
	hosts[1].ask(mirrors[1], plain(addrs[1][0].String()))
	// A container on an address that the managers gave nobody: the node cannot know.
	hosts[1].ask(mirrors[1], asked(actor.AskEndpoint, 250, "manual", "10.1.0.200"))
	if held := b.held(global)["10.1.0.200"]; held != nil {
		t.Errorf("the managers' pool holds %v", held)
	}
	for i, d := range hosts {
		b.agree(mirrors[i])
		d.closeGrant(mirrors[i])
		if b.stands(mirrors[i]) {
			t.Errorf("the mirror of host %d is left", i)
		}
		b.agree(mirrors[i])
	}
	if len(b.held(global)) != 10 {
		t.Errorf("the managers' pool holds %v", b.held(global))
	}
	hosts[2].closeGrant(global)
	if b.stands(global) {
		t.Error("the global pool is left")
	}
}

// A new leader asks for everything again: it gets the same, and nothing new is
// written.
func TestSwarmLeaderChanges(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	hosts := []*daemon{b.start("h1", managed), b.start("h2", managed), b.start("h3", managed)}
	for i, mode := range []events.GatewayMode{events.GatewayAuto, events.GatewayShared, events.GatewayHost, events.GatewayNone} {
		s := &swarm{b: b, subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i + 1)}), 24), name: []string{"", fmt.Sprint("net", i)}[i%2]}
		options := actor.Wish{Gateway: new(mode)}
		ref, gw := s.manager(hosts[0], options)
		addrs := []netip.Addr{}
		for range 5 {
			addrs = append(addrs, hosts[0].ask(ref, actor.AddressRequest{}).Address)
		}
		s.node(hosts[1], gw, addrs[0])
		before := len(b.records(ref))
		for _, leader := range []*daemon{hosts[1], hosts[2], hosts[0], b.start(fmt.Sprint("late", i), managed)} {
			again := leader.pool(actor.PoolRequest{Space: events.Global, Subnet: s.subnet, Name: s.name, Wish: options})
			if again != ref {
				t.Errorf("%s: grant %+v, not %+v", mode, again, ref)
			}
			ask := gateway("")
			ask.Address = gw
			if a := leader.ask(again, ask); a.Address != gw || !a.Repeat {
				t.Errorf("%s: gateway %+v, not %s", mode, a, gw)
			}
			for _, a := range addrs {
				if got := leader.ask(again, actor.AddressRequest{Address: a}); got.Address != a || !got.Repeat {
					t.Errorf("%s: got %+v, not %s", mode, got, a)
				}
			}
		}
		if n := len(b.records(ref)) - before; n != 0 {
			t.Errorf("%s: %d commits for what was there", mode, n)
		}
		b.agree(ref)
	}
}

// Managers ask for one network at the same moment, and again when there is a
// grant: it is one.
func TestSwarmManagersAtOnce(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	hosts := []*daemon{b.start("h1", managed), b.start("h2", managed), b.start("h3", managed)}
	for round := range 10 {
		for _, space := range events.Spaces() {
			request := actor.PoolRequest{Space: space, Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(round)}), 24), Name: []string{"", "net"}[round%2]}
			if space == events.Local {
				// A node asks twice at once for its mirror.
				s := &swarm{b: b, subnet: request.Subnet, name: request.Name}
				s.manager(hosts[0], actor.Wish{})
			}
			refs := make([]actor.Ref, len(hosts))
			var wg sync.WaitGroup
			for i := range refs {
				d := hosts[i]
				if space == events.Local {
					d = hosts[0]
				}
				wg.Go(func() {
					g, err := d.RequestPool(b.ctx(), request)
					if err != nil {
						t.Error(err)
					}
					refs[i] = g.Ref
				})
			}
			wg.Wait()
			for _, ref := range refs {
				if ref != refs[0] {
					t.Errorf("%s, round %d: grants %+v and %+v", space, round, ref, refs[0])
				}
			}
			if n := len(b.guards(refs[0]).Grants); n != 1 {
				t.Errorf("%s, round %d: %d grants", space, round, n)
			}
			for _, ref := range refs {
				hosts[0].closeGrant(ref)
			}
			if space == events.Global && b.stands(refs[0]) {
				t.Error("the pool is left")
			}
		}
	}
}

// A global pool that an operator keeps stands without a grant; managers that then
// ask for it at the same moment get one and the same.
func TestSwarmManagersJoinAKeptPoolAtOnce(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	hosts := []*daemon{b.start("h1", managed), b.start("h2", managed), b.start("h3", managed)}
	request := actor.PoolRequest{Space: events.Global, Subnet: prefix("10.1.0.0/24")}
	ref := hosts[0].pool(request)
	b.layOut(ref, func(e *events.PoolChanged) { e.Kept = true })
	hosts[0].closeGrant(ref)
	for range 10 {
		refs := make([]actor.Ref, len(hosts))
		var wg sync.WaitGroup
		for i, d := range hosts {
			wg.Go(func() {
				g, err := d.RequestPool(b.ctx(), request)
				if err != nil {
					t.Error(err)
				}
				refs[i] = g.Ref
			})
		}
		wg.Wait()
		if n := len(b.guards(ref).Grants); n != 1 {
			t.Fatalf("the swarm has %d grants in one pool", n)
		}
		for i, d := range hosts {
			d.closeGrant(refs[i])
		}
	}
}

// Only the very subnet of a Swarm network is mirrored, and only by a daemon that
// Swarm uses.
func TestWhatIsNoMirror(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	node, other := b.start("h1", managed), b.start("h2")
	s := &swarm{b: b, subnet: prefix("10.1.0.0/24")}
	global, gw := s.manager(node, actor.Wish{})
	mirror := s.node(node, gw)

	_, err := other.RequestPool(b.ctx(), actor.PoolRequest{Space: events.Local, Subnet: s.subnet})
	wantErr(t, err, actor.ErrOverlap)
	if !strings.Contains(err.Error(), "overlaps with pool 10.1.0.0/24") {
		t.Error(err)
	}
	for _, subnet := range []string{"10.1.0.0/25", "10.1.0.0/16"} {
		_, err := node.RequestPool(b.ctx(), actor.PoolRequest{Space: events.Local, Subnet: prefix(subnet)})
		wantErr(t, err, actor.ErrOverlap)
	}
	// Apart from it, all is as ever: another subnet, a name, or our choice, which
	// passes over mirrors too.
	for _, r := range []actor.PoolRequest{{Subnet: prefix("10.2.0.0/24")}, {Subnet: s.subnet, Name: "own"}, {}} {
		for _, d := range []*daemon{node, other} {
			ref := d.pool(r)
			if b.guards(ref).Pool.Value.Node != "" || ref.Pool == mirror.Pool || ref.Pool == global.Pool {
				t.Errorf("%+v: got %+v", r, ref)
			}
			if r.Subnet.IsValid() || r.Name != "" {
				d.ask(ref, endpoint(1))
			}
		}
	}
	// Once the network is no more, its subnet is free for a pool of the hosts', and
	// the mirror that is left is in nobody's way.
	node.closeGrant(global)
	if own := other.subnet("10.1.0.0/24"); own.Pool == mirror.Pool || b.guards(own).Pool.Value.Node != "" {
		t.Errorf("got %+v", own)
	}
	node.closeGrant(mirror)
	if b.stands(mirror) {
		t.Error("the mirror is left")
	}
}

// The engine asks through the PoolID of a mirror that was closed, or that the store
// forgot: it is opened again as what it was.
func TestMirrorIsReopened(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1", managed)
	s := &swarm{b: b, subnet: prefix("10.1.0.0/24")}
	global, gw := s.manager(d, actor.Wish{})
	task := d.ask(global, actor.AddressRequest{}).Address
	mirror := s.node(d, gw, task)
	d.closeGrant(mirror)
	if b.stands(mirror) {
		t.Fatal("the mirror is left")
	}
	d.ask(mirror, asked(actor.AskEndpoint, 9, "web.1.x", task.String()))
	now := s.node(d, gw, task) // finds that one
	if p := b.guards(now).Pool.Value; p.Node != "h1" || p.Name != "" {
		t.Errorf("opened again as %+v", p)
	}
	if now.Grant != mirror.Grant {
		t.Errorf("grant %s, not %s", now.Grant, mirror.Grant)
	}
	b.same(now, map[string][]string{gw.String(): {"gateway"}, task.String(): {"endpoint"}})
	d.closeGrant(mirror) // by the old PoolID
	if b.stands(now) {
		t.Error("the mirror is left")
	}
	b.agree(now)
}

// Two ask for one address of a mirror at the same moment: both are answered, one
// has it at the end, and the log agrees.
func TestMirrorIsContested(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1", managed)
	s := &swarm{b: b, subnet: prefix("10.1.0.0/24")}
	_, gw := s.manager(d, actor.Wish{})
	mirror := s.node(d, gw)
	var wg sync.WaitGroup
	for n := range byte(20) {
		wg.Go(func() {
			a, err := d.RequestAddress(b.ctx(), mirror, asked(actor.AskEndpoint, n+1, "t", "10.1.0.77"))
			if err != nil || a.Address != addr("10.1.0.77") {
				t.Errorf("got %+v, %v", a, err)
			}
		})
	}
	wg.Wait()
	if held := b.held(mirror)["10.1.0.77"]; len(held) != 1 {
		t.Errorf("held by %v", held)
	}
	if n := b.count(mirror, isReleased(events.Superseded)); n != 19 {
		t.Errorf("%d were superseded", n)
	}
	d.release(mirror, addr("10.1.0.77"))
	b.same(mirror, map[string][]string{gw.String(): {"gateway"}})
	b.agree(mirror)
}
