// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/events"
)

// clockSlack is how far the engine's clock and the log's may differ.
const clockSlack = time.Hour

// reopening is told of a grant that a take-over has closed.
type reopening events.ID

// judgeNetworks opens the grants again that a take-over of this host has closed, or begun
// to close, and whose networks the engine has: it will ask through them as ever, and what
// its containers use on them is allocated again by later looks. Nobody is harmed if the
// network is removed in this very moment: the grant is closed again, like any other that
// no network can be of.
func (v *view) judgeNetworks(ctx context.Context) {
	without := v.withoutGrant()
	if len(without) == 0 {
		v.taken = question{}
		return
	}
	if !v.taken.due(v.about(without), v.began, v.Every) {
		for key := range v.reported { // it is as it was
			if _, is := key.(reopening); is {
				v.mentioned[key] = true
			}
		}
		return
	}
	taken, err := actor.Ask(ctx, v.host.TakenAway)
	if err != nil {
		v.taken = question{}
		v.Logger.Debug().Err(err).Msg("it could not be found out what a take-over of this host has closed")
		return
	}
	for _, h := range without {
		fits := func(g actor.Taken) bool {
			return v.Driver.Granted(h.Network, g.Holding) && h.uses(g.Pool.Subnet) && h.Created.Before(g.At.Add(clockSlack))
		}
		i := slices.IndexFunc(taken, fits)
		if i < 0 || h.order() == unclear && slices.ContainsFunc(taken[i+1:], fits) {
			continue
		}
		g := taken[i]
		taken = slices.Delete(taken, i, i+1)
		log := func(e *zerolog.Event) *zerolog.Event {
			return e.Stringer("grant", g.Grant).Stringer("pool", g.ID).Stringer("subnet", g.Pool.Subnet).Str("network", h.Name)
		}
		if v.Mode == Report {
			v.once(reopening(g.Grant), func() {
				log(v.Logger.Warn()).Str("would_be", "reopened").Msg("a take-over has closed the grant of a network that the engine still has")
			})
			continue
		}
		_, err := actor.Ask(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, v.host.Reopen(ctx, g.Ref) })
		if errors.IsAny(err, actor.ErrStoreSilent, context.DeadlineExceeded) {
			v.taken = question{}
		}
		switch {
		case err == nil:
			v.counted["reopened"].Add(1)
			log(v.Logger.Warn()).Msg("opened again: a take-over had closed the grant of a network that the engine still has")
		case ctx.Err() == nil:
			v.once(reopening(g.Grant), func() {
				log(v.Logger.Error()).Err(err).Msg("a take-over has closed the grant of a network that the engine still has, and it cannot be opened again: move the network's containers to another")
			})
		}
	}
}

// question is what only the log answers, at the cost of much of it. The answer changes
// with what it is about, and hardly else: it is asked again after longer and longer.
type question struct {
	about string
	next  time.Time
	pause time.Duration
}

// longestPause is that between two times that the same is asked.
const longestPause = time.Hour

// due says whether to ask now.
func (q *question) due(about string, now time.Time, pause time.Duration) bool {
	switch {
	case about != q.about:
		q.about, q.pause = about, pause
	case now.Before(q.next):
		return false
	default:
		q.pause = min(2*q.pause, max(pause, longestPause))
	}
	q.next = now.Add(q.pause)
	return true
}

// about is what the answer depends on: while this daemon is the host's, none of its grants
// is taken away from it.
func (v *view) about(without []half) string {
	words := []string{fmt.Sprint(v.host.Writer().Incarnation())}
	for _, h := range without {
		words = append(words, h.ID+" "+h.IPAM.Pools[0].Subnet.String())
	}
	slices.Sort(words[1:])
	return strings.Join(words, ",")
}

// half is a network with one of its subnets: one of both families has a grant for each.
type half struct{ engine.Network }

// anyOf says whether the engine does not tell which subnet the network has, but how long
// it is.
func (h half) anyOf() bool { return h.IPAM.Pools[0].Subnet.Addr().IsUnspecified() }

// uses says whether the network can have a subnet, by what is attached to it. Where
// nothing is, a subnet that the engine does not tell can be any.
func (h half) uses(subnet netip.Prefix) bool {
	others := false
	for _, e := range h.Endpoints {
		for _, p := range e.Addresses {
			if subnet.Contains(p.Addr()) {
				return true
			}
			others = others || p.Addr().Is4() == subnet.Addr().Is4()
		}
	}
	return !h.anyOf() || !others
}

// How well a network's subnet is known, the best first.
const (
	told    = iota // by the engine
	used           // by what is attached
	unclear        // not at all
)

// order has those first whose subnet is known best: what is left is for the others.
func (h half) order() int {
	switch {
	case !h.anyOf():
		return told
	case len(h.Endpoints) > 0:
		return used
	default:
		return unclear
	}
}

// withoutGrant finds the networks of ours that are left over when each grant has got one
// that can be its: with the one subnet that has none.
func (v *view) withoutGrant() []half {
	var halves, without []half
	for _, n := range v.seen {
		if !v.Driver.Ours(n) {
			continue
		}
		for _, p := range n.IPAM.Pools {
			h := half{n}
			h.IPAM.Pools = []engine.Pool{p}
			halves = append(halves, h)
		}
	}
	slices.SortStableFunc(halves, func(a, b half) int { return cmp.Compare(a.order(), b.order()) })
	left := slices.Clone(v.grants)
	for _, h := range halves {
		i := slices.IndexFunc(left, func(g actor.Opened) bool { return v.Driver.Granted(h.Network, g.Holding) && h.uses(g.Pool.Subnet) })
		if i < 0 {
			without = append(without, h)
		} else {
			left = slices.Delete(left, i, i+1)
		}
	}
	return without
}
