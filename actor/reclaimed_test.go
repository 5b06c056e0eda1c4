// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"testing"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
)

// reclaim suspects and reclaims an allocation, as a look at the engine would, and
// waits until the daemons have seen it.
func (b *bed) reclaim(d *daemon, ref actor.Ref, a actor.Answer, seenBy ...*daemon) {
	b.tb.Helper()
	d.sees(ref, a.Revision) // nothing is suspected that has just begun
	b.write(d.Writer(), ref, func(events.Guards) []events.Event {
		return []events.Event{events.AddressSuspected{Allocation: a.Allocation, Address: a.Address}}
	})
	revision := b.write(d.Writer(), ref, func(events.Guards) []events.Event {
		return []events.Event{events.AddressReclaimed{Allocation: a.Allocation, Address: a.Address}}
	})
	for _, other := range append(seenBy, d) {
		other.sees(ref, revision)
	}
}

// What is reclaimed is free again for everybody, as if it had been released: it rests
// first, also for a daemon that starts later, and who had it asks for another.
func TestReclaimed(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d, w := b.startWitnessed("h1")
	ref := d.pool(actor.PoolRequest{Subnet: prefix("10.1.0.0/29"), Wish: actor.Wish{Pick: new(events.PickLowest)}})
	lost := d.ask(ref, endpoint(1))
	kept := d.ask(ref, endpoint(2))
	b.reclaim(d, ref, lost)
	eventually(t, "the witness forgets it", func() bool { _, known := w.of(lost.Allocation); return !known })
	again := d.ask(ref, endpoint(1))
	if again.Address == lost.Address || again.Address == kept.Address || again.Allocation == lost.Allocation || again.Repeat {
		t.Errorf("%+v, after %+v was reclaimed", again, lost)
	}
	other := b.start("h2")
	theirs := other.subnet("10.1.0.0/29")
	if a := other.ask(theirs, endpoint(11)); a.Address == lost.Address {
		t.Errorf("%s does not rest for a daemon that starts", a.Address)
	}
	for n := range 2 {
		d.ask(ref, endpoint(20+n))
	}
	// Nothing else is free: rest is a preference.
	if a := d.ask(ref, endpoint(30)); a.Address != lost.Address {
		t.Errorf("%s was given, and %s is free", a.Address, lost.Address)
	}
	if _, err := d.RequestAddress(b.ctx(), ref, endpoint(31)); err == nil {
		t.Error("there was another address")
	}
	b.reclaim(d, ref, kept, other)
	if a := other.ask(theirs, endpoint(12)); a.Address != kept.Address {
		t.Errorf("%s was given, and %s is free", a.Address, kept.Address)
	}
	b.agree(ref)
}
