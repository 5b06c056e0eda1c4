// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/legacy"
	"github.com/ipamlog/ipamlog/operator"
	"github.com/ipamlog/ipamlog/render"
)

func importCommand(build Build) *cobra.Command {
	var (
		dryRun   bool
		leaveOut []string
	)
	cmd := &cobra.Command{
		Use:   "import FILE [--dry-run] [--leave-out SUBNET]",
		Short: "Take over what another address manager stored",
		Long: `Take over the pools, ranges and addresses of oam-docker-ipam (and its descendants
skylark, july and swan) or kvipamdriver, from a dump of their store, or those of
Docker's own networks, from docker network inspect. FILE may be - for standard
input; what it is a dump of is found out.

Pools are made as ip-range and host-range make them. An address that a container
holds is reserved, so that nobody gets it: give it back with unreserve when that
container is gone, or is to come over. An address of a host's bridge becomes the
host's, and create-network takes it over.

Everything is compared with the log first, and when one thing contradicts it,
nothing is written. It can be run again: what is there already is passed over.
--leave-out passes over a pool of the dump, such as one of two that overlap.

Exit status: 0 done, or nothing to do; 1 refused or failed; 2 wrong usage.`,
		Example: `  ipamlog import --dry-run dump.json
  ipamlog import dump.json --leave-out global/10.0.0.0/24
  docker network inspect web | ipamlog import -`,
		Args: needs("FILE"),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "tell what would be done, and write nothing")
	cmd.Flags().StringArrayVar(&leaveOut, "leave-out", nil, "`subnet` not to import, with its space before it where the dump has it in both, repeatable")
	var dump legacy.Dump
	cmd.PreRunE = func(cmd *cobra.Command, args []string) (err error) {
		if dump, err = readDump(args[0], cmd.InOrStdin()); err != nil {
			return err
		}
		for _, text := range leaveOut {
			if err := leave(&dump, text); err != nil {
				return err
			}
		}
		return nil
	}
	return changing(cmd, build, beginLog, func(ctx context.Context, s *session, o *operator.Operator, _ []string) error {
		plan, err := o.PlanImport(ctx, dump)
		if err != nil {
			return errors.Wrap(err, "nothing was imported")
		}
		for _, w := range plan.Warnings {
			warn(s.stderr, "%s", w)
		}
		if !dryRun {
			tell, done := s.counting("importing: %d of "+fmt.Sprint(plan.Total())+" addresses", 0)
			err := plan.Run(ctx, tell)
			done()
			if err != nil {
				return err
			}
		}
		return s.imported(plan, dryRun)
	})
}

func readDump(path string, stdin io.Reader) (legacy.Dump, error) {
	if path == "-" {
		return legacy.Read(stdin)
	}
	file, err := os.Open(path)
	if err != nil {
		return legacy.Dump{}, errors.Newf("the dump cannot be read, name another file: %v", err)
	}
	defer func() { _ = file.Close() }()
	dump, err := legacy.Read(file)
	if errors.Is(err, syscall.EISDIR) {
		return dump, errors.Newf("the dump cannot be read, name another file: %s is a directory", path)
	}
	return dump, err
}

// leave leaves the pools out of a dump that have a subnet, written with or without
// a space before it.
func leave(dump *legacy.Dump, text string) error {
	space, subnet, found := strings.Cut(text, "/")
	if !found || space != "local" && space != "global" {
		space, subnet = "", text
	}
	prefix, err := netip.ParsePrefix(subnet)
	if err != nil {
		return Usagef("--leave-out %q is no subnet: write one such as 10.0.0.0/24 or global/10.0.0.0/24", text)
	}
	before := len(dump.Pools)
	var there []string
	dump.Pools = slices.DeleteFunc(dump.Pools, func(p legacy.Pool) bool {
		there = append(there, p.InSpace())
		return p.Subnet == prefix && (space == "" || space == p.Space)
	})
	if len(dump.Pools) == before {
		return Usagef("--leave-out %s is not in the dump: it has %s", text, strings.Join(there, ", "))
	}
	return nil
}

// imported tells what an import did, or would do.
func (s *session) imported(plan *operator.Import, dryRun bool) error {
	if s.out.ForPrograms() {
		return render.JSON(s.out, plan)
	}
	made, reserved, hosts := "was made", "reserved", "given to hosts"
	if dryRun {
		made, reserved, hosts = "is to be made", "to be reserved", "to be given to hosts"
	}
	for _, p := range plan.Pools {
		was := "exists"
		if p.Made {
			was = made
		}
		if _, err := fmt.Fprintf(s.out.Writer, "pool %s %s: addresses %s: %d, %s: %d, there already: %d\n", render.Line(p.Pool), was, reserved, p.Reserved, hosts, p.Hosts, p.There); err != nil {
			return errors.Wrap(err, "print what was imported")
		}
	}
	switch {
	case len(plan.Pools) == 0:
		s.note("there is nothing in the dump to import")
	case dryRun:
		s.note("nothing was written: leave out --dry-run to do it")
	}
	return nil
}
