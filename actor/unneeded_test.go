// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
)

// runs waits until a host runs exactly these pools.
func (d *daemon) runs(what string, want ...actor.Ref) {
	d.bed.tb.Helper()
	eventually(d.bed.tb, what, func() bool {
		running := d.Running()
		for _, ref := range want {
			if !running[ref.Pool] {
				return false
			}
		}
		return len(running) == len(want)
	})
}

// leaving starts a host that leaves pools at once that are of no use to it.
func (b *bed) leaving(name string, change ...func(*actor.Options)) *daemon {
	b.tb.Helper()
	d := b.start(name, change...)
	d.Linger(0)
	return d
}

// What others do in a pool that a host has no grant in any more, it is not told.
func TestUnneeded(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	one, two := b.leaving("h1"), b.leaving("h2")
	first, second, theirs := one.subnet("10.1.0.0/24"), one.subnet("10.1.0.0/24"), two.subnet("10.1.0.0/24")
	a := one.ask(first, endpoint(1))
	one.closeGrant(first)
	one.ask(second, endpoint(2))
	one.runs("a host with another grant in the pool stays", second)
	one.closeGrant(second)
	one.runs("a host whose last grant has ended leaves the pool")
	two.ask(theirs, endpoint(3))
	two.runs("who has a grant stays", theirs)

	// What comes late for what has ended finds nothing, and does not keep the pool.
	if late := one.release(first, a.Address); !late.Allocation.IsZero() {
		t.Errorf("a late release released %s", late.Allocation)
	}
	one.closeGrant(second)
	one.runs("a pool that was only looked into is left")

	// Coming back is as on the first day: what the other holds is known.
	back := one.subnet("10.1.0.0/24")
	given := map[string]bool{}
	for n := range 100 {
		got := one.ask(back, endpoint(100+n)).Address.String()
		if given[got] {
			t.Errorf("%s was given out twice", got)
		}
		given[got] = true
	}
	if held := b.held(theirs); len(held) != 101 {
		t.Errorf("%d addresses are held, not 100 here and one there", len(held))
	}
	one.runs("who came back stays", back)
	b.agree(theirs)
}

// A pool is not left at once, and not before all in it is to its end.
func TestUnneeded_lingers(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	one, two := b.start("h1"), b.start("h2")
	one.Linger(time.Hour)
	ref, theirs := one.subnet("10.1.0.0/24"), two.subnet("10.1.0.0/24")
	one.closeGrant(ref)
	one.sees(ref, two.ask(theirs, endpoint(1)).Revision) // it is told of what the other does
	one.runs("it stays for a while", ref)
}

// Hosts that come and go at once leave a pool that is retired when all have gone, and
// lose nothing of what they ask.
func TestUnneeded_comingAndGoing(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	hosts := []*daemon{b.leaving("h1"), b.leaving("h2"), b.leaving("h3")}
	for round := range 20 {
		subnet := fmt.Sprintf("10.1.%d.0/24", round)
		refs := make(chan actor.Ref, 100)
		var wg sync.WaitGroup
		for i, d := range hosts {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(uint64(round), uint64(i)))
				for n := range 1 + random.IntN(4) {
					ref := d.subnet(subnet)
					refs <- ref
					if random.IntN(2) == 0 {
						d.ask(ref, endpoint(1000*i+n))
					}
					d.closeGrant(ref)
				}
			})
		}
		wg.Wait()
		close(refs)
		pools := map[events.ID]actor.Ref{}
		for ref := range refs {
			pools[ref.Pool] = ref
		}
		for _, ref := range pools {
			eventually(t, "the pool is retired with its last grant", func() bool { return !b.stands(ref) })
			b.same(ref, nil)
			b.agree(ref)
		}
	}
	for _, d := range hosts {
		d.runs("nobody stays")
	}
}

// A pool that was left empty, by who died before he could retire it, is retired by the
// next daemon that starts.
func TestUnneeded_leftEmpty(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	empty, used, kept := d.subnet("10.1.0.0/24"), d.subnet("10.2.0.0/24"), d.subnet("10.3.0.0/24")
	b.layOut(kept, func(e *events.PoolChanged) { e.Kept = true })
	b.layOut(empty, func(e *events.PoolChanged) { e.Kept = true })
	d.closeGrant(empty)
	d.closeGrant(kept)
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	b.layOut(empty, func(e *events.PoolChanged) { e.Kept = false })
	if !b.stands(empty) {
		t.Fatal("there is nobody to retire it")
	}
	b.start("h2")
	if b.stands(empty) {
		t.Error("an empty pool stands on")
	}
	if !b.stands(used) || !b.stands(kept) {
		t.Error("a pool was retired that has a grant, or is kept")
	}
	b.agree(empty)
}

// A swarm's pools are the business of daemons that a swarm asks.
func TestUnneeded_swarm(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	managed := func(o *actor.Options) { o.Mirrors = true }
	manager := b.start("h1", managed)
	ref := manager.pool(actor.PoolRequest{Space: events.Global, Subnet: prefix("10.9.0.0/24")})
	b.start("h2").runs("a daemon that no swarm asks does not begin")
	b.start("h3", managed).runs("one that a swarm may ask does", ref)
}
