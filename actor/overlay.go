// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"net/netip"

	"github.com/ipamlog/ipamlog/events"
)

// step is one event on its way into the log.
type step struct {
	event events.Event
	task  task // for whom; nil if for nobody
	addr  netip.Addr
	grant events.ID
	on    int64  // the revision of the pool's guard that an allocation was decided on
	ask   askKey // of an endpoint's allocation
	alone bool   // in a commit of its own: it lost a race, or decides about a grant
	// follow is the second event of a step that has two (the pool's end with its
	// last grant's).
	follow events.Event
	// layOut, if not nil, goes before the event: it gives the pool its router.
	layOut *events.PoolChanged
	// parked are tasks about the same address or grant: decided once this is
	// settled.
	parked []task
}

// leansOnGrant says whether the step's commit compares its grant's guard. What
// Docker releases is released whatever became of its grant.
func (s *step) leansOnGrant() bool {
	released, ok := s.event.(events.AddressReleased)
	return !s.grant.IsZero() && (!ok || released.Reason == events.GrantEnded)
}

// leansOnPool says whether the step's commit compares the pool's guard for what
// its layout says.
func (s *step) leansOnPool() bool {
	_, allocates := s.event.(events.AddressAllocated)
	return allocates
}

// retires says whether the step's commit demands an empty pool.
func (s *step) retires() bool {
	_, alone := s.event.(events.PoolRetired)
	return alone || s.follow != nil
}

// closes says whether the step belongs to a grant's end, which only the host's
// present daemon may bring about.
func (s *step) closes() bool {
	switch e := s.event.(type) {
	case events.GrantClosing, events.GrantClosed:
		return true
	case events.AddressReleased:
		return e.Reason == events.GrantEnded
	default:
		return false
	}
}

// askKey is by what an endpoint that asks again is known. The zero key knows
// nobody.
type askKey struct {
	grant    events.ID
	mac      events.MAC
	endpoint string
}

// newer is a guard as the store is known to have it, while the projection is not
// there yet.
type newer[T any] struct {
	guard    events.Guarded[T]
	revision int64
}

// overlay is what is known beyond the projection: steps that are pending, and
// guards that are newer than the projection's revision.
type overlay struct {
	byAddr  map[netip.Addr]*step
	byGrant map[events.ID]*step // that change the grant itself
	byAsk   map[askKey]*step
	// layingOut is the pending step that gives the pool its router.
	layingOut *step
	through   map[events.ID]int // pending steps about an address held through a grant

	held   map[netip.Addr]newer[events.Held]
	grants map[events.ID]newer[events.Grant]
}

func newOverlay() overlay {
	return overlay{
		byAddr: map[netip.Addr]*step{}, byGrant: map[events.ID]*step{}, byAsk: map[askKey]*step{},
		through: map[events.ID]int{},
		held:    map[netip.Addr]newer[events.Held]{}, grants: map[events.ID]newer[events.Grant]{},
	}
}

// add makes a step pending.
func (o *overlay) add(s *step) {
	switch {
	case s.addr.IsValid():
		o.byAddr[s.addr] = s
		o.through[s.grant]++
	case !s.grant.IsZero():
		o.byGrant[s.grant] = s
	}
	if s.ask != (askKey{}) {
		o.byAsk[s.ask] = s
	}
	if s.layOut != nil {
		o.layingOut = s
	}
}

// empty says whether no step is pending.
func (o *overlay) empty() bool { return len(o.byAddr) == 0 && len(o.byGrant) == 0 }

// remove ends a step's being pending.
func (o *overlay) remove(s *step) {
	if s.addr.IsValid() {
		if o.byAddr[s.addr] == s {
			delete(o.byAddr, s.addr)
			if o.through[s.grant]--; o.through[s.grant] == 0 {
				delete(o.through, s.grant)
			}
		}
	} else if o.byGrant[s.grant] == s {
		delete(o.byGrant, s.grant)
	}
	if o.byAsk[s.ask] == s {
		delete(o.byAsk, s.ask)
	}
	if o.layingOut == s {
		o.layingOut = nil
	}
}

// learn takes in guards as they were at a revision: what a commit of ours made of
// them, or what stood in its way. A guard that is not among them was absent.
func (o *overlay) learn(touched []*step, now events.Guards, revision int64) {
	for _, s := range touched {
		if s.addr.IsValid() && o.held[s.addr].revision < revision {
			o.held[s.addr] = newer[events.Held]{now.Held[s.addr], revision}
		}
		if s.leansOnGrant() && o.grants[s.grant].revision < revision {
			o.grants[s.grant] = newer[events.Grant]{now.Grants[s.grant], revision}
		}
	}
}

// prune forgets what the projection knows by itself, and returns the addresses
// concerned.
func (o *overlay) prune(revision int64) []netip.Addr {
	var addrs []netip.Addr
	for a, n := range o.held {
		if n.revision <= revision {
			delete(o.held, a)
			addrs = append(addrs, a)
		}
	}
	for id, n := range o.grants {
		if n.revision <= revision {
			delete(o.grants, id)
		}
	}
	return addrs
}
