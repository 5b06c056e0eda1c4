// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/replay"
)

func diffCommand() *cobra.Command {
	return asking(&cobra.Command{
		Use:   "diff POOL T1 T2",
		Short: "Show what changed hands in a pool between two moments",
		Long: `List the addresses of a pool that were gained, lost or changed hands between two
moments, by address: who held each at the first, and who at the second. What came
and went in between is left out, and so is a container that gave its address back
and has it again; history lists those.

POOL is the pool's name, its subnet, its id or the beginning of its id; or, where
no pool was ever called so, the name or id of a Docker network that had its
addresses from one pool. A pool that was retired and made again under its name is
one and the same.

` + aboutTimes + `

With -o json every difference is an object: address, change (gained, lost or
changed), before and after (a holding, or null).

Exit status: 0 done, with differences or without; 1 failed; 2 wrong usage, or
POOL means several pools; 3 there never was such a pool.`,
		Example: `  ipamlog diff web "yesterday 18:00" now
  ipamlog diff web -2h now
  ipamlog diff 10.50.0.0/24 @4711 @4800 -o json`,
		Args:              needsAll("POOL", "T1", "T2"),
		Annotations:       map[string]string{momentArgs: "yes"},
		ValidArgsFunction: completePools,
	}, func(ctx context.Context, s *session, args []string) error {
		h, err := s.history(ctx)
		if err != nil {
			return err
		}
		var between [2]replay.Moment
		for i, name := range []string{"T1", "T2"} {
			if between[i], err = s.place(h.Moment, name, args[1+i]); err != nil {
				return err
			}
		}
		s.note("from %s", s.understood(between[0]))
		s.note("to %s", s.understood(between[1]))
		if between[0].Revision > between[1].Revision {
			return Usagef("T1 is later than T2: exchange them")
		}
		pools, network, err := h.PoolsOrNetworkEver(args[0])
		if err != nil {
			return err
		}
		if network {
			s.networkNote(args[0], pools[0])
		}
		changes := h.Diff(pools, between[0], between[1])
		if len(changes) == 0 {
			s.note("no address of %s changed hands", title(pools[0]))
		}
		return show(s, s.changes(), changes)
	})
}
