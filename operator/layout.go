// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// layout is a change of how a pool's subnet is divided.
type layout struct {
	pool   string // the word that names it, or ""
	subnet netip.Prefix
	making bool // make the pool if there is none
	// change divides the pool anew, or says why not. fresh: the pool is being made.
	change func(p *events.Pool, g events.Guards, fresh bool, out *Outcome) error
}

// layOut commits a change of a pool's layout.
func (o *Operator) layOut(ctx context.Context, l layout) (Outcome, error) {
	var out Outcome
	record, err := o.commit(ctx, func() (etcdlog.Proposal, error) {
		out = Outcome{}
		return o.planLayout(ctx, l, &out)
	})
	if err != nil {
		return Outcome{}, err
	}
	if record.Revision != 0 {
		out.wrote(record)
	}
	return out, nil
}

func (o *Operator) planLayout(ctx context.Context, l layout, out *Outcome) (etcdlog.Proposal, error) {
	pools, readAt, err := o.log.Pools(ctx)
	if err != nil {
		return etcdlog.Proposal{}, err
	}
	entry, exists, err := laidOut(pools, l.pool, l.subnet)
	switch {
	case err != nil:
		return etcdlog.Proposal{}, err
	case exists:
		return o.planChange(ctx, l, entry, out)
	case !l.making:
		_, err := one(nil, titleOf(l.pool, l.subnet))
		return etcdlog.Proposal{}, err
	}
	created := events.Pool{Space: events.Local, Subnet: l.subnet, Policy: events.DefaultPolicy(), Kept: true}
	if _, err := netip.ParsePrefix(l.pool); err != nil {
		created.Name = l.pool
	}
	if there, found := overlapping(pools, l.subnet); found && created.Name == "" {
		if o.retireEmpty(ctx, there) {
			return o.planLayout(ctx, l, out)
		}
		return etcdlog.Proposal{}, errors.Newf("%s overlaps with pool %s: write the addresses with the length of its subnet, or give the new pool a name with --pool", l.subnet, full(there.Value))
	}
	if err := l.change(&created, events.NewGuards(), true, out); err != nil {
		return etcdlog.Proposal{}, err
	}
	out.Pool, out.ID = created.Title(), o.log.Clock.NewID()
	for _, e := range pools {
		if e.Value.Node == "" && e.Value.Subnet.Overlaps(l.subnet) {
			out.Notes = append(out.Notes, fmt.Sprintf("pool %s is new, and apart from pool %s: an address can have a holder in each", out.Pool, full(e.Value)))
		}
	}
	return etcdlog.Proposal{
		Stream: events.PoolStream(out.ID), Seen: events.NewGuards(), CatalogueAt: readAt,
		Events: []events.Event{events.PoolCreated(created)},
	}, nil
}

// titleOf is what a pool would be called.
func titleOf(word string, subnet netip.Prefix) string {
	if word != "" {
		return word
	}
	return subnet.String()
}

func (o *Operator) planChange(ctx context.Context, l layout, entry etcdlog.PoolEntry, out *Outcome) (etcdlog.Proposal, error) {
	guards, _, err := o.log.Guards(ctx, entry.Value.Space, entry.ID)
	if err != nil {
		return etcdlog.Proposal{}, err
	}
	if !guards.Pool.Present() { // it retired between the two looks
		return o.planLayout(ctx, l, out)
	}
	out.Pool, out.ID = entry.Value.Title(), entry.ID
	pool := guards.Pool.Value
	if err := l.change(&pool, guards, false, out); err != nil {
		return etcdlog.Proposal{}, err
	}
	// What is set aside must be wanted by a person for the pool to stand alone; that
	// some of what Docker wished is taken away is no such wish.
	pool.Kept = (l.making || guards.Pool.Value.Kept) && setsAside(pool.Layout)
	if was := guards.Pool.Value; same(pool.Layout, was.Layout) && pool.Kept == was.Kept {
		return etcdlog.Proposal{}, nil
	}
	list, err := ending(guards, []events.Event{events.PoolChanged{Space: pool.Space, Layout: pool.Layout, Kept: pool.Kept}})
	if err != nil {
		return etcdlog.Proposal{}, err
	}
	if retires(list) {
		out.Said = append(out.Said, "nothing is left of pool "+out.Pool+": it is gone")
	}
	seen := events.NewGuards()
	seen.Pool = guards.Pool
	return etcdlog.Proposal{Stream: events.PoolStream(entry.ID), Seen: seen, Events: list}, nil
}

// setsAside says whether a layout has what a pool is kept for.
func setsAside(l events.Layout) bool { return len(l.Ranges) > 0 || len(l.HostRanges) > 0 }

func same(a, b events.Layout) bool {
	return slices.Equal(a.Ranges, b.Ranges) && slices.Equal(a.Exclude, b.Exclude) && slices.Equal(a.HostRanges, b.HostRanges) && a.Router == b.Router
}
