// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"net/netip"

	"github.com/ipamlog/ipamlog/events"
)

// A network's gateway is the pool's router, which all its networks have in common,
// or an address that the host gives to the network's bridge. Docker does not say
// which it means; the pool's gateway mode does.

func (p *Pool) policy() events.Policy { return p.state.Pool().Value.Policy }

// mirror says whether the pool is this node's mirror of a Swarm network.
func (p *Pool) mirror() bool { return p.state.Pool().Value.Node != "" }

// allocateGateway decides an ask for a gateway that nobody named.
func (p *Pool) allocateGateway(t *allocateTask, within netip.Prefix) {
	switch p.policy().Gateway {
	case events.GatewayNone:
		t.answer(p.unheld(p.nobodys()), nil)
	case events.GatewayShared:
		p.allocateRouter(t)
	case events.GatewayAuto, events.GatewayHost:
		addr, ok := p.picker.gateway(within)
		if !ok {
			p.exhausted(t, within)
			return
		}
		p.propose(t, addr, events.Gateway, false)
	}
}

// allocateRouter gives a network the gateway that all of the pool share. The first
// one to ask chooses it, in a commit that says so of the pool: whoever comes second
// finds it there.
func (p *Pool) allocateRouter(t *allocateTask) {
	if router := p.state.Pool().Value.Router; router.IsValid() {
		t.ask.Address = router
		p.allocateThis(t, events.Gateway)
		return
	}
	if p.state.Revision() < p.laidOutAt {
		p.reach(p.laidOutAt, t) // chosen already, and not seen yet
		return
	}
	if s := p.overlay.layingOut; s != nil {
		p.park(s, t)
		return
	}
	addr, ok := p.picker.lowest(p.picker.of(netip.Prefix{}))
	if !ok {
		p.exhausted(t, netip.Prefix{})
		return
	}
	pool := p.state.Pool().Value
	layout := pool.Layout
	layout.Router = addr
	s := p.allocation(t, addr, events.Gateway, true)
	s.alone, s.layOut = true, &layingOut{
		event: events.PoolChanged{Space: p.space, Layout: layout, Kept: pool.Kept},
		on:    p.state.Pool().Revision,
	}
	p.queue(s)
}

// shares says whether an address that was named is held together with others who
// name it: the router, declared on every host. A gateway is a host's own where the
// pool's mode says so, and out of the addresses that are kept for the hosts.
func (p *Pool) shares(a netip.Addr, kind events.Kind) bool {
	switch kind {
	case events.Auxiliary:
		return true
	case events.Gateway:
		pool := p.state.Pool().Value
		return pool.Gateway != events.GatewayHost && !events.InRanges(pool.HostRanges, a)
	default:
		return false
	}
}

// ownBridge finds the address to be this host's own, given to its bridge before
// there was a network: the network's gateway then is that holding, and no second
// one.
func (p *Pool) ownBridge(held events.Held) (events.Allocation, bool) {
	if len(held) == 1 && held[0].Kind == events.Host && held[0].Host == p.writer.Host() {
		return held[0], true
	}
	return events.Allocation{}, false
}

// unheld answers a gateway's ask without holding anything.
func (p *Pool) unheld(a netip.Addr) Answer {
	return Answer{Address: a, Subnet: p.state.Subnet().Prefix(), Kind: events.Gateway, Revision: p.state.Revision(), Repeat: true}
}

// nobodys is what Docker is told as a gateway where there is none.
func (p *Pool) nobodys() netip.Addr {
	if p.state.Subnet().Prefix().Addr().Is6() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}
