// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

const (
	// pieceSize is how many events one commit of a long change has.
	pieceSize = etcdlog.MaxEvents
	// endingSize is the same where the commit may be a pool's last: that nothing
	// else is left takes as many conditions again.
	endingSize = etcdlog.MaxEvents / 2
)

// inPieces makes a change that is too long for one commit. next decides the next
// piece on the pool's guards as they are known; no events end the change. wrote is
// told of each piece that is in the log. Somebody else's change in between makes
// the guards be read anew, and the piece be decided again.
func (o *Operator) inPieces(ctx context.Context, pool etcdlog.PoolEntry, next func(events.Guards) ([]events.Event, error), wrote func(events.Record)) error {
	for {
		guards, _, err := o.log.Guards(ctx, pool.Value.Space, pool.ID)
		if err != nil {
			return err
		}
		for {
			list, err := next(guards)
			if err != nil || len(list) == 0 {
				return err
			}
			if !guards.Pool.Present() {
				return errors.Mark(errors.Newf("pool %s is gone", pool.Value.Title()), ErrNotFound)
			}
			record, err := o.append(ctx, etcdlog.Proposal{Stream: events.PoolStream(pool.ID), Events: list, Seen: leaning(guards, list)})
			if errors.IsAny(err, etcdlog.ErrConflict, etcdlog.ErrVoided) {
				break
			}
			if err != nil {
				return err
			}
			wrote(record)
			if err := guards.Apply(record); err != nil {
				return errors.Wrap(err, "apply a commit of our own")
			}
			if retires(list) {
				return nil
			}
		}
		if err := ctx.Err(); err != nil {
			return errors.Wrap(err, "decide again after somebody was faster")
		}
	}
}

// leaning are those of a pool's guards that events about addresses rest on.
func leaning(g events.Guards, list []events.Event) events.Guards {
	seen := events.NewGuards()
	seen.Pool = g.Pool
	for _, e := range list {
		addr, about := events.AddressOf(e)
		if guard := g.Held[addr]; about && guard.Present() {
			seen.Held[addr] = guard
		}
	}
	return seen
}
