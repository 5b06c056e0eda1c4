// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"slices"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/events"
)

// atOnce says whether what is used through a grant is allocated again without a second
// look: the log is known to lack it.
func (v *view) atOnce(grants []actor.Opened) bool {
	return v.unlooked.All || len(grants) == 1 && slices.Contains(v.unlooked.Grants, grants[0].Grant)
}

// judgeOwn allocates again what networks have of their own, where their grants were opened
// again and the log does not know it: the gateway and the auxiliary addresses. Of a
// gateway that nobody named the engine does not tell. In a pool that came back with the
// grant it is the lowest address, as it was; where others kept the pool, nobody knows.
func (v *view) judgeOwn(ctx context.Context) {
	for _, g := range v.grants {
		if v.Mode == Report || !slices.Contains(v.unlooked.Grants, g.Grant) || slices.ContainsFunc(v.holdings, func(h actor.Holding) bool {
			return h.Grant == g.Grant && h.Kind == events.Gateway
		}) {
			continue
		}
		i := slices.IndexFunc(v.seen, func(n engine.Network) bool { return v.Driver.Granted(n, g.Holding) })
		if i < 0 {
			continue
		}
		for _, p := range v.seen[i].IPAM.Pools {
			if p.Subnet != g.Pool.Subnet {
				continue
			}
			var asks []actor.AddressRequest
			if p.Gateway.IsValid() || g.ID.Time().After(g.Grant.Time()) {
				asks = append(asks, actor.AddressRequest{Asking: actor.AskGateway, Address: p.Gateway})
			} else {
				v.once(g.Grant, func() {
					v.Logger.Warn().Str("network", v.seen[i].Name).Stringer("subnet", p.Subnet).
						Msg("which gateway the network has is not known, and a container may be given its address: keep it from them with ipamlog reserve")
				})
			}
			for _, addr := range p.Auxiliary {
				asks = append(asks, actor.AddressRequest{Asking: actor.AskAuxiliary, Address: addr})
			}
			v.furnish(ctx, g, v.seen[i].Name, asks)
		}
	}
}

func (v *view) furnish(ctx context.Context, g actor.Opened, network string, asks []actor.AddressRequest) {
	for _, ask := range asks {
		answer, err := actor.Ask(ctx, func(ctx context.Context) (actor.Answer, error) { return v.host.AllocateAgain(ctx, g.Ref, ask) })
		if err != nil {
			v.Logger.Warn().Err(err).Str("network", network).Stringer("address", ask.Address).Msg("a network's own address could not be allocated to it again")
			continue
		}
		v.counted["allocated"].Add(1)
		v.Logger.Warn().Stringer("address", answer.Address).Str("network", network).Stringer("kind", answer.Kind).Msg("allocated: a network's own address that nobody held")
	}
}
