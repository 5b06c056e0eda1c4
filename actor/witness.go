// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"net/netip"

	"github.com/ipamlog/ipamlog/events"
)

// Witness is told what this host holds in its pools of the local space, whatever
// brought it about, so that somebody can find out whose it is. Its methods are
// called from many goroutines, in the order of things for any one pool, and must
// not wait for anything.
//
// Two things hold of what it is told. A holding has begun for the witness before
// anybody, and so Docker, is told of its address; and it ends for the witness only
// after it has ended in the log.
type Witness interface {
	// Began is told of a holding. It may be told of one again.
	Began(Holding)
	// Repeated is told, before Docker is, that one is given again what it asked for
	// before: Docker did not get it the first time, or has lost its release.
	Repeated(allocation events.ID)
	// Ended is told of the end of an allocation, of any host's.
	Ended(allocation events.ID)
	// Holds is told all that this host holds in a pool: when its actor starts, and
	// after a gap in what it saw.
	Holds(pool events.ID, all []Holding)
}

// Holding is what this host holds of a pool through one of its grants.
type Holding struct {
	ID      events.ID // the pool's
	Pool    events.Pool
	Range   netip.Prefix // of the grant; zero: the whole subnet
	Address netip.Addr
	events.Allocation
}

// nobody is the witness where there is none.
type nobody struct{}

func (nobody) Began(Holding)              {}
func (nobody) Repeated(events.ID)         {}
func (nobody) Ended(events.ID)            {}
func (nobody) Holds(events.ID, []Holding) {}

// witnessed tells the witness of an allocation that is in the log.
func (p *Pool) witnessed(e events.AddressAllocated) {
	a := events.Allocation{ID: e.Allocation, Kind: e.Kind, Shared: e.Shared, Host: e.Host, Grant: e.Grant, MAC: e.MAC, Endpoint: e.Endpoint}
	if p.concernsWitness(a) {
		p.witness.Began(p.holding(e.Address, a))
	}
}

// testify tells the witness all that this host holds in the pool, what is known
// beyond the projection included.
func (p *Pool) testify() {
	p.witness.Holds(p.id, p.ours())
}

// concernsWitness says whether an allocation is this host's, through a grant.
func (p *Pool) concernsWitness(a events.Allocation) bool {
	return p.space == events.Local && a.Host == p.writer.Host() && !a.Grant.IsZero()
}

func (p *Pool) holding(addr netip.Addr, a events.Allocation) Holding {
	return Holding{ID: p.id, Pool: p.state.Pool().Value, Range: p.grant(a.Grant).Value.Range, Address: addr, Allocation: a}
}
