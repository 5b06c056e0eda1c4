// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/operator"
)

func reserveCommand(build Build) *cobra.Command {
	var pool, why string
	cmd := &cobra.Command{
		Use:   "reserve A[-B] --why TEXT [--pool P]",
		Short: "Keep addresses out of use",
		Long: `Keep an address, or all from A to B, out of use, and remember why: for machines
that are no containers, or for later. Nobody gets a reserved address, not even
with docker run --ip, until unreserve. who, holders and history show it.

Either all are reserved or none: when one is held, that is told. Those that are
reserved already stay so, with the reason they have. At most 65536 at once; for
more use --ipam-opt exclude= of ip-range.

Exit status: 0 done, or it was so already; 1 failed, and nothing was written; 2
wrong usage, or the address is in several pools; 3 there is no such pool.`,
		Example: `  ipamlog reserve 10.50.0.7 --why "printer, second floor"
  ipamlog reserve 10.50.0.200-10.50.0.220 --why "the new switches" --pool web`,
		Args:              needs("A[-B]"),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().StringVar(&why, "why", "", "`reason`, for whoever finds it reserved")
	poolFlag(cmd, &pool, "the `pool`: a name, a subnet or an id (default: the one that has A)")
	var r netipx.IPRange
	cmd.PreRunE = func(_ *cobra.Command, args []string) (err error) {
		if r, err = operator.ParseStretch(args[0]); err == nil && strings.TrimSpace(why) == "" {
			err = Usagef("say why it is kept out of use, with --why TEXT: whoever finds it reserved will want to know")
		}
		return err
	}
	return changing(cmd, build, wantLog, func(ctx context.Context, s *session, o *operator.Operator, _ []string) error {
		return s.report(o.Reserve(ctx, pool, r, why))
	})
}

func unreserveCommand(build Build) *cobra.Command {
	var pool string
	cmd := &cobra.Command{
		Use:   "unreserve A[-B] [--pool P]",
		Short: "Give reserved addresses back",
		Long: `Give an address that was reserved, or all those from A to B that are, back to
the pool. A pool that nobody laid out, and in which nothing else is held, is gone
with its last one.

Exit status: 0 done; 1 failed; 2 wrong usage, or the address is in several pools;
3 nothing of it is reserved, or there is no such pool.`,
		Example: `  ipamlog unreserve 10.50.0.7
  ipamlog unreserve 10.50.0.200-10.50.0.220 --pool web`,
		Args:              needs("A[-B]"),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	poolFlag(cmd, &pool, "the `pool`: a name, a subnet or an id (default: the one that has A)")
	var r netipx.IPRange
	cmd.PreRunE = func(_ *cobra.Command, args []string) (err error) {
		r, err = operator.ParseStretch(args[0])
		return err
	}
	return changing(cmd, build, wantLog, func(ctx context.Context, s *session, o *operator.Operator, _ []string) error {
		return s.report(o.Unreserve(ctx, pool, r))
	})
}
