// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"context"
	"net/netip"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
)

// auxiliaryWindow is how long after a grant was opened a plain ask for an
// address is taken for one of --aux-address: Docker sends those right behind
// RequestPool and the gateway, and says of them no more than the address.
const auxiliaryWindow = time.Minute

// allocate decides a RequestAddress.
func (p *Pool) allocate(t *allocateTask) {
	if s := p.overlay.byGrant[t.ref.Grant]; s != nil {
		p.park(s, t)
		return
	}
	grant := p.grant(t.ref.Grant)
	if grant.Present() {
		p.asking[t.ref.Grant] = time.Now()
	}
	switch {
	case grant.Value.State != events.StateOpen || p.closing[t.ref.Grant] != nil:
		t.answer(Answer{}, errors.Wrapf(ErrNoGrant, "grant %s of pool %s", t.ref.Grant, p.id))
		return
	case !p.mine(grant.Value.Host):
		t.answer(Answer{}, errors.Wrapf(ErrNoGrant, "grant %s belongs to host %s", t.ref.Grant, grant.Value.Host))
		return
	}
	if err := p.gate.refuse(t.ref.Grant, t.ask.Asking); err != nil && !t.inUse {
		t.answer(Answer{}, err)
		return
	}
	kind := p.kindOf(t)
	switch {
	case kind == events.Gateway:
		p.allocateGateway(t, grant.Value.Range)
	case t.ask.Address.IsValid():
		p.allocateThis(t, kind)
	case p.mirror():
		t.answer(Answer{}, errors.Wrapf(ErrMirror, "pool %s", p.state.Subnet().Prefix()))
	default:
		p.allocateAny(t, grant.Value.Range)
	}
}

// allocateAny decides an endpoint's ask for any address of its grant's range.
func (p *Pool) allocateAny(t *allocateTask, within netip.Prefix) {
	const kind = events.Endpoint
	key := t.askKey(kind)
	if key != (askKey{}) {
		if s := p.overlay.byAsk[key]; s != nil {
			p.park(s, t)
			return
		}
		if addr, known := p.asks[key]; known {
			if s := p.overlay.byAddr[addr]; s != nil {
				p.park(s, t)
				return
			}
			if a, held := p.held(addr).Value.Of(t.ref.Grant); held && askKeyOf(a) == key {
				p.confirm(t, addr, a)
				return
			}
		}
	}
	if p.recalls(t) {
		return // until it is known what the endpoint had last
	}
	addr, ok := p.lastOf(t, within)
	if !ok {
		addr, ok = p.picker.next(within, time.Now())
	}
	if !ok {
		p.exhausted(t, within)
		return
	}
	p.propose(t, addr, kind, false)
}

// kindOf says what an address is asked for: see design of the protocol in
// package plugin.
func (p *Pool) kindOf(t *allocateTask) events.Kind {
	switch {
	case t.ask.Asking == AskGateway:
		return events.Gateway
	case t.ask.Asking == AskAuxiliary:
		return events.Auxiliary
	case t.ask.Asking == AskEndpoint || t.ref.Space == events.Global || !t.ask.Address.IsValid():
		return events.Endpoint
	}
	// By the clock that the grant was named by, which a wrong wall clock does not
	// move.
	now := p.writer.Log().Clock.NewID().Time()
	if now.Sub(t.ref.Grant.Time()) < auxiliaryWindow && !p.hasEndpoint(t.ref.Grant) {
		return events.Auxiliary
	}
	return events.Endpoint
}

func (p *Pool) hasEndpoint(grant events.ID) bool {
	endpoint := func(held events.Held) bool {
		a, ok := held.Of(grant)
		return ok && a.Kind == events.Endpoint
	}
	for addr := range p.state.HeldAll() {
		if endpoint(p.held(addr).Value) {
			return true
		}
	}
	for _, n := range p.overlay.held {
		if endpoint(n.guard.Value) {
			return true
		}
	}
	return false
}

func (t *allocateTask) askKey(kind events.Kind) askKey {
	return askKeyOf(events.Allocation{Kind: kind, Grant: t.ref.Grant, MAC: t.ask.MAC, Endpoint: t.ask.Endpoint})
}

// allocateThis decides an ask for one address.
func (p *Pool) allocateThis(t *allocateTask, kind events.Kind) {
	addr, subnet := t.ask.Address, p.state.Subnet()
	switch {
	case kind == events.Gateway && addr == p.nobodys() && (p.mirror() || p.policy().Gateway == events.GatewayNone):
		t.answer(p.unheld(addr), nil) // Swarm asks again for what it was told
		return
	case !subnet.Contains(addr):
		t.answer(Answer{}, errors.Wrapf(ErrOutOfRange, "%s is not in %s", addr, subnet.Prefix()))
		return
	case subnet.Reserved(addr):
		t.answer(Answer{}, errors.Wrapf(ErrInUse, "%s is the network or broadcast address of %s", addr, subnet.Prefix()))
		return
	}
	if kind == events.Gateway && p.policy().Gateway == events.GatewayNone {
		t.answer(p.unheld(addr), nil)
		return
	}
	if s := p.overlay.byAddr[addr]; s != nil {
		p.park(s, t)
		return
	}
	shared := p.shares(addr, kind)
	held := p.held(addr).Value
	if a, ok := held.Of(t.ref.Grant); ok && t.repeats(a, kind) {
		p.confirm(t, addr, a)
		return
	}
	if why := p.setAside(addr); kind == events.Endpoint && why != "" {
		t.answer(Answer{}, errors.Wrapf(ErrSetAside, "%s is %s", addr, why))
		return
	}
	if a, ok := p.ownBridge(held); ok && kind != events.Endpoint {
		p.confirm(t, addr, a)
		return
	}
	if len(held) > 0 && p.mirror() {
		p.supersede(t, held[0])
		return
	}
	if _, twice := held.Of(t.ref.Grant); twice || !held.Admits(shared) {
		if !t.synced {
			p.sync(t) // it may have been released, and that not seen yet
			return
		}
		t.answer(Answer{}, errors.Wrapf(ErrInUse, "%s is held by %s", addr, holder(held[0])))
		return
	}
	if kind == events.Gateway && shared {
		p.proposeGateway(t, addr)
		return
	}
	p.propose(t, addr, kind, shared)
}

// repeats says whether an ask for an address is for what is held already.
func (t *allocateTask) repeats(a events.Allocation, kind events.Kind) bool {
	switch {
	case t.ref.Space == events.Global:
		return true
	case kind == events.Gateway || kind == events.Auxiliary:
		// Some name the router as both.
		return a.Kind == events.Gateway || a.Kind == events.Auxiliary
	case a.Kind != kind:
		return false
	}
	key := t.askKey(kind)
	return key != (askKey{}) && key == askKeyOf(a)
}

// setAside says why no endpoint may have an address; "" if one may.
func (p *Pool) setAside(a netip.Addr) string {
	layout := p.state.Pool().Value.Layout
	switch {
	case a == layout.Router:
		return "the router of the pool"
	case events.InRanges(layout.HostRanges, a):
		return "kept for the hosts' own bridges"
	case events.InRanges(layout.Exclude, a):
		return "excluded from the pool"
	}
	return ""
}

// holder says in words who holds an address.
func holder(a events.Allocation) string {
	words := a.Kind.String()
	if a.Kind == events.Reserved {
		words = "a reservation"
	}
	if a.Endpoint != "" {
		words += " " + a.Endpoint
	}
	if a.Host != "" {
		words += " on host " + a.Host
	}
	if a.Why != "" {
		words += " (" + a.Why + ")"
	}
	return words
}

// propose makes an allocation pending.
func (p *Pool) propose(t *allocateTask, addr netip.Addr, kind events.Kind, shared bool) {
	p.queue(p.allocation(t, addr, kind, shared))
}

// allocation is the step that gives an address to one who asked.
func (p *Pool) allocation(t *allocateTask, addr netip.Addr, kind events.Kind, shared bool) *step {
	e := events.AddressAllocated{
		Allocation: p.writer.Log().Clock.NewID(), Address: addr, Kind: kind, Shared: shared,
		Host: t.ref.Host, Grant: t.ref.Grant, MAC: t.ask.MAC, Endpoint: t.ask.Endpoint,
	}
	return &step{event: e, task: t, addr: addr, grant: t.ref.Grant, ask: t.askKey(kind), alone: t.contested, on: p.state.Pool().Revision}
}

// confirm answers a repeat, once the store has said that the allocation stands.
func (p *Pool) confirm(t *allocateTask, addr netip.Addr, a events.Allocation) {
	p.parked++
	p.spawn(func() {
		guard, revision, err := p.writer.Log().Holding(t.ctx, p.id, addr)
		p.post(func() {
			p.parked--
			switch {
			case err != nil:
				t.answer(Answer{}, errors.Mark(err, ErrStoreSilent))
			case guard.Value.Index(a.ID) < 0:
				p.reach(revision, t)
			case p.overlay.byAddr[addr] != nil || p.held(addr).Value.Index(a.ID) < 0:
				p.decide(t) // released meanwhile, or about to be
			case guard.Value.Suspected(a.ID) && p.state.Revision() < guard.Revision:
				p.reach(guard.Revision, t)
			case guard.Value.Suspected(a.ID):
				p.clear(t, addr, a.ID)
			default:
				p.witness.Repeated(a.ID)
				p.asked[a.ID] = time.Now()
				if t.answer(p.answerOf(addr, a.Kind, a.ID, revision, true), nil) {
					p.repeated[a.ID] = true
				}
			}
		})
	})
}

func (p *Pool) answerOf(addr netip.Addr, kind events.Kind, allocation events.ID, revision int64, repeat bool) Answer {
	return Answer{
		Address: addr, Subnet: p.state.Subnet().Prefix(), Kind: kind,
		Allocation: allocation, Revision: revision, Repeat: repeat,
	}
}

// exhausted is reached when nothing is free as far as is known. Before it is
// said, the projection must be as new as the store, and nothing of ours on its
// way that may free an address: a release, or an allocation that nobody waits for
// any more.
func (p *Pool) exhausted(t *allocateTask, within netip.Prefix) {
	if !t.synced {
		p.sync(t)
		return
	}
	for _, s := range p.overlay.byAddr {
		_, releasing := s.event.(events.AddressReleased)
		_, reclaiming := s.event.(events.AddressReclaimed)
		if releasing || reclaiming || s.task != nil && s.task.base().gone() {
			p.park(s, t)
			return
		}
	}
	if within == (netip.Prefix{}) {
		within = p.state.Subnet().Prefix()
	}
	if ranges := p.state.Pool().Value.Ranges; len(ranges) > 0 {
		t.answer(Answer{}, errors.Wrapf(ErrExhausted, "all of %s in the ranges %s is held", within, listed(ranges)))
	} else {
		t.answer(Answer{}, errors.Wrapf(ErrExhausted, "all of %s is held", within))
	}
	if !p.dry {
		p.dry = true
		p.queue(&step{event: events.PoolExhausted{Grant: t.ref.Grant, Range: within}})
	}
}

// sync makes tasks wait until the projection is as new as the store is now. One
// question to the store serves all that came before it.
func (p *Pool) sync(t *allocateTask) {
	p.syncing = append(p.syncing, t)
	if len(p.syncing) > 1 {
		return // the question is under way; they came after it was put, and ask again
	}
	p.ask()
}

func (p *Pool) ask() {
	asking := p.syncing
	p.spawn(func() {
		ctx, cancel := context.WithTimeout(p.life, storePatience)
		defer cancel()
		revision, err := p.writer.Log().Revision(ctx)
		p.post(func() {
			later := p.syncing[len(asking):]
			p.syncing = nil
			for _, t := range asking {
				if err != nil {
					t.answer(Answer{}, errors.Mark(err, ErrStoreSilent))
					continue
				}
				t.synced = true
				p.reach(revision, t)
			}
			for _, t := range later {
				p.decide(t)
			}
		})
	})
}
