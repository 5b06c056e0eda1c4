// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// secondLook is how long a holding must have been suspected before it is reclaimed,
// unless [Options] says otherwise: a container that was being started when Docker was
// asked first is known by then.
const secondLook = 30 * time.Second

// Fate is what is to become of a holding that may have leaked.
type Fate string

// The fates.
const (
	Suspect Fate = "suspect" // Docker does not know it, for the first time
	Wait    Fate = "wait"    // nor the second, but too soon after it
	Reclaim Fate = "reclaim" // nor the second
	Keep    Fate = "keep"    // Docker knows it after all
)

// Leak is a container's address on this host whose release may have been lost: its
// engine does not know it, or did not.
type Leak struct {
	Pool       etcdlog.PoolEntry
	Address    netip.Addr
	Allocation events.Allocation
	Fate       Fate
	Why        string // in words

	guards events.Guards // all of the pool's, read before the engine was asked
}

// Leaks looks for what may have leaked on this host, by pool and address, and says
// what [Operator.Reclaim] would do about it. It is for the machine that the log knows
// as this host.
func (o *Operator) Leaks(ctx context.Context) ([]Leak, error) {
	leaks, _, err := o.leaks(ctx)
	return leaks, err
}

func (o *Operator) leaks(ctx context.Context) ([]Leak, events.Guarded[events.HostGuard], error) {
	us, err := o.ourselves(ctx)
	if err != nil {
		return nil, us, err
	}
	held, err := o.endpoints(ctx)
	if err != nil || len(held) == 0 {
		return held, us, err
	}
	if o.engine == nil {
		return nil, us, errors.New("Docker cannot be asked what it uses, because --engine is off: name its address")
	}
	uses, err := o.engine.Uses(ctx)
	if err != nil {
		return nil, us, errors.Wrap(err, "ask Docker what it uses")
	}
	now, _ := o.log.Clock.Stamp()
	leaks := []Leak{}
	for _, l := range held {
		if l.judge(uses[l.Address], now, o.grace) {
			leaks = append(leaks, l)
		}
	}
	return leaks, us, nil
}

// endpoints are what containers of this host hold, and may have leaked.
func (o *Operator) endpoints(ctx context.Context) ([]Leak, error) {
	pools, _, err := o.log.Pools(ctx)
	if err != nil {
		return nil, err
	}
	held := []Leak{}
	for _, pool := range pools {
		if pool.Value.Space != events.Local || pool.Value.Node != "" {
			continue // the swarm's, and what mirrors it
		}
		guards, _, err := o.log.Guards(ctx, pool.Value.Space, pool.ID)
		if err != nil {
			return nil, err
		}
		first := len(held)
		for addr, guard := range guards.Held {
			for _, a := range guard.Value {
				if a.Kind == events.Endpoint && a.Host == o.writer.Host() {
					held = append(held, Leak{Pool: pool, Address: addr, Allocation: a, guards: guards})
				}
			}
		}
		slices.SortFunc(held[first:], func(a, b Leak) int { return a.Address.Compare(b.Address) })
	}
	return held, nil
}

// judge decides what is to become of the holding; false: nothing.
func (l *Leak) judge(use string, now time.Time, grace time.Duration) bool {
	suspected := l.Allocation.Suspected
	since := suspected.UTC().Format(time.RFC3339)
	found := actor.Finding{
		Known: use != "", Suspected: !suspected.IsZero(), Young: now.Sub(l.Allocation.ID.Time()) < youth, Ripe: now.Sub(suspected) >= grace,
	}
	switch found.Verdict() {
	case actor.Leave:
		return false
	case actor.Clear:
		l.Fate, l.Why = Keep, "Docker did not know it at "+since+", and it is in use by "+use
	case actor.Suspect:
		l.Fate, l.Why = Suspect, "Docker does not know it"
	case actor.Wait:
		l.Fate, l.Why = Wait, "Docker has not known it since "+since+" only: run this again in a moment"
	case actor.Reclaim:
		l.Fate, l.Why = Reclaim, "Docker has not known it since "+since+", and does not now"
	}
	return true
}

// Reclaimed tells what came of [Operator.Reclaim].
type Reclaimed struct {
	Host      string   `json:"host"`
	Changed   bool     `json:"changed"`
	Revision  int64    `json:"revision"`  // of the last commit; 0 when nothing was written
	Reclaimed int      `json:"reclaimed"` // holdings that were ended
	Suspected int      `json:"suspected"` // holdings that are suspected from now on
	Kept      int      `json:"kept"`      // suspected ones that were not ended
	Said      []string `json:"said"`
	Notes     []string `json:"notes,omitempty"`
}

// Reclaim looks for what leaked on this host, in the two steps in which its daemon does
// it: what the engine does not know is suspected, and what it does not know a while
// later either is ended. What is asked for meanwhile stays. It is for the machine that
// the log knows as this host.
func (o *Operator) Reclaim(ctx context.Context) (Reclaimed, error) {
	out := Reclaimed{Host: o.writer.Host(), Said: []string{}}
	leaks, us, err := o.leaks(ctx)
	if err != nil {
		return out, err
	}
	for _, l := range leaks {
		if err := o.settle(ctx, us, l, &out); err != nil {
			return out, err
		}
	}
	if len(out.Said) == 0 && out.Kept == 0 {
		out.Said = append(out.Said, fmt.Sprintf("nothing to do: nothing of host %s has leaked", out.Host))
	}
	return out, nil
}

// settle brings what is to become of a holding into the log.
func (o *Operator) settle(ctx context.Context, us events.Guarded[events.HostGuard], l Leak, out *Reclaimed) error {
	what := fmt.Sprintf("%s in pool %s", l.Address, l.Pool.Value.Title())
	var e events.Event
	switch l.Fate {
	case Suspect:
		e = events.AddressSuspected{Allocation: l.Allocation.ID, Address: l.Address}
	case Reclaim:
		e = events.AddressReclaimed{Allocation: l.Allocation.ID, Address: l.Address}
	case Keep, Wait:
		out.keep(what, l, l.Why)
		return nil
	}
	record, err := o.judged(ctx, us, l, e)
	switch {
	case errors.Is(err, etcdlog.ErrConflict):
		out.keep(what, l, "it was asked for, or given back, in this very moment")
		return nil
	case errors.Is(err, etcdlog.ErrFenced):
		return errors.Newf("a daemon of host %s has just started, or its addresses were taken over: %d were reclaimed before that, run this again for the rest", out.Host, out.Reclaimed)
	case err != nil:
		return err
	}
	out.Changed, out.Revision = true, record.Revision
	if l.Fate == Suspect {
		out.Suspected++
		out.Said = append(out.Said, fmt.Sprintf("%s is suspected: Docker does not know %s; run this again in %s, and it is reclaimed if Docker does not know it then either", what, holder(l.Allocation), o.grace))
		return nil
	}
	out.Reclaimed++
	out.Said = append(out.Said, fmt.Sprintf("%s is free; it was held by %s: %s", what, holder(l.Allocation), l.Why))
	return nil
}

func (r *Reclaimed) keep(what string, l Leak, why string) {
	r.Kept++
	r.Notes = append(r.Notes, fmt.Sprintf("%s stays held by %s: %s", what, holder(l.Allocation), why))
}

// ourselves is the guard of this host, if this is the machine that has its name.
func (o *Operator) ourselves(ctx context.Context) (events.Guarded[events.HostGuard], error) {
	hosts, _, err := o.log.Hosts(ctx)
	if err != nil {
		return events.Guarded[events.HostGuard]{}, err
	}
	name := o.writer.Host()
	switch guard := hosts[name]; {
	case !guard.Present():
		return guard, errors.Mark(errors.Newf("there is no host %s: name this machine's with IPAMLOG_HOST, ipamlog hosts lists those there are", name), ErrNotFound)
	case guard.Value.Machine != o.machine:
		return guard, errors.Newf("host %s is another machine, whose Docker cannot be asked from here: run this there", name)
	default:
		return guard, nil
	}
}

// judged commits what was judged, on the guards from before the engine was asked.
func (o *Operator) judged(ctx context.Context, us events.Guarded[events.HostGuard], l Leak, e events.Event) (events.Record, error) {
	// A holding through a grant is never its pool's last; one without may be.
	list, err := ending(l.guards, []events.Event{e})
	if err != nil {
		return events.Record{}, err
	}
	seen := events.NewGuards()
	seen.Pool, seen.Held[l.Address], seen.Hosts[o.writer.Host()] = l.guards.Pool, l.guards.Held[l.Address], us
	return o.append(ctx, etcdlog.Proposal{Stream: events.PoolStream(l.Pool.ID), Events: list, Seen: seen, For: o.writer.Host()})
}
