// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/oklog/ulid/v2"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
)

func isReleased(why events.Reason) func(events.Event) bool {
	return func(e events.Event) bool {
		released, ok := e.(events.AddressReleased)
		return ok && released.Reason == why
	}
}

func isType(name string) func(events.Event) bool {
	return func(e events.Event) bool { return e.Type() == name }
}

func TestReleaseAddress(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref := d.subnet("10.1.0.0/24")
	other := d.subnet("10.1.0.0/24")
	a := d.ask(ref, endpoint(1))
	for _, tt := range []struct {
		name string
		ref  actor.Ref
		a    netip.Addr
	}{
		{"never given out", ref, addr("10.1.0.200")},
		{"of another grant", other, a.Address},
		{"outside", ref, addr("192.168.0.1")},
		{"of the other family", ref, addr("fd00::1")},
		{"of an unknown grant", actor.Ref{Space: events.Local, Pool: ref.Pool, Grant: b.log.Clock.NewID(), Host: "h1", Subnet: ref.Subnet}, a.Address},
		{"of an unknown pool", actor.Ref{Space: events.Local, Pool: b.log.Clock.NewID(), Grant: ref.Grant, Host: "h1", Subnet: prefix("10.77.0.0/24")}, a.Address},
	} {
		before := len(b.records(ref))
		if released := d.release(tt.ref, tt.a); !released.Allocation.IsZero() {
			t.Errorf("%s: released %s", tt.name, released.Allocation)
		}
		if wrote := len(b.records(ref)) - before; wrote != 0 {
			t.Errorf("%s: %d commits", tt.name, wrote)
		}
	}
	if released := d.release(ref, a.Address); released.Allocation != a.Allocation {
		t.Errorf("released %s, want %s", released.Allocation, a.Allocation)
	}
	before := len(b.records(ref))
	d.release(ref, a.Address) // doubled
	if wrote := len(b.records(ref)) - before; wrote != 0 {
		t.Errorf("a doubled release made %d commits", wrote)
	}
	// Doubled at once: one release.
	again := d.ask(ref, endpoint(2))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := d.ReleaseAddress(b.ctx(), ref, again.Address); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := b.count(ref, isReleased(events.Released)); n != 2 {
		t.Errorf("%d releases in the log, want 2", n)
	}
	b.same(ref, nil)
	b.agree(ref)
}

func TestReleasePool(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref, other := d.subnet("10.1.0.0/24"), d.subnet("10.1.0.0/24")
	d.ask(ref, gateway("10.1.0.1"))
	d.ask(ref, plain("10.1.0.2"))
	mine := d.ask(ref, endpoint(1))
	theirs := d.ask(other, endpoint(2))
	// Doubled at once, and late.
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := d.ReleasePool(b.ctx(), ref); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	d.closeGrant(ref)
	b.same(ref, map[string][]string{theirs.Address.String(): {"endpoint"}})
	if n := b.count(ref, isType(events.TypeGrantClosed)); n != 1 {
		t.Errorf("the grant was closed %d times", n)
	}
	// What comes late for the grant that is gone touches nobody else.
	next := d.subnet("10.1.0.0/24")
	asked := d.ask(next, endpointAt(3, mine.Address))
	d.release(ref, mine.Address)
	d.closeGrant(ref)
	b.same(ref, map[string][]string{theirs.Address.String(): {"endpoint"}, asked.Address.String(): {"endpoint"}})

	// With its last grant the pool goes.
	d.closeGrant(next)
	d.closeGrant(other)
	if b.guards(ref).Pool.Present() {
		t.Error("the pool has outlived its last grant")
	}
	b.agree(ref)
	// And with it its actor. A late release still is harmless.
	eventually(t, "the actor's end", func() bool { return len(d.Running()) == 0 })
	d.closeGrant(other)
	d.release(other, theirs.Address)
	eventually(t, "the actor's end", func() bool { return len(d.Running()) == 0 })
	// A new pool of the subnet is another one.
	fresh := d.subnet("10.1.0.0/24")
	if fresh.Pool == ref.Pool {
		t.Error("a pool came back from the dead")
	}
	d.ask(fresh, endpoint(1))
	d.closeGrant(other)
	d.release(other, theirs.Address)
	if len(b.held(fresh)) != 1 {
		t.Errorf("held: %v", b.held(fresh))
	}
}

func endpointAt(n int, a netip.Addr) actor.AddressRequest {
	ask := endpoint(n)
	ask.Address = a
	return ask
}

// While a pool retires, requests for it keep coming. None is answered by the
// actor's end.
func TestRequestsMeetRetirement(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	for round := range 5 {
		ref := d.subnet(fmt.Sprintf("10.9.%d.0/24", round))
		a := d.ask(ref, endpoint(1))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 10 {
					if _, err := d.ReleaseAddress(b.ctx(), ref, a.Address); err != nil {
						t.Error(err)
					}
					if _, err := d.ReleasePool(b.ctx(), ref); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		b.agree(ref)
	}
}

// fill puts allocations of a host's grant into the log.
func (b *bed) fill(d *daemon, ref actor.Ref, n int) {
	b.tb.Helper()
	a, seen := ref.Subnet.Addr().Next(), b.guards(ref)
	for done := 0; done < n; {
		var list []events.Event
		for ; done < n && len(list) < 100; done++ {
			list = append(list, events.AddressAllocated{
				Allocation: b.log.Clock.NewID(), Address: a, Kind: events.Endpoint, Host: ref.Host, Grant: ref.Grant,
			})
			a = a.Next()
		}
		if _, err := d.Writer().Append(b.ctx(), proposalOf(b, ref, seen, list...)); err != nil {
			b.tb.Fatal(err)
		}
	}
}

func TestReleasePoolOfThousands(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref := d.subnet("10.1.0.0/16")
	b.fill(d, ref, 3000)
	keeper := d.subnet("10.1.0.0/16")
	kept := d.ask(keeper, endpoint(1))
	// A busy machine takes longer than a request is waited for: then it is asked again.
	eventually(t, "the grant's end", func() bool {
		_, err := d.ReleasePool(b.ctx(), ref)
		if err != nil && !errors.IsAny(err, actor.ErrStoreSilent, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		return err == nil
	})
	b.same(ref, map[string][]string{kept.Address.String(): {"endpoint"}})
	if n := b.count(ref, isReleased(events.GrantEnded)); n != 3000 {
		t.Errorf("%d releases, want 3000", n)
	}
	b.agree(ref)
}

// A daemon dies between the phases of a ReleasePool, wherever that is. The next
// one goes on.
func TestReleasePoolIsResumed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		released int // of 250
	}{{"right after the first phase", 0}, {"in the middle", 130}, {"before the last", 250}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			g := newGate(t, b.etcd.Endpoint())
			old := b.startAt(g.endpoint(), "h1")
			ref := old.subnet("10.1.0.0/16")
			b.fill(old, ref, 250)
			// What the old daemon got done.
			if _, err := old.Writer().Append(b.ctx(), proposalOf(b, ref, b.guards(ref), events.GrantClosing{Grant: ref.Grant})); err != nil {
				t.Fatal(err)
			}
			var list []events.Event
			seen := b.guards(ref)
			for a, guard := range seen.Held {
				if len(list) == tt.released {
					break
				}
				list = append(list, events.AddressReleased{Allocation: guard.Value[0].ID, Address: a, Reason: events.GrantEnded})
			}
			for part := range slices.Chunk(list, 100) {
				if _, err := old.Writer().Append(b.ctx(), proposalOf(b, ref, seen, part...)); err != nil {
					t.Fatal(err)
				}
			}
			g.shut(true, true) // it hangs from here on
			w := b.start("h1") // the next daemon: its predecessor is known to be dead
			if w.Writer().Incarnation() != old.Writer().Incarnation()+1 {
				t.Errorf("incarnation %d after %d", w.Writer().Incarnation(), old.Writer().Incarnation())
			}
			eventually(t, "the grant's end", func() bool { return len(b.guards(ref).Grants) == 0 })
			eventually(t, "the pool's end", func() bool { return !b.guards(ref).Pool.Present() })
			b.same(ref, nil)
			b.agree(ref)
			// The one that wakes up can do no harm.
			fresh := w.subnet("10.1.0.0/16")
			w.ask(fresh, endpoint(1))
			g.open()
			_ = old.stop()
			if len(b.held(fresh)) != 1 {
				t.Errorf("held: %v", b.held(fresh))
			}
			b.agree(ref)
			b.agree(fresh)
		})
	}
}

// Hosts close the last grants at the same moment: the pool goes, whoever saw
// whom.
func TestLastGrantsCloseAtOnce(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	hosts := []*daemon{b.start("h1"), b.start("h2"), b.start("h3")}
	for round := range 15 {
		var refs []actor.Ref
		for _, d := range hosts {
			refs = append(refs, d.pool(actor.PoolRequest{Subnet: prefix("10.1.0.0/24"), Name: fmt.Sprint("p", round)}))
		}
		var wg sync.WaitGroup
		for i, d := range hosts {
			wg.Go(func() { d.closeGrant(refs[i]) })
		}
		wg.Wait()
		eventually(t, "the pool's end", func() bool { return !b.guards(refs[0]).Pool.Present() })
		if n := b.count(refs[0], isType(events.TypePoolRetired)); n != 1 {
			t.Errorf("retired %d times", n)
		}
		b.agree(refs[0])
	}
}

// A grant opens while the last one closes: either joins the pool that is, or
// finds it gone and makes another.
func TestJoinMeetsRetirement(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h1, h2 := b.start("h1"), b.start("h2")
	ref := h1.subnet("10.1.0.0/24")
	for range 20 {
		var next actor.Ref
		var wg sync.WaitGroup
		wg.Go(func() { h1.closeGrant(ref) })
		wg.Go(func() { next = h2.subnet("10.1.0.0/24") })
		wg.Wait()
		guards := b.guards(next)
		if !guards.Pool.Present() || guards.Grants[next.Grant].Value.State != events.StateOpen || len(guards.Grants) != 1 {
			t.Fatalf("guards: %+v", guards)
		}
		h2.ask(next, endpoint(1))
		b.agree(ref)
		h1, h2, ref = h2, h1, next
	}
}

func TestReopen(t *testing.T) {
	t.Parallel()
	want := map[string][]string{"10.1.0.1": {"gateway"}, "10.1.0.2": {"auxiliary"}, "10.1.0.3": {"auxiliary"}}
	open := func(d *daemon) actor.Ref {
		ref := d.pool(actor.PoolRequest{Subnet: prefix("10.1.0.0/24"), Range: prefix("10.1.0.64/26"), Wish: actor.Wish{Pick: new(events.PickLowest)}})
		d.ask(ref, gateway("10.1.0.1"))
		d.ask(ref, plain("10.1.0.2"))
		d.ask(ref, plain("10.1.0.3"))
		return ref
	}
	check := func(b *bed, d *daemon, ref actor.Ref, n int) actor.Ref {
		b.tb.Helper()
		a := d.ask(ref, endpoint(n))
		if !prefix("10.1.0.64/26").Contains(a.Address) {
			b.tb.Errorf("got %s, outside the range", a.Address)
		}
		pools, _, err := b.log.Pools(b.ctx())
		if err != nil {
			b.tb.Fatal(err)
		}
		i := slices.IndexFunc(pools, func(p poolEntry) bool { return p.Value.Subnet == ref.Subnet })
		if i < 0 {
			b.tb.Fatalf("no pool of %s", ref.Subnet)
		}
		now := ref
		now.Pool = pools[i].ID
		held := b.held(now)
		if a.Kind != events.Endpoint || !slices.Equal(held[a.Address.String()], []string{"endpoint"}) {
			b.tb.Errorf("%s is held as %v", a.Address, held[a.Address.String()])
		}
		if pools[i].Value.Pick != events.PickLowest {
			b.tb.Errorf("the pool came back with pick %s", pools[i].Value.Pick)
		}
		return now
	}

	t.Run("a grant that was closed", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		d := b.start("h1")
		ref := open(d)
		keeper := d.pool(actor.PoolRequest{Subnet: prefix("10.1.0.0/24")})
		d.ask(ref, endpoint(1))
		d.closeGrant(ref)
		b.same(ref, nil)
		check(b, d, ref, 1)
		// An endpoint asks for itself.
		if held := b.held(ref); len(held) != len(want)+1 {
			t.Errorf("held: %v", held)
		}
		if n := b.count(ref, isType(events.TypeGrantReopened)); n != 1 {
			t.Errorf("opened again %d times", n)
		}
		d.closeGrant(ref)
		d.closeGrant(keeper)
		b.agree(ref)
	})
	t.Run("many ask at once", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		d := b.start("h1")
		ref := open(d)
		keeper := d.pool(actor.PoolRequest{Subnet: prefix("10.1.0.0/24")})
		d.closeGrant(ref)
		l := newLedger(t)
		var wg sync.WaitGroup
		for n := range 8 {
			wg.Go(func() { l.take(d.ask(ref, endpoint(n)).Address, fmt.Sprint(n)) })
		}
		wg.Wait()
		if n := b.count(ref, isType(events.TypeGrantReopened)); n != 1 {
			t.Errorf("opened again %d times", n)
		}
		if n := len(b.held(ref)); n != 8+len(want) {
			t.Errorf("held: %v", b.held(ref))
		}
		d.closeGrant(keeper)
		b.agree(ref)
	})
	t.Run("a grant whose pool is gone", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		d := b.start("h1")
		ref := open(d)
		d.closeGrant(ref)
		now := check(b, d, ref, 1)
		if now.Pool == ref.Pool {
			t.Error("the pool's id was used again")
		}
		if n := len(b.held(now)); n != len(want)+1 {
			t.Errorf("held: %v", b.held(now))
		}
		// Docker goes on with the PoolID it has, also after a restart.
		d.ForgetMoved()
		d.release(ref, d.ask(ref, endpoint(1)).Address)
		b.same(now, want)
		d.ForgetMoved()
		d.release(ref, addr("10.1.0.3"))
		b.same(now, map[string][]string{"10.1.0.1": {"gateway"}, "10.1.0.2": {"auxiliary"}})
		d.ForgetMoved()
		d.closeGrant(ref)
		if b.guards(now).Pool.Present() {
			t.Errorf("left: %+v", b.guards(now))
		}
		b.agree(ref)
		b.agree(now)
	})
	t.Run("a grant that is closing", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		d := b.start("h1")
		ref := open(d)
		b.fill(d, actor.Ref{Space: ref.Space, Pool: ref.Pool, Grant: ref.Grant, Host: "h1", Subnet: prefix("10.1.0.128/25")}, 100)
		var wg sync.WaitGroup
		wg.Go(func() { d.closeGrant(ref) })
		eventually(t, "the first phase", func() bool {
			return b.guards(ref).Grants[ref.Grant].Value.State != events.StateOpen
		})
		now := check(b, d, ref, 1)
		wg.Wait()
		if n := len(b.held(now)); n != len(want)+1 {
			t.Errorf("held: %v", b.held(now))
		}
		b.agree(ref)
		b.agree(now)
	})
	t.Run("a store that knows nothing of it", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		ref := open(b.start("h1"))
		elsewhere := newBed(t)
		d := elsewhere.start("h1")
		a := d.ask(ref, endpoint(1))
		if !prefix("10.1.0.64/26").Contains(a.Address) {
			t.Errorf("got %s, outside the range", a.Address)
		}
		// The engine's own gateway is asked for as ever.
		if a := d.ask(ref, gateway("10.1.0.1")); a.Kind != events.Gateway {
			t.Errorf("%+v", a)
		}
		d.closeGrant(ref)
		pools, _, err := elsewhere.log.Pools(b.ctx())
		if err != nil || len(pools) != 0 {
			t.Errorf("left %v, %v", pools, err)
		}
	})
	t.Run("an address that another has by now stays there", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		h1, h2 := b.start("h1"), b.start("h2")
		ref := open(h1)
		other := h2.pool(actor.PoolRequest{Subnet: prefix("10.1.0.0/24")})
		h1.closeGrant(ref)
		h2.ask(other, endpointAt(9, addr("10.1.0.2")))
		check(b, h1, ref, 1)
		if held := b.held(ref)["10.1.0.2"]; !slices.Equal(held, []string{"endpoint"}) {
			t.Errorf("10.1.0.2 is held as %v", held)
		}
		b.agree(ref)
	})
	t.Run("not for another host", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		h1, h2 := b.start("h1"), b.start("h2")
		ref := open(h1)
		_, err := h2.RequestAddress(b.ctx(), ref, endpoint(1))
		wantErr(t, err, actor.ErrNoGrant)
		_, err = h2.ReleasePool(b.ctx(), ref)
		wantErr(t, err, actor.ErrNoGrant)
		h1.closeGrant(ref)
		_, err = h2.RequestAddress(b.ctx(), ref, endpoint(1))
		wantErr(t, err, actor.ErrNoGrant)
	})
	t.Run("not where the subnet is another's by now", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		h1, h2 := b.start("h1"), b.start("h2")
		ref := open(h1)
		h1.closeGrant(ref)
		h2.subnet("10.1.0.0/16")
		_, err := h1.RequestAddress(b.ctx(), ref, endpoint(1))
		wantErr(t, err, actor.ErrOverlap)
	})
}

// An answer that did not reach Docker is taken back; one that was asked for again
// and given is not.
func TestUndo(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref := d.subnet("10.1.0.0/24")
	keeper := d.subnet("10.1.0.0/24")

	a := d.ask(ref, endpoint(1))
	d.Undo(ref, a)
	eventually(t, "the release", func() bool { return b.count(ref, isReleased(events.Compensated)) == 1 })
	b.same(ref, nil)
	d.Undo(ref, a) // once more is harmless

	// By allocation: a later one of the same address is not meant.
	later := d.ask(ref, endpointAt(2, a.Address))
	d.Undo(ref, a)
	d.release(ref, addr("10.1.0.99")) // passes behind it
	b.same(ref, map[string][]string{later.Address.String(): {"endpoint"}})

	first := d.ask(ref, endpoint(3))
	if again := d.ask(ref, endpoint(3)); !again.Repeat || again.Allocation != first.Allocation {
		t.Errorf("the second ask got %+v", again)
	}
	d.Undo(ref, first)
	d.release(ref, addr("10.1.0.99"))
	if b.held(ref)[first.Address.String()] == nil {
		t.Error("an address was taken back from who had asked for it again")
	}
	if n := b.count(ref, isReleased(events.Compensated)); n != 1 {
		t.Errorf("%d compensations", n)
	}

	undone := d.subnet("10.1.0.0/24")
	d.UndoPool(undone)
	eventually(t, "the grant's end", func() bool { return !b.guards(undone).Grants[undone.Grant].Present() })
	d.closeGrant(ref)
	d.closeGrant(keeper)
	b.agree(ref)
}

// A pool that is gone comes back with its policy also for a grant that was opened
// long after the pool was created.
func TestReopenedPolicyIsOlderThanTheGrant(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref := d.pool(actor.PoolRequest{Subnet: prefix("10.1.0.0/24"), Wish: actor.Wish{Pick: new(events.PickLowest)}})
	d.closeGrant(ref)
	stamp := ulid.ULID(ref.Grant)
	if err := stamp.SetTime(stamp.Time() + 3*3_600_000); err != nil {
		t.Fatal(err)
	}
	ref.Grant = events.ID(stamp)
	d.ask(ref, endpoint(1))
	pools, _, err := b.log.Pools(b.ctx())
	if err != nil || len(pools) != 1 || pools[0].Value.Pick != events.PickLowest {
		t.Errorf("%v %v", pools, err)
	}
}
