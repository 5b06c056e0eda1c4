// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// youth is how long after an address was given out its engine may not know it yet:
// the container is still being started.
const youth = time.Minute

// Engine is this host's Docker, as far as an operator asks it.
type Engine interface {
	// Knows says in words what the engine uses an address for, such as "container
	// c1 on network web"; "" for nothing.
	Knows(ctx context.Context, addr netip.Addr) (string, error)
	// Uses says the same of every address that it uses for anything.
	Uses(ctx context.Context) (map[netip.Addr]string, error)
}

// Releasing is which address to give back.
type Releasing struct {
	Pool    string // the word that names it; "" for the one that has the address
	Address netip.Addr
	Subnet  netip.Prefix // zero: not said
	Force   bool         // ask nobody whether it is in use
}

// ParseReleasing reads an address, with or without the length of its subnet.
func ParseReleasing(text string) (Releasing, error) {
	if p, err := netip.ParsePrefix(text); err == nil && !p.Addr().Is4In6() {
		return Releasing{Address: p.Addr(), Subnet: p.Masked()}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return Releasing{}, invalid("--ip %q is no address such as 10.0.0.5", text)
	}
	return Releasing{Address: a}, nil
}

// ReleaseIP gives a container's address back, that was left behind. Unless it is
// forced it is refused while the owning host's daemon is alive, or its engine knows
// the address, and for what ends with a network.
func (o *Operator) ReleaseIP(ctx context.Context, r Releasing) (Outcome, error) {
	return o.release(ctx, r, func(a events.Allocation) error {
		switch {
		case a.Kind == events.Reserved:
			return errors.Newf("%s is reserved (%s): give it back with ipamlog unreserve %s", r.Address, a.Why, r.Address)
		case a.Kind == events.Host:
			return errors.Newf("%s is held by %s for its bridge: give it back with ipamlog release-host --ip %s", r.Address, holder(a), r.Address)
		case a.Kind != events.Endpoint && !r.Force:
			return errors.Newf("%s is held by %s, and ends with its network: remove that network there, or use --force", r.Address, holder(a))
		}
		return nil
	})
}

// ReleaseHost gives the address of a host's own bridge back, on the conditions of
// [Operator.ReleaseIP]. The bridge and its Docker network stay as they are.
func (o *Operator) ReleaseHost(ctx context.Context, r Releasing) (Outcome, error) {
	out, err := o.release(ctx, r, func(a events.Allocation) error {
		switch {
		case a.Kind == events.Reserved:
			return errors.Newf("%s is reserved (%s): give it back with ipamlog unreserve %s", r.Address, a.Why, r.Address)
		case a.Kind != events.Host:
			return errors.Newf("%s is held by %s, and not by a host for its bridge: use ipamlog release-ip --ip %s", r.Address, holder(a), r.Address)
		}
		return nil
	})
	if err == nil {
		out.Notes = append(out.Notes, "what create-network made on that host is as it was, and the uplink's own addresses and routes may be on the bridge: the operators' page tells how to take it away")
	}
	return out, err
}

// release ends what is held of an address, if that may be given back this way, and
// nobody uses it.
func (o *Operator) release(ctx context.Context, r Releasing, may func(events.Allocation) error) (Outcome, error) {
	entry, err := o.holding(ctx, r)
	if err != nil {
		return Outcome{}, err
	}
	var out Outcome
	record, err := o.commit(ctx, func() (etcdlog.Proposal, error) {
		out = Outcome{Pool: entry.Value.Title(), ID: entry.ID}
		guards, _, err := o.log.Guards(ctx, entry.Value.Space, entry.ID)
		if err != nil {
			return etcdlog.Proposal{}, err
		}
		held := guards.Held[r.Address].Value
		if len(held) == 0 {
			return etcdlog.Proposal{}, nobody(r.Address)
		}
		var dead []string
		for _, a := range held {
			if err := may(a); err != nil {
				return etcdlog.Proposal{}, err
			}
			if r.Force {
				continue
			}
			gone, err := o.unused(ctx, r.Address, a)
			if err != nil {
				return etcdlog.Proposal{}, err
			}
			if gone != "" {
				dead = append(dead, gone)
				out.Notes = append(out.Notes, fmt.Sprintf("no daemon of host %s is running: see that its container is not either", gone))
			}
		}
		p, err := releasing(entry.ID, guards, r.Address, held)
		p.Dead = dead
		since := held[0].ID.Time().UTC().Format(time.RFC3339)
		out.Said = append(out.Said, fmt.Sprintf("%s in pool %s is free; it was held by %s since %s", r.Address, out.Pool, holders(held), since))
		if retires(p.Events) {
			out.Said = append(out.Said, "nothing is left of pool "+out.Pool+": it is gone")
		}
		return p, err
	})
	if errors.Is(err, etcdlog.ErrHostAlive) {
		err = errors.Newf("%s was not released, because its host's daemon has just come back: try again", r.Address)
	}
	if err != nil {
		return Outcome{}, err
	}
	out.wrote(record)
	return out, nil
}

func nobody(addr netip.Addr) error {
	return errors.Mark(errors.Newf("nobody holds %s: ipamlog history %s tells who did", addr, addr), ErrNotFound)
}

// holding finds the pool in which an address is held.
func (o *Operator) holding(ctx context.Context, r Releasing) (etcdlog.PoolEntry, error) {
	pools, _, err := o.log.Pools(ctx)
	if err != nil {
		return etcdlog.PoolEntry{}, err
	}
	if r.Pool != "" {
		if pools = called(pools, r.Pool); len(pools) == 0 {
			return one(nil, r.Pool)
		}
	}
	pools = slices.DeleteFunc(pools, func(e etcdlog.PoolEntry) bool {
		return !e.Value.Subnet.Contains(r.Address) || r.Pool == "" && e.Value.Node != ""
	})
	if len(pools) == 0 {
		return etcdlog.PoolEntry{}, errors.Mark(errors.Newf("no pool has %s: ipamlog pools lists those there are", r.Address), ErrNotFound)
	}
	if r.Subnet.IsValid() {
		of := pools[0].Value
		pools = slices.DeleteFunc(pools, func(e etcdlog.PoolEntry) bool { return e.Value.Subnet != r.Subnet })
		if len(pools) == 0 {
			return etcdlog.PoolEntry{}, errors.Mark(errors.Newf("no pool is %s; %s is in pool %s: write --ip %s", r.Subnet, r.Address, full(of), r.Address), ErrNotFound)
		}
	}
	var found []etcdlog.PoolEntry
	for _, e := range pools {
		held, _, err := o.log.Holding(ctx, e.ID, r.Address)
		if err != nil {
			return etcdlog.PoolEntry{}, err
		}
		if held.Present() {
			found = append(found, e)
		}
	}
	if len(found) == 0 {
		return etcdlog.PoolEntry{}, nobody(r.Address)
	}
	return one(found, r.Address.String())
}

// unused makes sure that nobody uses an address any more, as far as can be asked.
// It names the host that must not come back before the release is in the log.
func (o *Operator) unused(ctx context.Context, addr netip.Addr, a events.Allocation) (dead string, err error) {
	if a.Host == "" {
		return "", errors.Newf("%s is held by %s, and whose it is, the log does not know: see that nobody uses it, then use --force", addr, holder(a))
	}
	alive, err := o.log.Alive(ctx)
	if err != nil {
		return "", err
	}
	presence, lives := alive[a.Host]
	here := a.Host == o.writer.Host() && (!lives || presence.Machine == o.machine)
	switch {
	case lives && !here:
		return "", errors.Newf("%s is held by %s, and host %s is alive: run this there, or use --force", addr, holder(a), a.Host)
	case !here:
		return a.Host, nil
	}
	now, _ := o.log.Clock.Stamp()
	if age := now.Sub(a.ID.Time()); a.Kind == events.Endpoint && age < youth {
		return "", errors.Newf("%s was given to %s %s ago, and that may still be starting: wait a minute, or use --force", addr, holder(a), max(age, 0).Round(time.Second))
	}
	use, err := "", errors.New("--engine is off")
	if o.engine != nil {
		use, err = o.engine.Knows(ctx, addr)
	}
	switch {
	case err != nil && lives:
		return "", errors.Newf("%s is held by %s, and Docker cannot be asked whether it is in use (%v): mend that, or use --force", addr, holder(a), err)
	case use != "":
		return "", errors.Newf("%s is in use by %s: stop or remove that, or use --force", addr, use)
	}
	if err := o.onNoDevice(addr); err != nil {
		return "", err
	}
	if !lives {
		return a.Host, nil
	}
	return "", nil
}

// onNoDevice makes sure that no device of this machine has an address: Docker does
// not know a bridge whose network is gone.
func (o *Operator) onNoDevice(addr netip.Addr) error {
	if o.device == nil {
		return nil
	}
	switch name, err := o.device(addr); {
	case err != nil:
		return errors.Newf("this machine's devices cannot be asked whether one has %s (%v): try again, or use --force", addr, err)
	case name != "":
		return errors.Newf("this machine's device %s has %s: remove it with ip link del %s if it is a bridge that nothing uses, or use --force", name, addr, name)
	}
	return nil
}

// releasing proposes the end of holdings of one address, and of their pool if
// nothing keeps it then. The guards are all of the pool's.
func releasing(pool events.ID, g events.Guards, addr netip.Addr, ends events.Held) (etcdlog.Proposal, error) {
	p := etcdlog.Proposal{Stream: events.PoolStream(pool), Seen: events.NewGuards()}
	p.Seen.Held[addr] = g.Held[addr]
	for _, a := range ends {
		p.Events = append(p.Events, events.AddressReleased{Allocation: a.ID, Address: addr, Reason: events.Released})
	}
	var err error
	if p.Events, err = ending(g, p.Events); retires(p.Events) {
		p.Seen.Pool = g.Pool
	}
	return p, err
}
