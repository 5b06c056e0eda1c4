// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// full is what people call a pool, with the subnet beside a name.
func full(p events.Pool) string {
	if p.Name != "" {
		return p.Name + " (" + p.Subnet.String() + ")"
	}
	return p.Title()
}

// called lists the pools that a word means: the one whose id it is, or those of
// that name, or those without a name of that subnet. A node's mirror of a Swarm
// network is found by its id alone.
func called(pools []etcdlog.PoolEntry, word string) []etcdlog.PoolEntry {
	subnet, _ := netip.ParsePrefix(word)
	for _, fits := range []func(etcdlog.PoolEntry) bool{
		func(e etcdlog.PoolEntry) bool { return e.ID.String() == strings.ToUpper(word) },
		func(e etcdlog.PoolEntry) bool { return word != "" && e.Value.Name == word },
		func(e etcdlog.PoolEntry) bool {
			return subnet.IsValid() && e.Value.Name == "" && e.Value.Node == "" && e.Value.Subnet == subnet.Masked()
		},
	} {
		if found := where(pools, fits); len(found) > 0 {
			return found
		}
	}
	return nil
}

func where(pools []etcdlog.PoolEntry, fits func(etcdlog.PoolEntry) bool) []etcdlog.PoolEntry {
	return slices.DeleteFunc(slices.Clone(pools), func(e etcdlog.PoolEntry) bool { return !fits(e) })
}

// one demands that exactly one pool is meant.
func one(found []etcdlog.PoolEntry, what string) (etcdlog.PoolEntry, error) {
	switch len(found) {
	case 0:
		return etcdlog.PoolEntry{}, errors.Mark(errors.Newf("there is no pool %s: ipamlog pools lists those there are", what), ErrNotFound)
	case 1:
		return found[0], nil
	}
	names := make([]string, 0, len(found))
	for _, e := range found {
		names = append(names, e.Value.Title()+" ("+e.ID.String()+")")
	}
	return etcdlog.PoolEntry{}, errors.Mark(errors.Newf("%d pools are meant by %s: %s: name one with --pool", len(found), what, strings.Join(names, ", ")), ErrAmbiguous)
}

// laidOut finds the pool whose subnet is to be divided; false if it is still to be
// made. The word, if there is one, names the pool, or is a name for a new one.
func laidOut(pools []etcdlog.PoolEntry, word string, subnet netip.Prefix) (etcdlog.PoolEntry, bool, error) {
	if word == "" {
		same := where(pools, func(e etcdlog.PoolEntry) bool { return e.Value.Node == "" && e.Value.Subnet == subnet })
		unnamed := slices.IndexFunc(same, func(e etcdlog.PoolEntry) bool { return e.Value.Name == "" })
		switch {
		case unnamed >= 0:
			return same[unnamed], true, nil
		case len(same) > 0:
			return etcdlog.PoolEntry{}, false, errors.Mark(errors.Newf("%s is the subnet of pool %s: say --pool %s if that is meant, or --pool %s for a pool of its own without a name",
				subnet, same[0].Value.Name, same[0].Value.Name, subnet), ErrAmbiguous)
		}
		return etcdlog.PoolEntry{}, false, nil
	}
	found := called(pools, word)
	if len(found) > 1 { // a name is one pool for each family
		found = slices.DeleteFunc(found, func(e etcdlog.PoolEntry) bool { return e.Value.Subnet.Addr().Is6() != subnet.Addr().Is6() })
	}
	if len(found) == 0 {
		named, err := netip.ParsePrefix(word)
		switch {
		case err == nil && named.Masked() != subnet:
			return etcdlog.PoolEntry{}, false, errors.Mark(errors.Newf("the addresses are of %s, and --pool names %s: name the same", subnet, word), ErrInvalid)
		case err != nil && !events.ValidPoolName(word):
			return etcdlog.PoolEntry{}, false, errors.Mark(errors.Newf("--pool %q cannot be a pool's name: use 1 to 128 letters, digits, dots, dashes and underscores", word), ErrInvalid)
		}
		return etcdlog.PoolEntry{}, false, nil
	}
	e, err := one(found, word)
	if err == nil && e.Value.Subnet != subnet {
		err = errors.Newf("pool %s is %s, and the addresses are of %s: write them with the length of the pool's, or name another --pool", e.Value.Title(), e.Value.Subnet, subnet)
	}
	return e, true, err
}

// withAddresses finds the one pool whose subnet has all of a range.
func (o *Operator) withAddresses(ctx context.Context, word string, r netipx.IPRange) (etcdlog.PoolEntry, error) {
	pools, _, err := o.log.Pools(ctx)
	if err != nil {
		return etcdlog.PoolEntry{}, err
	}
	has := func(e etcdlog.PoolEntry) bool {
		return e.Value.Subnet.Contains(r.From()) && e.Value.Subnet.Contains(r.To())
	}
	if word == "" {
		found := where(pools, func(e etcdlog.PoolEntry) bool { return has(e) && e.Value.Node == "" })
		if len(found) == 0 {
			return etcdlog.PoolEntry{}, errors.Mark(errors.Newf("no pool has %s: ipamlog pools lists those there are", events.FormatRange(r)), ErrNotFound)
		}
		return one(found, events.FormatRange(r))
	}
	found := called(pools, word)
	if len(found) > 1 {
		found = where(found, has)
	}
	e, err := one(found, word)
	if err == nil && !has(e) {
		err = errors.Mark(errors.Newf("pool %s is %s, and does not have %s", e.Value.Title(), e.Value.Subnet, events.FormatRange(r)), ErrNotFound)
	}
	return e, err
}

// overlapping finds what a new pool without a name would overlap.
func overlapping(pools []etcdlog.PoolEntry, subnet netip.Prefix) (etcdlog.PoolEntry, bool) {
	i := slices.IndexFunc(pools, func(e etcdlog.PoolEntry) bool {
		return !e.Value.Apart() && e.Value.Subnet.Overlaps(subnet)
	})
	if i < 0 {
		return etcdlog.PoolEntry{}, false
	}
	return pools[i], true
}

// retireEmpty retires a pool that has neither grant nor holding and that nobody
// laid out; false if it has.
func (o *Operator) retireEmpty(ctx context.Context, e etcdlog.PoolEntry) bool {
	if e.Value.Kept {
		return false
	}
	seen := events.NewGuards()
	seen.Pool = e.Guarded
	_, err := o.append(ctx, etcdlog.Proposal{Stream: events.PoolStream(e.ID), Seen: seen, Events: []events.Event{events.PoolRetired{Space: e.Value.Space}}})
	return err == nil
}
