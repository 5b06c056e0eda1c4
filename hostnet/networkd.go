// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// systemd-networkd takes for each device the first file, by name, that matches
// it; ours are to come before those that configured the uplink so far.
const (
	networkdDir    = "/etc/systemd/network"
	networkdPrefix = "00-ipamlog-"
)

func networkdPath(device, kind string) string {
	return filepath.Join(networkdDir, networkdPrefix+device+"."+kind)
}

func (p *planner) persistNetworkd() {
	if !p.facts.NetworkdDir {
		p.refuse("there is no %s, so systemd-networkd does not configure this machine: choose another --persist", networkdDir)
		return
	}
	own := networkdPath(p.uplink.Name, "network")
	if first := filepath.Base(p.uplink.Networkd); p.uplink.Networkd != "" && first < filepath.Base(own) {
		p.refuse("%s comes before %s, so systemd-networkd would not read that: rename it", p.uplink.Networkd, own)
	}
	p.refuseLease(networkdPath(p.wishes.Bridge, "network"))
	p.warnOfDropIns()
	p.wantFile(networkdPath(p.wishes.Bridge, "netdev"), p.netdev(), "Name="+p.wishes.Bridge, "Kind=bridge")
	p.wantFile(networkdPath(p.wishes.Bridge, "network"), p.bridgeNetwork(), "Name="+p.wishes.Bridge, "Address="+p.wishes.Address.String())
	text := fmt.Sprintf("[Match]\nName=%s\n\n[Link]\nMTUBytes=%d\n\n[Network]\nBridge=%s\nLinkLocalAddressing=no\n", p.uplink.Name, p.uplink.MTU, p.wishes.Bridge)
	vlans := p.vlans()
	if len(vlans) > 0 {
		text += strings.Join(vlans, "\n") + "\n"
	}
	p.wantFile(own, text, append(vlans, "Bridge="+p.wishes.Bridge)...)
}

// vlans are lines for the devices that stand on the uplink: networkd makes those
// that a file names, and ours hides the one that did.
func (p *planner) vlans() []string {
	var lines []string
	for _, l := range p.facts.Links {
		switch {
		case l.Parent != p.uplink.Index || l.Kind == "veth": // whose parent is its other end
		case l.Kind == "vlan":
			lines = append(lines, "VLAN="+l.Name)
		case !takesFrames(l):
			p.refuse("%s stands on %s, and would not do so after the next boot: choose --persist none, and write what is to be read then", l.Name, p.uplink.Name)
		}
	}
	slices.Sort(lines)
	return lines
}

func (p *planner) netdev() string {
	mac := p.uplink.MAC
	if p.bridged {
		mac = p.bridge.MAC
	}
	return fmt.Sprintf("[NetDev]\nName=%s\nKind=bridge\nMACAddress=%s\nMTUBytes=%d\n\n[Bridge]\nSTP=no\nForwardDelaySec=0\n", p.wishes.Bridge, mac, p.uplink.MTU)
}

// bridgeNetwork gives the bridge what it will have. networkd keeps the order of
// the addresses, of which the host's has to be the first; the others are ordered
// so that a second run writes the same.
func (p *planner) bridgeNetwork() string {
	addresses, routes := p.afterwards()
	lines := []string{"[Match]", "Name=" + p.wishes.Bridge, "", "[Network]", "Address=" + p.wishes.Address.String()}
	var further []netip.Prefix
	for _, a := range addresses {
		further = append(further, prefixOf(a))
	}
	slices.SortFunc(further, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	for _, a := range further {
		lines = append(lines, "Address="+a.String())
	}
	lines = append(lines, p.resolvingLines()...)
	var sections []string
	for _, r := range routes {
		if section := networkdRoute(r); section != "" {
			sections = append(sections, section)
		}
	}
	if _, ok := p.facts.defaultRoute(); !ok && p.wishes.Router.IsValid() {
		sections = append(sections, "\n[Route]\nGateway="+p.wishes.Router.String())
	}
	slices.Sort(sections)
	return strings.Join(append(lines, slices.Compact(sections)...), "\n") + "\n"
}

// networkdRoute is a route's section; empty for one that routers announce, or
// that somebody made who will make it again.
func networkdRoute(r netlink.Route) string {
	if r.Protocol == unix.RTPROT_RA || r.Protocol == unix.RTPROT_KERNEL || r.Type != unix.RTN_UNICAST || len(r.MultiPath) > 0 {
		return ""
	}
	text := "\n[Route]"
	if !isDefault(r) {
		text += "\nDestination=" + destination(r).String()
	}
	if r.Gw != nil {
		text += "\nGateway=" + addrOf(r.Gw).String()
	}
	if r.Src != nil {
		text += "\nPreferredSource=" + addrOf(r.Src).String()
	}
	if r.Priority != 0 && (r.Family != netlink.FAMILY_V6 || r.Priority != 1024) {
		text += fmt.Sprintf("\nMetric=%d", r.Priority)
	}
	if r.Table != unix.RT_TABLE_MAIN {
		text += fmt.Sprintf("\nTable=%d", r.Table)
	}
	if r.Flags&unix.RTNH_F_ONLINK != 0 {
		text += "\nGatewayOnLink=yes"
	}
	return text
}
