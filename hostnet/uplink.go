// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// uplink is the device towards the shared layer 2.
func (f Facts) uplink(w Wishes) (Link, error) {
	if w.Uplink != "" {
		if l, ok := f.named(w.Uplink); ok {
			return l, nil
		}
		return Link{}, errors.Newf("there is no device %s: name one of %s with --uplink", w.Uplink, strings.Join(f.names(), ", "))
	}
	route, ok := f.defaultRoute()
	l, known := f.indexed(route.LinkIndex)
	if bridge, made := f.named(w.Bridge); made && bridge.Kind == bridgeDriver && (!ok || l.Index == bridge.Index) {
		return f.uplinkOf(bridge)
	}
	switch {
	case !ok || !known:
		return Link{}, errors.Newf("there is no default route that would tell the uplink: name one of %s with --uplink", strings.Join(f.names(), ", "))
	case l.Kind == bridgeDriver:
		return Link{}, errors.Newf("the default route leads over the bridge %s: use that with --bridge %[1]s, or name a device with --uplink", l.Name)
	}
	return l, nil
}

// uplinkOf tells the uplink of a bridge from the containers' ports: the bridge
// has its hardware address.
func (f Facts) uplinkOf(bridge Link) (Link, error) {
	ports := f.ports(bridge)
	for _, p := range ports {
		if bytes.Equal(p.MAC, bridge.MAC) {
			return p, nil
		}
	}
	return Link{}, errors.Newf("the bridge %s does not tell which device is its uplink: name that with --uplink", bridge.Name)
}

// names of the devices that may be an uplink.
func (f Facts) names() []string {
	var names []string
	for _, l := range f.Links {
		if l.Ethernet && l.Kind != bridgeDriver {
			names = append(names, l.Name)
		}
	}
	return names
}

// addressesToMove are those of the uplink, but for those that each device has by
// itself, in the order in which they were made: the kernel lists the newest IPv6
// address first.
func addressesToMove(uplink Link) []netlink.Addr {
	var four, six []netlink.Addr
	for _, a := range uplink.Addresses {
		switch of := prefixOf(a).Addr(); {
		case of.Is4():
			four = append(four, a)
		case !of.IsLinkLocalUnicast():
			six = append(six, a)
		}
	}
	slices.Reverse(six)
	return append(four, six...)
}

// routesToMove are those over the uplink that do not come and go with its
// addresses: the direct ones before those that need a gateway to be reachable.
func (f Facts) routesToMove(uplink Link) []netlink.Route {
	// An address may ask the kernel not to make its route; whoever made that
	// instead has it look the same.
	var routed []netip.Prefix
	for _, a := range uplink.Addresses {
		if a.Flags&unix.IFA_F_NOPREFIXROUTE == 0 {
			routed = append(routed, prefixOf(a).Masked())
		}
	}
	var routes []netlink.Route
	for _, r := range f.Routes {
		over := r.LinkIndex == uplink.Index || slices.ContainsFunc(r.MultiPath, func(n *netlink.NexthopInfo) bool { return n.LinkIndex == uplink.Index })
		if !over || (r.Protocol == unix.RTPROT_KERNEL && (slices.Contains(routed, destination(r)) || ofEveryDevice(r))) {
			continue
		}
		routes = append(routes, r)
	}
	needy := slices.DeleteFunc(slices.Clone(routes), isDirect)
	return append(slices.DeleteFunc(routes, func(r netlink.Route) bool { return !isDirect(r) }), needy...)
}

func isDirect(r netlink.Route) bool { return r.Gw == nil && r.Via == nil && len(r.MultiPath) == 0 }

func ofEveryDevice(r netlink.Route) bool {
	d := destination(r)
	return d.Addr().Is6() && (d.Addr().IsLinkLocalUnicast() || d.Addr().IsMulticast())
}

// destination is the subnet a route leads to; zero length for a default route.
func destination(r netlink.Route) netip.Prefix {
	if isDefault(r) {
		if r.Family == netlink.FAMILY_V6 {
			return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	length, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(addrOf(r.Dst.IP), length)
}
