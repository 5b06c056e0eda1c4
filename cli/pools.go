// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/replay"
)

func poolsCommand() *cobra.Command {
	return asking(&cobra.Command{
		Use:   "pools",
		Short: "List the pools and how full they are",
		Long: `List every pool: name, subnet, ranges, size (addresses that can be held), held,
free, the hosts that use it, and its policy where it is not the default. A table
has the id where two pools have one name, and the space, what is suspected, the
exclusions, the hosts' ranges and the router where a pool has any; csv and json
have them always.

The answer costs what is held now, however long the log is.

Exit status: 0 done; 1 failed; 2 wrong usage.`,
		Example: `  ipamlog pools
  ipamlog pools -o json | jq '.[] | select(.free < 10) | .name'`,
		Args:              none,
		ValidArgsFunction: cobra.NoFileCompletions,
	}, func(ctx context.Context, s *session, _ []string) error {
		states, err := replay.PoolsNow(ctx, s.log)
		if err != nil {
			return err
		}
		return show(s, s.pools(states), states)
	})
}
