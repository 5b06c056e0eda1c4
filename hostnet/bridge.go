// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// makeBridge makes a bridge without ports and brings it up. It has the hardware
// address and the MTU of its uplink to be, and keeps both whatever containers
// join it; it forwards without spanning tree, thus at once.
type makeBridge struct {
	Name string
	Like string // the uplink's name
	MAC  net.HardwareAddr
	MTU  int
}

func (s *makeBridge) String() string {
	return fmt.Sprintf("make the bridge %s with the hardware address of %s, %s", s.Name, s.Like, s.MAC)
}

func (s *makeBridge) do(_ context.Context, m *Machine) error {
	_, err := actAll([]act{
		{func() error { return m.addBridge(s.Name, s.MAC) }, func() error { return m.removeLink(s.Name) }},
		{func() error { return m.setMTU(s.Name, s.MTU) }, func() error { return nil }},
		{func() error { return m.setUp(s.Name) }, func() error { return nil }},
	})
	return err
}

func (s *makeBridge) undo(_ context.Context, m *Machine) error { return m.removeLink(s.Name) }

// bringUp brings a device up.
type bringUp struct{ Link string }

func (s *bringUp) String() string                           { return "bring " + s.Link + " up" }
func (s *bringUp) do(_ context.Context, m *Machine) error   { return m.setUp(s.Link) }
func (s *bringUp) undo(_ context.Context, m *Machine) error { return m.setDown(s.Link) }

// addAddress puts the host's address on the bridge, as Docker demands it. Until
// the uplink is a port no packet may leave by the bridge: then the address comes
// without the route to its subnet, which moveUplink sees to.
type addAddress struct {
	Link    string
	Address netip.Prefix
	Waits   bool
}

func (s *addAddress) String() string { return fmt.Sprintf("put %s on %s", s.Address, s.Link) }

func (s *addAddress) do(_ context.Context, m *Machine) error {
	return m.addAddress(s.Link, s.address(), 0)
}

func (s *addAddress) undo(_ context.Context, m *Machine) error {
	return m.removeAddress(s.Link, s.address())
}

func (s *addAddress) address() netlink.Addr {
	if s.Waits {
		return waiting(s.Address)
	}
	return addressOf(s.Address)
}

// waiting is an address of the bridge without a route to its subnet.
func waiting(p netip.Prefix) netlink.Addr {
	a := addressOf(p)
	a.Flags = unix.IFA_F_NOPREFIXROUTE
	return a
}

// addressOf is an IPv4 address with the broadcast address that its subnet has.
func addressOf(p netip.Prefix) netlink.Addr {
	a := netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is4() && p.Bits() < 31 {
		a.Broadcast = slices.Clone(a.IP)
		for i := range a.Broadcast {
			a.Broadcast[i] |= ^a.Mask[i]
		}
	}
	return a
}

// addDefaultRoute gives the machine a default route.
type addDefaultRoute struct {
	Link   string
	Router netip.Addr
}

func (s *addDefaultRoute) String() string {
	return fmt.Sprintf("add the default route via %s on %s", s.Router, s.Link)
}

func (s *addDefaultRoute) do(_ context.Context, m *Machine) error {
	return m.addDefaultRoute(s.Link, s.Router)
}

func (s *addDefaultRoute) undo(_ context.Context, m *Machine) error {
	return m.removeDefaultRoute(s.Link, s.Router)
}
