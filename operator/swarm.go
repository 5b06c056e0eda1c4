// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// Remains are what is held in the global space, for a swarm and for no host.
// Reservations are nobody's.
type Remains struct {
	Holdings int
	Grants   int      // that are open, or were closing
	Pools    []string // where, by their titles

	at      int64 // everything else was read later
	us      events.Guarded[events.HostGuard]
	pools   []etcdlog.PoolEntry
	mirrors []string // the hosts that have a mirror of a Swarm network
}

// Empty says whether nothing is held.
func (r Remains) Empty() bool { return len(r.pools) == 0 }

// SwarmReclaimed tells what came of [Operator.ReclaimSwarm].
type SwarmReclaimed struct {
	Changed  bool     `json:"changed"`  // false: nothing was held, and nothing was written
	Revision int64    `json:"revision"` // of the last commit; 0 when nothing was written
	Released int      `json:"released"` // holdings that were ended
	Pools    []string `json:"pools"`    // in which it was
	Said     []string `json:"said"`
	Notes    []string `json:"notes,omitempty"`
}

// Remains looks at what is held for a swarm, once there is none. It is refused unless
// every daemon that is alive says that it answers no swarm, and none is dead whose host
// had a part in a Swarm network.
func (o *Operator) Remains(ctx context.Context) (Remains, error) {
	var r Remains
	pools, at, err := o.log.Pools(ctx)
	if err != nil {
		return r, err
	}
	r.at = at
	for _, entry := range pools {
		if node := entry.Value.Node; node != "" && !slices.Contains(r.mirrors, node) {
			r.mirrors = append(r.mirrors, node)
		}
		if entry.Value.Space != events.Global {
			continue
		}
		guards, _, err := o.log.Guards(ctx, entry.Value.Space, entry.ID)
		if err != nil {
			return r, err
		}
		b := belongingsOf("", guards)
		if b.none() {
			continue
		}
		r.Holdings += len(b.held)
		r.Grants += len(b.open) + len(b.closing)
		r.Pools, r.pools = append(r.Pools, entry.Value.Title()), append(r.pools, entry)
	}
	slices.Sort(r.mirrors)
	if r.Empty() {
		return r, nil
	}
	hosts, _, err := o.log.Hosts(ctx)
	if err != nil {
		return r, err
	}
	r.us = hosts[o.writer.Host()]
	alive, err := o.log.Alive(ctx)
	if err != nil {
		return r, err
	}
	return r, r.refuse(alive)
}

// refuse says why a swarm may still use what is held; nil if none can.
func (r Remains) refuse(alive map[string]etcdlog.Presence) error {
	var members, silent, dead []string
	for host, p := range alive {
		switch mirrors := slices.Contains(r.mirrors, host); {
		case p.Swarm == "", p.Swarm == etcdlog.SwarmUnasked && mirrors:
			silent = append(silent, host)
		case !p.Swarmless():
			members = append(members, host)
		}
	}
	for _, host := range r.mirrors {
		if _, lives := alive[host]; !lives {
			dead = append(dead, host)
		}
	}
	switch {
	case len(members) > 0:
		return errors.Newf("the Docker of %s is in a swarm, and may use what is held: remove the swarm's networks, or leave it everywhere with docker swarm leave --force first; a single address is given back with ipamlog release-ip --force", named(members))
	case len(silent) > 0:
		return errors.Newf("it is not known yet whether the Docker of %s is in a swarm: try again in a moment, and see that the daemon there is this version of ipamlog and may ask Docker with --engine", named(silent))
	case len(dead) > 0:
		return errors.Newf("%s had part in a Swarm network, and no daemon is alive there to say whether its Docker still is in the swarm: start it, or, if the host is gone for good, run ipamlog reclaim --host %s first", named(dead), dead[0])
	}
	return nil
}

// named lists hosts in words.
func named(hosts []string) string {
	slices.Sort(hosts)
	if len(hosts) == 1 {
		return "host " + hosts[0]
	}
	shown := hosts[:min(len(hosts), shownHolders)]
	words := "hosts " + strings.Join(shown[:len(shown)-1], ", ")
	if more := len(hosts) - len(shown); more > 0 {
		return fmt.Sprintf("%s, %s and %d more", words, shown[len(shown)-1], more)
	}
	return words + " and " + shown[len(shown)-1]
}

// ReclaimSwarm gives back what a swarm held that was dissolved, by a person's word: its
// grants are closed as Docker would have had them closed. A commit that sets a grant to
// closing demands that no daemon has come, or told anything else, since all said that
// they answer no swarm; they take that back before they answer one. After it nothing can
// join the grant, and the rest follows whoever comes. What is not finished goes on when
// it is called again. The errors are those of [Operator.Remains], and such that say that
// something is left.
func (o *Operator) ReclaimSwarm(ctx context.Context) (SwarmReclaimed, error) {
	out := SwarmReclaimed{Pools: []string{}, Said: []string{}}
	for {
		r, err := o.Remains(ctx)
		if err == nil && r.Empty() {
			out.conclude(r)
			return out, nil
		}
		for i := 0; i < len(r.pools) && err == nil; i++ {
			err = o.endPool(ctx, r, r.pools[i], &out)
		}
		switch {
		case errors.IsAny(err, etcdlog.ErrConflict, etcdlog.ErrVoided, etcdlog.ErrFenced) && ctx.Err() == nil:
			// Somebody was faster: the next look says who.
		case err != nil && out.Changed:
			return out, errors.Wrapf(err, "this is not finished (%s so far), run it again and it goes on", counted(out.Released))
		case err != nil:
			return out, err
		}
	}
}

func (out *SwarmReclaimed) conclude(r Remains) {
	if !out.Changed {
		out.Said = append(out.Said, "nothing to do: nothing is held for a swarm")
		return
	}
	out.Said = append(out.Said, fmt.Sprintf("what the swarm left is given back: %s in %s", counted(out.Released), inPools(out.Pools)))
	if len(r.mirrors) > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("what %s mirrored of it is in nobody's way: the daemon there gives it back within minutes, unless it was told not to with --reconcile", named(r.mirrors)))
	}
}

// endPool ends what the swarm has in one pool: what was begun first.
func (o *Operator) endPool(ctx context.Context, r Remains, pool etcdlog.PoolEntry, out *SwarmReclaimed) error {
	for ctx.Err() == nil {
		guards, _, err := o.log.Guards(ctx, pool.Value.Space, pool.ID)
		if err != nil {
			return err
		}
		for {
			p, err := r.next(pool.ID, o.writer.Host(), guards)
			if err != nil || len(p.Events) == 0 {
				return err
			}
			record, err := o.append(ctx, p)
			if errors.IsAny(err, etcdlog.ErrConflict, etcdlog.ErrVoided) && p.AliveAt == 0 {
				break // somebody else goes on with it too
			}
			if err != nil {
				return err
			}
			out.wrote(pool.Value.Title(), record)
			if err := guards.Apply(record); err != nil {
				return errors.Wrap(err, "apply a commit of our own")
			}
			if retires(p.Events) {
				out.Notes = append(out.Notes, "nothing is left of pool "+pool.Value.Title()+": it is gone")
				return nil
			}
		}
	}
	return errors.Wrap(ctx.Err(), "close what a swarm left")
}

func (out *SwarmReclaimed) wrote(pool string, record events.Record) {
	out.Changed, out.Revision = true, record.Revision
	for _, e := range record.Events {
		if _, released := e.(events.AddressReleased); released {
			out.Released++
		}
	}
	if !slices.Contains(out.Pools, pool) {
		out.Pools = append(out.Pools, pool)
	}
}

// next is the next commit for a pool: nothing, if nothing is left. Like everything that
// closes, it rests on the guard of the host that writes it.
func (r Remains) next(pool events.ID, host string, g events.Guards) (etcdlog.Proposal, error) {
	b := belongingsOf("", g)
	b.held = slices.DeleteFunc(b.held, func(x belonging) bool {
		return slices.Contains(b.open, grantOf(g, x.addr, x.allocation))
	})
	p := etcdlog.Proposal{Stream: events.PoolStream(pool), For: host}
	switch {
	case len(b.held) > 0:
		for _, x := range b.held[:min(len(b.held), endingSize)] {
			p.Events = append(p.Events, events.AddressReleased{Allocation: x.allocation, Address: x.addr, Reason: events.GrantEnded})
		}
	case len(b.closing) > 0:
		for _, id := range b.closing[:min(len(b.closing), endingSize)] {
			p.Events = append(p.Events, events.GrantClosed{Grant: id})
		}
	default:
		for _, id := range b.open[:min(len(b.open), pieceSize)] {
			p.Events = append(p.Events, events.GrantClosing{Grant: id})
		}
		p.AliveAt = r.at
	}
	if len(p.Events) == 0 {
		return p, nil
	}
	var err error
	if p.Events, err = ending(g, p.Events); err != nil {
		return p, err
	}
	p.Seen = restingOn(g, p.Events)
	for _, e := range p.Events {
		if e, ok := e.(events.AddressReleased); ok {
			if id := grantOf(g, e.Address, e.Allocation); g.Grants[id].Present() {
				p.Seen.Grants[id] = g.Grants[id] // it must be closing still
			}
		}
	}
	if r.us.Present() {
		p.Seen.Hosts[host] = r.us
	}
	return p, nil
}

// grantOf is the grant that an allocation is held through.
func grantOf(g events.Guards, addr netip.Addr, allocation events.ID) events.ID {
	held := g.Held[addr].Value
	return held[held.Index(allocation)].Grant
}
