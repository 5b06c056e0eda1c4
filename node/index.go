// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"time"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/replay/index"
)

// openIndex is the index in the data directory, which the commands on this machine
// read too.
func (n *Node) openIndex(log *etcdlog.Log, store events.ID) *index.Index {
	return index.Open(log, store, n.cfg.Prefix, index.Dirs(n.cfg.DataDir)...)
}

// Index answers about the past; nil before the host has joined.
func (n *Node) Index() *index.Index {
	if m := n.joined.Load(); m != nil {
		return m.index
	}
	return nil
}

// KeepIndex keeps the index fresh until ctx ends. A daemon that has just started has
// more urgent things to do, so the first look is after one interval.
func (n *Node) KeepIndex(ctx context.Context, every time.Duration) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if x := n.Index(); x != nil {
			return x.Keep(ctx, every, func(err error) {
				n.log.Warn().Err(err).Msg("the index was not brought up to date: questions about the past take longer")
			})
		}
	}
}
