// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"context"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/spool"
)

// Resume takes up the releases that wait in the spool. Each is in the hands of the pool
// that its grant is in, before anything that is asked later, when it returns.
func (h *Host) Resume() {
	if h.keeper == nil {
		return
	}
	defer h.tellForgotten()
	var ours []spool.Release
	for _, r := range h.keeper.Spool.Waiting() {
		if r.Prefix == h.keeper.Prefix && (r.Store.IsZero() || r.Store == h.keeper.Store) {
			ours = append(ours, r)
			continue
		}
		log := h.logger.With().Object("release", told(r)).Logger()
		log.Error().Msg("a release in the spool is of another store, and is set aside")
		if err := h.keeper.Spool.SetAside(r.ID, "it is of another store"); err != nil {
			log.Error().Err(err).Msg("the release spool could not be written")
		}
	}
	if len(ours) == 0 {
		return
	}
	if err := h.rehome(ours); err != nil {
		h.logger.Error().Err(err).Msg("it could not be found out in which pools the grants are that releases in the spool speak of: some may be made after what is asked now")
	}
	// Those of one pool stay in their order.
	byPool := map[events.ID][]spool.Release{}
	for _, r := range ours {
		id := h.poolOf(refOf(r))
		byPool[id] = append(byPool[id], r)
	}
	for id, list := range byPool {
		h.resume(id, list)
	}
}

// resume puts releases in front of all else that a pool has to decide.
func (h *Host) resume(id events.ID, list []spool.Release) {
	all, tasks := make([]*lasting, len(list)), make([]task, len(list))
	for i, r := range list {
		h.logger.Info().Object("release", told(r)).Msg("a release that was made while the store was away goes into the log")
		all[i] = &lasting{release: r, came: r.At, keeper: h.keeper, asking: true, kept: true, known: r.Allocation, notedAs: r.Allocation}
		tasks[i] = all[i].task(h.carriers)
	}
	var p *Pool
	for p = h.pool(list[0].Space, id); p != nil && !p.lead(tasks); p = h.pool(list[0].Space, id) {
		<-p.done // it retired just now
	}
	if p == nil {
		return // the host is ending already
	}
	for i, l := range all {
		h.carrying(func(ctx context.Context) {
			_, _ = h.carry(ctx, refOf(l.release), l, func() (Answer, error) { return tasks[i].base().wait(p.done) })
		})
	}
}

// lead puts tasks in front of all that is in the mailbox, or will be. False: the pool
// has ended, and they are as they were.
func (p *Pool) lead(tasks []task) bool {
	taken := make(chan struct{})
	p.post(func() {
		p.ahead = append(p.ahead, tasks...)
		close(taken)
	})
	select {
	case <-taken:
		return true
	case <-p.done:
	}
	select {
	case <-taken:
		return true // and refused
	default:
		return false
	}
}

// rehome finds out which grants of releases in the spool were opened again, before this
// daemon started, in another pool than their PoolIDs say. A release that is looked for
// in the wrong pool first comes behind what is asked meanwhile, and would end what that
// was given.
func (h *Host) rehome(list []spool.Release) error {
	ctx, cancel := h.within(h.carriers)
	defer cancel()
	for {
		err := h.findMoved(ctx, list)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(carryPause / 4):
		case <-ctx.Done():
			return err
		}
	}
}

func (h *Host) findMoved(ctx context.Context, list []spool.Release) error {
	pools, _, err := h.log.Pools(ctx)
	if err != nil {
		return err
	}
	seen := map[events.ID]bool{}
	for _, r := range list {
		if seen[r.Grant] {
			continue
		}
		seen[r.Grant] = true
		if _, err := h.elsewhere(ctx, pools, refOf(r)); err != nil {
			return errors.Wrapf(err, "look for grant %s", r.Grant)
		}
	}
	return nil
}

// tellForgotten says which releases that were set aside are not listed any more.
func (h *Host) tellForgotten() {
	for _, a := range h.keeper.Spool.Forgotten() {
		h.logger.Warn().Object("release", told(a.Release)).Time("since", a.Since).Str("why", a.Why).
			Msg("a release that was set aside is old, or one of very many, and is listed no more")
	}
}
