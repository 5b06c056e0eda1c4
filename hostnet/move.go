// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
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
	Port      bool                  // whether it is a port already: what is left of a run that was killed
	Addresses []netlink.Addr        // the uplink's, in its order
	New       []netlink.Addr        // those of them that the bridge has not yet
	Routes    []netlink.Route       // the direct ones first
	Metrics   map[netip.Addr]uint32 // of those of the addresses that have one
	Waiting   *waitingAddress       // nil: the bridge has its address for good

	done []act
}

// waitingAddress is the host's address on the bridge, which waits there for the
// route to its subnet, and for the metric which that is to have.
type waitingAddress struct {
	Address netip.Prefix
	Metric  uint32
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
// back too. The IPv4 addresses come after the uplink, as their routes do with
// them; before the first of all others in its subnet has come for good, none may,
// for the kernel would drop it with that.
func (s *moveUplink) acts(m *Machine) []act {
	var acts, four []act
	for _, a := range s.New {
		moved, metric := onBridge(a, s.Uplink, s.Bridge), s.Metrics[prefixOf(a).Addr()]
		add := act{
			func() error { return m.addAddress(s.Bridge, moved, metric) },
			func() error { return m.removeAddress(s.Bridge, moved) },
		}
		if prefixOf(a).Addr().Is4() {
			four = append(four, add)
		} else {
			acts = append(acts, add)
		}
	}
	nothing := func() error { return nil }
	leave := nothing
	if !s.Port {
		leave = func() error { return m.leaveBridge(s.Uplink) }
		acts = append(acts,
			act{func() error { return m.joinBridge(s.Uplink, s.Bridge) }, leave},
			act{func() error { return m.awaitCarrier(s.Uplink, s.Bridge) }, nothing})
	}
	if w := s.Waiting; w != nil {
		now, then := waiting(w.Address), addressOf(w.Address)
		acts = append(acts,
			act{
				func() error { return m.removeAddress(s.Bridge, now) },
				func() error { return m.addAddress(s.Bridge, now, 0) },
			}, act{
				func() error { return m.addAddress(s.Bridge, then, w.Metric) },
				func() error { return m.removeAddress(s.Bridge, then) },
			})
	}
	acts = append(acts, four...)
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
		if len(r.MultiPath) > 0 {
			acts = append(acts, act{
				func() error { return m.turnRoute(r, s.Uplink, s.Bridge) },
				func() error { return m.turnRoute(r, s.Bridge, s.Uplink) },
			})
			continue
		}
		acts = append(acts, act{
			func() error { return m.addRoute(r, s.Bridge) },
			func() error { return m.removeRoute(r, s.Bridge) },
		}, act{
			func() error { return m.removeRoute(r, s.Uplink) },
			func() error { return m.addRoute(r, s.Uplink) },
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
			func() error { return m.addAddress(s.Uplink, asWas(a), s.Metrics[prefixOf(a).Addr()]) },
		})
	}
	return append(acts, act{func() error { return m.noRoutes(s.Uplink) }, nothing})
}

func (s *moveUplink) do(_ context.Context, m *Machine) (err error) {
	s.done, err = actAll(s.acts(m))
	return err
}

func (s *moveUplink) undo(context.Context, *Machine) error { return undoAll(s.done) }

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
