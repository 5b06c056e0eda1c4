// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
)

// AddRange lets containers get the addresses of a range. Ranges of a pool add up.
// A pool that does not exist is made: without a name, or with the name that pool
// is. The wish is about a pool's policy, which is fixed once it exists, and about
// exclusions, which add up too; it says nothing about ranges.
func (o *Operator) AddRange(ctx context.Context, pool string, r Range, wish actor.Wish) (Outcome, error) {
	if wish.Ranges != nil {
		return Outcome{}, invalid("--ipam-opt range= and --ip-start say the same: use --ip-start and --ip-end")
	}
	for _, x := range wish.Exclude {
		if !r.Subnet.Contains(x.From()) || !r.Subnet.Contains(x.To()) {
			return Outcome{}, invalid("--ipam-opt exclude=%s: it is not in %s", listed(wish.Exclude), r.Subnet)
		}
	}
	change := func(p *events.Pool, g events.Guards, fresh bool, out *Outcome) error {
		switch wished := wish.Policy(p.Policy); {
		case fresh:
			p.Policy = wished
		case wished != p.Policy:
			return errors.Newf("pool %s is %s, and its policy was fixed when it was made: leave out --ipam-opt, or use a pool with another name", out.Pool, p.Policy)
		}
		if hosts, overlap := meeting(p.HostRanges, r.IPRange); overlap {
			return errors.Newf("%s has addresses of %s, which are kept for the hosts' own bridges: choose other addresses, or give those back with host-range --remove", r.IPRange, hosts)
		}
		whole := len(p.Ranges) == 0 && len(g.Grants)+len(g.Held) > 0
		before := p.Layout
		p.Ranges, p.Exclude = add(p.Ranges, r.IPRange), add(p.Exclude, wish.Exclude...)
		alone := p.Layout
		alone.Ranges = add(nil, r.IPRange)
		if projection.NewSubnet(p.Subnet).Assignable(alone, netip.Prefix{}).Total() == 0 {
			return errors.Newf("none of %s could be given out: all of it is excluded, the router, or beyond the first 2^63 addresses of %s", r.IPRange, p.Subnet)
		}
		if p.Router.IsValid() && r.Contains(p.Router) {
			out.Notes = append(out.Notes, fmt.Sprintf("%s is the router of the pool: it is left out of the range", p.Router))
		}
		if same(before, p.Layout) && p.Kept {
			out.Said = append(out.Said, fmt.Sprintf("nothing to do: containers get %s of pool %s already", r.IPRange, p.Title()))
			return nil
		}
		if whole {
			out.Notes = append(out.Notes, fmt.Sprintf("until now containers got all of %s; those that hold an address beside the ranges keep it", p.Subnet))
		}
		out.Said = append(out.Said, given(*p))
		return nil
	}
	return o.layOut(ctx, layout{pool: pool, subnet: r.Subnet, making: true, change: change})
}

// RemoveRange takes a range away again, or what of it containers get. Who holds an
// address keeps it. When no range is left, containers would get the whole subnet:
// that must be forced where the pool is in use.
func (o *Operator) RemoveRange(ctx context.Context, pool string, r Range, force bool) (Outcome, error) {
	change := func(p *events.Pool, g events.Guards, _ bool, out *Outcome) error {
		if _, some := meeting(p.Ranges, r.IPRange); !some {
			return errors.Mark(errors.Newf("no range of pool %s has an address of %s: its ranges are %s", p.Title(), r.IPRange, orNone(listed(p.Ranges))), ErrNotFound)
		}
		left, err := without(p.Ranges, r.IPRange)
		if err != nil {
			return err
		}
		used := len(g.Grants) > 0 || len(g.Held) > 0 || len(p.HostRanges) > 0
		if len(left) == 0 && used && !force {
			return errors.Newf("%s is all that containers get in pool %s, and without a range they get all of %s: add another range first, or use --force", r.IPRange, p.Title(), p.Subnet)
		}
		p.Ranges = left
		if used || len(left) > 0 {
			out.Said = append(out.Said, given(*p))
		}
		return nil
	}
	return o.layOut(ctx, layout{pool: pool, subnet: r.Subnet, change: change})
}

// given says what containers get of a pool.
func given(p events.Pool) string {
	what := "all of " + p.Subnet.String()
	if len(p.Ranges) > 0 {
		what = listed(p.Ranges)
	}
	total := projection.NewSubnet(p.Subnet).Assignable(p.Layout, netip.Prefix{}).Total()
	return fmt.Sprintf("containers get %s in pool %s: %s in all", what, p.Title(), count(total))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
