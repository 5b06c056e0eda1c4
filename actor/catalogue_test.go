// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
)

func TestRequestPool(t *testing.T) {
	t.Parallel()
	type request = actor.PoolRequest
	lowest := actor.Wish{Pick: new(events.PickLowest)}
	for _, tt := range []struct {
		name   string
		before []request
		ask    request
		want   string // the subnet, or the words of the refusal
		is     error  // nil: granted
		joins  int    // 1 and on: the grant is in the pool of that request before; 0: in a new one
	}{
		{name: "a subnet", ask: request{Subnet: prefix("10.1.0.0/24")}, want: "10.1.0.0/24"},
		{name: "the same subnet", before: []request{{Subnet: prefix("10.1.0.0/24")}}, ask: request{Subnet: prefix("10.1.0.0/24")}, want: "10.1.0.0/24", joins: 1},
		{name: "by name alone", before: []request{{Subnet: prefix("10.1.0.0/24"), Name: "web"}}, ask: request{Name: "web"}, want: "10.1.0.0/24", joins: 1},
		{name: "by name and subnet", before: []request{{Subnet: prefix("10.1.0.0/24"), Name: "web"}}, ask: request{Subnet: prefix("10.1.0.0/24"), Name: "web"}, want: "10.1.0.0/24", joins: 1},
		{name: "by name, another subnet", before: []request{{Subnet: prefix("10.1.0.0/24"), Name: "web"}}, ask: request{Subnet: prefix("10.2.0.0/24"), Name: "web"}, want: "pool web is 10.1.0.0/24, not 10.2.0.0/24", is: actor.ErrContradicts},
		{name: "by name, another length", before: []request{{Subnet: prefix("10.1.0.0/24"), Name: "web"}}, ask: request{Name: "web", Bits: 25}, want: "pool web is 10.1.0.0/24, not a /25", is: actor.ErrContradicts},
		{name: "by name, the length it has", before: []request{{Subnet: prefix("10.1.0.0/24"), Name: "web"}}, ask: request{Name: "web", Bits: 24}, want: "10.1.0.0/24", joins: 1},
		{name: "a new name without a subnet", ask: request{Name: "web"}, want: "10.128.0.0/24"},
		{
			name:   "both families under one name",
			before: []request{{Subnet: prefix("10.1.0.0/24"), Name: "web"}, {Subnet: prefix("fd00:9::/64"), Name: "web"}},
			ask:    request{Name: "web", V6: true}, want: "fd00:9::/64", joins: 2,
		},
		{
			name:   "the other of both families",
			before: []request{{Subnet: prefix("fd00:9::/64"), Name: "web"}, {Subnet: prefix("10.1.0.0/24"), Name: "web"}},
			ask:    request{Name: "web"}, want: "10.1.0.0/24", joins: 2,
		},
		{name: "a family the name has not yet", before: []request{{Subnet: prefix("10.1.0.0/24"), Name: "web"}}, ask: request{Name: "web", V6: true}, want: "fd00:1::/64"},
		{name: "an overlap", before: []request{{Subnet: prefix("10.1.0.0/24")}}, ask: request{Subnet: prefix("10.1.0.128/25")}, want: "10.1.0.128/25 overlaps with pool 10.1.0.0/24", is: actor.ErrOverlap},
		{name: "an overlap from above", before: []request{{Subnet: prefix("10.1.0.0/24")}}, ask: request{Subnet: prefix("10.0.0.0/8")}, want: "overlaps with pool 10.1.0.0/24", is: actor.ErrOverlap},
		{name: "an overlap of the other family", before: []request{{Subnet: prefix("fd00:9::/64")}}, ask: request{Subnet: prefix("fd00:9::/65")}, want: "overlaps", is: actor.ErrOverlap},
		{name: "beside it", before: []request{{Subnet: prefix("10.1.0.0/25")}}, ask: request{Subnet: prefix("10.1.0.128/25")}, want: "10.1.0.128/25"},
		{name: "named is apart", before: []request{{Subnet: prefix("10.1.0.0/24")}}, ask: request{Subnet: prefix("10.1.0.0/24"), Name: "web"}, want: "10.1.0.0/24"},
		{name: "named apart from named", before: []request{{Subnet: prefix("10.1.0.0/24"), Name: "a"}}, ask: request{Subnet: prefix("10.1.0.0/25"), Name: "b"}, want: "10.1.0.0/25"},
		{name: "unnamed beside named", before: []request{{Subnet: prefix("10.1.0.0/24"), Name: "a"}}, ask: request{Subnet: prefix("10.1.0.0/24")}, want: "10.1.0.0/24"},
		{name: "no subnet", ask: request{}, want: "10.128.0.0/24"},
		{name: "no subnet, each time a new one", before: []request{{}, {}}, ask: request{}, want: "10.128.2.0/24"},
		{name: "no subnet passes over named pools", before: []request{{Subnet: prefix("10.128.0.0/23"), Name: "a"}}, ask: request{}, want: "10.128.2.0/24"},
		{name: "no subnet passes over the swarm's", before: []request{{Space: events.Global, Subnet: prefix("10.128.0.0/24")}}, ask: request{}, want: "10.128.1.0/24"},
		{name: "no subnet, the other family", ask: request{V6: true}, want: "fd00:1::/64"},
		{name: "any of a length", before: []request{{Bits: 26}}, ask: request{Bits: 26}, want: "10.128.0.64/26"},
		{name: "any of a greater length, aligned", before: []request{{Bits: 26}}, ask: request{Bits: 20}, want: "10.128.16.0/20"},
		{name: "any of a length, the other family", ask: request{V6: true, Bits: 80}, want: "fd00:1::/80"},
		{name: "any of a length no block has", ask: request{Bits: 12}, want: "no IPv4 subnet of length /12 is left", is: actor.ErrNoSubnet},
		{name: "all of the block taken", before: []request{{Subnet: prefix("10.128.0.0/16")}}, ask: request{}, want: "no IPv4 subnet is left", is: actor.ErrNoSubnet},
		{name: "an overlap with the swarm's", before: []request{{Space: events.Global, Subnet: prefix("10.1.0.0/24")}}, ask: request{Subnet: prefix("10.1.0.0/24")}, want: "overlaps", is: actor.ErrOverlap},
		{name: "a range", ask: request{Subnet: prefix("10.1.0.0/24"), Range: prefix("10.1.0.64/26")}, want: "10.1.0.0/24"},
		{name: "another range of the same", before: []request{{Subnet: prefix("10.1.0.0/24"), Range: prefix("10.1.0.64/26")}}, ask: request{Subnet: prefix("10.1.0.0/24"), Range: prefix("10.1.0.128/26")}, want: "10.1.0.0/24", joins: 1},
		{name: "a range outside", ask: request{Subnet: prefix("10.1.0.0/24"), Range: prefix("10.2.0.64/26")}, want: "range 10.2.0.64/26 is not in 10.1.0.0/24", is: actor.ErrOutOfRange},
		{name: "a range outside of a pool that is", before: []request{{Subnet: prefix("10.1.0.0/24"), Name: "web"}}, ask: request{Name: "web", Range: prefix("10.0.0.0/8")}, want: "range 10.0.0.0/8 is not in 10.1.0.0/24", is: actor.ErrOutOfRange},
		{name: "another pick", before: []request{{Subnet: prefix("10.1.0.0/24")}}, ask: request{Subnet: prefix("10.1.0.0/24"), Wish: lowest}, want: "pool 10.1.0.0/24: its pick is serial, not lowest", is: actor.ErrContradicts},
		{name: "another rest", before: []request{{Subnet: prefix("10.1.0.0/24"), Name: "web"}}, ask: request{Name: "web", Wish: actor.Wish{Quarantine: new(events.Seconds(5))}}, want: "pool web: its quarantine is 1m0s, not 5s", is: actor.ErrContradicts},
		{name: "no wish contradicts nothing", before: []request{{Subnet: prefix("10.1.0.0/24"), Wish: lowest}}, ask: request{Subnet: prefix("10.1.0.0/24")}, want: "10.1.0.0/24", joins: 1},
		{name: "the same wish", before: []request{{Subnet: prefix("10.1.0.0/24"), Wish: lowest}}, ask: request{Subnet: prefix("10.1.0.0/24"), Wish: lowest}, want: "10.1.0.0/24", joins: 1},
		{name: "an overlap of the swarm's with a host's", before: []request{{Subnet: prefix("10.1.0.0/24")}}, ask: request{Space: events.Global, Subnet: prefix("10.1.0.0/24")}, want: "overlaps", is: actor.ErrOverlap},
		{name: "the other space, by name", before: []request{{Subnet: prefix("10.1.0.0/24")}}, ask: request{Space: events.Global, Name: "web", Subnet: prefix("10.1.0.0/24")}, want: "10.1.0.0/24"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			h1, h2 := b.start("h1"), b.start("h2")
			var refs []actor.Ref
			for _, r := range tt.before {
				refs = append(refs, h1.pool(r))
			}
			if tt.ask.Space == "" {
				tt.ask.Space = events.Local
			}
			g, err := h2.RequestPool(b.ctx(), tt.ask)
			if tt.is != nil {
				if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("got %v, %v; want %q", g, err, tt.want)
				}
				return
			}
			if err != nil || g.Subnet.String() != tt.want {
				t.Fatalf("got %v, %v; want %s", g, err, tt.want)
			}
			if g.Revision == 0 || g.Range != tt.ask.Range || g.Name != tt.ask.Name || g.Space != tt.ask.Space {
				t.Errorf("the answer is %+v", g)
			}
			for i, ref := range refs {
				if same := ref.Pool == g.Pool; same != (i == tt.joins-1) {
					t.Errorf("pool %s, that of request %d is %s", g.Pool, i+1, ref.Pool)
				}
			}
			guards := b.guards(g.Ref)
			host := "h2"
			if tt.ask.Space == events.Global {
				host = ""
			}
			if grant := guards.Grants[g.Grant].Value; grant.Host != host || grant.State != events.StateOpen || grant.Range != tt.ask.Range {
				t.Errorf("the grant is %+v", grant)
			}
			if p := guards.Pool.Value; p.Subnet != g.Subnet || p.Name != tt.ask.Name {
				t.Errorf("the pool is %+v", p)
			}
			b.agree(g.Ref)
		})
	}
}

// Subnets of our choice pass over what the host has routes to.
func TestRoutesAreAvoided(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1", func(o *actor.Options) {
		o.Routes = func() ([]netip.Prefix, error) {
			return []netip.Prefix{prefix("10.128.0.0/23"), prefix("fd00:1::5/128"), prefix("10.128.2.7/32")}, nil
		}
	})
	if ref := d.pool(actor.PoolRequest{}); ref.Subnet != prefix("10.128.3.0/24") {
		t.Errorf("got %s", ref.Subnet)
	}
	if ref := d.pool(actor.PoolRequest{V6: true}); ref.Subnet != prefix("fd00:1:0:1::/64") {
		t.Errorf("got %s", ref.Subnet)
	}
	// What the user names is the user's business.
	if ref := d.subnet("10.128.0.0/24"); ref.Subnet != prefix("10.128.0.0/24") {
		t.Errorf("got %s", ref.Subnet)
	}
	broken := b.start("h2", func(o *actor.Options) {
		o.Routes = func() ([]netip.Prefix, error) { return nil, errors.New("no routes today") }
	})
	_, err := broken.RequestPool(b.ctx(), actor.PoolRequest{Space: events.Local})
	if err == nil || !strings.Contains(err.Error(), "no routes today") || errors.Is(err, actor.ErrStoreSilent) {
		t.Errorf("got %v", err)
	}
}

func TestBlocksRunOut(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1", func(o *actor.Options) {
		o.Blocks = []actor.Block{{Base: prefix("10.128.0.0/30"), Bits: 31}, {Base: prefix("255.255.255.0/24"), Bits: 25}}
	})
	seen := map[netip.Prefix]bool{}
	var refs []actor.Ref
	for range 4 {
		ref := d.pool(actor.PoolRequest{})
		if seen[ref.Subnet] {
			t.Errorf("%s was cut twice", ref.Subnet)
		}
		seen[ref.Subnet] = true
		refs = append(refs, ref)
	}
	for range 2 {
		_, err := d.RequestPool(b.ctx(), actor.PoolRequest{Space: events.Local})
		wantErr(t, err, actor.ErrNoSubnet)
	}
	_, err := d.RequestPool(b.ctx(), actor.PoolRequest{Space: events.Local, V6: true})
	wantErr(t, err, actor.ErrNoSubnet)
	d.closeGrant(refs[1])
	if ref := d.pool(actor.PoolRequest{}); ref.Subnet != refs[1].Subnet {
		t.Errorf("got %s, %s is free again", ref.Subnet, refs[1].Subnet)
	}
}

// Hosts make the same pool at the same moment: there is one.
func TestSamePoolAtOnce(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	var hosts []*daemon
	for i := range 5 {
		hosts = append(hosts, b.start(fmt.Sprint("h", i)))
	}
	for round := range 5 {
		for _, name := range []string{"", fmt.Sprint("p", round)} {
			subnet := prefix(fmt.Sprintf("10.1.%d.0/24", round))
			refs := make([]actor.Ref, len(hosts))
			var wg sync.WaitGroup
			for i, d := range hosts {
				wg.Go(func() { refs[i] = d.pool(actor.PoolRequest{Subnet: subnet, Name: name}) })
			}
			wg.Wait()
			for _, ref := range refs {
				if ref.Pool != refs[0].Pool {
					t.Errorf("pools %s and %s of %s %s", ref.Pool, refs[0].Pool, subnet, name)
				}
			}
			if n := len(b.guards(refs[0]).Grants); n != len(hosts) {
				t.Errorf("%d grants", n)
			}
			b.agree(refs[0])
		}
	}
}

// Hosts make overlapping pools at the same moment: one has it, the others are
// refused. Those that leave the choice to us never meet.
func TestOverlappingPoolsAtOnce(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	var hosts []*daemon
	for i := range 4 {
		hosts = append(hosts, b.start(fmt.Sprint("h", i)))
	}
	for round := range 5 {
		var won atomic.Int64
		var wg sync.WaitGroup
		for i, d := range hosts {
			wg.Go(func() {
				_, err := d.RequestPool(b.ctx(), actor.PoolRequest{
					Space: events.Local, Subnet: prefix(fmt.Sprintf("10.%d.0.0/%d", round, 16+i)),
				})
				switch {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, actor.ErrOverlap):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("%d overlapping pools", won.Load())
		}
	}
	l := newLedger(t)
	var wg sync.WaitGroup
	for _, d := range hosts {
		for range 4 {
			wg.Go(func() { l.take(d.pool(actor.PoolRequest{}).Subnet.Addr(), "") })
		}
	}
	wg.Wait()
}

// The swarm's grant is one, whichever manager asks, and stays when the leader
// changes.
func TestSwarmsGrantIsStable(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	leader, next := b.start("h1"), b.start("h2")
	r := actor.PoolRequest{Space: events.Global, Subnet: prefix("10.1.0.0/24")}
	ref := leader.pool(r)
	if again := leader.pool(r); again != ref {
		t.Errorf("got %+v, then %+v", ref, again)
	}
	gw := leader.ask(ref, gateway(""))
	task := leader.ask(ref, actor.AddressRequest{})
	if other := next.pool(r); other != ref {
		t.Errorf("another manager got %+v, not %+v", other, ref)
	}
	for _, a := range []actor.Answer{gw, task} {
		again := next.ask(ref, actor.AddressRequest{Address: a.Address})
		if !again.Repeat || again.Allocation != a.Allocation {
			t.Errorf("the next leader got %+v for %+v", again, a)
		}
	}
	next.release(ref, task.Address)
	b.same(ref, map[string][]string{gw.Address.String(): {"gateway"}})
	next.closeGrant(ref)
	leader.closeGrant(ref)
	if b.guards(ref).Pool.Present() {
		t.Error("the pool is left")
	}
	b.agree(ref)
}

func TestDefaultBlocks(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	blocks := actor.DefaultBlocks(b.log.Clock.NewID())
	other := actor.DefaultBlocks(b.log.Clock.NewID())
	if len(blocks) != 2 || blocks[0] != (actor.Block{Base: prefix("10.0.0.0/8"), Bits: 24}) {
		t.Errorf("got %v", blocks)
	}
	if v6 := blocks[1]; v6.Bits != 64 || v6.Base.Bits() != 48 || !prefix("fd00::/8").Contains(v6.Base.Addr()) || v6.Base != v6.Base.Masked() || v6 == other[1] {
		t.Errorf("got %v and %v", v6, other[1])
	}
	routes, err := actor.HostRoutes()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		if r != r.Masked() || r.Bits() == 0 {
			t.Errorf("route %s", r)
		}
	}
}
