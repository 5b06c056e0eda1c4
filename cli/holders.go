// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/replay"
)

func holdersCommand() *cobra.Command {
	var when string
	cmd := asking(&cobra.Command{
		Use:   "holders POOL [--at T]",
		Short: "List every address held in a pool, and by whom",
		Long: `List every address of a pool that is held now, or was at a moment, and by whom.

POOL is the pool's name, its subnet, its id or the beginning of its id.

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
		pool, err := h.PoolAt(args[0], m)
		if err != nil {
			return err
		}
		return show(s, s.holdings(true), h.Holders(pool, m))
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
	if err != nil {
		return err
	}
	holdings, _, err := replay.HoldersNow(ctx, s.log, pool)
	if err != nil {
		return err
	}
	if len(holdings) > 0 {
		err = s.ask(ctx, func(h *replay.History) error {
			h.Attribute(holdings)
			return nil
		})
	}
	if err != nil {
		return err
	}
	return show(s, s.holdings(false), holdings)
}
