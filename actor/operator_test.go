// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"sync"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// ranges reads ranges as a layout has them.
func ranges(list ...string) []netipx.IPRange {
	var all []netipx.IPRange
	for _, text := range list {
		all = append(all, netipx.MustParseIPRange(text))
	}
	return events.Normalize(all)
}

// operator is a person at a host that need not have a daemon.
func (b *bed) operator(host string) *etcdlog.Writer {
	b.tb.Helper()
	w, err := b.log.Operator(b.ctx(), host, "test")
	if err != nil {
		b.tb.Fatal(err)
	}
	return w
}

// write appends what an operator does, on the pool as it is at the moment, and
// again while somebody comes between. It returns the revision.
func (b *bed) write(w *etcdlog.Writer, ref actor.Ref, what func(events.Guards) []events.Event) int64 {
	b.tb.Helper()
	for {
		seen := b.guards(ref)
		record, err := w.Append(b.ctx(), proposalOf(b, ref, seen, what(seen)...))
		if err == nil {
			return record.Revision
		}
		if !errors.Is(err, etcdlog.ErrConflict) {
			b.tb.Fatal(err)
		}
	}
}

// layOut gives a pool another layout.
func (b *bed) layOut(ref actor.Ref, change func(*events.PoolChanged)) int64 {
	b.tb.Helper()
	return b.write(b.operator("desk"), ref, func(g events.Guards) []events.Event {
		e := events.PoolChanged{Space: ref.Space, Layout: g.Pool.Value.Layout, Kept: g.Pool.Value.Kept}
		change(&e)
		return []events.Event{e}
	})
}

// bridge gives a host an address for its own bridge.
func (b *bed) bridge(host string, ref actor.Ref, a string) {
	b.tb.Helper()
	b.write(b.operator(host), ref, func(events.Guards) []events.Event {
		return []events.Event{events.AddressAllocated{Allocation: b.log.Clock.NewID(), Address: addr(a), Kind: events.Host, Host: host}}
	})
}

// sees waits until a host's projection of a pool has reached a revision.
func (d *daemon) sees(ref actor.Ref, revision int64) {
	d.bed.tb.Helper()
	eventually(d.bed.tb, "the host sees what was written", func() bool {
		for _, s := range d.Stats() {
			if s.ID == ref.Pool && s.Revision >= revision {
				return true
			}
		}
		return false
	})
}

// layoutIs checks a pool's layout.
func (b *bed) layoutIs(ref actor.Ref, want events.Layout) {
	b.tb.Helper()
	if diff := cmp.Diff(want, b.guards(ref).Pool.Value.Layout, equate); diff != "" {
		b.tb.Errorf("layout (-want +got):\n%s", diff)
	}
}

// stands says whether a pool does.
func (b *bed) stands(ref actor.Ref) bool {
	b.tb.Helper()
	return b.guards(ref).Pool.Present()
}

// What an operator laid out stands without grants, and is joined by name or
// subnet as any other; once it is kept no more, it goes with the last grant, or at
// once when there is none.
func TestKeptPoolStands(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h1, h2 := b.start("h1"), b.start("h2")
	for _, tt := range []struct{ name, subnet string }{{"", "10.1.0.0/24"}, {"lan", "10.2.0.0/24"}} {
		request := actor.PoolRequest{Name: tt.name, Subnet: prefix(tt.subnet)}
		first := h1.pool(request)
		keep := func(kept bool) int64 {
			return b.layOut(first, func(e *events.PoolChanged) {
				e.Kept, e.Ranges = kept, ranges(first.Subnet.Addr().Next().String()+"-"+first.Subnet.Addr().Next().Next().String())
			})
		}
		keep(true)
		h1.ask(first, endpoint(1))
		h1.closeGrant(first)
		b.same(first, nil)
		if !b.stands(first) {
			t.Fatal("a kept pool retired with its last grant")
		}
		second, third := h2.pool(request), h1.pool(request)
		if second.Pool != first.Pool || third.Pool != first.Pool {
			t.Errorf("joined %s and %s, not the pool that was laid out (%s)", second.Pool, third.Pool, first.Pool)
		}
		h2.ask(second, endpoint(2))
		h1.ask(third, endpoint(3))
		_, err := h2.RequestAddress(b.ctx(), second, endpoint(4))
		wantErr(t, err, actor.ErrExhausted)
		h1.closeGrant(third)
		revision := keep(false)
		h2.sees(second, revision)
		if !b.stands(first) {
			t.Fatal("a pool retired that has a grant")
		}
		h2.closeGrant(second)
		if b.stands(first) {
			t.Error("a pool that is kept no more did not retire with its last grant")
		}
		b.agree(first)
	}
}

// A kept pool without grants retires when it is kept no more, by whoever sees it.
func TestKeptPoolIsTakenBack(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref := d.subnet("10.1.0.0/24")
	b.layOut(ref, func(e *events.PoolChanged) { e.Kept = true })
	d.closeGrant(ref)
	// One that overlaps is refused while it stands.
	_, err := d.RequestPool(b.ctx(), actor.PoolRequest{Space: events.Local, Subnet: prefix("10.1.0.0/25")})
	wantErr(t, err, actor.ErrOverlap)
	if !b.stands(ref) {
		t.Fatal("a kept pool was retired for another")
	}
	b.layOut(ref, func(e *events.PoolChanged) { e.Kept = false })
	eventually(t, "the pool's end", func() bool { return !b.stands(ref) })
	d.subnet("10.1.0.0/25")
	b.agree(ref)

	// With no daemon to see it, the next who wants its subnet does.
	ref = d.subnet("10.2.0.0/24")
	b.layOut(ref, func(e *events.PoolChanged) { e.Kept = true })
	d.closeGrant(ref)
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	b.layOut(ref, func(e *events.PoolChanged) { e.Kept = false })
	if !b.stands(ref) {
		t.Fatal("there is nobody to retire it")
	}
	if other := b.start("h2").subnet("10.2.0.0/25"); other.Pool == ref.Pool || b.stands(ref) {
		t.Error("the empty pool is in the way")
	}
	b.agree(ref)
}

// A reservation or a host's bridge keeps a pool that has no grants; without it
// the pool goes.
func TestOperatorsHoldingsKeepThePool(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref := d.subnet("10.1.0.0/29")
	reservation := b.log.Clock.NewID()
	revision := b.write(b.operator("h1"), ref, func(events.Guards) []events.Event {
		return []events.Event{events.AddressReserved{Allocation: reservation, Address: addr("10.1.0.3"), Why: "the printer"}}
	})
	d.sees(ref, revision)
	for n := range 5 {
		if a := d.ask(ref, endpoint(n)); a.Address == addr("10.1.0.3") {
			t.Error("a reserved address was given out")
		}
	}
	_, err := d.RequestAddress(b.ctx(), ref, endpoint(9))
	wantErr(t, err, actor.ErrExhausted)
	for _, ask := range []actor.AddressRequest{asked(actor.AskEndpoint, 1, "", "10.1.0.3"), gateway("10.1.0.3"), plain("10.1.0.3")} {
		_, err := d.RequestAddress(b.ctx(), ref, ask)
		wantErr(t, err, actor.ErrInUse)
		if want := "10.1.0.3 is held by a reservation (the printer)"; words(err) != actor.ErrInUse.Error()+": "+want {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	d.closeGrant(ref)
	b.same(ref, map[string][]string{"10.1.0.3": {"reserved"}})
	again := d.subnet("10.1.0.0/29")
	if again.Pool != ref.Pool {
		t.Fatal("the pool retired though an operator holds an address")
	}
	b.write(b.operator("h1"), ref, func(events.Guards) []events.Event {
		return []events.Event{events.AddressUnreserved{Allocation: reservation, Address: addr("10.1.0.3")}}
	})
	if a := d.ask(again, asked(actor.AskEndpoint, 1, "", "10.1.0.3")); a.Kind != events.Endpoint {
		t.Errorf("%+v", a)
	}
	d.closeGrant(again)
	if b.stands(ref) {
		t.Error("the pool is left")
	}
	b.agree(ref)
}

// Operators keep a pool and take that back, while networks come and go: whatever
// comes between, a request is answered, and nothing is left at the end.
func TestKeptMeetsRetirement(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h1, h2 := b.start("h1"), b.start("h2")
	ref := h1.subnet("10.1.0.0/24")
	b.layOut(ref, func(e *events.PoolChanged) { e.Kept = true })
	h1.closeGrant(ref)
	var wg sync.WaitGroup
	for i, d := range []*daemon{h1, h2} {
		wg.Go(func() {
			for n := range 12 {
				g, err := d.RequestPool(b.ctx(), actor.PoolRequest{Space: events.Local, Subnet: prefix("10.1.0.0/24")})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := d.RequestAddress(b.ctx(), g.Ref, endpoint(1000*i+n)); err != nil {
					t.Error(err)
				}
				if _, err := d.ReleasePool(b.ctx(), g.Ref); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		w := b.operator("desk")
		for n := range 24 {
			pools, _, err := b.log.Pools(b.ctx())
			if err != nil {
				t.Error(err)
				return
			}
			for _, e := range pools {
				seen := events.NewGuards()
				seen.Pool = e.Guarded
				p := etcdlog.Proposal{
					ID: b.log.Clock.NewID(), Stream: events.PoolStream(e.ID), Seen: seen,
					Events: []events.Event{events.PoolChanged{Space: events.Local, Kept: n%2 == 0}},
				}
				if _, err := w.Append(b.ctx(), p); err != nil && !errors.IsAny(err, etcdlog.ErrConflict, events.ErrContradiction) {
					t.Error(err)
				}
			}
		}
	})
	wg.Wait()
	pools, _, err := b.log.Pools(b.ctx())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range pools {
		left := actor.Ref{Space: events.Local, Pool: e.ID}
		if e.Value.Kept {
			b.layOut(left, func(e *events.PoolChanged) { e.Kept = false })
		}
		eventually(t, "the pool's end", func() bool { return !b.stands(left) })
		b.agree(left)
	}
}
