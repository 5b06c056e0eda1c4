// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"slices"

	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/engine"
)

// judgeNetworks opens the grants again that a take-over of this host has closed, or begun
// to close, and whose networks the engine has: it will ask through them as ever, and what
// its containers use on them is allocated again by later looks. Nobody is harmed if the
// network is removed in this very moment: the grant is closed again, like any other that
// no network can be of.
func (v *view) judgeNetworks(ctx context.Context) {
	without := v.withoutGrant()
	if len(without) == 0 {
		return
	}
	taken, err := actor.Ask(ctx, v.host.TakenAway)
	if err != nil {
		v.Logger.Debug().Err(err).Msg("it could not be found out what a take-over of this host has closed")
		return
	}
	for _, n := range without {
		i := slices.IndexFunc(taken, func(g actor.Opened) bool { return v.Driver.Granted(n, g.Holding) })
		if i < 0 {
			continue
		}
		g := taken[i]
		taken = slices.Delete(taken, i, i+1)
		log := func(e *zerolog.Event) *zerolog.Event {
			return e.Stringer("grant", g.Grant).Stringer("pool", g.ID).Stringer("subnet", g.Pool.Subnet).Str("network", n.Name)
		}
		if v.Mode == Report {
			v.once(g.Grant, func() {
				log(v.Logger.Warn()).Str("would_be", "reopened").Msg("a take-over has closed the grant of a network that the engine still has")
			})
			continue
		}
		_, err := actor.Ask(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, v.host.Reopen(ctx, g.Ref) })
		switch {
		case err == nil:
			v.counted["reopened"].Add(1)
			log(v.Logger.Warn()).Msg("opened again: a take-over had closed the grant of a network that the engine still has")
		case ctx.Err() == nil:
			v.once(g.Grant, func() {
				log(v.Logger.Error()).Err(err).Msg("a take-over has closed the grant of a network that the engine still has, and it cannot be opened again: move the network's containers to another")
			})
		}
	}
}

// withoutGrant finds the networks of ours that are left over when each grant has got one
// that can be its: with the one subnet that has none.
func (v *view) withoutGrant() []engine.Network {
	var without []engine.Network
	left := slices.Clone(v.grants)
	for _, n := range v.seen {
		if !v.Driver.Ours(n) {
			continue
		}
		for _, p := range n.IPAM.Pools {
			half := n // a network of both families has a grant for each
			half.IPAM.Pools = []engine.Pool{p}
			i := slices.IndexFunc(left, func(g actor.Opened) bool { return v.Driver.Granted(half, g.Holding) })
			if i < 0 {
				without = append(without, half)
			} else {
				left = slices.Delete(left, i, i+1)
			}
		}
	}
	return without
}
