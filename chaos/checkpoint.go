// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
)

// settlePatience is how long what was answered out of the spool may take to come into
// the log, while there is trouble.
const settlePatience = 2 * time.Minute

// holding is what the guards in the store say of an address.
type holding struct {
	spot
	events.Allocation
}

// guards reads what is held, and through which grants, in all pools.
func (p *place) guards(ctx context.Context) (held []holding, grants map[events.ID]grantAt, err error) {
	pools, _, err := p.log.Pools(ctx)
	if err != nil {
		return nil, nil, err
	}
	grants = map[events.ID]grantAt{}
	for _, pool := range pools {
		guards, _, err := p.log.Guards(ctx, events.Local, pool.ID)
		if err != nil {
			return nil, nil, err
		}
		for address, guard := range guards.Held {
			for _, a := range guard.Value {
				held = append(held, holding{spot{pool.Value.Name, address}, a})
			}
		}
		for id, g := range guards.Grants {
			grants[id] = grantAt{pool.ID, pool.Value, g.Value.Host}
		}
	}
	return held, grants, nil
}

// grantAt is where a grant is.
type grantAt struct {
	id   events.ID
	pool events.Pool
	host string
}

// look compares the guards with what clients know, while nobody asks for anything:
// what they were told they have is held by them, and what they were told they have
// given back is not, as soon as the spools are empty.
func (r *running) look(ctx context.Context) {
	r.gate.Lock()
	defer r.gate.Unlock()
	r.looks++
	ctx, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	for {
		missing, late, err := r.compare(ctx)
		for _, m := range missing {
			r.fail("%s", m)
		}
		if err == nil && len(late) == 0 || len(missing) > 0 {
			return
		}
		if !last(ctx, 200*time.Millisecond) {
			if err != nil {
				r.fail("the guards could not be read: %v", err)
			}
			for _, l := range late {
				r.fail("%s", l)
			}
			return
		}
	}
}

// compare says what is missing in the store, and what should not be there any more.
func (r *running) compare(ctx context.Context) (missing, late []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	held, _, err := r.place.guards(ctx)
	if err != nil {
		return nil, nil, errors.Wrap(err, "read what is held")
	}
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	unseen := maps.Clone(r.ledger.has)
	for _, h := range held {
		at, known := r.ledger.has[h.MAC]
		switch {
		case known && at == h.spot:
			delete(unseen, h.MAC)
		case !known && !r.ledger.doubt[h.MAC] && !r.ledger.unheard[h.MAC]:
			late = append(late, fmt.Sprintf("%s of pool %s was given back, and %s still holds it (allocation %s)", h.address, h.pool, h.MAC, h.ID))
		}
	}
	for mac, at := range unseen {
		missing = append(missing, fmt.Sprintf("%s was told that it has %s of pool %s, and does not hold it", mac, at.address, at.pool))
	}
	return missing, late, nil
}
