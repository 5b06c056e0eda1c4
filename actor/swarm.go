// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"context"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// What a swarm held when it was dissolved nobody gives back. An operator may, once no
// daemon is left that a swarm could ask: each tells under its presence what its engine
// says of Swarm. That word must never be older than an ask that was answered. So an ask
// of a swarm takes it back before anything is answered, and it is told again only when
// the engine was asked after that.

// swarmEvery is how often the engine is asked whether it is in a swarm.
const swarmEvery = 10 * time.Second

// TellSwarm keeps this host's presence telling what its engine says of Swarm, until ctx
// ends. It is for a daemon that Swarm asks, see [Options]: Mirrors.
func (h *Host) TellSwarm(ctx context.Context, state func(context.Context) (string, error)) {
	for {
		pause := swarmEvery
		if err := h.tellSwarm(ctx, state); err != nil {
			h.logger.Debug().Err(err).Msg("it was not told whether the engine is in a swarm")
			pause = engineRetry
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

func (h *Host) tellSwarm(ctx context.Context, state func(context.Context) (string, error)) error {
	p := h.presence
	before := p.swarmAsked()
	says, err := Ask(ctx, state)
	if err != nil {
		return err
	}
	_, err = Ask(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, p.describe(ctx, func(self *etcdlog.Presence) {
			if says != etcdlog.SwarmInactive || p.asked == before {
				self.Swarm = says
			}
		})
	})
	return err
}

// answering refuses requests while the lease does not stand, and has the log know of a
// swarm before it is answered.
func (h *Host) answering(ctx context.Context, space events.Space) error {
	if err := h.present(); err != nil || space != events.Global {
		return err
	}
	p := h.presence
	err := p.describe(ctx, func(self *etcdlog.Presence) {
		p.asked++
		if self.Swarmless() {
			self.Swarm = ""
		}
	})
	if err != nil {
		return errors.Mark(errors.Wrap(err, "tell that a swarm asks"), ErrStoreSilent)
	}
	return nil
}

func (p *presence) swarmAsked() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}
