// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"
)

// network is what docker network inspect says of one. Containers are those that
// run on the host that was asked, and no other.
type network struct {
	Name, Scope, Driver string
	IPAM                struct {
		Driver  string
		Options map[string]string
		Config  []ipamConfig
	}
	Containers map[string]struct {
		Name, EndpointID, MacAddress, IPv4Address, IPv6Address string
	}
}

type ipamConfig struct {
	Subnet, IPRange, Gateway string
	AuxiliaryAddresses       map[string]string
}

// inspected is a pool that networks share, as far as they were read.
type inspected struct {
	Pool
	held   holdings
	ranges netipx.IPSetBuilder
	whole  bool // a network uses all of it
}

// placeOf tells pools apart.
type placeOf struct {
	space, name string
	subnet      netip.Prefix
}

// inspection gathers pools out of networks.
type inspection struct {
	pools map[placeOf]*inspected
	w     warnings
}

// The names under which a bridge network is told the real router, while its
// gateway is the bridge's own address.
var routerNames = []string{"DefaultGatewayIPv4", "DefaultGatewayIPv6"}

func readNetworks(list []network) (Dump, error) {
	in := inspection{pools: map[placeOf]*inspected{}}
	for _, n := range list {
		in.take(n)
	}
	dump := Dump{Source: Docker}
	for _, p := range in.pools {
		if !p.whole {
			p.Ranges = without(built(&p.ranges), ends(p.Subnet), setOf(p.Router)).Ranges()
		}
		p.Held = p.held.sorted()
		dump.Pools = append(dump.Pools, p.Pool)
	}
	sortPools(dump.Pools)
	in.w.overlaps(dump.Pools)
	dump.Warnings = in.w.list
	return dump, nil
}

func (in *inspection) take(n network) {
	space := "local"
	if n.Scope == "swarm" || n.Scope == "global" {
		space = "global"
	}
	var pools []*inspected
	for _, config := range n.IPAM.Config {
		subnet, err := parseSubnet(config.Subnet)
		if err != nil {
			in.w.add("network %s: one of its subnets is passed over, as %s", n.Name, err)
			continue
		}
		// A network of ipamlog's own says which pool it has joined.
		p := in.pool(placeOf{space, n.IPAM.Options["pool"], subnet})
		in.divide(p, n, config)
		pools = append(pools, p)
	}
	if len(pools) == 0 {
		in.w.add("network %s has no subnet and is passed over", n.Name)
		return
	}
	for _, id := range slices.Sorted(maps.Keys(n.Containers)) {
		c := n.Containers[id]
		for _, text := range []string{c.IPv4Address, c.IPv6Address} {
			if text == "" {
				continue
			}
			note := "container " + id + ", network " + n.Name
			in.hold(pools, n, text, Holding{Kind: Endpoint, Endpoint: c.Name, MAC: mac(c.MacAddress), Note: note})
		}
	}
}

func (in *inspection) pool(place placeOf) *inspected {
	p := in.pools[place]
	if p == nil {
		p = &inspected{Pool: Pool{Space: place.space, Name: place.name, Subnet: place.subnet}, held: holdings{}}
		in.pools[place] = p
	}
	return p
}

// divide reads what a network says of one of its subnets.
func (in *inspection) divide(p *inspected, n network, config ipamConfig) {
	if config.IPRange == "" {
		p.whole = true
	} else if r, err := parseSubnet(config.IPRange); err != nil || r.Bits() < p.Subnet.Bits() || !p.Subnet.Contains(r.Addr()) {
		in.w.add("network %s: its range %q is not in %s and is left out", n.Name, config.IPRange, p.Subnet)
		p.whole = true
	} else {
		p.ranges.AddPrefix(r)
	}
	own := []*inspected{p}
	note := "network " + n.Name
	if config.Gateway != "" {
		a := in.hold(own, n, config.Gateway, Holding{Kind: Gateway, Note: note})
		if n.Driver == "macvlan" || n.Driver == "ipvlan" {
			in.route(p, n, a)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(config.AuxiliaryAddresses)) {
		a := in.hold(own, n, config.AuxiliaryAddresses[name], Holding{Kind: Auxiliary, Endpoint: name, Note: note})
		if slices.Contains(routerNames, name) {
			in.route(p, n, a)
		}
	}
}

// route takes an address as the router of the pool, unless another network has
// named another.
func (in *inspection) route(p *inspected, n network, a netip.Addr) {
	switch {
	case !a.IsValid() || a == p.Router:
	case p.Router.IsValid():
		in.w.add("%s: network %s has the router %s, but another network %s, which is taken", p.Subnet, n.Name, a, p.Router)
	default:
		p.Router = a
	}
}

// hold gives an address to the one of the pools that has it, and returns it; where
// none has, it is not valid.
func (in *inspection) hold(pools []*inspected, n network, text string, h Holding) netip.Addr {
	bare, _, _ := strings.Cut(text, "/")
	a, err := parseAddr(bare)
	if err != nil {
		in.w.add("network %s: the %s address is passed over, as %s", n.Name, h.Kind, err)
		return netip.Addr{}
	}
	for _, p := range pools {
		if !p.Subnet.Contains(a) {
			continue
		}
		h.Address = a
		if before, ok := p.held[a]; !ok {
			p.held[a] = h
		} else if before != h && (before.Kind == Endpoint || h.Kind == Endpoint) {
			in.w.add("%s: %s is held by %s and by %s, imported as the first's", p.Subnet, a, before.who(), h.who())
		}
		return a
	}
	in.w.add("network %s: %s is in none of its subnets and is not imported", n.Name, a)
	return netip.Addr{}
}

// who is a holder's name for a sentence.
func (h Holding) who() string {
	if h.Kind == Endpoint {
		return h.Endpoint
	}
	return "the " + string(h.Kind) + " of " + h.Note
}

func mac(text string) string {
	if m, err := net.ParseMAC(text); err == nil {
		return m.String()
	}
	return ""
}
