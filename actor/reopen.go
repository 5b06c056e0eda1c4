// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"context"
	"net/netip"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// reopen opens a grant of this host again, from what its PoolID tells, because
// Docker still uses it: it was closed by mistake or in a take-over, or the store is
// older than the network. What its closing took from the network's gateway and
// auxiliary addresses comes back with it, in the same commit.
func (h *Host) reopen(ctx context.Context, ref Ref) error {
	for {
		plan, err := h.planReopen(ctx, ref)
		if err != nil {
			return storeSilentIf(err)
		}
		if plan.openSince == 0 {
			revision, again, err := h.commitGrant(ctx, plan)
			if again {
				continue
			}
			if err != nil {
				return err
			}
			plan.openSince = revision
			h.logger.Warn().Stringer("grant", ref.Grant).Stringer("pool", plan.ref.Pool).Msg("Docker still uses a grant that was closed: opened again")
		}
		if plan.ref.Pool != ref.Pool {
			h.movedTo(ref.Grant, plan.ref.Pool)
		}
		return h.reached(ctx, ref, plan.openSince)
	}
}

// planReopen decides where and with what a grant is opened again. The plan
// repeats when it is open already.
func (h *Host) planReopen(ctx context.Context, ref Ref) (grantPlan, error) {
	pools, readAt, err := h.log.Pools(ctx)
	if err != nil {
		return grantPlan{}, err
	}
	entry, err := h.home(pools, ref)
	if err != nil {
		return grantPlan{}, err
	}
	plan := grantPlan{ref: ref, seen: events.NewGuards(), readAt: readAt, dockers: true}
	if entry == nil {
		request := h.again(pools, ref)
		if err := h.refuseOverlap(ctx, request, takenFor(request, pools)); err != nil {
			return grantPlan{}, err
		}
		plan.ref.Pool = h.log.Clock.NewID()
	} else {
		plan.ref.Pool = entry.ID
		if plan.seen, _, err = h.log.Guards(ctx, ref.Space, entry.ID); err != nil {
			return grantPlan{}, err
		}
		if !plan.seen.Pool.Present() {
			return h.planReopen(ctx, ref) // it retired between the two looks
		}
		switch grant := plan.seen.Grants[ref.Grant]; grant.Value.State {
		case events.StateOpen:
			plan.openSince = grant.Revision
			return plan, nil
		case events.StateClosing:
			list, err := takeOvers(ctx, h.writer)
			if err != nil {
				return grantPlan{}, err
			}
			if takenOver(list, grant.Revision) {
				break // what is still held through it stays
			}
			// To its end first: what that releases is what must come back.
			end := func() task { return &closeTask{request: newRequest(ctx), grant: ref.Grant} }
			if _, err := h.toPool(plan.ref, end); err != nil {
				return grantPlan{}, err
			}
			return h.planReopen(ctx, ref)
		}
	}
	// Nothing of a grant is older than its name, nor of a pool than its own: of a
	// pool that is gone, its policy is wanted too.
	from := ref.Grant.Time()
	if entry == nil {
		from = ref.Pool.Time()
	}
	created, lost, err := h.lostAtClosing(ctx, ref, from.Add(-clockSlack))
	if err != nil {
		return grantPlan{}, err
	}
	if entry == nil {
		created.Node = h.again(pools, ref).node
		plan.events = append(plan.events, created)
	}
	plan.events = append(plan.events, events.GrantReopened{Grant: ref.Grant, Host: ref.Host, Range: ref.Range})
	for addr, a := range lost {
		if len(plan.events) == etcdlog.MaxEvents {
			h.logger.Error().Stringer("address", addr).Stringer("grant", ref.Grant).Str("kind", a.Kind.String()).
				Msg("a network has more gateways and auxiliary addresses than one commit holds: this one is not set aside any more")
			continue
		}
		if !plan.seen.Held[addr].Value.Admits(a.Shared) {
			h.logger.Error().Stringer("address", addr).Stringer("grant", ref.Grant).Str("kind", a.Kind.String()).
				Msg("an address of a network that Docker still uses is held by another now")
			continue
		}
		a.Allocation = h.log.Clock.NewID()
		plan.events = append(plan.events, a)
	}
	return plan, nil
}

// again is the request that a grant once answered, as far as its PoolID tells.
func (h *Host) again(pools []etcdlog.PoolEntry, ref Ref) PoolRequest {
	return h.mirrored(pools, PoolRequest{Space: ref.Space, Subnet: ref.Subnet, Name: ref.Name})
}

// home finds the pool a grant belongs in: its own, or when that is gone one that
// stands for the same.
func (h *Host) home(pools []etcdlog.PoolEntry, ref Ref) (*etcdlog.PoolEntry, error) {
	for i := range pools {
		if pools[i].ID == ref.Pool {
			return &pools[i], nil
		}
	}
	return match(pools, h.again(pools, ref))
}

// clockSlack is how far clocks may differ that IDs were named by.
const clockSlack = time.Hour

// lostAtClosing finds, in the log from a time on, the gateway and auxiliary
// addresses that a grant's last closing released, and its pool as it was last.
func (h *Host) lostAtClosing(ctx context.Context, ref Ref, from time.Time) (events.PoolCreated, map[netip.Addr]events.AddressAllocated, error) {
	pool := events.PoolCreated{Space: ref.Space, Name: ref.Name, Subnet: ref.Subnet, Policy: events.DefaultPolicy()}
	records, err := h.log.Since(ctx, events.PoolStream(ref.Pool), from)
	if err != nil {
		return pool, nil, errors.Wrap(err, "look for what the grant held")
	}
	allocated := map[events.ID]events.AddressAllocated{}
	lost := map[netip.Addr]events.AddressAllocated{}
	for _, r := range records {
		for _, e := range r.Events {
			switch e := e.(type) {
			case events.PoolCreated:
				pool.Policy, pool.Layout = e.Policy, e.Layout
			case events.PoolChanged:
				pool.Layout = e.Layout
			case events.GrantClosing:
				if e.Grant == ref.Grant {
					clear(lost)
				}
			case events.AddressAllocated:
				if e.Grant == ref.Grant && (e.Kind == events.Gateway || e.Kind == events.Auxiliary) {
					allocated[e.Allocation] = e
				}
			case events.AddressReleased:
				if a, known := allocated[e.Allocation]; known && (e.Reason == events.GrantEnded || e.Reason == events.TakenOver) {
					lost[e.Address] = a
				}
			default:
			}
		}
	}
	return pool, lost, nil
}
