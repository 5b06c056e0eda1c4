// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"context"
	"net/netip"
	"time"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

const (
	// recallTime is how far back the log is read, after a start, for what is known of
	// holdings. What was attributed earlier is told once more.
	recallTime     = 24 * time.Hour
	recallPatience = time.Minute
	// clockSlack is how far a commit's ID may be from the time of what it tells.
	clockSlack = time.Minute
)

// recollection is what the log knows of a pool's recent past.
type recollection struct {
	told  map[events.ID]events.AddressAttributed // by allocation: the last one
	at    map[events.ID]place                    // by allocation
	given map[place]int                          // how often it was allocated
}

// place is where an endpoint is.
type place struct {
	address netip.Addr
	mac     events.MAC
}

func newRecollection() recollection {
	return recollection{told: map[events.ID]events.AddressAttributed{}, at: map[events.ID]place{}, given: map[place]int{}}
}

// recollect reads a pool's recent past from the log.
func recollect(ctx context.Context, log *etcdlog.Log, pool events.ID) (recollection, error) {
	ctx, cancel := context.WithTimeout(ctx, recallPatience)
	defer cancel()
	now, _ := log.Clock.Stamp()
	records, err := log.Since(ctx, events.PoolStream(pool), now.Add(-recallTime-clockSlack))
	if err != nil {
		return recollection{}, err
	}
	r := newRecollection()
	for _, record := range records {
		for _, e := range record.Events {
			r.take(e)
		}
	}
	return r, nil
}

func (r recollection) take(e events.Event) {
	switch e := e.(type) {
	case events.AddressAllocated:
		p := place{e.Address, e.MAC}
		r.at[e.Allocation] = p
		r.given[p]++
	case events.AddressAttributed:
		e.Attribution = richer(e.Attribution, r.told[e.Allocation].Attribution)
		r.told[e.Allocation] = e
	default:
	}
}

// sole says whether an allocation is the only one that an endpoint with its address and
// its MAC can be of. One whose MAC is not known can be anybody's.
func (r recollection) sole(allocation events.ID) bool {
	p, known := r.at[allocation]
	return known && p.mac != events.MAC{} && r.given[p] == 1 && r.given[place{address: p.address}] == 0
}
