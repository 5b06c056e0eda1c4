// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
)

// AddHostRange keeps a range for the hosts' own bridges, and tells the router that
// all networks of the pool share. The router may be zero where the pool has one.
// It may lie anywhere in the subnet; in a range it is left out. A pool that does
// not exist is made, as [Operator.AddRange] does.
func (o *Operator) AddHostRange(ctx context.Context, pool string, r Range, router netip.Addr) (Outcome, error) {
	if err := checkRouter(r.Subnet, router); err != nil {
		return Outcome{}, err
	}
	var named netip.Addr // another router than the pool had
	change := func(p *events.Pool, g events.Guards, _ bool, out *Outcome) error {
		if containers, overlap := meeting(p.Ranges, r.IPRange); overlap {
			return errors.Newf("%s has addresses of %s, which containers get: choose other addresses, or take those away with ip-range --remove", r.IPRange, containers)
		}
		held := inTheWay(g, func(addr netip.Addr, a events.Allocation) bool { return r.Contains(addr) && a.Kind == events.Endpoint })
		if held != "" {
			return errors.Newf("%s cannot be kept for hosts, because containers have addresses of it: %s: stop them first, or choose other addresses", r.IPRange, held)
		}
		before := p.Layout
		if err := setRouter(p, g, router, out); err != nil {
			return err
		}
		if named = (netip.Addr{}); p.Router != before.Router {
			named = p.Router
		}
		p.HostRanges = add(p.HostRanges, r.IPRange)
		spans := projection.NewSubnet(p.Subnet).HostSpans(p.Layout)
		if spans.Total() == 0 {
			return errors.Newf("nothing of %s is left beside the router %s: name a longer range", r.IPRange, p.Router)
		}
		if projection.NewSubnet(p.Subnet).Assignable(p.Layout, netip.Prefix{}).Total() == 0 {
			return errors.Newf("%s would leave nothing of %s for containers: name a shorter range", r.IPRange, p.Subnet)
		}
		if r.Contains(p.Router) {
			out.Notes = append(out.Notes, fmt.Sprintf("%s is the router: it is left out of the range", p.Router))
		}
		if same(before, p.Layout) && p.Kept {
			out.Said = append(out.Said, fmt.Sprintf("nothing to do: %s of pool %s is kept for hosts already", r.IPRange, p.Title()))
			return nil
		}
		out.Said = append(out.Said, fmt.Sprintf("%s in pool %s is kept for hosts: %s in all, the router is %s", listed(p.HostRanges), p.Title(), count(spans.Total()), p.Router))
		return nil
	}
	out, err := o.layOut(ctx, layout{pool: pool, subnet: r.Subnet, making: true, change: change})
	if err == nil && out.Changed {
		err = o.noteLate(ctx, &out, r, named)
	}
	return out, err
}

// noteLate tells of containers that got an address, and of who got the router for
// itself, between the decision and the commit.
func (o *Operator) noteLate(ctx context.Context, out *Outcome, r Range, router netip.Addr) error {
	guards, _, err := o.log.Guards(ctx, events.Local, out.ID)
	if err != nil {
		return errors.Wrap(err, "the range is kept for hosts now, look whether containers got an address of it meanwhile")
	}
	if taken := guards.Held[router].Value; !taken.Admits(true) {
		out.Notes = append(out.Notes, fmt.Sprintf("the router %s is held by %s: it got that while this was decided, so %s", router, holders(taken), freeing(router, taken[0])))
	}
	late := inTheWay(guards, func(addr netip.Addr, a events.Allocation) bool {
		return r.Contains(addr) && addr != router && a.Kind == events.Endpoint
	})
	if late != "" {
		out.Notes = append(out.Notes, late+": it got that while this was decided, and keeps it until it stops")
	}
	return nil
}

// RemoveHostRange gives a range back to the pool, or what of it is kept for hosts.
// It is refused while a host holds an address of it. The router stays the pool's.
func (o *Operator) RemoveHostRange(ctx context.Context, pool string, r Range) (Outcome, error) {
	change := func(p *events.Pool, g events.Guards, _ bool, out *Outcome) error {
		if _, some := meeting(p.HostRanges, r.IPRange); !some {
			return errors.Mark(errors.Newf("no address of %s is kept for hosts in pool %s: those that are kept are %s", r.IPRange, p.Title(), orNone(listed(p.HostRanges))), ErrNotFound)
		}
		held := inTheWay(g, func(addr netip.Addr, a events.Allocation) bool { return r.Contains(addr) && a.Kind == events.Host })
		if held != "" {
			return errors.Newf("hosts have addresses of %s: %s: give them back with release-host first", r.IPRange, held)
		}
		var err error
		if p.HostRanges, err = without(p.HostRanges, r.IPRange); err != nil {
			return err
		}
		out.Said = append(out.Said, fmt.Sprintf("%s is kept for hosts in pool %s no more; what is left is %s", r.IPRange, p.Title(), orNone(listed(p.HostRanges))))
		return nil
	}
	return o.layOut(ctx, layout{pool: pool, subnet: r.Subnet, change: change})
}

// checkRouter refuses a router that cannot be one of a subnet.
func checkRouter(subnet netip.Prefix, router netip.Addr) error {
	switch {
	case !router.IsValid():
		return nil
	case !subnet.Contains(router):
		return invalid("--gateway %s is not in %s, and containers could not reach it: name the router's address in that subnet", router, subnet)
	case projection.NewSubnet(subnet).Reserved(router):
		return invalid("--gateway %s is %s of %s: name the router's own address", router, nobodys(router), subnet)
	}
	return nil
}

// freeing is what a person does to end a holding.
func freeing(addr netip.Addr, a events.Allocation) string {
	switch a.Kind {
	case events.Reserved:
		return fmt.Sprintf("unreserve it first with ipamlog unreserve %s", addr)
	case events.Host:
		return fmt.Sprintf("give it back first with ipamlog release-host --ip %s", addr)
	case events.Gateway, events.Auxiliary:
		return "remove that network first"
	case events.Endpoint:
	}
	return "stop that container first"
}

// setRouter gives a pool its router. Another one than it has takes its place when
// nobody holds it.
func setRouter(p *events.Pool, g events.Guards, router netip.Addr, out *Outcome) error {
	switch {
	case !router.IsValid() && !p.Router.IsValid():
		return invalid("name the router of %s with --gateway", p.Subnet)
	case !router.IsValid() || router == p.Router:
		return nil
	}
	// What is shared is held as a router already: several networks have it.
	if taken := g.Held[router].Value; !taken.Admits(true) {
		return errors.Newf("%s cannot be the router: it is held by %s, so %s, or name the router's own address", router, holders(taken), freeing(router, taken[0]))
	}
	if p.Router.IsValid() {
		if users := g.Held[p.Router].Value; len(users) > 0 {
			return errors.Newf("the router of pool %s is %s, and it is held by %s: remove the networks that use it first, or name --gateway %s", p.Title(), p.Router, holders(users), p.Router)
		}
		out.Notes = append(out.Notes, fmt.Sprintf("the router of pool %s was %s until now", p.Title(), p.Router))
	}
	p.Router = router
	return nil
}
