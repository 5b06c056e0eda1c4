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

// Estate is what a dead host has in the local space. Reservations are nobody's, and
// what the swarm holds is no host's.
type Estate struct {
	Host     string
	Holdings int      // an address that several of its networks share counts for each
	Grants   int      // that are open, or were closing when it died
	Pools    []string // where, by their titles
	Begun    bool     // an operator has begun to take it over

	guard events.Guarded[events.HostGuard]
	pools []etcdlog.PoolEntry
}

// errAlive marks the refusal to take over from a host whose daemon is present.
var errAlive = errors.New("the host is alive")

// Empty says whether there is nothing to take over.
func (e Estate) Empty() bool { return len(e.pools) == 0 }

// TakenOver tells what came of a take-over.
type TakenOver struct {
	Host     string   `json:"host"`
	Changed  bool     `json:"changed"`  // false: there was nothing to take over, and nothing was written
	Revision int64    `json:"revision"` // of the last commit; 0 when nothing was written
	Released int      `json:"released"` // holdings that were ended
	Pools    []string `json:"pools"`    // in which it was
	Said     []string `json:"said"`     // what was done, in sentences
	Notes    []string `json:"notes,omitempty"`
}

// Estate looks at what a host has. It is refused while a daemon of the host is alive,
// and for a host that the log does not know ([ErrNotFound]).
func (o *Operator) Estate(ctx context.Context, host string) (Estate, error) {
	e := Estate{Host: host}
	hosts, _, err := o.log.Hosts(ctx)
	if err != nil {
		return e, err
	}
	if e.guard = hosts[host]; !e.guard.Present() {
		return e, errors.Mark(errors.Newf("there is no host %s: ipamlog hosts lists those there are", host), ErrNotFound)
	}
	alive, err := o.log.Alive(ctx)
	if err != nil {
		return e, err
	}
	if _, lives := alive[host]; lives {
		if host == o.writer.Host() {
			return e, errors.Mark(errors.Newf("host %s is this one, and its daemon is running: ipamlog reclaim without --host releases what leaked here", host), errAlive)
		}
		return e, errors.Mark(errors.Newf("host %s is alive, and what it holds is its own: a take-over is for a host that is gone for good", host), errAlive)
	}
	e.Begun = e.guard.Value.TakenOver
	pools, _, err := o.log.Pools(ctx)
	if err != nil {
		return e, err
	}
	for _, entry := range pools {
		if entry.Value.Space != events.Local {
			continue
		}
		guards, _, err := o.log.Guards(ctx, entry.Value.Space, entry.ID)
		if err != nil {
			return e, err
		}
		b := belongingsOf(host, guards)
		if b.none() {
			continue
		}
		e.Holdings += len(b.held)
		e.Grants += len(b.open) + len(b.closing)
		e.Pools, e.pools = append(e.Pools, entry.Value.Title()), append(e.pools, entry)
	}
	return e, nil
}

// belongings are what a host has in one pool.
type belongings struct {
	open, closing []events.ID // grants
	held          []belonging
}

type belonging struct {
	addr       netip.Addr
	allocation events.ID
}

func (b belongings) none() bool { return len(b.open)+len(b.closing)+len(b.held) == 0 }

func belongingsOf(host string, g events.Guards) belongings {
	var b belongings
	for id, grant := range g.Grants {
		switch {
		case grant.Value.Host != host:
		case grant.Value.State == events.StateClosing:
			b.closing = append(b.closing, id)
		default:
			b.open = append(b.open, id)
		}
	}
	for addr, guard := range g.Held {
		for _, a := range guard.Value {
			// What is held through a grant may not outlive it.
			through := !a.Grant.IsZero() && g.Grants[a.Grant].Value.Host == host
			if a.Kind != events.Reserved && (a.Host == host || through) {
				b.held = append(b.held, belonging{addr, a.ID})
			}
		}
	}
	slices.SortFunc(b.open, events.ID.Compare)
	slices.SortFunc(b.closing, events.ID.Compare)
	slices.SortFunc(b.held, func(a, b belonging) int { return a.addr.Compare(b.addr) })
	return b
}

// TakeOver gives back what a dead host has, by a person's word. The first commit says
// so and raises the host's incarnation, so that what an old daemon that wakes up wants
// to close or reclaim is refused; every later one rests on the host's guard as that
// left it, and each demands that no daemon of the host is present. What is not
// finished goes on when it is called again. The errors are those of
// [Operator.Estate], and such that say that something is left.
func (o *Operator) TakeOver(ctx context.Context, host string) (TakenOver, error) {
	out := TakenOver{Host: host, Pools: []string{}}
	for {
		e, err := o.Estate(ctx, host)
		if err == nil && e.Empty() {
			break
		}
		if err == nil {
			err = o.take(ctx, e, &out)
		}
		switch {
		case errors.IsAny(err, etcdlog.ErrConflict, etcdlog.ErrVoided, etcdlog.ErrFenced, etcdlog.ErrHostAlive) && ctx.Err() == nil:
			// Somebody was faster: the next look says who, or that it is alive.
		case errors.Is(err, errAlive) && out.Changed:
			return out, errors.Newf("a daemon of host %s has come back in the middle of the take-over: %s until then; it goes on with what is left, and opens again what was being closed and its Docker still uses: see that its containers still have addresses, and restart those that it tells conflicts of", host, counted(out.Released))
		case err != nil && out.Changed:
			return out, errors.Wrapf(err, "the take-over of host %s is not finished (%s so far), run it again and it goes on", host, counted(out.Released))
		case err != nil:
			return out, err
		}
	}
	if !out.Changed {
		out.Said = append(out.Said, fmt.Sprintf("nothing to do: host %s holds nothing", host))
		return out, nil
	}
	out.Said = append(out.Said, fmt.Sprintf("host %s is taken over: %s in %s", host, counted(out.Released), inPools(out.Pools)))
	out.Notes = append(out.Notes, fmt.Sprintf("others may get these addresses from now on: see that no container on %s uses one, whatever its daemon does", host))
	return out, nil
}

func counted(released int) string {
	if released == 1 {
		return "1 holding was ended"
	}
	return fmt.Sprintf("%d holdings were ended", released)
}

func inPools(pools []string) string {
	if len(pools) == 1 {
		return "pool " + pools[0]
	}
	return fmt.Sprintf("%d pools", len(pools))
}

// take takes over what was looked at.
func (o *Operator) take(ctx context.Context, e Estate, out *TakenOver) error {
	if !e.Begun {
		seen := events.NewGuards()
		seen.Hosts[e.Host] = e.guard
		record, err := o.append(ctx, etcdlog.Proposal{
			Stream: events.Catalogue, Seen: seen, For: e.Host, Dead: []string{e.Host},
			Events: []events.Event{events.HostTakenOver{Host: e.Host, Incarnation: e.guard.Value.Incarnation + 1, By: o.writer.Host()}},
		})
		if err != nil {
			return err
		}
		out.Changed, out.Revision = true, record.Revision
		if err := seen.Apply(record); err != nil {
			return errors.Wrap(err, "apply a commit of our own")
		}
		e.guard = seen.Hosts[e.Host]
	}
	for _, pool := range e.pools {
		if err := o.takePool(ctx, e, pool, out); err != nil {
			return err
		}
	}
	return nil
}

// takePool takes over what the host has in one pool: first its grants are set to
// closing, so that nothing joins them, then what it holds is released, then they are
// closed, as its own daemon does it.
func (o *Operator) takePool(ctx context.Context, e Estate, pool etcdlog.PoolEntry, out *TakenOver) error {
	for ctx.Err() == nil {
		guards, _, err := o.log.Guards(ctx, pool.Value.Space, pool.ID)
		if err != nil {
			return err
		}
		for {
			list, err := nextOf(belongingsOf(e.Host, guards), guards)
			if err != nil || len(list) == 0 {
				return err
			}
			seen := restingOn(guards, list)
			seen.Hosts[e.Host] = e.guard
			record, err := o.append(ctx, etcdlog.Proposal{Stream: events.PoolStream(pool.ID), Events: list, Seen: seen, For: e.Host, Dead: []string{e.Host}})
			if errors.IsAny(err, etcdlog.ErrConflict, etcdlog.ErrVoided) {
				break // somebody else's change: on the guards as they are then
			}
			if err != nil {
				return err
			}
			out.Changed, out.Revision = true, record.Revision
			out.count(pool.Value.Title(), list)
			if err := guards.Apply(record); err != nil {
				return errors.Wrap(err, "apply a commit of our own")
			}
			if retires(list) {
				out.Notes = append(out.Notes, "nothing is left of pool "+pool.Value.Title()+": it is gone")
				return nil
			}
		}
	}
	return errors.Wrap(ctx.Err(), "take a pool over")
}

func (t *TakenOver) count(pool string, list []events.Event) {
	for _, e := range list {
		if _, released := e.(events.AddressReleased); released {
			t.Released++
		}
	}
	if !slices.Contains(t.Pools, pool) {
		t.Pools = append(t.Pools, pool)
	}
}

// nextOf is the next commit of a take-over in a pool, with the pool's end if nothing
// keeps it then.
func nextOf(b belongings, g events.Guards) ([]events.Event, error) {
	size := pieceSize
	if len(g.Grants) == len(b.closing) {
		size = endingSize // it may be the pool's last
	}
	var list []events.Event
	switch {
	case len(b.open) > 0:
		for _, id := range b.open[:min(len(b.open), size)] {
			list = append(list, events.GrantClosing{Grant: id})
		}
	case len(b.held) > 0:
		for _, x := range b.held[:min(len(b.held), size)] {
			list = append(list, events.AddressReleased{Allocation: x.allocation, Address: x.addr, Reason: events.TakenOver})
		}
	default:
		for _, id := range b.closing[:min(len(b.closing), size)] {
			list = append(list, events.GrantClosed{Grant: id})
		}
	}
	if len(list) == 0 {
		return nil, nil
	}
	return ending(g, list)
}

// restingOn are those of a pool's guards that events about its grants and addresses
// rest on.
func restingOn(g events.Guards, list []events.Event) events.Guards {
	seen := leaning(g, list)
	for _, e := range list {
		switch e := e.(type) {
		case events.GrantClosing:
			seen.Grants[e.Grant] = g.Grants[e.Grant]
		case events.GrantClosed:
			seen.Grants[e.Grant] = g.Grants[e.Grant]
		default:
		}
	}
	return seen
}
