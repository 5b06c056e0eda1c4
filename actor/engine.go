// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"context"
	"time"

	"github.com/ipamlog/ipamlog/events/etcdlog"
)

const (
	// engineEvery is how often the engine is asked: it may have been upgraded.
	engineEvery = time.Minute
	// engineRetry is the pause after an engine that did not answer.
	engineRetry = 5 * time.Second
)

// TellEngine keeps this host's presence telling which version its engine has, until
// ctx ends. The engine is asked beside every request, never for one.
func (h *Host) TellEngine(ctx context.Context, version func(context.Context) (string, error)) {
	for {
		pause := engineEvery
		if err := h.tellEngine(ctx, version); err != nil {
			h.logger.Debug().Err(err).Msg("the engine's version was not told")
			pause = engineRetry
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

func (h *Host) tellEngine(ctx context.Context, version func(context.Context) (string, error)) error {
	v, err := Ask(ctx, version)
	if err != nil {
		return err
	}
	_, err = Ask(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, h.presence.describe(ctx, func(self *etcdlog.Presence) { self.Engine = v })
	})
	return err
}
