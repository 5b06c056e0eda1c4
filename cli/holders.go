// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/replay"
)

func holdersCommand() *cobra.Command {
	var when string
	cmd := asking(&cobra.Command{
		Use:   "holders POOL [--at T]",
		Short: "List every address held in a pool, and by whom",
		Long: `List every address of a pool that is held now, or was at a moment, and by whom.

POOL is the pool's name, its subnet, its id or the beginning of its id; or, where
no pool is called so, the name or id of a Docker network that has its addresses
from one pool.

` + aboutTimes + `

Without --at the answer is the pool's state as it is now; only who is behind the
endpoints is looked up in the log.

Exit status: 0 done; 1 failed; 2 wrong usage, or POOL means several pools; 3
there is, or was then, no such pool.`,
		Example: `  ipamlog holders web
  ipamlog holders 10.50.0.0/24 --at "yesterday 03:12"
  ipamlog holders web --at @4711 -o csv`,
		Args:              needs("POOL"),
		ValidArgsFunction: completePools,
	}, func(ctx context.Context, s *session, args []string) error {
		if when == "" {
			return s.holdersNow(ctx, args[0])
		}
		h, err := s.history(ctx)
		if err != nil {
			return err
		}
		m, err := s.moment(h, "at", when, h.Now(s.now))
		if err != nil {
			return err
		}
		pool, err := s.poolAt(h, args[0], m)
		if err != nil {
			return err
		}
		list := h.Holders(pool, m)
		return show(s, s.holdings(list), list)
	})
	momentFlag(cmd, &when, "at", "the moment to look at (default now)")
	return cmd
}

func (s *session) holdersNow(ctx context.Context, word string) error {
	pools, err := replay.Catalogue(ctx, s.log)
	if err != nil {
		return err
	}
	pool, err := replay.OnePool(pools, word)
	whose := func(question func(*replay.History) error) error { return s.ask(ctx, question) }
	if errors.Is(err, replay.ErrNotFound) {
		// The guards know no networks; the log does.
		h, failed := s.history(ctx)
		if failed != nil {
			return failed
		}
		pool, err = s.poolAt(h, word, h.Now(s.now))
		whose = func(question func(*replay.History) error) error { return question(h) }
	}
	if err != nil {
		return err
	}
	holdings, _, err := replay.HoldersNow(ctx, s.log, pool)
	if err != nil {
		return err
	}
	if len(holdings) > 0 {
		err = whose(func(h *replay.History) error {
			h.Attribute(holdings)
			return nil
		})
	}
	if err != nil {
		return err
	}
	return show(s, s.holders(), holdings)
}

// poolAt finds the pool that a word means, or the network that it names.
func (s *session) poolAt(h *replay.History, word string, m replay.Moment) (*projection.PoolLife, error) {
	pool, network, err := h.PoolOrNetworkAt(word, m)
	if network {
		s.networkNote(word, pool)
	}
	return pool, err
}

// networkNote says which pool was understood.
func (s *session) networkNote(word string, pool *projection.PoolLife) {
	s.note("network %s has its addresses from pool %s", word, title(pool))
}
