// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"context"
	"encoding/json"
	"maps"
	"math/big"
	"net/netip"
	"slices"

	"github.com/cockroachdb/errors"
	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
)

// The questions below are about the present, which the guards hold: their cost
// is what is held, not what ever happened.

// Catalogue lists the pools there are now, by space, name and subnet.
func Catalogue(ctx context.Context, log *etcdlog.Log) ([]*projection.PoolLife, error) {
	var pools []*projection.PoolLife
	entries, _, err := log.Pools(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		pools = append(pools, &projection.PoolLife{ID: e.ID, Pool: e.Value, Created: projection.Mark{Revision: e.Revision}})
	}
	slices.SortFunc(pools, func(a, b *projection.PoolLife) int {
		return slices.Compare(sortKey(a), sortKey(b))
	})
	return pools, nil
}

// sortKey has pools with a name by it, and those without behind, by subnet.
func sortKey(p *projection.PoolLife) []string {
	unnamed := "0"
	if p.Name == "" {
		unnamed = "1"
	}
	address := p.Subnet.Addr().As16()
	return []string{unnamed, p.Name, string(address[:]), p.Subnet.String(), p.ID.String()}
}

// PoolState is a pool and how full it is.
type PoolState struct {
	*projection.PoolLife
	Size      *big.Int // addresses that can be held
	Held      int      // addresses that are held
	Free      *big.Int // addresses that are given out on their own, and held by nobody
	Suspected int      // addresses whose holder was not found by the last look
	Hosts     []string // those with an open grant, sorted
}

// PoolsNow lists the pools there are with how full they are.
func PoolsNow(ctx context.Context, log *etcdlog.Log) ([]PoolState, error) {
	pools, err := Catalogue(ctx, log)
	if err != nil {
		return nil, err
	}
	states := []PoolState{}
	for _, pool := range pools {
		guards, _, err := log.Guards(ctx, pool.Space, pool.ID)
		if err != nil {
			return nil, errors.Wrapf(err, "read pool %s", Title(pool))
		}
		if guards.Pool.Present() { // else it was retired meanwhile
			states = append(states, stateOf(pool, guards))
		}
	}
	return states, nil
}

func stateOf(pool *projection.PoolLife, g events.Guards) PoolState {
	pool.Pool = g.Pool.Value
	hosts := map[string]bool{}
	for _, grant := range g.Grants {
		if grant.Value.Host != "" && grant.Value.State == events.StateOpen {
			hosts[grant.Value.Host] = true
		}
	}
	return PoolState{
		PoolLife:  pool,
		Size:      projection.NewSubnet(pool.Subnet).Usable(),
		Held:      len(g.Held),
		Free:      freeIn(pool.Pool, g.Held),
		Suspected: g.Suspected(),
		Hosts:     slices.Sorted(maps.Keys(hosts)),
	}
}

// freeIn counts the addresses that the pool could still give out on its own.
func freeIn(pool events.Pool, held map[netip.Addr]events.Guarded[events.Held]) *big.Int {
	subnet := projection.NewSubnet(pool.Subnet)
	picked := subnet.Assignable(pool.Layout, pool.Subnet)
	all, taken := subnet.GivenOut(pool.Layout), int64(0)
	for address := range held {
		offset, ok := subnet.Offset(address)
		if ok && picked.Contains(offset) || pool.Undivided() && subnet.Contains(address) && !subnet.Reserved(address) {
			taken++
		}
	}
	return all.Sub(all, big.NewInt(taken))
}

// MarshalJSON is the promised form of a pool.
func (p PoolState) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Name       *string          `json:"name"`
		ID         string           `json:"id"`
		Space      events.Space     `json:"space"`
		Subnet     netip.Prefix     `json:"subnet"`
		Ranges     []netipx.IPRange `json:"ranges"`
		Exclude    []netipx.IPRange `json:"exclude,omitempty"`
		HostRanges []netipx.IPRange `json:"host_ranges,omitempty"`
		Router     netip.Addr       `json:"router,omitzero"`
		Node       string           `json:"node,omitempty"`
		Size       *big.Int         `json:"size"`
		Held       int              `json:"held"`
		Free       *big.Int         `json:"free"`
		Suspected  int              `json:"suspected"`
		Hosts      []string         `json:"hosts"`
		Policy     events.Policy    `json:"policy"`
	}{
		known(p.Name), p.ID.String(), p.Space, p.Subnet,
		append([]netipx.IPRange{}, p.Ranges...), p.Exclude, p.HostRanges, p.Router, p.Node,
		p.Size, p.Held, p.Free, p.Suspected,
		append([]string{}, p.Hosts...), p.Policy,
	})
}

// HoldersNow lists who holds the addresses of a pool, by address, and the
// revision at which it was so.
func HoldersNow(ctx context.Context, log *etcdlog.Log, pool *projection.PoolLife) ([]Holding, int64, error) {
	guards, revision, err := log.Guards(ctx, pool.Space, pool.ID)
	if err != nil {
		return nil, 0, err
	}
	began := map[events.ID]events.Record{}
	for _, held := range guards.Held {
		for _, a := range held.Value {
			began[a.Commit] = events.Record{}
		}
	}
	// The guards do not say when: the commits that allocated do.
	began, err = log.Commits(ctx, events.PoolStream(pool.ID), slices.SortedFunc(maps.Keys(began), events.ID.Compare))
	if err != nil {
		return nil, 0, err
	}
	holdings := []Holding{}
	for address, held := range guards.Held {
		for _, a := range held.Value {
			commit := began[a.Commit]
			var suspected projection.Mark
			if !a.Suspected.IsZero() {
				// An endpoint has its address alone, so nothing else wrote the guard since.
				suspected = projection.Mark{Revision: held.Revision, Time: a.Suspected}
			}
			holdings = append(holdings, Holding{Holding: projection.Holding{
				Allocation: a.ID, Address: address, Pool: pool, Kind: a.Kind, Shared: a.Shared,
				Host: a.Host, Grant: a.Grant, MAC: a.MAC, Endpoint: a.Endpoint, Why: a.Why,
				From: projection.Mark{Revision: commit.Revision, Time: commit.Time, Suspect: commit.ClockSuspect}, Suspected: suspected,
			}})
		}
	}
	slices.SortFunc(holdings, byAddress)
	return holdings, revision, nil
}
