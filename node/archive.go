// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/archive"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

const (
	// worthwhile is how many commits there should be before a segment is sealed, and
	// overdue how long it is waited for so many.
	worthwhile = 10_000
	overdue    = 24 * time.Hour
)

// KeepArchive moves what is old enough into the archive, now and again, until ctx ends.
// Several daemons may do so for one log: what one of them has begun any other ends. What
// goes wrong is logged, and tried again.
func (n *Node) KeepArchive(ctx context.Context, every time.Duration) error {
	if n.cfg.ArchiveAfter == 0 {
		<-ctx.Done()
		return nil
	}
	// Not all hosts at the same time: those that were started together would be in each
	// other's way each time.
	pause := rand.N(every)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = every
		m := n.joined.Load()
		if m == nil {
			pause = joinPause
			continue
		}
		switch err := n.archive(ctx, m); {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, etcdlog.ErrOvertaken):
			n.log.Debug().Err(err).Msg("another daemon archives the log")
		default:
			n.log.Error().Err(err).Msg("the old part of the log was not archived: it stays in etcd until it can be")
		}
	}
}

func (n *Node) archive(ctx context.Context, m *membership) error {
	place, err := archive.OpenPlace(n.cfg.ArchiveTo)
	if err != nil {
		return err
	}
	log := m.host.Writer().Log()
	segments, err := log.Segments(ctx)
	if err != nil {
		return err
	}
	key, err := archive.LoadKey(n.cfg.ArchiveKeyFile(), archive.Origin(m.store.ID, segments))
	if err != nil {
		return err
	}
	a := &archive.Archiver{Log: log, Store: m.store.ID, Place: place, Key: key, Smallest: worthwhile, Patience: overdue}
	return a.Run(ctx, time.Now().Add(-n.cfg.ArchiveAfter), n.tellArchived)
}

func (n *Node) tellArchived(s etcdlog.Segment) {
	if s.State == etcdlog.Removed {
		n.log.Info().Str("segment", s.File).Int64("commits", s.Commits).Int64("first", s.First).Int64("last", s.Last).
			Str("place", s.Place).Msg("a part of the log moved to the archive")
	}
}
