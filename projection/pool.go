// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"iter"
	"net/netip"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection/bitmap"
)

// Pool is the state of one pool at one revision. Not safe for concurrent use.
type Pool struct {
	guards   events.Guards
	revision int64
	subnet   Subnet
	taken    *bitmap.Set // nil before the pool is created and after it is retired
	broken   error
}

// New returns the state before a pool's first record.
func New() *Pool { return &Pool{guards: events.NewGuards()} }

// FromGuards returns the state that a pool's guards describe at a revision. The
// guards are the projection's from now on.
func FromGuards(g events.Guards, revision int64) *Pool {
	p := &Pool{guards: g, revision: revision}
	if g.Pool.Present() {
		p.lay()
		for addr := range g.Held {
			p.mark(addr)
		}
	}
	return p
}

// Apply moves the state on by one record. A record at or below the state's
// revision is passed over.
func (p *Pool) Apply(r events.Record) error {
	if p.broken != nil || r.Revision <= p.revision {
		return p.broken
	}
	if err := p.guards.Apply(r); err != nil {
		p.broken = err
		return err
	}
	for _, e := range r.Events {
		switch e.(type) {
		case events.PoolCreated:
			p.lay()
		case events.PoolRetired:
			p.subnet, p.taken = Subnet{}, nil
		default: // the bitmap is about addresses alone
			if addr, about := events.AddressOf(e); about {
				p.mark(addr)
			}
		}
	}
	p.revision = r.Revision
	return nil
}

// Reached notes that nothing happened in the pool up to a revision.
func (p *Pool) Reached(revision int64) { p.revision = max(p.revision, revision) }

func (p *Pool) lay() {
	p.subnet = NewSubnet(p.guards.Pool.Value.Subnet)
	p.taken = bitmap.New(p.subnet.Offsets())
	for _, a := range p.subnet.reserved() {
		if offset, ok := p.subnet.Offset(a); ok {
			p.taken.Add(offset)
		}
	}
}

// mark makes the bitmap say of an address what the guards say.
func (p *Pool) mark(a netip.Addr) {
	offset, ok := p.subnet.Offset(a)
	switch {
	case !ok || p.taken == nil:
	case p.guards.Held[a].Present() || p.subnet.Reserved(a):
		p.taken.Add(offset)
	default:
		p.taken.Remove(offset)
	}
}

// Revision is the revision the state is complete up to.
func (p *Pool) Revision() int64 { return p.revision }

// Pool is the pool's guard: absent before it is created and after it is retired.
func (p *Pool) Pool() events.Guarded[events.Pool] { return p.guards.Pool }

// Subnet is the pool's subnet; it has none before it is created and after it is
// retired.
func (p *Pool) Subnet() Subnet { return p.subnet }

// Grant is the guard of a grant, absent if it is closed or never was.
func (p *Pool) Grant(id events.ID) events.Guarded[events.Grant] { return p.guards.Grants[id] }

// Grants goes over the grants that are open or closing, in no order.
func (p *Pool) Grants() iter.Seq2[events.ID, events.Guarded[events.Grant]] {
	return func(yield func(events.ID, events.Guarded[events.Grant]) bool) {
		for id, g := range p.guards.Grants {
			if !yield(id, g) {
				return
			}
		}
	}
}

// Held is the guard of an address, absent if it is free.
func (p *Pool) Held(a netip.Addr) events.Guarded[events.Held] { return p.guards.Held[a] }

// HeldAll goes over the addresses held, in no order.
func (p *Pool) HeldAll() iter.Seq2[netip.Addr, events.Guarded[events.Held]] {
	return func(yield func(netip.Addr, events.Guarded[events.Held]) bool) {
		for a, h := range p.guards.Held {
			if !yield(a, h) {
				return
			}
		}
	}
}

// Count is the number of addresses held.
func (p *Pool) Count() int { return len(p.guards.Held) }

// Suspected is the number of allocations that are suspected. It goes over all that
// is held.
func (p *Pool) Suspected() int { return p.guards.Suspected() }

// Taken is a copy of the bitmap: a bit for every offset that is held or
// reserved. Nil before the pool is created and after it is retired.
func (p *Pool) Taken() *bitmap.Set {
	if p.taken == nil {
		return nil
	}
	return p.taken.Clone()
}

// Guards is the state as guards, for comparison. They are not a copy.
func (p *Pool) Guards() events.Guards { return p.guards }
