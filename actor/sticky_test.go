// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
)

// container is one as the pool's policy knows it again: by name, with a new MAC at
// each start, or by MAC.
type container struct {
	by    events.Sticky
	n     byte
	start *byte
}

// ask is the container's next start, with an address or without.
func (c container) ask(address string) actor.AddressRequest {
	*c.start++
	if c.by == events.StickyMAC {
		return asked(actor.AskEndpoint, c.n, fmt.Sprint("run", *c.start), address)
	}
	return asked(actor.AskEndpoint, *c.start, fmt.Sprint("c", c.n), address)
}

func TestSticky(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h1, h2 := b.start("h1"), b.start("h2")
	for i, by := range []events.Sticky{events.StickyName, events.StickyMAC} {
		for j, pick := range []events.Pick{events.PickSerial, events.PickLowest, events.PickRandom} {
			t.Run(fmt.Sprintf("by %s, %s", by, pick), func(t *testing.T) {
				b := &bed{tb: t, etcd: b.etcd, log: b.log}
				d1, d2 := &daemon{Host: h1.Host, bed: b}, &daemon{Host: h2.Host, bed: b}
				starts := byte(100)
				is := func(n byte) container { return container{by, n, &starts} }
				// So large that a random pick is none of the addresses named below.
				at := func(n int) string { return fmt.Sprintf("10.%d.0.%d", 16*(3*i+j), n) }
				r := actor.PoolRequest{Subnet: prefix(at(0) + "/12"), Wish: actor.Wish{Sticky: new(by), Pick: new(pick), Quarantine: new(events.Seconds(60 * i))}}
				r1, r2 := d1.pool(r), d2.pool(r)
				synced := func(a actor.Answer) {
					d1.sees(r1, a.Revision)
					d2.sees(r2, a.Revision)
				}
				// stopped starts and stops a container, and returns what it had.
				stopped := func(c container, address string) netip.Addr {
					a := d1.ask(r1, c.ask(address))
					synced(d1.release(r1, a.Address))
					return a.Address
				}
				first := stopped(is(1), "")
				taken := false
				for n := byte(2); n < 8; n++ { // others come and go, or stay
					a := d1.ask(r1, is(n).ask(""))
					if taken = taken || a.Address == first; n%2 == 0 {
						synced(d1.release(r1, a.Address))
					}
				}
				if taken {
					first = stopped(is(1), at(150))
				}
				if a := d1.ask(r1, is(1).ask("")); a.Address != first {
					t.Errorf("started again it got %s, not %s", a.Address, first)
				}
				// While it runs, another of its name is another.
				twin := d1.ask(r1, is(1).ask(""))
				if twin.Address == first && by == events.StickyName {
					t.Errorf("two have %s", first)
				}
				if twin.Address != first {
					synced(d1.release(r1, twin.Address))
				}
				synced(d1.release(r1, first))
				// The last one counts, also one that was asked for by name, or on
				// another host.
				moved := stopped(is(1), at(200))
				if a := d2.ask(r2, is(1).ask("")); a.Address != moved {
					t.Errorf("on another host it got %s, not %s", a.Address, moved)
				}
				synced(d2.release(r2, moved))
				elsewhere := d2.ask(r2, is(1).ask(at(201)))
				synced(d2.release(r2, elsewhere.Address))
				if a := d1.ask(r1, is(1).ask("")); a.Address != elsewhere.Address {
					t.Errorf("back from another host it got %s, not %s", a.Address, elsewhere.Address)
				}
				synced(d1.release(r1, elsewhere.Address))
				// Another has it.
				other := d2.ask(r2, is(50).ask(at(201)))
				synced(other)
				a := d1.ask(r1, is(1).ask(""))
				if a.Address == other.Address {
					t.Errorf("two have %s", a.Address)
				}
				synced(d1.release(r1, a.Address))
				synced(d2.release(r2, other.Address))
				// Another had it, and nobody has it now: it is the other's.
				stopped(is(1), at(210))
				stopped(is(51), at(210))
				if a := d1.ask(r1, is(1).ask("")); a.Address == addr(at(210)) {
					t.Errorf("it got %s, which another had since", a.Address)
				}
				if a := d1.ask(r1, is(51).ask("")); a.Address != addr(at(210)) {
					t.Errorf("the other got %s", a.Address)
				}
				// Nor is it its own when nobody knows who had it.
				stopped(is(52), at(220))
				synced(d1.release(r1, d1.ask(r1, asked(actor.AskPlain, 0, "", at(220))).Address))
				if a := d1.ask(r1, is(52).ask("")); a.Address == addr(at(220)) {
					t.Errorf("it got %s, which another had since", a.Address)
				}
				// One that nobody knows yet, or that has no name or MAC, is picked for.
				if got, other := d1.ask(r1, is(60).ask("")), d1.ask(r1, actor.AddressRequest{}); got.Address == other.Address {
					t.Error("two have one")
				}
				b.agree(r1)
			})
		}
	}
}

// What a range of the grant, the pool's ranges or its exclusions keep back is not
// given back.
func TestStickyStaysInRanges(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	sticky := actor.Wish{Sticky: new(events.StickyName), Ranges: ranges("10.1.0.10-10.1.0.99")}
	wide := d.pool(actor.PoolRequest{Subnet: prefix("10.1.0.0/24"), Wish: sticky})
	narrow := d.pool(actor.PoolRequest{Subnet: prefix("10.1.0.0/24"), Range: prefix("10.1.0.64/27"), Wish: sticky})
	mac := byte(0)
	had := func(ref actor.Ref, name, at string) actor.Answer {
		mac++
		a := d.ask(ref, asked(actor.AskEndpoint, mac, name, at))
		d.sees(ref, d.release(ref, a.Address).Revision)
		return a
	}
	had(wide, "a", "10.1.0.20")
	if a := had(narrow, "a", ""); !prefix("10.1.0.64/27").Contains(a.Address) {
		t.Errorf("got %s beside its range", a.Address)
	}
	had(wide, "b", "10.1.0.70")
	if a := had(narrow, "b", ""); a.Address != addr("10.1.0.70") {
		t.Errorf("got %s", a.Address)
	}
	had(wide, "c", "10.1.0.200")
	if a := had(wide, "c", ""); !ranges("10.1.0.10-10.1.0.99")[0].Contains(a.Address) {
		t.Errorf("got %s beside the ranges", a.Address)
	}
	had(wide, "d", "10.1.0.30")
	d.sees(wide, b.layOut(wide, func(e *events.PoolChanged) { e.Exclude = ranges("10.1.0.30-10.1.0.30") }))
	if a := had(wide, "d", ""); a.Address == addr("10.1.0.30") {
		t.Errorf("got %s, which is excluded", a.Address)
	}
	b.agree(wide)
}

// A daemon that has just started knows from the log what endpoints had, and so does
// another host's: who asks at once is made to wait for it.
func TestStickyRightAfterAStart(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	r := actor.PoolRequest{Subnet: prefix("10.1.0.0/16"), Wish: actor.Wish{Sticky: new(events.StickyMAC)}}
	ref := d.pool(r)
	for n := range byte(10) {
		a := d.ask(ref, asked(actor.AskEndpoint, n+1, "", fmt.Sprintf("10.1.7.%d", 2*n+1)))
		d.release(ref, a.Address)
	}
	for round := range byte(3) {
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
		d = b.start("h1")
		elsewhere := b.start(fmt.Sprint("other", round))
		other := elsewhere.pool(r)
		var wg sync.WaitGroup
		for n := range byte(10) {
			by, through := d, ref
			if n%2 == 0 {
				by, through = elsewhere, other
			}
			wg.Go(func() {
				want := netip.AddrFrom4([4]byte{10, 1, 7, 2*n + 1})
				a, err := by.RequestAddress(b.ctx(), through, asked(actor.AskEndpoint, n+1, "", ""))
				if err != nil || a.Address != want {
					t.Errorf("%d got %s, %v; want %s", n, a.Address, err, want)
				}
				if _, err := by.ReleaseAddress(b.ctx(), through, a.Address); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		elsewhere.closeGrant(other)
	}
	b.agree(ref)
}

// However long the log is.
func TestStickyAcrossARestart(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	r := actor.PoolRequest{Subnet: prefix("10.1.0.0/16"), Wish: actor.Wish{Sticky: new(events.StickyName)}}
	ref := d.pool(r)
	const containers, others = 20, 2000
	had := map[string]netip.Addr{}
	for n := range byte(containers) {
		name := fmt.Sprint("c", n)
		had[name] = d.ask(ref, asked(actor.AskEndpoint, n+1, name, fmt.Sprintf("10.1.7.%d", 2*n+1))).Address
		d.release(ref, had[name])
	}
	// Others, a few in a commit.
	w, seen := b.operator("h1"), b.guards(ref)
	var wg sync.WaitGroup
	for part := range byte(20) {
		wg.Go(func() {
			for commit := range byte(25) {
				var list []events.Event
				for n := range byte(others / 500) {
					id, a := b.log.Clock.NewID(), netip.AddrFrom4([4]byte{10, 1, 100 + part, commit + 50*n})
					list = append(list,
						events.AddressAllocated{Allocation: id, Address: a, Kind: events.Endpoint, Host: "h9", Grant: ref.Grant, Endpoint: fmt.Sprint("other", a), MAC: events.MAC{9}},
						events.AddressReleased{Allocation: id, Address: a, Reason: events.Released})
				}
				if _, err := w.Append(b.ctx(), proposalOf(b, ref, seen, list...)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	d = b.start("h1")
	elsewhere := b.start("h2")
	other := elsewhere.pool(r)
	// On a busy machine it may take longer than asks are made to wait.
	eventually(t, "the log is read", func() bool {
		return d.Remembered(ref.Pool) == containers+others && elsewhere.Remembered(ref.Pool) == containers+others
	})
	for n := range byte(containers) {
		name := fmt.Sprint("c", n)
		by, through := d, ref
		if n%2 == 0 {
			by, through = elsewhere, other
		}
		if a := by.ask(through, asked(actor.AskEndpoint, 100+n, name, "")); a.Address != had[name] {
			t.Errorf("%s got %s, not %s", name, a.Address, had[name])
		}
	}
	b.agree(ref)
}

// A host whose watch fell behind what the store remembers knows what endpoints had
// in between.
func TestStickyAcrossAGap(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	g := newGate(t, b.etcd.Endpoint())
	d, elsewhere := b.startAt(g.endpoint(), "h1"), b.start("h2")
	r := actor.PoolRequest{Subnet: prefix("10.1.0.0/24"), Wish: actor.Wish{Sticky: new(events.StickyName)}}
	ref, other := d.pool(r), elsewhere.pool(r)
	d.sees(ref, d.release(ref, d.ask(ref, asked(actor.AskEndpoint, 1, "a", "10.1.0.50")).Address).Revision)
	d.sees(ref, d.release(ref, d.ask(ref, asked(actor.AskEndpoint, 2, "b", "10.1.0.60")).Address).Revision)

	g.shut(true, true)
	for name, at := range map[string]string{"a": "10.1.0.70", "x": "10.1.0.60"} {
		elsewhere.release(other, elsewhere.ask(other, asked(actor.AskEndpoint, 3, name, at)).Address)
	}
	revision, err := b.log.Revision(b.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.etcd.Client().Compact(b.ctx(), revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	g.turn(b.etcd.Endpoint())
	g.open()
	d.sees(ref, revision)
	eventually(t, "an answer", func() bool {
		a, err := d.RequestAddress(b.ctx(), ref, asked(actor.AskEndpoint, 4, "a", ""))
		if err == nil && a.Address != addr("10.1.0.70") {
			t.Errorf("a got %s, it had 10.1.0.70 last", a.Address)
		}
		return err == nil
	})
	if a := d.ask(ref, asked(actor.AskEndpoint, 5, "b", "")); a.Address == addr("10.1.0.60") {
		t.Errorf("b got %s, which another had since", a.Address)
	}
	b.agree(ref)
}

// What this host itself gave out it knows before its watch tells it.
func TestStickyBeforeTheWatch(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref := d.pool(actor.PoolRequest{Subnet: prefix("10.1.0.0/24"), Wish: actor.Wish{Sticky: new(events.StickyName)}})
	old, since := 0, 0
	for n := range 40 {
		x, y := fmt.Sprint("x", n), fmt.Sprint("y", n)
		at := []string{"10.1.0.100", "10.1.0.101"}[n%2]
		d.release(ref, d.ask(ref, asked(actor.AskEndpoint, 1, x, "10.1.0.90")).Address)
		d.release(ref, d.ask(ref, asked(actor.AskEndpoint, 1, x, at)).Address)
		a := d.ask(ref, asked(actor.AskEndpoint, 2, x, ""))
		if a.Address != addr(at) {
			old++
		}
		d.release(ref, a.Address)
		d.release(ref, d.ask(ref, asked(actor.AskEndpoint, 3, y, at)).Address)
		a = d.ask(ref, asked(actor.AskEndpoint, 4, x, ""))
		if a.Address == addr(at) {
			since++
		}
		d.release(ref, a.Address)
	}
	if old+since > 0 {
		t.Errorf("%d times it got an older address than its last, %d times one that another had since", old, since)
	}
	b.agree(ref)
}
