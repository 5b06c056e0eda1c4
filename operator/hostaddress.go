// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"net/netip"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
)

// HostAddresses gives hosts the addresses of their own bridges, out of the host
// ranges of the local pools. Safe for concurrent use.
type HostAddresses struct{ o *Operator }

// HostAddresses returns the addresses for hosts' bridges, to be taken for the host
// under whose name the operator writes.
func (o *Operator) HostAddresses() HostAddresses { return HostAddresses{o} }

// HostAddress is the address of a host's own bridge.
type HostAddress struct {
	Address  netip.Addr
	Subnet   netip.Prefix
	PoolName string     // empty: the pool has none
	Router   netip.Addr // zero: it is not known
	// Fresh says that the host did not have it before. [HostAddresses.Look] says by
	// it that the host does not have it yet.
	Fresh bool

	pool       events.ID
	allocation events.ID
}

// Prefix is the address with the length of its subnet.
func (a HostAddress) Prefix() netip.Prefix { return netip.PrefixFrom(a.Address, a.Subnet.Bits()) }

// Look tells what [HostAddresses.Take] would give now, and writes nothing.
func (h HostAddresses) Look(ctx context.Context, pool string, wish netip.Addr) (HostAddress, error) {
	address, _, err := h.plan(ctx, pool, wish)
	return address, err
}

// Take gives this host an address of the pool, which may be "" where only one has
// host ranges: the one it has already, or else the wish, or the lowest free one. An
// address whose owner is not known, as an import left it, is taken over by the
// wish for it.
func (h HostAddresses) Take(ctx context.Context, pool string, wish netip.Addr) (HostAddress, error) {
	var address HostAddress
	_, err := h.o.commit(ctx, func() (p etcdlog.Proposal, err error) {
		address, p, err = h.plan(ctx, pool, wish)
		return p, err
	})
	if err != nil || !address.Fresh {
		return address, err
	}
	return h.onlyOne(ctx, address)
}

// GiveBack ends the holding that [HostAddresses.Take] began. One that has ended
// is no error.
func (h HostAddresses) GiveBack(ctx context.Context, address HostAddress) error {
	_, err := h.o.commit(ctx, func() (etcdlog.Proposal, error) {
		guards, _, err := h.o.log.Guards(ctx, events.Local, address.pool)
		if err != nil || guards.Held[address.Address].Value.Index(address.allocation) < 0 {
			return etcdlog.Proposal{}, err
		}
		return releasing(address.pool, guards, address.Address, guards.Held[address.Address].Value[:1])
	})
	return errors.Wrapf(err, "give %s back", address.Address)
}

// onlyOne finds out whether this host has taken another address of the pool at the
// same moment. The one that came first stands.
func (h HostAddresses) onlyOne(ctx context.Context, taken HostAddress) (HostAddress, error) {
	guards, _, err := h.o.log.Guards(ctx, events.Local, taken.pool)
	if err != nil {
		return taken, errors.CombineErrors(err, h.GiveBack(context.WithoutCancel(ctx), taken))
	}
	first, address := guards.Held[taken.Address].Revision, taken
	for addr, a := range h.own(guards) {
		if revision := guards.Held[addr].Revision; revision < first {
			first, address.Address, address.allocation, address.Fresh = revision, addr, a.ID, false
		}
	}
	if address.Address == taken.Address {
		return taken, nil
	}
	return address, h.GiveBack(ctx, taken)
}

// own are the addresses of this host's bridges in a pool.
func (h HostAddresses) own(g events.Guards) map[netip.Addr]events.Allocation {
	own := map[netip.Addr]events.Allocation{}
	for addr, guard := range g.Held {
		for _, a := range guard.Value {
			if a.Kind == events.Host && a.Host == h.o.writer.Host() {
				own[addr] = a
			}
		}
	}
	return own
}

// isThisHost refuses to act for a host that is another machine in the log.
func (o *Operator) isThisHost(ctx context.Context) error {
	machine, err := o.log.Machine(ctx, o.writer.Host())
	switch {
	case err != nil && !errors.Is(err, etcdlog.ErrHostAlive): // its daemon may well be alive
		return err
	case machine != "" && machine != o.machine:
		return errors.Newf("host %s is another machine in the log: run this there, or name this machine with --host", o.writer.Host())
	}
	return nil
}

// plan decides which address this host gets, and how that is written; without
// events when it has one.
func (h HostAddresses) plan(ctx context.Context, pool string, wish netip.Addr) (HostAddress, etcdlog.Proposal, error) {
	if err := h.o.isThisHost(ctx); err != nil {
		return HostAddress{}, etcdlog.Proposal{}, err
	}
	entry, err := h.pool(ctx, pool, wish)
	if err != nil {
		return HostAddress{}, etcdlog.Proposal{}, err
	}
	guards, _, err := h.o.log.Guards(ctx, entry.Value.Space, entry.ID)
	if err != nil {
		return HostAddress{}, etcdlog.Proposal{}, err
	}
	if !guards.Pool.Present() {
		return h.plan(ctx, pool, wish) // it retired between the two looks
	}
	p := guards.Pool.Value
	address := HostAddress{Subnet: p.Subnet, PoolName: p.Name, Router: p.Router, pool: entry.ID}
	own := h.own(guards)
	for addr, a := range own {
		if !address.Address.IsValid() || addr.Less(address.Address) || addr == wish {
			address.Address, address.allocation = addr, a.ID
		}
		if addr == wish {
			break
		}
	}
	if address.Address.IsValid() {
		if wish.IsValid() && address.Address != wish {
			err = errors.Newf("host %s has %s in pool %s already: leave out --ip, or give that back with ipamlog release-host --ip %s first", h.o.writer.Host(), address.Address, p.Title(), address.Address)
		}
		return address, etcdlog.Proposal{}, err
	}
	if address.Address, err = choose(p, guards, wish); err != nil {
		return HostAddress{}, etcdlog.Proposal{}, err
	}
	address.Fresh, address.allocation = true, h.o.log.Clock.NewID()
	proposal := etcdlog.Proposal{Stream: events.PoolStream(entry.ID), Seen: events.NewGuards()}
	proposal.Seen.Pool = guards.Pool
	if was := guards.Held[address.Address]; was.Present() { // nobody knows whose
		proposal.Seen.Held[address.Address] = was
		proposal.Events = append(proposal.Events, events.AddressReleased{Allocation: was.Value[0].ID, Address: address.Address, Reason: events.Superseded})
	}
	proposal.Events = append(proposal.Events, events.AddressAllocated{
		Allocation: address.allocation, Address: address.Address, Kind: events.Host, Host: h.o.writer.Host(),
	})
	return address, proposal, nil
}

// pool finds the pool that a host's address is wished of.
func (h HostAddresses) pool(ctx context.Context, word string, wish netip.Addr) (etcdlog.PoolEntry, error) {
	pools, _, err := h.o.log.Pools(ctx)
	if err != nil {
		return etcdlog.PoolEntry{}, err
	}
	divided := func(e etcdlog.PoolEntry) bool { return e.Value.Space == events.Local && len(e.Value.HostRanges) > 0 }
	if word == "" {
		found := where(pools, func(e etcdlog.PoolEntry) bool {
			return divided(e) && (!wish.IsValid() || e.Value.Subnet.Contains(wish))
		})
		if len(found) > 0 {
			return one(found, "the addresses for hosts")
		}
		if wish.IsValid() {
			return etcdlog.PoolEntry{}, errors.Mark(errors.Newf("no pool keeps %s for hosts: make a range with ipamlog host-range first", wish), ErrNotFound)
		}
		return etcdlog.PoolEntry{}, errors.Mark(errors.New("no pool keeps addresses for hosts: make a range with ipamlog host-range first"), ErrNotFound)
	}
	found := called(pools, word)
	if len(found) > 1 {
		found = where(found, divided)
	}
	e, err := one(found, word)
	if err == nil && !divided(e) {
		err = errors.Newf("pool %s keeps no addresses for hosts: make a range with ipamlog host-range --pool %s first", word, word)
	}
	return e, err
}

// choose picks the address that was wished, or the lowest free one.
func choose(p events.Pool, g events.Guards, wish netip.Addr) (netip.Addr, error) {
	subnet := projection.NewSubnet(p.Subnet)
	spans := subnet.HostSpans(p.Layout)
	if wish.IsValid() {
		offset, ok := subnet.Offset(wish)
		held := g.Held[wish].Value
		switch {
		case !ok || !spans.Contains(offset):
			return wish, errors.Newf("%s is not kept for hosts in pool %s: choose one of %s", wish, p.Title(), listed(p.HostRanges))
		case len(held) > 0 && (held[0].Kind != events.Host || held[0].Host != ""):
			return wish, errors.Newf("%s is held by %s: choose another --ip, or leave it out", wish, holders(held))
		}
		return wish, nil
	}
	for _, span := range spans.List() {
		for offset := span.First; ; offset++ {
			if addr := subnet.Addr(offset); !g.Held[addr].Present() {
				return addr, nil
			}
			if offset == span.Last {
				break
			}
		}
	}
	return netip.Addr{}, errors.Newf("all addresses that pool %s keeps for hosts are held: give it more with ipamlog host-range, or give one back with ipamlog release-host", p.Title())
}
