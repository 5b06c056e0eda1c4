// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"context"
	"maps"
	"net/netip"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
)

// tailLength is how far back the log is read for what the guards do not hold:
// where this host's last pick was. What rests is looked for as far back as the
// pool's quarantine.
const tailLength = 10 * time.Minute

// follow brings the log's updates to the actor, in their order.
func (p *Pool) follow(ctx context.Context) {
	log := p.writer.Log()
	err := log.Follow(ctx, p.space, p.id, func(u etcdlog.Update) error {
		var tail []events.Record
		if u.Guards != nil {
			now, _ := log.Clock.Stamp()
			back := max(tailLength, u.Guards.Pool.Value.Quarantine.Duration())
			var err error
			if tail, err = log.Since(ctx, events.PoolStream(p.id), now.Add(-back)); err != nil {
				// The tail is a preference, the guards are the state.
				p.log.Warn().Err(err).Msg("the log's tail could not be read: released addresses do not rest, picks start over")
			}
		}
		p.post(func() { p.update(u, tail) })
		return nil
	}, func(err error) {
		p.log.Warn().Err(err).Msg("the watch of the log broke, trying again")
	})
	if ctx.Err() != nil {
		return
	}
	p.post(func() { p.fail(err) })
}

// fail ends all deciding: nothing may be decided on a state that is not known.
func (p *Pool) fail(err error) {
	p.broken = err
	p.log.Error().Err(err).Msg("the pool's log cannot be read: the pool is refused from now on")
	p.refuseAll(errors.Mark(errors.Wrapf(err, "pool %s", p.id), ErrBroken))
}

// update moves the projection, and with it all that hangs on it.
func (p *Pool) update(u etcdlog.Update, tail []events.Record) {
	if p.broken != nil {
		return
	}
	if u.Guards != nil {
		p.begin(projection.FromGuards(*u.Guards, u.Revision), tail)
	}
	now := time.Now()
	for _, r := range u.Records {
		p.forgetReleased(r)
		if err := p.state.Apply(r); err != nil {
			p.fail(err)
			return
		}
		// What is known of a later commit must not hide what came before it.
		p.prune()
		p.notice(r, now)
	}
	p.state.Reached(u.Revision)
	p.prune()
	p.retired = !p.state.Pool().Present()

	waiting := p.reaching
	p.reaching = nil
	for _, r := range waiting {
		if p.state.Revision() < r.revision {
			p.reaching = append(p.reaching, r)
			continue
		}
		p.parked--
		p.reach(r.revision, r.task)
	}
}

// prune forgets what was known beyond the projection, and is known by it now.
func (p *Pool) prune() {
	for _, a := range p.overlay.prune(p.state.Revision()) {
		p.refresh(a)
	}
}

// begin starts from a state read whole: the first one, or one after a gap.
func (p *Pool) begin(state *projection.Pool, tail []events.Record) {
	p.state = state
	p.retired = !state.Pool().Present()
	p.testify()
	if p.retired {
		p.picker = &picker{}
		return
	}
	p.picker = newPicker(state)
	p.survey()
	p.memory = nil // of a gap it knows nothing
	p.remember()
	clear(p.asks)
	p.dry = false
	for addr, guard := range state.HeldAll() {
		for _, a := range guard.Value {
			p.index(addr, a)
		}
	}
	now, _ := p.writer.Log().Clock.Stamp()
	for _, r := range tail {
		p.writer.Log().Clock.Seen(r.Commit, false)
		for _, e := range r.Events {
			if _, addr, ok := givenBack(e); ok {
				rested := max(0, now.Sub(r.Time))
				if left := state.Pool().Value.Quarantine.Duration() - rested; left > 0 && p.free(addr) {
					p.picker.rest(addr, time.Now().Add(left))
				}
			}
			if allocated, ok := e.(events.AddressAllocated); ok {
				p.noticePick(allocated)
			}
		}
	}
	for a := range p.overlay.byAddr {
		p.refresh(a)
	}
	for a := range p.overlay.held {
		p.refresh(a)
	}
	p.forgetEnded()
	begun := map[events.ID]int64{}
	for id, g := range state.Grants() {
		if _, known := p.asking[id]; !known {
			p.asking[id] = time.Now() // it may have been a moment ago
		}
		switch {
		case g.Value.State != events.StateClosing:
		case g.Value.Host == p.writer.Host():
			begun[id] = g.Revision
		case g.Value.Host == "":
			p.resume(id, g.Revision) // the swarm's, which no take-over touches
		}
	}
	p.takeUp(begun)
}

// forgetEnded forgets when that was asked for whose end was in a gap.
func (p *Pool) forgetEnded() {
	maps.DeleteFunc(p.asking, func(id events.ID, _ time.Time) bool { return !p.grant(id).Present() })
	held := map[events.ID]bool{}
	for addr := range p.state.HeldAll() {
		for _, a := range p.held(addr).Value {
			held[a.ID] = true
		}
	}
	for _, n := range p.overlay.held {
		for _, a := range n.guard.Value {
			held[a.ID] = true
		}
	}
	maps.DeleteFunc(p.asked, func(id events.ID, _ time.Time) bool { return !held[id] })
	maps.DeleteFunc(p.repeated, func(id events.ID, _ bool) bool { return !held[id] })
}

// mine says whether a grant's host is this one, or the swarm, whose grants any
// manager may handle.
func (p *Pool) mine(host string) bool { return host == p.writer.Host() || host == "" }

// notice draws from a record what the projection does not keep.
func (p *Pool) notice(r events.Record, now time.Time) {
	for _, e := range r.Events {
		switch e := e.(type) {
		case events.PoolCreated:
			p.picker = newPicker(p.state)
			p.survey()
			p.remember()
		case events.PoolChanged:
			p.picker.lay(e.Layout)
		case events.GrantOpened:
			p.asking[e.Grant] = now
			p.survey()
		case events.GrantReopened:
			p.asking[e.Grant] = now
			p.survey()
		case events.GrantClosed:
			delete(p.asking, e.Grant)
			p.survey()
		case events.AddressReserved:
			p.refresh(e.Address)
		case events.AddressUnreserved:
			p.dry = false
			p.refresh(e.Address)
		case events.AddressAllocated:
			p.memory.note(e, r.Revision)
			p.witnessed(e)
			p.refresh(e.Address)
			if held := p.state.Held(e.Address).Value; len(held) > 0 {
				p.index(e.Address, held[len(held)-1])
			}
		default:
			if _, addr, ok := givenBack(e); ok {
				p.dry = false
				p.refresh(addr)
				p.letRest(addr, now)
			}
		}
	}
}

// letRest begins the rest of an address that was released, unless it has begun
// already, or is over: somebody had it again since, or is about to.
func (p *Pool) letRest(a netip.Addr, now time.Time) {
	if p.free(a) && !p.picker.isResting(a) {
		p.picker.rest(a, now.Add(p.picker.policy.Quarantine.Duration()))
	}
}

// noticePick moves the place of the next pick behind an endpoint of this host's.
func (p *Pool) noticePick(e events.AddressAllocated) {
	if e.Kind == events.Endpoint && e.Host == p.writer.Host() {
		if grant := p.grant(e.Grant); grant.Present() {
			p.picker.moved(grant.Value.Range, e.Address)
		}
	}
}

// index remembers by what an endpoint would ask again.
func (p *Pool) index(addr netip.Addr, a events.Allocation) {
	if key := askKeyOf(a); key != (askKey{}) && p.mine(a.Host) {
		p.asks[key] = addr
	}
}

func (p *Pool) forgetReleased(r events.Record) {
	for _, e := range r.Events {
		allocation, addr, ok := givenBack(e)
		if !ok {
			continue
		}
		delete(p.repeated, allocation)
		delete(p.asked, allocation)
		p.witness.Ended(allocation)
		held := p.state.Held(addr).Value
		if i := held.Index(allocation); i >= 0 {
			if key := askKeyOf(held[i]); p.asks[key] == addr {
				delete(p.asks, key)
			}
		}
	}
}

// givenBack names the allocation that an event ends, so that its address rests: by
// Docker's word, or because Docker's was lost.
func givenBack(e events.Event) (events.ID, netip.Addr, bool) {
	switch e := e.(type) {
	case events.AddressReleased:
		return e.Allocation, e.Address, true
	case events.AddressReclaimed:
		return e.Allocation, e.Address, true
	default:
		return events.ID{}, netip.Addr{}, false
	}
}

// askKeyOf is zero for what cannot be asked for again by MAC and name.
func askKeyOf(a events.Allocation) askKey {
	if a.Kind != events.Endpoint || a.MAC == (events.MAC{}) {
		return askKey{}
	}
	return askKey{grant: a.Grant, mac: a.MAC, endpoint: a.Endpoint}
}
