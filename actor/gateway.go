// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"net/netip"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
)

// A network's gateway is the pool's router, which all its networks have in common,
// or an address that the host gives to the network's bridge. Docker does not say
// which it means; the pool's gateway mode does.

func (p *Pool) policy() events.Policy { return p.state.Pool().Value.Policy }

// mirror says whether the pool is this node's mirror of a Swarm network.
func (p *Pool) mirror() bool { return p.state.Pool().Value.Node != "" }

// allocateGateway decides an ask for a gateway.
func (p *Pool) allocateGateway(t *allocateTask, within netip.Prefix) {
	mode, named := p.policy().Gateway, t.ask.Address.IsValid()
	switch {
	case mode == events.GatewayShared:
		p.allocateRouter(t)
	case named:
		p.allocateThis(t, events.Gateway)
	case mode == events.GatewayNone:
		t.answer(p.unheld(p.nobodys()), nil)
	default:
		addr, ok := p.picker.gateway(within)
		if !ok {
			p.exhausted(t, within)
			return
		}
		p.propose(t, addr, events.Gateway, false)
	}
}

// allocateRouter gives a network the gateway that all of the pool share: its
// router, or, where it has none yet, the address that was named or the lowest.
func (p *Pool) allocateRouter(t *allocateTask) {
	pool := p.state.Pool().Value
	named := t.ask.Address.IsValid()
	switch {
	case named && t.ask.Address != pool.Router && events.InRanges(pool.HostRanges, t.ask.Address):
		p.allocateThis(t, events.Gateway) // the host's own bridge
	case pool.Router.IsValid() && named && t.ask.Address != pool.Router:
		t.answer(Answer{}, errors.Wrapf(ErrContradicts, "the router of pool %s is %s, not %s", pool.Title(), pool.Router, t.ask.Address))
	case pool.Router.IsValid():
		t.ask.Address = pool.Router
		p.allocateThis(t, events.Gateway)
	case p.overlay.layingOut != nil:
		p.park(p.overlay.layingOut, t)
	case p.state.Revision() < p.laidOutAt:
		p.reach(p.laidOutAt, t) // it has one, and that was not seen yet
	case named:
		p.allocateThis(t, events.Gateway)
	default:
		addr, ok := p.picker.lowest(p.picker.of(netip.Prefix{}))
		if !ok {
			p.exhausted(t, netip.Prefix{})
			return
		}
		p.proposeGateway(t, addr)
	}
}

// proposeGateway makes a gateway pending that others may share. Where all share
// one, the first to ask makes it the router, in a commit that says so of the pool:
// whoever comes second finds it there.
func (p *Pool) proposeGateway(t *allocateTask, addr netip.Addr) {
	pool := p.state.Pool().Value
	if pool.Gateway != events.GatewayShared || pool.Router.IsValid() {
		p.propose(t, addr, events.Gateway, true)
		return
	}
	layout := pool.Layout
	layout.Router = addr
	s := p.allocation(t, addr, events.Gateway, true)
	s.alone, s.layOut = true, &events.PoolChanged{Space: p.space, Layout: layout, Kept: pool.Kept}
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
		return pool.Gateway != events.GatewayHost && (a == pool.Router || !events.InRanges(pool.HostRanges, a))
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
