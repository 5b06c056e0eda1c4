// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/vishvananda/netlink"

	"github.com/ipamlog/ipamlog/engine"
)

// check finds what stands in the way, and what is better known beforehand.
func (p *planner) check() {
	p.checkUplink()
	p.checkBridge()
	p.checkAddress()
	p.checkNetwork()
	p.checkManagers()
}

func (p *planner) checkUplink() {
	name := p.uplink.Name
	switch {
	case name == p.wishes.Bridge:
		p.refuse("%s cannot be its own uplink: choose another --bridge or --uplink", name)
	case p.uplink.Wireless:
		p.refuse("%s is wireless, and access points do not take frames of others than the station itself: choose a wired --uplink", name)
	case !p.uplink.Ethernet || p.uplink.Kind == "ipvlan":
		p.refuse("%s is not an Ethernet device: choose another --uplink", name)
	case p.uplink.Kind == bridgeDriver:
		p.refuse("%s is a bridge, which cannot be a port of another: use it with --bridge %[1]s and one of its ports as --uplink, or choose another --uplink", name)
	case p.bridged && p.facts.standsOn(p.uplink, p.bridge):
		p.refuse("%s stands on the bridge %s, and cannot be its uplink: choose another --bridge or --uplink", name, p.bridge.Name)
	case p.uplink.Bridge != 0 && !p.inBridge():
		other, _ := p.facts.indexed(p.uplink.Bridge)
		if other.Kind != bridgeDriver {
			p.refuse("%s belongs to %s: choose --uplink %[2]s", name, other.Name)
			break
		}
		p.refuse("%s is a port of %s already: use that with --bridge %[2]s, or choose another --uplink", name, other.Name)
	}
	for _, l := range p.facts.Links {
		if l.Parent == p.uplink.Index && takesFrames(l) && !p.inBridge() {
			p.refuse("%s stands on %s, which then cannot join a bridge: remove it, or choose another --uplink", l.Name, name)
		}
	}
	for _, n := range p.facts.Networks {
		if takesFrames(Link{Kind: n.Driver}) && n.Options[optionParent] == name && !p.inBridge() {
			p.refuse("the Docker network %s (%s) stands on %s, which then cannot join a bridge: remove it with `docker network rm %[1]s`, or choose another --uplink", n.Name, n.Driver, name)
		}
	}
	for _, id := range p.uplink.Nexthops {
		p.refuse("%s has the nexthop object %d, and routes by such cannot be moved: make them with plain gateways and remove it with `ip nexthop del id %[2]d`, or choose another --uplink", name, id)
	}
	if !p.uplink.Up {
		p.warn("%s is down: bring it up with `ip link set %[1]s up`", name)
	}
}

// takesFrames says whether a device takes each frame of the one it stands on
// before a bridge can.
func takesFrames(l Link) bool {
	return slices.Contains([]string{"macvlan", "ipvlan", "macvtap"}, l.Kind)
}

// standsOn says whether a device is a part of what stands on another, such as a
// VLAN of it. The parent of a veth is its other end, which may be elsewhere.
func (f Facts) standsOn(l, on Link) bool {
	for range f.Links { // whatever the facts say, this comes to an end
		parent, ok := f.indexed(l.Parent)
		if l.Parent == 0 || l.Kind == "veth" || !ok {
			return false
		}
		if parent.Index == on.Index {
			return true
		}
		l = parent
	}
	return false
}

func (p *planner) checkBridge() {
	if !p.bridged {
		return
	}
	switch {
	case p.bridge.Kind != bridgeDriver:
		p.refuse("%s exists and is not a bridge: choose another --bridge", p.bridge.Name)
	case !p.inBridge() && !p.madeByDocker() && len(p.facts.ports(p.bridge)) > 0:
		p.refuse("the bridge %s has other ports (%s), which %s would be joined with: choose another --bridge",
			p.bridge.Name, nameList(p.facts.ports(p.bridge)), p.uplink.Name)
	}
	for _, a := range p.bridge.Addresses {
		switch of := prefixOf(a); {
		case of == p.wishes.Address:
			return
		case p.wishes.Address.Masked().Contains(of.Addr()):
			p.refuse("%s has %s before %s, and Docker would take it away: use it with --ip %s, or remove it", p.bridge.Name, of, p.wishes.Address, of.Addr())
			return
		}
	}
}

func nameList(links []Link) string {
	var names []string
	for _, l := range links {
		names = append(names, l.Name)
	}
	return strings.Join(names, ", ")
}

func (p *planner) checkAddress() {
	var (
		address = p.wishes.Address
		subnet  = address.Masked()
		first   netip.Addr // of the uplink's in the subnet
		others  bool       // whether the uplink has IPv4 addresses of other subnets alone
	)
	for _, l := range p.facts.Links {
		ours := l.Index == p.uplink.Index || (p.bridged && l.Index == p.bridge.Index)
		for _, a := range l.Addresses {
			of := prefixOf(a)
			switch {
			case !ours && of.Addr() == address.Addr():
				p.refuse("%s has %s: remove it there, or choose another --ip", l.Name, address.Addr())
			case !ours && of.Addr().Is4() && l.Bridge == 0 && of.Masked() == subnet:
				p.warn("%s is in %s too, and answers of this machine may go out by it", l.Name, subnet)
			case l.Index == p.uplink.Index && of.Masked() != subnet && of.Overlaps(subnet):
				p.refuse("%s has %s, and the addresses of hosts are in %s: give both the same subnet, here or with host-range", l.Name, of, subnet)
			case l.Index == p.uplink.Index && of.Masked() == subnet && !first.IsValid():
				first = of.Addr()
			case l.Index == p.uplink.Index && of.Addr().Is4() && of.Masked() != subnet:
				others = true
			}
			if ours && of.Addr().Is4() && !lasts(a) {
				p.warn("%s was given %s by DHCP, and the client may put it back there: make it a static address", l.Name, of.Addr())
			}
		}
	}
	switch {
	case first.IsValid() && first != address.Addr():
		p.warn("new connections of this machine will come from %s, no longer from %s, which stays on %s: keep it from containers with `ipamlog reserve %[2]s`",
			address.Addr(), first, p.wishes.Bridge)
	case !first.IsValid() && others && !p.named:
		p.refuse("%s, by which the default route leads, has no address in %s: name the device towards that with --uplink, %[1]s if it is so", p.uplink.Name, subnet)
	}
}

// lasts says whether an address does not expire: its lifetime in seconds is then
// the largest there is, or not told.
func lasts(a netlink.Addr) bool {
	const forever = 1<<32 - 1
	return a.ValidLft == 0 || uint32(a.ValidLft) == forever
}

func (p *planner) checkNetwork() {
	want := p.wishes.dockerNetwork()
	have, ok := p.dockerNetwork()
	if ok {
		if why := difference(want, have); why != "" {
			p.refuse("%s", otherNetwork(want, why))
		}
		return
	}
	for _, n := range p.facts.Networks {
		if n.Driver == bridgeDriver && n.Options[optionBridge] == p.wishes.Bridge {
			p.refuse("the Docker network %s is on %s already: take it with --name %[1]s, or choose another --bridge", n.Name, p.wishes.Bridge)
		}
	}
	// A managed plugin is named with its tag, and has no socket of that name.
	if !strings.Contains(want.IPAM.Driver, ":") && !slices.Contains(p.facts.Drivers, want.IPAM.Driver) {
		p.refuse("no plugin %s answers Docker here: start `ipamlog serve` first", want.IPAM.Driver)
	}
}

func otherNetwork(want engine.Network, why string) string {
	return fmt.Sprintf("there is a Docker network %s with %s: remove it with `docker network rm %[1]s`, or choose another --name", want.Name, why)
}

// checkDriver refuses what stands in the way whatever the uplink is: a network of
// another driver may be why nobody can tell that.
func (f Facts) checkDriver(w Wishes) error {
	want := w.dockerNetwork()
	have, ok := f.network(w.Network)
	if !ok || (have.Driver == want.Driver && have.IPAM.Driver == want.IPAM.Driver) {
		return nil
	}
	return errors.Newf("%s", otherNetwork(want, difference(want, have)))
}

// difference is in what a Docker network is another than the one wanted; empty:
// it is the one.
func difference(want, have engine.Network) string {
	if have.Driver != want.Driver {
		return "driver " + have.Driver
	}
	if have.IPAM.Driver != want.IPAM.Driver {
		return "IPAM driver " + have.IPAM.Driver
	}
	if len(have.IPAM.Pools) != 1 {
		return strconv.Itoa(len(have.IPAM.Pools)) + " subnets"
	}
	w, h := want.IPAM.Pools[0], have.IPAM.Pools[0]
	switch {
	case h.Subnet != w.Subnet:
		return fmt.Sprintf("subnet %s, not %s", h.Subnet, w.Subnet)
	case h.Range.IsValid() && h.Range != w.Subnet:
		return fmt.Sprintf("range %s", h.Range)
	case h.Gateway != w.Gateway:
		return fmt.Sprintf("gateway %s, not %s", h.Gateway, w.Gateway)
	case h.Auxiliary[auxiliaryRouter] != w.Auxiliary[auxiliaryRouter]:
		return fmt.Sprintf("router %s, not %s", orNone(h.Auxiliary[auxiliaryRouter]), orNone(w.Auxiliary[auxiliaryRouter]))
	case have.IPAM.Options[optionPool] != want.IPAM.Options[optionPool]:
		return fmt.Sprintf("pool %q, not %q", have.IPAM.Options[optionPool], want.IPAM.Options[optionPool])
	}
	for _, option := range slices.Sorted(maps.Keys(want.Options)) {
		if have.Options[option] != want.Options[option] {
			return fmt.Sprintf("%s=%s, not %s", option, have.Options[option], want.Options[option])
		}
	}
	return ""
}

func orNone(a netip.Addr) string {
	if !a.IsValid() {
		return "none"
	}
	return a.String()
}

func (p *planner) checkManagers() {
	bridge := p.wishes.Bridge
	if p.uplink.NetworkManager {
		p.warn("NetworkManager manages %s and may undo this: tell it not to with `nmcli device set %[1]s managed no` and `nmcli device set %s managed no`", p.uplink.Name, bridge)
	}
	if p.uplink.Networkd != "" && p.wishes.Persist != PersistNetworkd {
		p.warn("systemd-networkd manages %s by %s and may undo this: choose --persist networkd", p.uplink.Name, filepath.Base(p.uplink.Networkd))
	}
}

// holds says whether an address is on a device, with whatever prefix.
func holds(l Link, address netip.Addr) bool {
	for _, a := range l.Addresses {
		if prefixOf(a).Addr() == address {
			return true
		}
	}
	return false
}
