// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"net"
	"net/netip"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The changes asked of the kernel. One that finds its work done returns
// errAlready: a run that was killed may have done it.

func (m *Machine) addBridge(name string, mac net.HardwareAddr) error {
	bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
	bridge.Name, bridge.HardwareAddr = name, mac
	return m.ask("make the bridge", nil, func() error { return m.handle.LinkAdd(bridge) })
}

func (m *Machine) removeLink(name string) error {
	return m.onLink(name, "remove "+name, nil, m.handle.LinkDel)
}

func (m *Machine) setMTU(name string, mtu int) error {
	return m.onLink(name, "set the MTU of "+name, nil, func(l netlink.Link) error { return m.handle.LinkSetMTU(l, mtu) })
}

func (m *Machine) setHardwareAddress(name string, mac net.HardwareAddr) error {
	return m.onLink(name, "set the hardware address of "+name, nil, func(l netlink.Link) error {
		return announcing(name, func() error { return m.handle.LinkSetHardwareAddr(l, mac) })
	})
}

func (m *Machine) setUp(name string) error {
	return m.onLink(name, "bring up "+name, nil, m.handle.LinkSetUp)
}

func (m *Machine) setDown(name string) error {
	return m.onLink(name, "take down "+name, nil, m.handle.LinkSetDown)
}

func (m *Machine) joinBridge(port, bridge string) error {
	return m.onLink(port, "make "+port+" a port of "+bridge, nil, func(l netlink.Link) error {
		master, err := m.handle.LinkByName(bridge)
		if err != nil {
			return err
		}
		return m.handle.LinkSetMaster(l, master)
	})
}

func (m *Machine) leaveBridge(port string) error {
	return m.onLink(port, "take "+port+" out of its bridge", nil, m.handle.LinkSetNoMaster)
}

// awaitCarrier waits until a bridge can send over its new port, which the kernel
// sees to a little after the port has joined. One that cannot will not be able to
// by waiting longer: the cable may be unplugged.
func (m *Machine) awaitCarrier(port, bridge string) error {
	const enough, step = 2 * time.Second, 5 * time.Millisecond
	for range enough / step {
		p, err := m.handle.LinkByName(port)
		if err != nil {
			return errors.Wrapf(err, "look at %s", port)
		}
		b, err := m.handle.LinkByName(bridge)
		if err != nil {
			return errors.Wrapf(err, "look at %s", bridge)
		}
		if b.Attrs().OperState == netlink.OperUp || p.Attrs().OperState == netlink.OperDown || p.Attrs().OperState == netlink.OperLowerLayerDown {
			break
		}
		time.Sleep(step)
	}
	return nil
}

// turnRoute has the ways of a route that are over one device go over another.
func (m *Machine) turnRoute(r netlink.Route, from, to string) error {
	return m.onLink(from, "move the route "+routeText(r)+" to "+to, nil, func(old netlink.Link) error {
		l, err := m.handle.LinkByName(to)
		if err != nil {
			return err
		}
		after := over(r, old.Attrs().Index, l.Attrs().Index)
		return m.handle.RouteReplace(&after)
	})
}

// addRoute has a route, which is not by several ways, go over a device too.
func (m *Machine) addRoute(r netlink.Route, link string) error {
	return m.onLink(link, "add the route "+routeText(r)+" over "+link, unix.EEXIST, func(l netlink.Link) error {
		r := over(r, r.LinkIndex, l.Attrs().Index)
		return m.handle.RouteAppend(&r)
	})
}

func (m *Machine) removeRoute(r netlink.Route, link string) error {
	return m.onLink(link, "remove the route "+routeText(r)+" over "+link, unix.ESRCH, func(l netlink.Link) error {
		r := over(r, r.LinkIndex, l.Attrs().Index)
		return m.handle.RouteDel(&r)
	})
}

func (m *Machine) addDefaultRoute(link string, router netip.Addr) error {
	return m.onLink(link, "add the default route", nil, func(l netlink.Link) error {
		return m.handle.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: router.AsSlice(), Protocol: unix.RTPROT_STATIC})
	})
}

func (m *Machine) removeDefaultRoute(link string, router netip.Addr) error {
	return m.onLink(link, "remove the default route", unix.ESRCH, func(l netlink.Link) error {
		return m.handle.RouteDel(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: router.AsSlice(), Protocol: unix.RTPROT_STATIC})
	})
}

// noRoutes finds out whether all routes that there are to move are gone from a
// device: somebody may have made one meanwhile, or it cannot be removed.
func (m *Machine) noRoutes(link string) error {
	l, err := m.handle.LinkByName(link)
	if err != nil {
		return errors.Wrapf(err, "look at %s", link)
	}
	routes, err := m.routes()
	if err != nil {
		return err
	}
	if left := (Facts{Routes: routes}).routesToMove(Link{Index: l.Attrs().Index}); len(left) > 0 {
		return errors.Newf("the route %s is still over %s: have nothing else change routes, and run this again", routeText(left[0]), link)
	}
	return nil
}

// over is a route whose hops over one device go over another. The flags are but
// those that can be asked for: others tell of a state.
func over(r netlink.Route, from, to int) netlink.Route {
	r.Flags &= unix.RTNH_F_ONLINK
	if r.LinkIndex == from {
		r.LinkIndex = to
	}
	hops := r.MultiPath
	r.MultiPath = nil
	for _, h := range hops {
		hop := *h
		hop.Flags &= unix.RTNH_F_ONLINK
		if hop.LinkIndex == from {
			hop.LinkIndex = to
		}
		r.MultiPath = append(r.MultiPath, &hop)
	}
	return r
}

func (m *Machine) onLink(name, what string, enough error, f func(netlink.Link) error) error {
	return m.ask(what, enough, func() error {
		l, err := m.handle.LinkByName(name)
		if err != nil {
			return err
		}
		return f(l)
	})
}

func (m *Machine) ask(what string, enough error, f func() error) error {
	err := m.change(what)
	if err == nil {
		err = f()
	}
	if enough != nil && errors.Is(err, enough) {
		return errAlready
	}
	return errors.Wrap(err, what)
}
