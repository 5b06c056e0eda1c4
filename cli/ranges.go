// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/operator"
	"github.com/ipamlog/ipamlog/plugin"
)

// ends are the flags that name a range.
type ends struct{ start, end string }

func (e *ends) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&e.start, "ip-start", "", "first address of the range, with its subnet's length, such as `10.0.0.10/24`")
	cmd.Flags().StringVar(&e.end, "ip-end", "", "last address of the range, with its subnet's length, such as `10.0.0.99/24`")
}

func (e *ends) read(cmd *cobra.Command) (operator.Range, error) {
	if e.start == "" || e.end == "" {
		return operator.Range{}, Usagef("%s takes both --ip-start A/P and --ip-end B/P: see %s --help", cmd.CommandPath(), cmd.CommandPath())
	}
	return operator.ParseRange(e.start, e.end)
}

func ipRangeCommand(build Build) *cobra.Command {
	var (
		e             ends
		pool          string
		options       []string
		remove, force bool
	)
	cmd := &cobra.Command{
		Use:   "ip-range --ip-start A/P --ip-end B/P [--pool P]",
		Short: "Let containers get the addresses of a range",
		Long: `Let containers get the addresses of a range. Ranges of a pool add up, and the
same range again changes nothing. A container can still be given any other free
address of the subnet with docker run --ip.

The pool is the one without a name whose subnet is A/P, and is made if there is
none; with --pool it is the one of that name, subnet or id, or a new one of that
name. It stands until its ranges are removed. Networks join it by its subnet, or
by its name with --ipam-opt pool=P.

The range may not have addresses that host-range keeps. The router may lie in it,
and is left out.

--remove takes the range away again; who holds an address of it keeps it.

Exit status: 0 done, or it was so already; 1 failed, and nothing was written; 2
wrong usage; 3 there is no such pool, or no such range to remove.`,
		Example: `  ipamlog ip-range --ip-start 172.16.21.100/20 --ip-end 172.16.21.200/20
  ipamlog ip-range --ip-start 10.50.0.10/24 --ip-end 10.50.0.99/24 --pool web \
      --ipam-opt pick=lowest --ipam-opt exclude=10.50.0.50-10.50.0.59
  ipamlog ip-range --ip-start 172.16.21.100/20 --ip-end 172.16.21.120/20 --remove`,
		Args:              none,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	e.register(cmd)
	poolFlag(cmd, &pool, "the `pool`: a name, a subnet or an id (default: the one without a name)")
	cmd.Flags().StringArrayVar(&options, "ipam-opt", nil, "`option` of a pool that is made here, as docker network create has it, repeatable: gateway, pick, quarantine, sticky; and exclude, of any pool")
	cmd.Flags().BoolVar(&remove, "remove", false, "take the range away")
	cmd.Flags().BoolVar(&force, "force", false, "with --remove: also the last range of a pool in use, so that containers get all of the subnet")
	var (
		r    operator.Range
		wish actor.Wish
	)
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		if r, err = e.read(cmd); err != nil {
			return err
		}
		if remove && len(options) > 0 || force && !remove {
			return Usagef("--force goes with --remove, and --ipam-opt does not: see %s --help", cmd.CommandPath())
		}
		if wish, err = plugin.ReadWish(options, r.Subnet); err != nil {
			return Usagef("%s", strings.TrimSuffix(err.Error(), ": "+plugin.ErrOption.Error()))
		}
		return nil
	}
	return changing(cmd, build, beginLog, func(ctx context.Context, s *session, o *operator.Operator, _ []string) error {
		if remove {
			return s.report(o.RemoveRange(ctx, pool, r, force))
		}
		return s.report(o.AddRange(ctx, pool, r, wish))
	})
}

func hostRangeCommand(build Build) *cobra.Command {
	var (
		e             ends
		pool, gateway string
		remove        bool
	)
	cmd := &cobra.Command{
		Use:   "host-range --ip-start A/P --ip-end B/P --gateway G [--pool P]",
		Short: "Keep addresses for the hosts' own bridges",
		Long: `Keep the addresses of a range for the hosts' own bridges, which create-network
makes, and tell the router that all of them share. No container gets any of
these. Ranges add up, and the same range again changes nothing.

The pool is found or made as with ip-range, and the two can come in any order.
Without an ip-range containers get all the rest of the subnet.

The range may not have addresses that containers hold, or get by ip-range. The
router G lies anywhere in the subnet; in the range it is left out. It may be left
unsaid where the pool has one, and is exchanged by naming another while nothing
holds it.

--remove gives the range back to the pool; the router stays.

Exit status: 0 done, or it was so already; 1 failed, and nothing was written; 2
wrong usage; 3 there is no such pool, or no such range to remove.`,
		Example: `  ipamlog host-range --ip-start 172.16.20.54/20 --ip-end 172.16.20.58/20 \
      --gateway 172.16.16.1
  ipamlog host-range --ip-start 172.16.20.58/20 --ip-end 172.16.20.58/20 --remove`,
		Args:              none,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	e.register(cmd)
	poolFlag(cmd, &pool, "the `pool`: a name, a subnet or an id (default: the one without a name)")
	cmd.Flags().StringVar(&gateway, "gateway", "", "`address` of the router")
	cmd.Flags().BoolVar(&remove, "remove", false, "give the range back")
	var (
		r      operator.Range
		router netip.Addr
	)
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		if r, err = e.read(cmd); err != nil {
			return err
		}
		if remove && gateway != "" {
			return Usagef("--gateway does not go with --remove: the router stays the pool's")
		}
		router, err = readRouter(gateway)
		return err
	}
	return changing(cmd, build, beginLog, func(ctx context.Context, s *session, o *operator.Operator, _ []string) error {
		if remove {
			return s.report(o.RemoveHostRange(ctx, pool, r))
		}
		return s.report(o.AddHostRange(ctx, pool, r, router))
	})
}

func readRouter(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	router, err := netip.ParseAddr(text)
	if err != nil || router.Zone() != "" || router.Is4In6() {
		return router, Usagef("--gateway %q is no address: write the router's, such as 172.16.16.1, without a length", text)
	}
	return router, nil
}
