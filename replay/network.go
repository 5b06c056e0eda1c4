// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/projection"
)

// Who uses Docker knows its networks, and may never have given a pool a name. Where
// no pool is called so, a word may mean the pool behind a network.

// PoolOrNetworkAt is [History.PoolAt] for a word that may also be the name or the id
// of a Docker network whose addresses came from one pool at that moment; network then
// says so. What PoolAt returns is returned if there is none.
func (h *History) PoolOrNetworkAt(word string, m Moment) (pool *projection.PoolLife, network bool, err error) {
	pool, err = h.PoolAt(word, m)
	if !errors.Is(err, ErrNotFound) {
		return pool, false, err
	}
	has, unread := h.network(word)
	if unread != nil {
		return nil, false, unread
	}
	if has == nil {
		return nil, false, err
	}
	// A network may have had other pools before it was made anew: what it holds then
	// tells. One that held nothing at that moment is where it ever was.
	found := poolsOf(h.Holders(nil, m), has)
	if len(found) == 0 {
		for _, p := range h.poolsEverOf(has) {
			if p.At(m.Revision) {
				found = append(found, p)
			}
		}
	}
	switch len(found) {
	case 1:
		return found[0], true, nil
	case 0:
		return nil, false, err
	}
	return nil, false, ambiguous(word, found)
}

// PoolsOrNetworkEver is [History.PoolsEver] for a word that may also be the name or
// the id of a Docker network whose addresses came from one pool, whatever its
// incarnations; network then says so.
func (h *History) PoolsOrNetworkEver(word string) (pools []*projection.PoolLife, network bool, err error) {
	pools, err = h.PoolsEver(word)
	if !errors.Is(err, ErrNotFound) {
		return pools, false, err
	}
	has, unread := h.network(word)
	if unread != nil {
		return nil, false, unread
	}
	if has == nil {
		return nil, false, err
	}
	found := h.poolsEverOf(has)
	for _, p := range found {
		if !reborn(p, found[0]) {
			return nil, false, ambiguous(word, found)
		}
	}
	for _, p := range h.timeline.Pools() {
		if reborn(p, found[0]) {
			pools = append(pools, p)
		}
	}
	return pools, true, nil
}

// reborn says whether two pools are one to people: that of one name or, unnamed, of
// one subnet, in one space.
func reborn(p, q *projection.PoolLife) bool { return p.Space == q.Space && Title(p) == Title(q) }

// network says whether a holding is of the Docker network that a word means; nil if
// it means none.
func (h *History) network(word string) (chosen, error) {
	has, err := networks.called(h, word)
	if has == nil && err == nil {
		has, err = networks.begins(h, word)
	}
	return has, err
}

// poolsEverOf lists the pools of everything chosen there ever was.
func (h *History) poolsEverOf(has chosen) []*projection.PoolLife {
	return poolsOf(h.gather(Moment{}, has), has)
}

// poolsOf lists the pools of the chosen ones, each once.
func poolsOf(list []Holding, has chosen) []*projection.PoolLife {
	var pools []*projection.PoolLife
	for i := range list {
		if x := &list[i]; has(&x.Holding) && !slices.Contains(pools, x.Pool) {
			pools = append(pools, x.Pool)
		}
	}
	return pools
}
