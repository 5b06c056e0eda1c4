// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"context"
	"net/netip"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
)

// PoolRequest is a RequestPool. What is zero was not said.
type PoolRequest struct {
	Space  events.Space
	Subnet netip.Prefix
	Range  netip.Prefix // within the subnet
	Name   string
	V6     bool // the family, where there is no subnet
	Bits   int  // the subnet's length, where there is no subnet
	Wish   Wish

	// node is this host's name where the request is about its own mirror of a
	// Swarm network.
	node string
}

// common says whether the grant that a request asks for is one for all who ask:
// in the global space, and in a node's mirror of it.
func (r PoolRequest) common() bool { return r.Space == events.Global || r.node != "" }

// v6 is the family of a request.
func (r PoolRequest) v6() bool {
	if r.Subnet.IsValid() {
		return r.Subnet.Addr().Is6()
	}
	return r.V6
}

// GrantAnswer is an answered RequestPool.
type GrantAnswer struct {
	Ref
	Revision int64
	Repeat   bool // the grant was open already
	// Common says that others may have been told of the grant too, now or later: an
	// answer that went astray is no reason to close it, and who asks again finds it.
	Common bool
}

// RequestPool opens a grant in the pool that the request names, by name or
// subnet, or in a new one. It decides on the catalogue as the store has it, and
// again when that changed meanwhile. It returns [ErrOverlap], [ErrContradicts],
// [ErrNoSubnet], [ErrOnHost] or [ErrStoreSilent].
func (h *Host) RequestPool(ctx context.Context, r PoolRequest) (GrantAnswer, error) {
	ctx, cancel := h.within(ctx)
	defer cancel()
	if err := h.answering(ctx, r.Space); err != nil {
		return GrantAnswer{}, err
	}
	for {
		plan, err := h.plan(ctx, r)
		if err != nil {
			return GrantAnswer{}, storeSilentIf(err)
		}
		revision := plan.openSince
		if revision == 0 {
			var again bool
			if revision, again, err = h.commitGrant(ctx, plan); again {
				continue
			}
			if err != nil {
				return GrantAnswer{}, err
			}
		}
		// The pool's actor must know the grant before Docker asks through it.
		if err := h.reached(ctx, plan.ref, revision); err != nil {
			if plan.openSince == 0 && !plan.common {
				h.UndoPool(plan.ref)
			}
			return GrantAnswer{}, err
		}
		return GrantAnswer{plan.ref, revision, plan.openSince != 0, plan.common}, nil
	}
}

// reached waits until the actor of a grant's pool has seen a revision.
func (h *Host) reached(ctx context.Context, ref Ref, revision int64) error {
	_, err := h.toPool(ref, func() task { return &reachTask{request: newRequest(ctx), revision: revision} })
	return err
}

// errRoutes marks what kept us from looking at the host's routes.
var errRoutes = errors.New("the host's routes cannot be read")

// storeSilentIf marks the store's own errors as its silence; ours stay.
func storeSilentIf(err error) error {
	if errors.IsAny(err, ErrOverlap, ErrContradicts, ErrNoSubnet, ErrOnHost, ErrOutOfRange, ErrNoGrant, ErrStopping, errRoutes, etcdlog.ErrRejected, events.ErrMalformed) {
		return err
	}
	return errors.Mark(err, ErrStoreSilent)
}

// grantPlan is a RequestPool decided, before it is committed.
type grantPlan struct {
	ref       Ref
	events    []events.Event
	seen      events.Guards
	readAt    int64
	common    bool  // the grant is one for all who ask: see planJoin
	dockers   bool  // Docker has the grant already, whatever becomes of the plan: see reopen
	only      bool  // seen holds every grant of the pool, and no other may come before
	openSince int64 // the revision at which the grant was opened; 0: it is still to be committed
}

// plan decides a request on the catalogue as it is now.
func (h *Host) plan(ctx context.Context, r PoolRequest) (grantPlan, error) {
	pools, readAt, err := h.log.Pools(ctx)
	if err != nil {
		return grantPlan{}, err
	}
	r = h.mirrored(pools, r)
	entry, err := match(pools, r)
	if err != nil {
		return grantPlan{}, err
	}
	if entry != nil {
		return h.planJoin(ctx, r, *entry)
	}
	taken := takenFor(r, pools)
	subnet := r.Subnet
	if subnet.IsValid() {
		err = h.refuseOverlap(ctx, r, taken)
	} else {
		subnet, err = h.pickSubnet(r, taken)
	}
	if err != nil {
		return grantPlan{}, err
	}
	created := events.PoolCreated{Space: r.Space, Name: r.Name, Subnet: subnet, Policy: events.DefaultPolicy(), Node: r.node}
	if err := r.Wish.on(&created); err != nil {
		return grantPlan{}, err
	}
	if err := checkRange(r.Range, events.Pool(created)); err != nil {
		if errors.Is(err, ErrContradicts) {
			err = errors.Wrapf(ErrOutOfRange, "the ranges leave nothing of --ip-range %s", r.Range)
		}
		return grantPlan{}, err
	}
	clock := h.log.Clock
	plan := grantPlan{
		ref:  Ref{Space: r.Space, Pool: clock.NewID(), Grant: clock.NewID(), Host: h.hostIn(r.Space), Name: r.Name, Subnet: subnet, Range: r.Range},
		seen: events.NewGuards(), readAt: readAt, common: r.common(),
	}
	plan.events = []events.Event{
		created,
		events.GrantOpened{Grant: plan.ref.Grant, Host: plan.ref.Host, Range: r.Range},
	}
	return plan, nil
}

// hostIn is who holds a grant of a space: this host, or in the global space the
// swarm.
func (h *Host) hostIn(space events.Space) string {
	if space == events.Global {
		return ""
	}
	return h.writer.Host()
}

// match finds the pool a request is about: by name and family, or without a name
// by subnet. It returns [ErrContradicts] when that pool is not as the request
// says.
func match(pools []etcdlog.PoolEntry, r PoolRequest) (*etcdlog.PoolEntry, error) {
	for i := range pools {
		pool := &pools[i]
		switch {
		case pool.Value.Space != r.Space || pool.Value.Name != r.Name || pool.Value.Node != r.node:
			continue
		case r.Name == "" && (!r.Subnet.IsValid() || pool.Value.Subnet != r.Subnet):
			continue
		case pool.Value.Subnet.Addr().Is6() != r.v6():
			continue // a network with both families names both pools alike
		case r.Subnet.IsValid() && pool.Value.Subnet != r.Subnet:
			return nil, errors.Wrapf(ErrContradicts, "pool %s is %s, not %s", r.Name, pool.Value.Subnet, r.Subnet)
		case r.Bits != 0 && pool.Value.Subnet.Bits() != r.Bits:
			return nil, errors.Wrapf(ErrContradicts, "pool %s is %s, not a /%d", r.Name, pool.Value.Subnet, r.Bits)
		}
		if err := r.Wish.contradicts(pool.Value); err != nil {
			return nil, errors.Wrapf(ErrContradicts, "pool %s: %s", pool.Value.Title(), err)
		}
		return pool, nil
	}
	return nil, nil
}

// planJoin opens a grant in a pool that exists. In the global space, and in a
// node's mirror of it, the grant is one, and asking again repeats it.
func (h *Host) planJoin(ctx context.Context, r PoolRequest, pool etcdlog.PoolEntry) (grantPlan, error) {
	if err := checkRange(r.Range, pool.Value); err != nil {
		return grantPlan{}, err
	}
	if err := h.checkUnnamed(r, pool.Value.Subnet); err != nil {
		return grantPlan{}, err
	}
	plan := grantPlan{
		ref:  Ref{Space: r.Space, Pool: pool.ID, Grant: h.log.Clock.NewID(), Host: h.hostIn(r.Space), Name: r.Name, Subnet: pool.Value.Subnet, Range: r.Range},
		seen: events.NewGuards(), common: r.common(),
	}
	if plan.common {
		guards, _, err := h.log.Guards(ctx, r.Space, pool.ID)
		if err != nil {
			return grantPlan{}, err
		}
		for id, grant := range guards.Grants {
			if grant.Value.State == events.StateOpen && grant.Value.Range == r.Range {
				plan.ref.Grant, plan.openSince = id, grant.Revision
				return plan, nil
			}
		}
		plan.only, plan.seen.Grants = true, guards.Grants
	}
	plan.seen.Pool = pool.Guarded
	plan.events = []events.Event{events.GrantOpened{Grant: plan.ref.Grant, Host: plan.ref.Host, Range: r.Range}}
	return plan, nil
}

// checkUnnamed refuses to join an IPv4 pool that overlaps what this host reaches
// already, when Docker was told no subnet: it would keep our answer, ask for
// another, and so on for ever (moby, daemon/libnetwork/ipams/remote).
func (h *Host) checkUnnamed(r PoolRequest, subnet netip.Prefix) error {
	if r.Space != events.Local || r.Subnet.IsValid() || subnet.Addr().Is6() {
		return nil
	}
	used, err := h.routes()
	if err != nil {
		return errors.Mark(err, errRoutes)
	}
	if i := slices.IndexFunc(used, subnet.Overlaps); i >= 0 {
		return errors.Wrapf(ErrOnHost, "pool %s is %s, and this host reaches %s", r.Name, subnet, used[i])
	}
	return nil
}

// checkRange makes sure that a pool has addresses to pick from a range.
func checkRange(r netip.Prefix, pool events.Pool) error {
	subnet := projection.NewSubnet(pool.Subnet)
	switch {
	case !r.IsValid():
		return nil
	case r.Bits() < pool.Subnet.Bits() || !pool.Subnet.Contains(r.Addr()):
		return errors.Wrapf(ErrOutOfRange, "range %s is not in %s", r, pool.Subnet)
	}
	if _, _, ok := subnet.Interval(r); !ok {
		return errors.Wrapf(ErrOutOfRange, "range %s is beyond the first 2^63 addresses of %s, out of which addresses are picked", r, pool.Subnet)
	}
	if !pool.Undivided() && subnet.Assignable(pool.Layout, r).Total() == 0 {
		return errors.Wrapf(ErrContradicts, "pool %s gives out no address of range %s on its own", pool.Title(), r)
	}
	return nil
}

// takenFor lists the pools of both spaces that a new one must keep clear of. A
// named pool is apart from everything, a node's mirror from all but the Swarm
// network it mirrors.
func takenFor(r PoolRequest, pools []etcdlog.PoolEntry) []etcdlog.PoolEntry {
	switch {
	case !r.Subnet.IsValid():
		return pools // a subnet of our choice passes over all there are
	case r.Name != "" || r.node != "":
		return nil
	}
	return slices.DeleteFunc(slices.Clone(pools), func(e etcdlog.PoolEntry) bool { return e.Value.Apart() })
}

func (h *Host) refuseOverlap(ctx context.Context, r PoolRequest, taken []etcdlog.PoolEntry) error {
	for _, e := range taken {
		if !e.Value.Subnet.Overlaps(r.Subnet) {
			continue
		}
		// One that was left empty is nobody's, and is retired by whoever sees it.
		if h.retireEmpty(ctx, e) {
			continue
		}
		return errors.Wrapf(ErrOverlap, "%s overlaps with pool %s (%s)", r.Subnet, e.Value.Title(), e.Value.Subnet)
	}
	return nil
}

// retireEmpty retires a pool that has neither grant nor holding; false if it
// has.
func (h *Host) retireEmpty(ctx context.Context, e etcdlog.PoolEntry) bool {
	seen := events.NewGuards()
	seen.Pool = e.Guarded
	_, err := h.writer.Append(ctx, etcdlog.Proposal{
		ID: h.log.Clock.NewID(), Stream: events.PoolStream(e.ID), Seen: seen,
		Events: []events.Event{events.PoolRetired{Space: e.Value.Space}},
	})
	return err == nil
}

func (h *Host) pickSubnet(r PoolRequest, taken []etcdlog.PoolEntry) (netip.Prefix, error) {
	used, err := h.routes()
	if err != nil {
		return netip.Prefix{}, errors.Mark(err, errRoutes)
	}
	for _, e := range taken {
		used = append(used, e.Value.Subnet)
	}
	return freeSubnet(h.blocks, r.V6, r.Bits, used)
}

// commitGrant commits a plan. again: the catalogue changed, and it must be made anew.
func (h *Host) commitGrant(ctx context.Context, plan grantPlan) (revision int64, again bool, err error) {
	proposal := etcdlog.Proposal{
		ID: h.log.Clock.NewID(), Stream: events.PoolStream(plan.ref.Pool),
		Events: plan.events, Seen: plan.seen, CatalogueAt: plan.readAt, AllGrants: plan.only,
	}
	record, err := h.writer.Append(ctx, proposal)
	switch {
	case err == nil:
		return record.Revision, false, nil
	case errors.Is(err, etcdlog.ErrConflict):
		h.observer.Conflicted()
		return 0, true, nil
	case errors.Is(err, etcdlog.ErrOtherStore):
		h.doom(err)
		return 0, false, err
	case errors.Is(err, etcdlog.ErrFenced):
		if asleep := h.present(); asleep != nil {
			err = asleep // it joins anew in a moment
		}
		return 0, false, err
	case errors.Is(err, etcdlog.ErrUnknown):
		letGo := func() {}
		if plan.dockers {
			letGo = h.gate.hold(plan.ref.Grant) // it may be open, and a look that does not know it would not look at its network
		}
		if !h.inBackground(func() { defer letGo(); h.settleGrant(proposal, plan) }) {
			letGo()
			h.logger.Error().Stringer("grant", plan.ref.Grant).Msg("what became of a grant is not known: the daemon is stopping")
		}
		return 0, false, errors.Mark(err, ErrStoreSilent)
	default:
		return 0, false, err
	}
}

// settleGrant finds out what became of a grant whose requester was refused
// because the store was silent. If it was opened, it is closed again, unless others may
// have been told of it, or Docker was long ago: then its pool is followed.
func (h *Host) settleGrant(p etcdlog.Proposal, plan grantPlan) {
	ref := plan.ref
	record, err := h.writer.Close(h.life, p.Stream, p.ID)
	switch {
	case err != nil:
		h.logger.Error().Err(err).Stringer("grant", ref.Grant).Msg("what became of a grant is not known: reconciliation will have to find out")
	case record.Void():
	case !plan.common && !plan.dockers:
		h.takeBack(ref)
	default:
		h.movedTo(ref.Grant, ref.Pool)
		ctx, cancel := h.within(h.life)
		defer cancel()
		if err := h.reached(ctx, ref, record.Revision); err != nil && h.life.Err() == nil {
			h.logger.Warn().Err(err).Stringer("grant", ref.Grant).Msg("a grant is open of whose pool nothing is known yet")
		}
	}
}
