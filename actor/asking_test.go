// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/oklog/ulid/v2"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
)

// asked is an AddressRequest in a table.
func asked(how actor.Asking, mac byte, name, address string) actor.AddressRequest {
	ask := actor.AddressRequest{Asking: how, Endpoint: name}
	if mac != 0 {
		ask.MAC = events.MAC{2, 0, 0, 0, 0, mac}
	}
	if address != "" {
		ask.Address = addr(address)
	}
	return ask
}

func TestKindsOfAskingAndRepeats(t *testing.T) {
	t.Parallel()
	const (
		gw, ep, pl = actor.AskGateway, actor.AskEndpoint, actor.AskPlain
		fresh      = "fresh"  // something new is written
		repeat     = "repeat" // the same answer, nothing new
	)
	type step struct {
		ask     actor.AddressRequest
		kind    events.Kind
		outcome string // fresh, repeat, or the words a refusal has
		address string // "": any
	}
	for _, tt := range []struct {
		name  string
		space events.Space
		steps []step
	}{
		{name: "a gateway", steps: []step{
			{asked(gw, 0, "", ""), events.Gateway, fresh, "10.1.0.1"},
			{asked(gw, 0, "", "10.1.0.1"), events.Gateway, repeat, "10.1.0.1"},
			{asked(ep, 1, "", "10.1.0.1"), 0, "address already in use", ""},
			// Some name the router as an auxiliary, too.
			{asked(pl, 0, "", "10.1.0.1"), events.Gateway, repeat, "10.1.0.1"},
			{asked(ep, 1, "", ""), events.Endpoint, fresh, "10.1.0.2"},
			{asked(pl, 0, "", "10.1.0.1"), 0, "address already in use", ""},
		}},
		{name: "a gateway that was named", steps: []step{
			{asked(gw, 0, "", "10.1.0.9"), events.Gateway, fresh, "10.1.0.9"},
			{asked(gw, 0, "", "10.1.0.9"), events.Gateway, repeat, "10.1.0.9"},
		}},
		{name: "auxiliaries, and then containers", steps: []step{
			{asked(pl, 0, "", "10.1.0.7"), events.Auxiliary, fresh, "10.1.0.7"},
			{asked(pl, 0, "", "10.1.0.8"), events.Auxiliary, fresh, "10.1.0.8"},
			{asked(pl, 0, "", "10.1.0.7"), events.Auxiliary, repeat, "10.1.0.7"},
			{asked(ep, 1, "", ""), events.Endpoint, fresh, "10.1.0.1"},
			// The grant has an endpoint now: this is a container's, of an old engine.
			{asked(pl, 0, "", "10.1.0.20"), events.Endpoint, fresh, "10.1.0.20"},
			{asked(pl, 0, "", "10.1.0.7"), 0, "address already in use: 10.1.0.7 is held by auxiliary on host h1", ""},
		}},
		{name: "an endpoint by its MAC", steps: []step{
			{asked(ep, 1, "", ""), events.Endpoint, fresh, "10.1.0.1"},
			{asked(ep, 1, "", ""), events.Endpoint, repeat, "10.1.0.1"},
			{asked(ep, 1, "", "10.1.0.1"), events.Endpoint, repeat, "10.1.0.1"},
			{asked(ep, 2, "", "10.1.0.1"), 0, "held by endpoint on host h1", ""},
			{asked(ep, 2, "", ""), events.Endpoint, fresh, "10.1.0.2"},
			{asked(ep, 1, "", "10.1.0.9"), events.Endpoint, fresh, "10.1.0.9"},
		}},
		{name: "an endpoint by MAC and name", steps: []step{
			{asked(ep, 1, "web", ""), events.Endpoint, fresh, "10.1.0.1"},
			{asked(ep, 1, "web", ""), events.Endpoint, repeat, "10.1.0.1"},
			{asked(ep, 1, "db", ""), events.Endpoint, fresh, "10.1.0.2"},
			{asked(ep, 2, "web", ""), events.Endpoint, fresh, "10.1.0.3"},
			{asked(ep, 1, "web", "10.1.0.2"), 0, "held by endpoint db on host h1", ""},
		}},
		{name: "a name alone is no repeat", steps: []step{
			{asked(ep, 0, "web", ""), events.Endpoint, fresh, "10.1.0.1"},
			{asked(ep, 0, "web", ""), events.Endpoint, fresh, "10.1.0.2"},
			{asked(ep, 0, "web", "10.1.0.2"), 0, "held by endpoint web on host h1", ""},
		}},
		{name: "nothing at all", steps: []step{
			{asked(pl, 0, "", ""), events.Endpoint, fresh, "10.1.0.1"},
			{asked(pl, 0, "", ""), events.Endpoint, fresh, "10.1.0.2"},
		}},
		{name: "what no pool gives out", steps: []step{
			{asked(ep, 1, "", "10.1.0.0"), 0, "address already in use: 10.1.0.0 is the network or broadcast address", ""},
			{asked(gw, 0, "", "10.1.0.255"), 0, "address already in use: 10.1.0.255 is the network or broadcast address", ""},
			{asked(ep, 1, "", "10.2.0.1"), 0, "requested address is out of range: 10.2.0.1 is not in 10.1.0.0/24", ""},
			{asked(pl, 0, "", "fd00::1"), 0, "requested address is out of range", ""},
		}},
		{name: "the swarm's", space: events.Global, steps: []step{
			{asked(gw, 0, "", ""), events.Gateway, fresh, "10.1.0.1"},
			{asked(gw, 0, "", "10.1.0.1"), events.Gateway, repeat, "10.1.0.1"},
			{asked(pl, 0, "", "10.1.0.5"), events.Endpoint, fresh, "10.1.0.5"},
			{asked(pl, 0, "", "10.1.0.5"), events.Endpoint, repeat, "10.1.0.5"},
			{asked(pl, 0, "", "10.1.0.1"), events.Gateway, repeat, "10.1.0.1"},
			{asked(pl, 0, "", ""), events.Endpoint, fresh, "10.1.0.2"},
			{asked(pl, 0, "", ""), events.Endpoint, fresh, "10.1.0.3"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			d := b.start("h1")
			ref := d.pool(actor.PoolRequest{Space: tt.space, Subnet: prefix("10.1.0.0/24")})
			for i, s := range tt.steps {
				before := len(b.records(ref))
				a, err := d.RequestAddress(b.ctx(), ref, s.ask)
				wrote := len(b.records(ref)) - before
				switch {
				case s.outcome != fresh && s.outcome != repeat:
					if err == nil || !strings.Contains(words(err), s.outcome) || wrote != 0 {
						t.Errorf("step %d: got %v, %v and %d commits, want %q", i, a, err, wrote, s.outcome)
					}
				case err != nil:
					t.Errorf("step %d: %v", i, err)
				case a.Kind != s.kind || a.Repeat != (s.outcome == repeat) || (wrote == 0) != a.Repeat || a.Address.String() != s.address:
					t.Errorf("step %d: got %s as %s, repeat %v, %d commits; want %s as %s, %s", i, a.Address, a.Kind, a.Repeat, wrote, s.address, s.kind, s.outcome)
				case a.Prefix() != netip.PrefixFrom(a.Address, 24) || a.Allocation.IsZero() || a.Revision == 0:
					t.Errorf("step %d: the answer lacks something: %+v", i, a)
				}
			}
			b.agree(ref)
		})
	}
}

// words are an error's, the sentinel first.
func words(err error) string {
	for _, is := range []error{actor.ErrInUse, actor.ErrOutOfRange} {
		if errors.Is(err, is) {
			return is.Error() + ": " + strings.TrimSuffix(err.Error(), ": "+is.Error())
		}
	}
	return err.Error()
}

// A grant that was opened more than a minute ago gets no more auxiliaries.
func TestAuxiliariesComeEarly(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref := d.subnet("10.1.0.0/24")
	old := ref
	// The same grant, as if it had been opened two minutes ago.
	stamp := ulid.ULID(ref.Grant)
	if err := stamp.SetTime(stamp.Time() - 120_000); err != nil {
		t.Fatal(err)
	}
	old.Grant = events.ID(stamp)
	w := d.Writer()
	guards := b.guards(ref)
	proposal := proposalOf(b, ref, guards, events.GrantOpened{Grant: old.Grant, Host: "h1"})
	if _, err := w.Append(b.ctx(), proposal); err != nil {
		t.Fatal(err)
	}
	if a := d.ask(old, plain("10.1.0.7")); a.Kind != events.Endpoint {
		t.Errorf("kind %s two minutes after the grant was opened", a.Kind)
	}
	if a := d.ask(ref, plain("10.1.0.8")); a.Kind != events.Auxiliary {
		t.Errorf("kind %s right after the grant was opened", a.Kind)
	}
}

// Gateways and auxiliaries that were named are shared by all grants that name
// them, of one host or several. The address is free when the last is gone.
func TestShared(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h1, h2 := b.start("h1"), b.start("h2")
	r1, r2, r3 := h1.subnet("10.1.0.0/24"), h2.subnet("10.1.0.0/24"), h2.subnet("10.1.0.0/24")
	for _, s := range []struct {
		d   *daemon
		ref actor.Ref
	}{{h1, r1}, {h2, r2}, {h2, r3}} {
		s.d.ask(s.ref, gateway("10.1.0.1"))
		s.d.ask(s.ref, plain("10.1.0.2"))
	}
	b.same(r1, map[string][]string{
		"10.1.0.1": {"gateway", "gateway", "gateway"},
		"10.1.0.2": {"auxiliary", "auxiliary", "auxiliary"},
	})
	// A container cannot join them, whoever holds them.
	_, err := h1.RequestAddress(b.ctx(), r1, asked(actor.AskEndpoint, 1, "", "10.1.0.2"))
	wantErr(t, err, actor.ErrInUse)

	h1.release(r1, addr("10.1.0.1"))
	h1.release(r1, addr("10.1.0.1"))
	h2.release(r2, addr("10.1.0.1"))
	if held := b.held(r1)["10.1.0.1"]; len(held) != 1 {
		t.Errorf("one grant holds the gateway yet, the store says %v", held)
	}
	h2.closeGrant(r3)
	b.same(r1, map[string][]string{"10.1.0.2": {"auxiliary", "auxiliary"}})
	if a := h1.ask(r1, asked(actor.AskEndpoint, 1, "", "10.1.0.1")); a.Kind != events.Endpoint {
		t.Errorf("kind %s", a.Kind)
	}
	h2.closeGrant(r2)
	h1.closeGrant(r1)
	b.same(r1, nil)
	b.agree(r1)
}

// An unnamed gateway is a host's own.
func TestUnnamedGatewayIsNotShared(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h1, h2 := b.start("h1"), b.start("h2")
	r1, r2 := h1.subnet("10.1.0.0/24"), h2.subnet("10.1.0.0/24")
	if a := h1.ask(r1, gateway("")); a.Address != addr("10.1.0.1") {
		t.Errorf("gateway %s", a.Address)
	}
	if a := h2.ask(r2, gateway("")); a.Address != addr("10.1.0.2") {
		t.Errorf("gateway %s", a.Address)
	}
	_, err := h2.RequestAddress(b.ctx(), r2, gateway("10.1.0.1"))
	wantErr(t, err, actor.ErrInUse)
	if !strings.Contains(err.Error(), "gateway on host h1") {
		t.Error(err)
	}
}

// Ranges bound what is picked, not what is asked for by name.
func TestRange(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref := d.pool(actor.PoolRequest{Subnet: prefix("10.1.0.0/24"), Range: prefix("10.1.0.64/30")})
	if a := d.ask(ref, gateway("")); a.Address != addr("10.1.0.64") {
		t.Errorf("gateway %s", a.Address)
	}
	if a := d.ask(ref, asked(actor.AskEndpoint, 1, "", "10.1.0.9")); a.Prefix() != prefix("10.1.0.9/24") {
		t.Errorf("got %s", a.Prefix())
	}
	for n := range 3 {
		if a := d.ask(ref, endpoint(10+n)); !prefix("10.1.0.64/30").Contains(a.Address) {
			t.Errorf("picked %s", a.Address)
		}
	}
	_, err := d.RequestAddress(b.ctx(), ref, endpoint(20))
	wantErr(t, err, actor.ErrExhausted)
	if !strings.Contains(err.Error(), "10.1.0.64/30") {
		t.Errorf("the refusal does not name the range: %v", err)
	}
	// Said once between two releases.
	_, err = d.RequestAddress(b.ctx(), ref, endpoint(21))
	wantErr(t, err, actor.ErrExhausted)
	isDry := func(e events.Event) bool { return e.Type() == events.TypePoolExhausted }
	eventually(t, "the event", func() bool { return b.count(ref, isDry) > 0 })
	d.release(ref, addr("10.1.0.65"))
	d.ask(ref, endpoint(20))
	_, err = d.RequestAddress(b.ctx(), ref, endpoint(22))
	wantErr(t, err, actor.ErrExhausted)
	eventually(t, "the event again", func() bool { return b.count(ref, isDry) > 1 })
	if n := b.count(ref, isDry); n != 2 {
		t.Errorf("exhausted was said %d times", n)
	}
	// A grant without a range has the rest.
	other := d.subnet("10.1.0.0/24")
	d.ask(other, endpoint(30))
	b.agree(ref)
}

func TestSmallAndWideSubnets(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	for subnet, usable := range map[string]int{
		"10.2.0.0/30": 2, "10.3.0.0/31": 2, "10.4.0.4/32": 1, "10.5.0.0/29": 6,
		"fd00:2::/126": 3, "fd00:3::/128": 0, "11.0.0.0/8": -1, "fd00:4::/64": -1, "fd00:5::/40": -1,
	} {
		ref := d.subnet(subnet)
		n := 0
		for ; n < 10; n++ {
			a, err := d.RequestAddress(b.ctx(), ref, endpoint(n))
			if err != nil {
				wantErr(t, err, actor.ErrExhausted)
				break
			}
			if a.Subnet != prefix(subnet) {
				t.Errorf("%s: %+v", subnet, a)
			}
		}
		if usable >= 0 && n != usable || usable < 0 && n != 10 {
			t.Errorf("%s gave out %d addresses, want %d", subnet, n, usable)
		}
		d.closeGrant(ref)
	}
	// Past what is ever picked, an address can be asked for by name.
	ref := d.subnet("fd00:5::/40")
	if a := d.ask(ref, asked(actor.AskEndpoint, 1, "", "fd00:5:ff:ffff::9")); a.Kind != events.Endpoint {
		t.Errorf("%+v", a)
	}
	d.closeGrant(ref)
}
