// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"testing"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
)

// beginTakeOver does what an operator at another host does with a dead one, up to a place: he
// says so, begins to close its grant, and gives some addresses back.
func (b *bed) beginTakeOver(host string, ref actor.Ref, released ...actor.Answer) {
	b.tb.Helper()
	b.takeOver(host)
	w, err := b.log.Operator(b.ctx(), "h9", "test")
	if err != nil {
		b.tb.Fatal(err)
	}
	say := func(e events.Event) {
		b.tb.Helper()
		hosts, _, err := b.log.Hosts(b.ctx())
		if err != nil {
			b.tb.Fatal(err)
		}
		seen := b.guards(ref)
		seen.Hosts[host] = hosts[host]
		p := proposalOf(b, ref, seen, e)
		p.For, p.Dead = host, []string{host}
		if _, err := w.Append(b.ctx(), p); err != nil {
			b.tb.Fatal(err)
		}
	}
	say(events.GrantClosing{Grant: ref.Grant})
	for _, a := range released {
		say(events.AddressReleased{Allocation: a.Allocation, Address: a.Address, Reason: events.TakenOver})
	}
}

// interrupted is a host that was being taken over and comes back: with a gateway that was
// given back already, and two containers of which one has lost its address.
func interrupted(t *testing.T) (b *bed, d *daemon, ref actor.Ref, kept, lost actor.Answer) {
	t.Helper()
	b = newBed(t)
	d = b.start("h1")
	ref = d.subnet("10.1.0.0/24")
	router := d.ask(ref, gateway("10.1.0.1"))
	kept, lost = d.ask(ref, endpoint(1)), d.ask(ref, endpoint(2))
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	b.beginTakeOver("h1", ref, router, lost)
	return b, b.start("h1"), ref, kept, lost
}

// state is where a grant is in its life.
func (b *bed) state(ref actor.Ref) events.GrantState {
	b.tb.Helper()
	return b.guards(ref).Grants[ref.Grant].Value.State
}

// rested gives a daemon the time to do what it must not: until another closing, which is
// its own to make, is through.
func (d *daemon) rested() {
	d.bed.tb.Helper()
	ref := d.subnet("10.99.0.0/24")
	d.closeGrant(ref)
}

// TestTakeOver_interrupted: nothing that a host's containers use is taken away because an
// operator has begun to, once the host is back.
func TestTakeOver_interrupted(t *testing.T) {
	t.Parallel()
	t.Run("Docker asks", func(t *testing.T) {
		t.Parallel()
		b, d, ref, kept, lost := interrupted(t)
		other := b.start("h2", func(o *actor.Options) { o.Identity.Machine = "machine-2" })
		heir := other.ask(other.subnet("10.1.0.0/24"), endpointAt(9, lost.Address))
		if again := d.ask(ref, endpoint(1)); again.Address != kept.Address || again.Allocation != kept.Allocation {
			t.Errorf("a container that lives got %+v, and has %+v", again, kept)
		}
		if b.state(ref) != events.StateOpen {
			t.Errorf("the grant is %s", b.state(ref))
		}
		if _, err := d.RequestAddress(b.ctx(), ref, endpointAt(2, lost.Address)); err == nil {
			t.Error("what another has was given")
		}
		b.same(ref, map[string][]string{
			"10.1.0.1": {"gateway"}, kept.Address.String(): {"endpoint"}, heir.Address.String(): {"endpoint"},
		})
		b.agree(ref)
	})
	t.Run("nobody asks", func(t *testing.T) {
		t.Parallel()
		b, d, ref, kept, _ := interrupted(t)
		d.rested()
		if b.state(ref) != events.StateClosing {
			t.Errorf("the grant is %q", b.state(ref))
		}
		b.same(ref, map[string][]string{kept.Address.String(): {"endpoint"}})
		// Nor does the daemon after it.
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
		d = b.start("h1")
		d.rested()
		b.same(ref, map[string][]string{kept.Address.String(): {"endpoint"}})
		taken, err := d.TakenAway(b.ctx())
		if err != nil || len(taken) != 1 || taken[0].Ref != ref {
			t.Fatalf("taken away: %+v %v", taken, err)
		}
		if err := d.Reopen(b.ctx(), ref); err != nil {
			t.Fatal(err)
		}
		b.same(ref, map[string][]string{"10.1.0.1": {"gateway"}, kept.Address.String(): {"endpoint"}})
		if taken, err := d.TakenAway(b.ctx()); err != nil || len(taken) > 0 {
			t.Errorf("taken away: %+v %v", taken, err)
		}
		b.agree(ref)
	})
	t.Run("Docker gives it back", func(t *testing.T) {
		t.Parallel()
		b, d, ref, _, _ := interrupted(t)
		d.closeGrant(ref)
		if g := b.guards(ref); len(g.Grants) > 0 || len(g.Held) > 0 {
			t.Errorf("left: %+v", g)
		}
		if taken, err := d.TakenAway(b.ctx()); err != nil || len(taken) > 0 {
			t.Errorf("taken away: %+v %v", taken, err)
		}
		b.agree(ref)
	})
	t.Run("it is taken over again before Docker asks", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		d := b.start("h1")
		first, second := d.subnet("10.1.0.0/24"), d.subnet("10.2.0.0/24")
		for _, ref := range []actor.Ref{first, second} {
			if err := d.stop(); err != nil {
				t.Fatal(err)
			}
			b.beginTakeOver("h1", ref)
			d = b.start("h1")
		}
		taken, err := d.TakenAway(b.ctx())
		if err != nil || len(taken) != 2 || taken[0].Ref != second || taken[1].Ref != first {
			t.Fatalf("taken away: %+v %v", taken, err)
		}
		for _, g := range taken {
			if now := b.log.Clock.NewID().Time(); g.At.Before(g.Grant.Time()) || g.At.After(now) {
				t.Errorf("taken away at %s, now it is %s", g.At, now)
			}
		}
		d.closeGrant(first)
		if taken, err := d.TakenAway(b.ctx()); err != nil || len(taken) != 1 || taken[0].Ref != second {
			t.Errorf("taken away: %+v %v", taken, err)
		}
	})
	t.Run("it had begun to close it itself", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		d := b.start("h1")
		ref, second := d.subnet("10.1.0.0/24"), d.subnet("10.2.0.0/24")
		d.ask(ref, endpoint(1))
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
		w, err := b.log.Operator(b.ctx(), "h9", "test") // as the daemon that died over it
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Append(b.ctx(), proposalOf(b, ref, b.guards(ref), events.GrantClosing{Grant: ref.Grant})); err != nil {
			t.Fatal(err)
		}
		b.beginTakeOver("h1", second)
		b.start("h1")
		eventually(t, "the grant's end", func() bool { return len(b.guards(ref).Grants) == 0 })
		b.agree(ref)
	})
}
