// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// view is what one look has found.
type view struct {
	*Reconciler
	Mode     Mode  // what is done now
	failed   error // why something that is used could not be allocated: it is tried again
	began    time.Time
	unlooked actor.Unlooked // when it began
	seen     []engine.Network
	holdings []actor.Holding
	held     map[netip.Addr][]actor.Holding
	grants   []actor.Opened
	left     []actor.Opened // as in [actor.Standing]
	asked    map[events.ID]time.Time
	grace    time.Duration
	// mentioned is what there was to tell in the daemon's log, told now or before.
	mentioned map[any]bool
}

// knows says whether the engine uses a holding's address on a network that can be of
// its pool, whoever it says has it.
func (v *view) knows(h actor.Holding) bool {
	return slices.ContainsFunc(v.seen, func(n engine.Network) bool {
		return anybodys.Fits(n, h) && slices.ContainsFunc(n.Endpoints, func(e engine.Endpoint) bool { return has(e, h.Address) })
	})
}

func has(e engine.Endpoint, addr netip.Addr) bool {
	return slices.ContainsFunc(e.Addresses, func(p netip.Prefix) bool { return p.Addr() == addr })
}

// lookAtFormat leaves all as it is in a store that an older ipamlog may read, too.
func (v *view) lookAtFormat() {
	if in := v.host.Writer().Log().Format(); in < etcdlog.Format && v.Mode == Fix {
		v.Mode = Report
		v.once("format", func() {
			v.Logger.Warn().Int("format", in).Msg("nothing is healed while the store is in an older format: see that ipamlog is upgraded on all hosts")
		})
	}
}

// strangers is how many times as long two looks must be apart that find nothing in
// common with the log.
const strangers = 10

// recognise makes sure that the engine is the one that asks this daemon: one that knows
// none of its networks may have lost them, or be another.
func (v *view) recognise() {
	v.grace = v.Grace
	old := false // some grant's network had time to be made
	own := slices.DeleteFunc(slices.Clone(v.grants), func(g actor.Opened) bool {
		return g.Pool.Node != "" // a node's networks of a swarm come and go without its doing
	})
	for _, g := range own {
		old = old || v.began.Sub(g.Ref.Grant.Time()) >= v.Grace
		if slices.ContainsFunc(v.seen, func(n engine.Network) bool { return v.Driver.Granted(n, g.Holding) }) {
			return
		}
	}
	if len(own) > 0 {
		v.grace *= strangers
	}
	if old {
		v.once("stranger", func() {
			v.Logger.Error().Int("grants", len(own)).Stringer("reclaimed_after", v.grace).
				Msg("the engine knows none of this host's networks: if it is not the one that asks this daemon, name the right one with --engine, or what its containers use is given to others")
		})
	}
}

// ripe says whether what was seen first at a look has been so for the grace by now, and
// notes it if it is new.
func ripe[K comparable](v *view, since map[K]time.Time, key K) bool {
	first, known := since[key]
	if !known {
		since[key] = v.began
		return false
	}
	return v.began.Sub(first) >= v.grace
}

// keepOnly forgets what no look finds any more.
func keepOnly[K comparable](since map[K]time.Time, now map[K]bool) {
	for key := range since {
		if !now[key] {
			delete(since, key)
		}
	}
}

// absent are the grants that the engine has no network of. A node's networks of a swarm
// come and go without its doing.
func (v *view) absent() []events.ID {
	var all []events.ID
	for _, g := range v.grants {
		if g.Pool.Node == "" && !slices.ContainsFunc(v.seen, func(n engine.Network) bool { return anybodys.Granted(n, g.Holding) }) {
			all = append(all, g.Grant)
		}
	}
	return all
}

// judgeHoldings suspects, clears and reclaims.
func (v *view) judgeHoldings(ctx context.Context) {
	now := map[events.ID]bool{}
	for _, h := range v.holdings {
		if h.Kind != events.Endpoint {
			continue
		}
		found := actor.Finding{
			Known: v.knows(h), Suspected: !h.Suspected.IsZero(), Young: v.began.Sub(v.asked[h.Allocation.ID]) < v.Grace,
		}
		if found.Suspected && !found.Known {
			now[h.Allocation.ID] = true
			found.Ripe = ripe(v, v.suspected, h.Allocation.ID)
		}
		switch verdict := found.Verdict(); verdict {
		case actor.Clear:
			v.judge(ctx, h, verdict, "cleared", "the engine knows the address after all")
		case actor.Suspect:
			v.judge(ctx, h, verdict, "suspected", "the engine does not know the address: it is reclaimed unless that changes")
		case actor.Reclaim:
			v.judge(ctx, h, verdict, "reclaimed", "the engine still does not know the address")
		case actor.Leave, actor.Wait:
		}
	}
	keepOnly(v.suspected, now)
	v.suspectedNow.Store(int64(len(now)))
}

func (v *view) judge(ctx context.Context, h actor.Holding, verdict actor.Verdict, what, why string) {
	log := func(e *zerolog.Event) *zerolog.Event {
		return e.Stringer("address", h.Address).Stringer("allocation", h.Allocation.ID).Stringer("pool", h.ID).Time("allocated", h.Allocation.ID.Time())
	}
	if v.Mode == Report {
		v.once(struct {
			events.ID
			actor.Verdict
		}{h.Allocation.ID, verdict}, func() { log(v.Logger.Warn()).Str("would_be", what).Msg(why) })
		return
	}
	done, err := actor.Ask(ctx, func(ctx context.Context) (bool, error) { return v.host.Judge(ctx, h, verdict, v.began) })
	switch {
	case err != nil && ctx.Err() == nil:
		log(v.Logger.Warn()).Err(err).Str("not", what).Msg(why)
	case done:
		v.counted[what].Add(1)
		log(v.Logger.Info()).Msg(what + ": " + why)
	}
}

// once tells something in the daemon's log, but not with every look.
func (v *view) once(key any, tell func()) {
	if v.mentioned[key] = true; !v.reported[key] {
		tell()
	}
}

// judgeUses finds what the engine uses and this host does not hold.
func (v *view) judgeUses(ctx context.Context) {
	now := map[use]bool{}
	for _, n := range v.seen {
		for _, e := range n.Endpoints {
			for _, p := range e.Addresses {
				addr := p.Addr()
				grants := v.grantsOf(n, addr)
				if len(grants) > 1 || slices.ContainsFunc(v.held[addr], func(h actor.Holding) bool { return v.Driver.Fits(n, h) }) {
					continue
				}
				u := use{addr, n.ID, e.ID}
				now[u] = true
				switch {
				case !ripe(v, v.strange, u) && !v.atOnce(grants):
				case len(grants) == 1:
					v.allocate(ctx, u, grants[0], n, e)
				default:
					v.homeless(ctx, u, n, e)
				}
			}
		}
	}
	keepOnly(v.strange, now)
}

// grantsOf finds the grants that a network can be of, for an address.
func (v *view) grantsOf(n engine.Network, addr netip.Addr) []actor.Opened {
	var found []actor.Opened
	for _, g := range v.grants {
		if g.Pool.Subnet.Contains(addr) && v.Driver.Granted(n, g.Holding) {
			found = append(found, g)
		}
	}
	return found
}

// homeless tells of an address in use on a network that has no grant, as in a store that
// is older than the network: nothing can be allocated to it before Docker asks through
// the network's grant, but whether another has it by now is to be known.
func (v *view) homeless(ctx context.Context, u use, n engine.Network, e engine.Endpoint) {
	if !v.Driver.Ours(n) {
		return
	}
	log := v.host.Writer().Log()
	pools, err := actor.Ask(ctx, func(ctx context.Context) ([]etcdlog.PoolEntry, error) {
		pools, _, err := log.Pools(ctx)
		return pools, err
	})
	if err != nil {
		return // the next look asks again
	}
	for _, entry := range pools {
		g := actor.Opened{Holding: actor.Holding{ID: entry.ID, Pool: entry.Value, Allocation: events.Allocation{Host: v.host.Writer().Host()}}}
		if entry.Value.Space != events.Local || entry.Value.Node != "" || !entry.Value.Subnet.Contains(u.address) || !v.Driver.Fits(n, g.Holding) {
			continue
		}
		guard, err := actor.Ask(ctx, func(ctx context.Context) (events.Guarded[events.Held], error) {
			guard, _, err := log.Holding(ctx, entry.ID, u.address)
			return guard, err
		})
		if err != nil {
			return
		}
		for _, a := range guard.Value {
			if a.Host != g.Host && !a.Shared {
				v.once(u, func() { v.clash(ctx, u, g, n, e) })
				return
			}
		}
	}
	v.once(u, func() {
		v.Logger.Error().Stringer("address", u.address).Str("network", n.Name).Str("container_name", e.Name).
			Msg("the engine uses an address that is not held, on a network without a grant: start the container anew")
	})
}

// clash says that two use an address.
func (v *view) clash(ctx context.Context, u use, g actor.Opened, n engine.Network, e engine.Endpoint) {
	v.Logger.Error().Stringer("address", u.address).Str("network", n.Name).Str("container", e.Container).Str("container_name", e.Name).
		Msg("conflict: the engine uses an address that another holds: stop one of the two")
	if v.Mode != Report {
		v.conflict(ctx, u, g, n, e)
	}
}

// allocate gives an address that is in use to who uses it, or says who has it.
func (v *view) allocate(ctx context.Context, u use, g actor.Opened, n engine.Network, e engine.Endpoint) {
	log := func(l *zerolog.Event) *zerolog.Event {
		return l.Stringer("address", u.address).Str("network", n.Name).Str("container", e.Container).Str("container_name", e.Name)
	}
	if v.Mode == Report {
		v.once(u, func() {
			log(v.Logger.Warn()).Str("would_be", "allocated").Msg("the engine uses an address that this host does not hold")
		})
		return
	}
	answer, err := actor.Ask(ctx, func(ctx context.Context) (actor.Answer, error) {
		return v.host.AllocateAgain(ctx, g.Ref, actor.AddressRequest{Asking: actor.AskEndpoint, Address: u.address, MAC: macOf(e)})
	})
	switch {
	case err == nil:
		v.counted["allocated"].Add(1)
		log(v.Logger.Warn()).Stringer("allocation", answer.Allocation).Msg("allocated: the engine uses an address that nobody held")
		v.attribute(ctx, answer, g, n, e)
	case errors.IsAny(err, actor.ErrInUse, actor.ErrSetAside):
		v.once(u, func() { v.clash(ctx, u, g, n, e) })
	case ctx.Err() == nil && !errors.IsAny(err, actor.ErrNoGrant, actor.ErrBroken):
		v.failed = errors.Wrapf(err, "allocate %s, which is in use", u.address)
		log(v.Logger.Warn()).Err(err).Msg("an address that the engine uses could not be allocated to it")
	}
}

// judgeGrants closes the grants that no network can be of.
func (v *view) judgeGrants(ctx context.Context) {
	now := map[events.ID]bool{}
	for _, g := range slices.Concat(v.grants, v.left) {
		if slices.ContainsFunc(v.seen, func(n engine.Network) bool { return anybodys.Granted(n, g.Holding) }) {
			continue
		}
		now[g.Grant] = true
		first := v.unused[g.Grant]
		if !ripe(v, v.unused, g.Grant) {
			continue
		}
		log := v.Logger.With().Stringer("grant", g.Grant).Stringer("pool", g.ID).Stringer("subnet", g.Pool.Subnet).Logger()
		if v.Mode == Report {
			v.once(g.Grant, func() { log.Warn().Str("would_be", "closed").Msg("no network of the engine can be this grant's") })
			continue
		}
		closed, err := actor.Ask(ctx, func(ctx context.Context) (bool, error) { return v.host.CloseUnused(ctx, g.Ref, first) })
		switch {
		case err != nil && ctx.Err() == nil:
			log.Warn().Err(err).Msg("a grant that no network of the engine can be of could not be closed")
		case closed:
			v.counted["closed"].Add(1)
			log.Info().Msg("closed: no network of the engine can be this grant's")
		default:
			delete(v.unused, g.Grant) // something was asked through it: its time begins anew
		}
	}
	keepOnly(v.unused, now)
}
