// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/operator"
)

func releaseIPCommand(build Build) *cobra.Command {
	return releaseCommand(&cobra.Command{
		Use:   "release-ip --ip A [--pool P] [--force]",
		Short: "Give a container's address back by hand",
		Long: `Give an address back that a container held and that was left behind, and tell
who held it.

It is refused while the daemon of the host that holds it is alive, but on that
host itself, where Docker is asked whether it knows the address; and for what
ends with its network (gateways, --aux-address). --force asks nobody: an address
that is in use may then be given to another.

Exit status: 0 done; 1 refused or failed, and nothing was written; 2 wrong usage,
or the address is held in several pools; 3 nobody holds it.`,
		Example: `  ipamlog release-ip --ip 10.50.0.7
  ipamlog release-ip --ip 172.16.21.100/20 --force`,
	}, build, (*operator.Operator).ReleaseIP)
}

func releaseHostCommand(build Build) *cobra.Command {
	return releaseCommand(&cobra.Command{
		Use:   "release-host --ip A [--pool P] [--force]",
		Short: "Give the address of a host's own bridge back",
		Long: `Give an address back that create-network took for a host's own bridge, and tell
whose it was. The bridge and the Docker network on that host stay as they are;
remove them first.

It is refused while the daemon of that host is alive, but on that host itself,
where Docker is asked whether a network uses the address, and the machine whether
a device has it. --force asks nobody.

Exit status: 0 done; 1 refused or failed, and nothing was written; 2 wrong usage,
or the address is held in several pools; 3 nobody holds it.`,
		Example: `  ipamlog release-host --ip 172.16.20.54
  ipamlog release-host --ip 172.16.20.54 --force`,
	}, build, (*operator.Operator).ReleaseHost)
}

func releaseCommand(cmd *cobra.Command, build Build, release func(*operator.Operator, context.Context, operator.Releasing) (operator.Outcome, error)) *cobra.Command {
	var (
		ip, pool string
		force    bool
	)
	cmd.Args, cmd.ValidArgsFunction = none, cobra.NoFileCompletions
	cmd.Flags().StringVar(&ip, "ip", "", "the `address`, with or without its subnet's length")
	poolFlag(cmd, &pool, "the `pool`: a name, a subnet or an id (default: the one in which it is held)")
	cmd.Flags().BoolVar(&force, "force", false, "do not ask whether it is in use")
	daemonFlags(cmd.Flags(), "engine")
	var r operator.Releasing
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		if ip == "" {
			return Usagef("%s takes the address with --ip A: see %s --help", cmd.CommandPath(), cmd.CommandPath())
		}
		r, err = operator.ParseReleasing(ip)
		r.Pool, r.Force = pool, force
		return err
	}
	return changing(cmd, build, wantLog, func(ctx context.Context, s *session, o *operator.Operator, _ []string) error {
		return s.report(release(o, ctx, r))
	})
}
