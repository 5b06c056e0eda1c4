// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// refuseLease refuses to write for the next boot what needs an address that DHCP
// gave: the bridge is configured without DHCP, and would cut the machine off.
func (p *planner) refuseLease(path string) {
	if _, written := p.facts.Files[path]; written {
		return
	}
	static := []netip.Prefix{p.wishes.Address}
	addresses, routes := p.afterwards()
	for _, a := range addresses {
		static = append(static, prefixOf(a))
	}
	for _, a := range slices.Concat(p.uplink.Addresses, p.bridge.Addresses) {
		of := prefixOf(a)
		if lasts(a) || !of.Addr().Is4() || of.Addr() == p.wishes.Address.Addr() {
			continue
		}
		i := slices.IndexFunc(routes, func(r netlink.Route) bool { return needs(r, of, static) })
		if i < 0 {
			continue
		}
		p.refuse("the route %s needs %s, which DHCP gave, and %s would not have it after the next boot: make that address static first, or choose --persist none",
			routeText(routes[i]), of, p.wishes.Bridge)
		return
	}
}

// needs says whether a route goes from an address or to a gateway that only this
// one reaches.
func needs(r netlink.Route, address netip.Prefix, static []netip.Prefix) bool {
	if r.Src != nil && addrOf(r.Src) == address.Addr() {
		return true
	}
	gateways := []netip.Addr{addrOf(r.Gw)}
	for _, hop := range r.MultiPath {
		gateways = append(gateways, addrOf(hop.Gw))
	}
	return slices.ContainsFunc(gateways, func(g netip.Addr) bool {
		return g.IsValid() && address.Contains(g) && !slices.ContainsFunc(static, func(s netip.Prefix) bool { return s.Contains(g) })
	})
}
