// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"context"
	"slices"
	"time"

	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// formatEvery is how often it is looked whether the store can be raised to a newer
// format: the other hosts are upgraded one after the other.
const formatEvery = 15 * time.Second

// raiseFormat puts the store into the newest format once every daemon can read it.
func (h *Host) raiseFormat(ctx context.Context) {
	var waiting []string
	for h.log.Format() < etcdlog.Format {
		was := h.log.Format()
		asking, cancel := context.WithTimeout(ctx, storePatience)
		format, holdouts, err := h.log.Raise(asking)
		cancel()
		switch {
		case err != nil && ctx.Err() == nil:
			h.logger.Debug().Err(err).Msg("whether the store can be raised to a newer format was not found out")
		case err == nil && format > was:
			h.logger.Info().Int("from", was).Int("to", format).Msg("the store is in a newer format now: no older ipamlog can join, unless ipamlog adopt --format lowers it")
		case len(holdouts) > 0 && !slices.Equal(holdouts, waiting):
			waiting = holdouts
			h.logger.Warn().Int("format", was).Strs("hosts", holdouts).Msg("the store stays in an older format, without what the newer ones brought, until ipamlog is upgraded on these hosts")
		}
		select {
		case <-time.After(formatEvery):
		case <-ctx.Done():
			return
		}
	}
}
