// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ipamlog/ipamlog/engine"
)

// Plan is what is left to do on a machine.
type Plan struct {
	Uplink  string
	Bridge  string
	Network string // the Docker network's name
	MTU     int    // of the containers, in bytes
	Persist Persist
	// Steps are in their order; none: all is as wished.
	Steps []Step
	// Warnings are sentences on what stops nothing.
	Warnings []string

	done []Step // by Apply, and not undone
}

// NewPlan decides what to do so that the wishes come true, or refuses: its error
// names everything that stands in the way. It is a pure function.
func NewPlan(f Facts, w Wishes) (*Plan, error) {
	if err := w.check(); err != nil {
		return nil, err
	}
	uplink, err := f.uplink(w)
	if err != nil {
		return nil, cmp.Or(f.checkDriver(w), err)
	}
	p := &planner{facts: f, wishes: w, uplink: uplink, named: w.Uplink != "", plan: &Plan{Uplink: uplink.Name, Bridge: w.Bridge, Network: w.Network}}
	p.bridge, p.bridged = f.named(w.Bridge)
	p.chooseMTU()
	p.choosePersist()
	p.check()
	p.prepareBridge()
	p.makeNetwork()
	p.persist()
	p.moveUplink()
	p.routeByRouter()
	if len(p.refusals) > 0 {
		return nil, errors.Newf("%s", strings.Join(p.refusals, "; and "))
	}
	return p.plan, nil
}

// planner is a plan in the making.
type planner struct {
	facts    Facts
	wishes   Wishes
	uplink   Link
	named    bool // whether the user said which it is
	bridge   Link
	bridged  bool // whether there is a bridge yet
	plan     *Plan
	refusals []string
}

func (p *planner) refuse(format string, args ...any) {
	p.refusals = append(p.refusals, fmt.Sprintf(format, args...))
}

func (p *planner) warn(format string, args ...any) {
	p.plan.Warnings = append(p.plan.Warnings, fmt.Sprintf(format, args...))
}

func (p *planner) add(s Step) { p.plan.Steps = append(p.plan.Steps, s) }

func (p *planner) chooseMTU() {
	if p.wishes.MTU > p.uplink.MTU {
		p.refuse("%s carries packets of %d bytes at most: choose a --mtu up to that", p.uplink.Name, p.uplink.MTU)
	}
	if n, ok := p.dockerNetwork(); ok && p.wishes.MTU == 0 {
		_, _ = fmt.Sscan(n.Options[optionMTU], &p.wishes.MTU) // one that says nothing is compared as it is
	}
	if p.wishes.MTU == 0 {
		p.wishes.MTU = p.uplink.MTU
	}
	p.plan.MTU = p.wishes.MTU
}

// choosePersist follows whoever configures the uplink today.
func (p *planner) choosePersist() {
	_, scripts := p.facts.Files[ifcfgPath(p.uplink.Name)]
	_, ours := p.facts.Files[networkdPath(p.uplink.Name, "network")] // networkd may not have read it yet
	switch {
	case p.wishes.Persist != PersistAuto:
	case scripts:
		p.wishes.Persist = PersistIfcfg
	case ours || p.uplink.Networkd != "":
		p.wishes.Persist = PersistNetworkd
	default:
		p.wishes.Persist = PersistNone
		p.warn("neither network scripts nor systemd-networkd configure %s, so nothing is written for the next boot: choose a --persist, or run this again after a boot", p.uplink.Name)
	}
	p.plan.Persist = p.wishes.Persist
}

func (p *planner) prepareBridge() {
	switch {
	case !p.bridged:
		p.add(&makeBridge{Name: p.wishes.Bridge, Like: p.uplink.Name, MAC: p.uplink.MAC, MTU: p.uplink.MTU})
	case !p.bridge.Up:
		p.add(&bringUp{Link: p.bridge.Name})
	}
	p.nameLikeUplink()
	if !p.bridged || !holds(p.bridge, p.wishes.Address.Addr()) {
		p.add(&addAddress{Link: p.wishes.Bridge, Address: p.wishes.Address, Waits: !p.inBridge()})
	}
}

func (p *planner) makeNetwork() {
	if _, ok := p.dockerNetwork(); !ok {
		p.add(&createNetwork{Network: p.wishes.dockerNetwork()})
	}
}

func (p *planner) dockerNetwork() (engine.Network, bool) { return p.facts.network(p.wishes.Network) }

func (p *planner) moveUplink() {
	addresses, routes := addressesToMove(p.uplink), p.facts.routesToMove(p.uplink)
	waiting := p.waitingAddress()
	if p.inBridge() && len(addresses) == 0 && len(routes) == 0 && waiting == nil {
		return
	}
	fresh := slices.DeleteFunc(slices.Clone(addresses), func(a netlink.Addr) bool {
		return prefixOf(a).Addr() == p.wishes.Address.Addr() || (p.bridged && holds(p.bridge, prefixOf(a).Addr()))
	})
	p.add(&moveUplink{
		Uplink: p.uplink.Name, Bridge: p.wishes.Bridge, Port: p.inBridge(), Addresses: addresses, New: fresh, Routes: routes,
		Metrics: p.uplink.Metrics, Waiting: waiting,
	})
}

// waitingAddress is the one that [addAddress] puts on the bridge, or that a run
// which was killed left there; nil if it has all that it is to have. Where the
// uplink has it without a route, somebody else sees to that, and it moves as any.
func (p *planner) waitingAddress() *waitingAddress {
	var (
		host          = p.wishes.Address
		withoutRoutes = func(l Link) bool {
			return slices.ContainsFunc(l.Addresses, func(a netlink.Addr) bool {
				return prefixOf(a) == host && a.Flags&unix.IFA_F_NOPREFIXROUTE != 0
			})
		}
		routed = slices.ContainsFunc(p.facts.Routes, func(r netlink.Route) bool {
			return p.bridged && r.LinkIndex == p.bridge.Index && destination(r) == host.Masked()
		})
		added = !p.inBridge() && (!p.bridged || !holds(p.bridge, host.Addr()))
		left  = p.bridged && withoutRoutes(p.bridge) && !routed
	)
	if withoutRoutes(p.uplink) || (!added && !left) {
		return nil
	}
	return &waitingAddress{Address: host, Metric: p.uplink.Metrics[host.Addr()]}
}

func (p *planner) inBridge() bool { return p.bridged && p.uplink.Bridge == p.bridge.Index }

// routeByRouter gives a machine without any default route one.
func (p *planner) routeByRouter() {
	if _, ok := p.facts.defaultRoute(); !ok && p.wishes.Router.IsValid() {
		p.add(&addDefaultRoute{Link: p.wishes.Bridge, Router: p.wishes.Router})
	}
}

// afterwards are the addresses that last and the routes which the bridge has once
// all is done: beside the host's address, what it has or gets from its uplink.
func (p *planner) afterwards() (addresses []netlink.Addr, routes []netlink.Route) {
	links := []Link{p.uplink}
	if p.bridged {
		links = append(links, p.bridge)
	}
	known := []netip.Addr{p.wishes.Address.Addr()}
	for _, l := range links {
		for _, a := range addressesToMove(l) {
			if of := prefixOf(a).Addr(); lasts(a) && !slices.Contains(known, of) {
				known = append(known, of)
				addresses = append(addresses, a)
			}
		}
		routes = append(routes, p.facts.routesToMove(l)...)
	}
	return addresses, routes
}
