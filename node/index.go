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

// fewHosts is up to how many of them all keep an index. Each reads what all of them did:
// the cost for etcd grows with the square of their number.
const fewHosts = 32

// KeepIndex keeps the index fresh until ctx ends, so that nobody who asks has to wait. A
// daemon that has just started has more urgent things to do, so the first look is after
// one interval.
func (n *Node) KeepIndex(ctx context.Context, every time.Duration) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		m := n.joined.Load()
		if m == nil {
			continue
		}
		if err := n.refreshIndex(ctx, m); err != nil && ctx.Err() == nil {
			n.log.Warn().Err(err).Msg("the index was not brought up to date: questions about the past take longer")
		}
	}
}

// refreshIndex brings the index up to date where the hosts are few, and among many where
// somebody has asked within the last month.
func (n *Node) refreshIndex(ctx context.Context, m *membership) error {
	if !m.index.Asked() {
		hosts, err := m.host.Writer().Log().CountAlive(ctx)
		if err != nil || hosts > fewHosts {
			return err
		}
	}
	return m.index.Refresh(ctx)
}
