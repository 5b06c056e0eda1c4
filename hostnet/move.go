// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// moveUplink makes the uplink a port of the bridge, which takes over what the
// uplink has: addresses and routes. What passes here is what a person is logged
// in by, so it is one step, and nothing is printed in the middle of it.
type moveUplink struct {
	Uplink    string
	Bridge    string
	Port      bool            // whether it is a port already: what is left of a run that was killed
	Addresses []netlink.Addr  // the uplink's, in its order
	New       []netlink.Addr  // those of them that the bridge has not yet
	Routes    []netlink.Route // the direct ones first
}

func (s *moveUplink) String() string {
	var what []string
	for _, a := range s.Addresses {
		what = append(what, prefixOf(a).String())
	}
	const most = 3
	for _, r := range s.Routes[:min(most, len(s.Routes))] {
		what = append(what, "the route "+routeText(r))
	}
	if more := len(s.Routes) - most; more > 0 {
		what = append(what, fmt.Sprintf("%d more routes", more))
	}
	text := fmt.Sprintf("move %s into %s", s.Uplink, s.Bridge)
	if len(what) > 0 {
		text += ", with " + strings.Join(what, ", ")
	}
	return text
}

func routeText(r netlink.Route) string {
	text := "default"
	if !isDefault(r) {
		text = destination(r).String()
	}
	if r.Gw != nil {
		text += " via " + addrOf(r.Gw).String()
	}
	return text
}

// acts are in an order in which packets can always pass. Once the uplink is a
// port they come in by the bridge; they leave by the uplink, which a port can
// still do, until the bridge can send and the routes are moved. A route with a
// gateway is moved while both devices have what that is reached by, on the way
// back too.
func (s *moveUplink) acts(m *Machine) []act {
	var acts []act
	for _, a := range s.New {
		moved := onBridge(a, s.Uplink, s.Bridge)
		acts = append(acts, act{
			func() error { return m.addAddress(s.Bridge, moved) },
			func() error { return m.removeAddress(s.Bridge, moved) },
		})
	}
	nothing := func() error { return nil }
	leave := nothing
	if !s.Port {
		leave = func() error { return m.leaveBridge(s.Uplink) }
		acts = append(acts,
			act{func() error { return m.joinBridge(s.Uplink, s.Bridge) }, leave},
			act{func() error { return m.awaitCarrier(s.Uplink, s.Bridge) }, nothing})
	}
	direct := slices.IndexFunc(s.Routes, func(r netlink.Route) bool { return !isDirect(r) })
	if direct < 0 {
		direct = len(s.Routes)
	}
	for _, r := range s.Routes[:direct] {
		acts = append(acts, act{
			func() error { return m.addRoute(r, s.Bridge) },
			func() error { return m.removeRoute(r, s.Bridge) },
		})
	}
	for _, r := range s.Routes[direct:] {
		acts = append(acts, act{
			func() error { return m.moveRoute(r, s.Uplink, s.Bridge) },
			func() error { return m.moveRoute(r, s.Bridge, s.Uplink) },
		})
	}
	// On the way back it leaves before the routes do: answers to what it asks the
	// neighbours would else arrive on the bridge.
	acts = append(acts, act{nothing, leave})
	for _, r := range s.Routes[:direct] {
		acts = append(acts, act{
			func() error { return m.removeRoute(r, s.Uplink) },
			func() error { return m.addRoute(r, s.Uplink) },
		})
	}
	// The last first: with the first of a subnet the kernel drops those after it.
	for _, a := range slices.Backward(s.Addresses) {
		acts = append(acts, act{
			func() error { return m.removeAddress(s.Uplink, a) },
			func() error { return m.addAddress(s.Uplink, asWas(a)) },
		})
	}
	return acts
}

func (s *moveUplink) do(_ context.Context, m *Machine) error { return actAll(s.acts(m)) }

func (s *moveUplink) undo(_ context.Context, m *Machine) error { return undoAll(s.acts(m)) }

// lastingFlags are those of an address that whoever made it asked for.
const lastingFlags = unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_MCAUTOJOIN | unix.IFA_F_NODAD

// onBridge is an address of the uplink as the bridge gets it. Nobody else has
// it, for the uplink does, so that it need not be looked for as a duplicate
// before it is used.
func onBridge(a netlink.Addr, uplink, bridge string) netlink.Addr {
	a = asWas(a)
	if rest, ok := strings.CutPrefix(a.Label, uplink); ok {
		a.Label = bridge + rest
	}
	if prefixOf(a).Addr().Is6() {
		a.Flags |= unix.IFA_F_NODAD
	}
	return a
}

// asWas is an address as it can be added again. One without a broadcast address
// would otherwise get one.
func asWas(a netlink.Addr) netlink.Addr {
	a.Flags &= lastingFlags
	if a.Broadcast == nil {
		a.Broadcast = net.IPv4zero
	}
	return a
}
