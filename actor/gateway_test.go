// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
)

// Two networks of a pool ask for their gateways, on one host or on two.
func TestGatewayModes(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h1, h2 := b.start("h1"), b.start("h2")
	const none = "0.0.0.0"
	subnet := byte(0)
	for _, tt := range []struct {
		mode          events.GatewayMode
		first, second string // as named; "": not
		want, other   string // what the two are told; other "": refused
		held          map[string][]string
		after         map[string][]string // once the first has ended
	}{
		{events.GatewayAuto, "", "", "1", "2", map[string][]string{"1": {"gateway"}, "2": {"gateway"}}, map[string][]string{"2": {"gateway"}}},
		{events.GatewayAuto, "9", "9", "9", "9", map[string][]string{"9": {"gateway", "gateway"}}, map[string][]string{"9": {"gateway"}}},
		{events.GatewayAuto, "9", "8", "9", "8", map[string][]string{"9": {"gateway"}, "8": {"gateway"}}, map[string][]string{"8": {"gateway"}}},
		{events.GatewayAuto, "1", "", "1", "2", map[string][]string{"1": {"gateway"}, "2": {"gateway"}}, map[string][]string{"2": {"gateway"}}},
		{events.GatewayAuto, "", "1", "1", "", map[string][]string{"1": {"gateway"}}, nil},
		{events.GatewayShared, "", "", "1", "1", map[string][]string{"1": {"gateway", "gateway"}}, map[string][]string{"1": {"gateway"}}},
		{events.GatewayShared, "9", "9", "9", "9", map[string][]string{"9": {"gateway", "gateway"}}, map[string][]string{"9": {"gateway"}}},
		{events.GatewayShared, "", "1", "1", "1", map[string][]string{"1": {"gateway", "gateway"}}, map[string][]string{"1": {"gateway"}}},
		{events.GatewayHost, "", "", "1", "2", map[string][]string{"1": {"gateway"}, "2": {"gateway"}}, map[string][]string{"2": {"gateway"}}},
		{events.GatewayHost, "9", "9", "9", "", map[string][]string{"9": {"gateway"}}, nil},
		{events.GatewayHost, "9", "", "9", "1", map[string][]string{"9": {"gateway"}, "1": {"gateway"}}, map[string][]string{"1": {"gateway"}}},
		{events.GatewayNone, "", "", none, none, nil, nil},
		{events.GatewayNone, "9", "9", "9", "9", nil, nil},
		{events.GatewayNone, "", "9", none, "9", nil, nil},
	} {
		for hosts, second := range map[string]*daemon{"one host": h1, "two hosts": h2} {
			subnet++
			at := func(s string) string {
				if s == "" || s == none {
					return s
				}
				return fmt.Sprintf("10.%d.0.%s", subnet, s)
			}
			in := func(held map[string][]string) map[string][]string {
				all := map[string][]string{}
				for a, kinds := range held {
					all[at(a)] = kinds
				}
				return all
			}
			t.Run(fmt.Sprintf("%s %q then %q, %s", tt.mode, tt.first, tt.second, hosts), func(t *testing.T) {
				b := &bed{tb: t, etcd: b.etcd, log: b.log}
				d1, d2 := &daemon{Host: h1.Host, bed: b}, &daemon{Host: second.Host, bed: b}
				r := actor.PoolRequest{Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, subnet}), 24), Wish: actor.Wish{Gateway: new(tt.mode)}}
				r1, r2 := d1.pool(r), d2.pool(r)
				for range 2 { // the second time is a repeat, but for an unnamed own one
					if a := d1.ask(r1, gateway(at(tt.first))); a.Address != addr(at(tt.want)) || a.Kind != events.Gateway || a.Prefix().Bits() != 24 {
						t.Errorf("the first got %+v, want %s", a, at(tt.want))
					}
					if tt.first == "" && (tt.mode == events.GatewayAuto || tt.mode == events.GatewayHost) {
						break
					}
				}
				a, err := d2.RequestAddress(b.ctx(), r2, gateway(at(tt.second)))
				switch {
				case tt.other == "":
					wantErr(t, err, actor.ErrInUse)
				case err != nil || a.Address != addr(at(tt.other)) || a.Kind != events.Gateway:
					t.Errorf("the second got %+v, %v; want %s", a, err, at(tt.other))
				}
				b.same(r1, in(tt.held))
				d1.release(r1, addr(at(tt.want))) // as Docker does
				d1.closeGrant(r1)
				b.same(r1, in(tt.after))
				if tt.other != "" {
					d2.release(r2, addr(at(tt.other)))
				}
				d2.closeGrant(r2)
				b.same(r1, nil)
				if b.stands(r1) {
					t.Error("the pool is left")
				}
				b.agree(r1)
			})
		}
	}
}

// A network without a gateway holds nothing, in IPv6 as well, and a container may
// have the address that was named.
func TestNoGateway(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	none := actor.Wish{Gateway: new(events.GatewayNone)}
	v6 := d.pool(actor.PoolRequest{Subnet: prefix("fd00:7::/64"), Wish: none})
	if a := d.ask(v6, gateway("")); a.Prefix() != prefix("::/64") {
		t.Errorf("told %s", a.Prefix())
	}
	v4 := d.pool(actor.PoolRequest{Subnet: prefix("10.1.0.0/24"), Wish: none})
	before := len(b.records(v4))
	if a := d.ask(v4, gateway("")); a.Prefix() != prefix("0.0.0.0/24") {
		t.Errorf("told %s", a.Prefix())
	}
	d.ask(v4, gateway("10.1.0.1"))
	if a := d.ask(v4, endpoint(1)); a.Address != addr("10.1.0.1") {
		t.Errorf("picked %s", a.Address)
	}
	if a := d.ask(v4, gateway("10.1.0.1")); a.Address != addr("10.1.0.1") {
		t.Errorf("told %s", a.Address)
	}
	_, err := d.RequestAddress(b.ctx(), v4, gateway("10.2.0.1"))
	wantErr(t, err, actor.ErrOutOfRange)
	for _, a := range []string{"0.0.0.0", "10.2.0.1"} {
		d.release(v4, addr(a))
	}
	if n := len(b.records(v4)) - before; n != 1 {
		t.Errorf("%d commits, want that of the container alone", n)
	}
	b.same(v4, map[string][]string{"10.1.0.1": {"endpoint"}})
	b.agree(v4)
}

// Networks of several hosts ask at the same moment for the gateway they share:
// there is one, all are told of it, and the pool says so once.
func TestSharedGatewayAtOnce(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	hosts := []*daemon{b.start("h1"), b.start("h2"), b.start("h3")}
	for round := range 8 {
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(round)}), 24)
		refs := make([]actor.Ref, len(hosts))
		told := make([]netip.Addr, len(hosts))
		var wg sync.WaitGroup
		for i, d := range hosts {
			wg.Go(func() {
				r := actor.PoolRequest{Space: events.Local, Subnet: subnet, Wish: actor.Wish{Gateway: new(events.GatewayShared)}}
				g, err := d.RequestPool(b.ctx(), r)
				if err != nil {
					t.Error(err)
					return
				}
				refs[i] = g.Ref
				// A container of the first host is in the way now and then.
				if i == 0 && round%3 == 0 {
					if _, err := d.RequestAddress(b.ctx(), g.Ref, endpoint(1)); err != nil {
						t.Error(err)
					}
				}
				a, err := d.RequestAddress(b.ctx(), g.Ref, gateway(""))
				if err != nil {
					t.Error(err)
				}
				told[i] = a.Address
			})
		}
		wg.Wait()
		router := b.guards(refs[0]).Pool.Value.Router
		for i, a := range told {
			if a != router || !router.IsValid() {
				t.Errorf("round %d: host %d was told %s, the router is %s", round, i, a, router)
			}
		}
		if n := len(b.guards(refs[0]).Held[router].Value); n != len(hosts) {
			t.Errorf("round %d: %d networks hold the router", round, n)
		}
		if n := b.count(refs[0], isType(events.TypePoolChanged)); n != 1 {
			t.Errorf("round %d: the layout changed %d times", round, n)
		}
		b.agree(refs[0])
		// It stays set aside as long as the pool stands, whoever holds it.
		for i, d := range hosts[1:] {
			d.release(refs[i+1], router)
		}
		hosts[0].release(refs[0], router)
		_, err := hosts[1].RequestAddress(b.ctx(), refs[1], asked(actor.AskEndpoint, 9, "", router.String()))
		wantErr(t, err, actor.ErrSetAside)
		if a := hosts[2].ask(refs[2], gateway("")); a.Address != router {
			t.Errorf("round %d: asked again it is %s, not %s", round, a.Address, router)
		}
		for i, d := range hosts {
			d.closeGrant(refs[i])
		}
		if b.stands(refs[0]) {
			t.Error("the pool is left")
		}
	}
}

// Hosts choose the router while an operator lays the pool out: nothing that either
// wrote is lost.
func TestSharedGatewayMeetsTheOperator(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	hosts := []*daemon{b.start("h1"), b.start("h2")}
	for round := range 10 {
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(round)}), 24)
		refs := make([]actor.Ref, len(hosts))
		for i, d := range hosts {
			refs[i] = d.pool(actor.PoolRequest{Subnet: subnet, Wish: actor.Wish{Gateway: new(events.GatewayShared)}})
		}
		var wg sync.WaitGroup
		told := make([]netip.Addr, len(hosts))
		for i, d := range hosts {
			for n := range 5 { // so that commits gather
				wg.Go(func() {
					if _, err := d.RequestAddress(b.ctx(), refs[i], endpoint(100*i+n)); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Go(func() {
				a, err := d.RequestAddress(b.ctx(), refs[i], gateway(""))
				if err != nil {
					t.Error(err)
				}
				told[i] = a.Address
			})
		}
		last := func(n int) string { return netip.AddrFrom4([4]byte{10, 1, byte(round), byte(n)}).String() }
		for n := range 3 {
			b.layOut(refs[0], func(e *events.PoolChanged) {
				e.Kept, e.Exclude = true, ranges(last(240)+"-"+last(241+n))
			})
		}
		wg.Wait()
		if told[0] != told[1] || !told[0].IsValid() {
			t.Errorf("round %d: told %v", round, told)
		}
		b.layoutIs(refs[0], events.Layout{Router: told[0], Exclude: ranges(last(240) + "-" + last(243))})
		if !b.guards(refs[0]).Pool.Value.Kept {
			t.Errorf("round %d: the pool is kept no more", round)
		}
		b.agree(refs[0])
	}
}

// The same, in the one order that is hard to meet: the router was chosen, and its
// commit waits behind another, when the operator's layout comes.
func TestChosenRouterWaitsBehindACommit(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	store := &heldAnswers{}
	d := b.start("h1", store.into)
	ref := d.pool(actor.PoolRequest{Subnet: prefix("10.1.0.0/24"), Wish: actor.Wish{Gateway: new(events.GatewayShared)}})
	first := newHold()
	store.set(nil, first)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := d.RequestAddress(b.ctx(), ref, endpoint(1)); err != nil {
			t.Error(err)
		}
	})
	<-first.come
	store.set(nil, nil)
	wg.Go(func() {
		if a, err := d.RequestAddress(b.ctx(), ref, gateway("")); err != nil || !ranges("10.1.0.10-10.1.0.19")[0].Contains(a.Address) {
			t.Errorf("got %v, %v", a, err)
		}
	})
	eventually(t, "the router waits", func() bool { return d.Waiting(ref.Pool) == 1 })
	d.sees(ref, b.layOut(ref, func(e *events.PoolChanged) {
		e.Kept, e.Ranges = true, ranges("10.1.0.10-10.1.0.19")
	}))
	close(first.open)
	wg.Wait()
	b.layoutIs(ref, events.Layout{Router: addr("10.1.0.10"), Ranges: ranges("10.1.0.10-10.1.0.19")})
	if !b.guards(ref).Pool.Value.Kept {
		t.Error("the operator's word was lost")
	}
	b.agree(ref)
}

// Where there are addresses for the hosts' bridges, an unnamed gateway is one of
// them, and a named one of them is the host's own.
func TestHostRanges(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h1, h2 := b.start("h1"), b.start("h2")
	for i, mode := range []events.GatewayMode{events.GatewayAuto, events.GatewayHost} {
		at := func(s string) string { return fmt.Sprintf("10.%d.0.%s", i+1, s) }
		r := actor.PoolRequest{Subnet: prefix(at("0/24")), Wish: actor.Wish{Gateway: new(mode)}}
		r1, r2 := h1.pool(r), h2.pool(r)
		revision := b.layOut(r1, func(e *events.PoolChanged) {
			e.HostRanges, e.Router, e.Kept = ranges(at("20")+"-"+at("23")), addr(at("21")), true
		})
		h1.sees(r1, revision)
		h2.sees(r2, revision)
		if a := h1.ask(r1, gateway("")); a.Address != addr(at("20")) {
			t.Errorf("%s: the gateway is %s", mode, a.Address)
		}
		if a := h2.ask(r2, gateway("")); a.Address != addr(at("22")) {
			t.Errorf("%s: the gateway is %s", mode, a.Address)
		}
		h1.ask(r1, gateway(at("23")))
		_, err := h2.RequestAddress(b.ctx(), r2, gateway(at("23")))
		wantErr(t, err, actor.ErrInUse)
		h1.release(r1, addr(at("23")))
		h2.ask(r2, gateway(at("23")))
		b.same(r1, map[string][]string{at("20"): {"gateway"}, at("22"): {"gateway"}, at("23"): {"gateway"}})
		// An auxiliary there is shared all the same.
		h2.release(r2, addr(at("23")))
		h1.ask(r1, plain(at("23")))
		h2.ask(r2, plain(at("23")))
		if a := h1.ask(r1, endpoint(1)); a.Address != addr(at("1")) {
			t.Errorf("%s: picked %s", mode, a.Address)
		}
		b.agree(r1)
	}
}

// What a host was given for its bridge is the gateway of its networks there,
// without being held twice: no end of a network frees it, and no other host gets
// it.
func TestOwnBridge(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h1, h2 := b.start("h1"), b.start("h2")
	for i, mode := range []events.GatewayMode{events.GatewayAuto, events.GatewayShared, events.GatewayHost} {
		at := func(s string) string { return fmt.Sprintf("10.%d.0.%s", i+1, s) }
		r := actor.PoolRequest{Subnet: prefix(at("0/24")), Wish: actor.Wish{Gateway: new(mode)}}
		r1, again, r2 := h1.pool(r), h1.pool(r), h2.pool(r)
		revision := b.layOut(r1, func(e *events.PoolChanged) { e.HostRanges, e.Kept = ranges(at("20")+"-"+at("29")), true })
		b.bridge("h1", r1, at("21"))
		before := len(b.records(r1))
		for _, d := range []*daemon{h1, h2} {
			d.sees(r1, revision+1)
		}
		for _, ref := range []actor.Ref{r1, again, r1} {
			if a := h1.ask(ref, gateway(at("21"))); a.Address != addr(at("21")) || !a.Repeat {
				t.Errorf("%s: got %+v", mode, a)
			}
			h1.ask(ref, plain(at("21")))
		}
		for _, ask := range []actor.AddressRequest{gateway(at("21")), plain(at("21"))} {
			_, err := h2.RequestAddress(b.ctx(), r2, ask)
			wantErr(t, err, actor.ErrInUse)
		}
		_, err := h1.RequestAddress(b.ctx(), r1, asked(actor.AskEndpoint, 1, "", at("21")))
		wantErr(t, err, actor.ErrSetAside)
		h1.release(r1, addr(at("21")))
		if n := len(b.records(r1)) - before; n != 0 {
			t.Errorf("%s: %d commits", mode, n)
		}
		h1.closeGrant(r1)
		h1.closeGrant(again)
		h2.closeGrant(r2)
		b.same(r1, map[string][]string{at("21"): {"host"}})
		b.agree(r1)
	}
}

// What users declare as auxiliary on every host is held until the last of their
// networks ends.
func TestAuxiliaryOfThreeHosts(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	var hosts []*daemon
	var refs []actor.Ref
	for i := range 3 {
		d := b.start(fmt.Sprint("h", i))
		ref := d.subnet("10.1.0.0/24")
		d.ask(ref, gateway("10.1.0.1"))
		d.ask(ref, plain("10.1.0.1")) // some name the router twice
		d.ask(ref, plain("10.1.0.7"))
		d.ask(ref, plain("10.1.0.7"))
		hosts, refs = append(hosts, d), append(refs, ref)
	}
	outsider := hosts[0].subnet("10.1.0.0/24")
	for n := 3; n > 0; n-- {
		for _, a := range []string{"10.1.0.1", "10.1.0.7"} {
			if held := b.held(refs[0])[a]; len(held) != n {
				t.Errorf("%d networks stand, %s is held by %v", n, a, held)
			}
			_, err := hosts[0].RequestAddress(b.ctx(), outsider, asked(actor.AskEndpoint, 1, "", a))
			wantErr(t, err, actor.ErrInUse)
		}
		if n%2 == 0 { // as Docker does, or with the network alone
			hosts[n-1].release(refs[n-1], addr("10.1.0.7"))
		}
		hosts[n-1].closeGrant(refs[n-1])
	}
	b.same(refs[0], nil)
	hosts[0].ask(outsider, asked(actor.AskEndpoint, 1, "", "10.1.0.7"))
	b.agree(refs[0])
}

// The router is everybody's, though it lies among the addresses kept for hosts.
func TestRouterInAHostRange(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h1, h2 := b.start("h1"), b.start("h2")
	for i, mode := range []events.GatewayMode{events.GatewayAuto, events.GatewayShared} {
		router := fmt.Sprintf("10.%d.0.1", i)
		r := actor.PoolRequest{Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i)}), 24), Wish: actor.Wish{Gateway: new(mode)}}
		first := h1.pool(r)
		h1.sees(first, b.layOut(first, func(e *events.PoolChanged) {
			e.Kept, e.Router, e.HostRanges = true, addr(router), ranges(fmt.Sprintf("10.%d.0.1-10.%[1]d.0.20", i))
		}))
		second := h2.pool(r)
		h1.ask(first, gateway(router))
		h2.ask(second, gateway(router))
		h2.ask(second, plain(router)) // some name it as both
		b.agree(first)

		// What create-network makes: the bridge's own address, and the router beside it.
		bridge := fmt.Sprintf("10.%d.0.9", i)
		b.bridge("h1", first, bridge)
		third := h1.pool(r)
		h1.ask(third, gateway(bridge))
		h1.ask(third, plain(router))
		b.agree(first)
	}
}
