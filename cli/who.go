// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"net/netip"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/columns"
)

func whoCommand() *cobra.Command {
	var when, in string
	cmd := asking(&cobra.Command{
		Use:   "who ADDRESS [--at T] [--pool P]",
		Short: "Tell who holds an address, or held it at a moment",
		Long: `Tell who holds an address, or held it at a moment. An address may be held in
several pools, and gateways by several hosts: all holdings are listed.

If nobody held it, the holding before and the one after are listed instead.

Where the hosts' clocks disagreed near the moment, and so somebody else may have
held it, a warning says between which times. Asked for by revision there is no
such doubt.

` + aboutTimes + `

With -o json the answer is one object: address, at, at_revision, holdings; before
and after (null if there is none) when nobody held it; and clock_doubt, from and
to, where clocks disagreed; and forgotten_until where the moment is before what
ipamlog forget has deleted. With -o csv clock_doubt is true then, and empty else.
A table tells how a holding ended where that was not by a release of Docker's.

Exit status: 0 somebody held it; 1 failed; 2 wrong usage; 3 nobody held it, or
there never was such a pool.`,
		Example: `  ipamlog who 10.50.0.2
  ipamlog who 10.50.0.2 --at "2026-11-21 03:12"
  ipamlog who 10.50.0.2 --at -2h --pool web -o json`,
		Args:              needs("ADDRESS"),
		ValidArgsFunction: cobra.NoFileCompletions,
	}, func(ctx context.Context, s *session, args []string) error {
		address, err := netip.ParseAddr(args[0])
		if err != nil {
			return Usagef("%q is not an address: write one such as 10.50.0.2 or fd00::2", args[0])
		}
		var who replay.Who
		err = s.ask(ctx, func(h *replay.History) error {
			m, err := s.moment(h, "at", when, h.Now(s.now))
			if err != nil {
				return err
			}
			var pools []*projection.PoolLife
			if in != "" {
				if pools, err = h.PoolsEver(in); err != nil {
					return err
				}
			}
			who = h.Who(address, pools, m)
			return nil
		})
		if err != nil {
			return err
		}
		return s.answer(who)
	})
	momentFlag(cmd, &when, "at", "the moment to look at (default now)")
	cmd.Flags().StringVar(&in, "pool", "", "look in this pool alone: a name, a subnet or an id")
	_ = cmd.RegisterFlagCompletionFunc("pool", func(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		return completePools(cmd, nil, toComplete)
	}) // fails only for a flag that is not there
	return cmd
}

func (s *session) answer(who replay.Who) error {
	list := columns.Sighted(who)
	for _, x := range who.Doubts {
		s.doubtful(x)
	}
	var err error
	switch s.out.Format {
	case render.FormatJSON, render.FormatJSONL:
		err = render.JSON(s.out, who)
	default:
		err = show(s, s.sightings(list), list)
	}
	if err != nil || len(who.Holdings) > 0 {
		return err
	}
	if !who.Forgotten.IsZero() {
		return errors.Mark(errors.Newf("nobody can say any more who held %s at %s: the log was forgotten up to %s", who.Address, s.understood(who.At), s.local(who.Forgotten)), replay.ErrNotFound)
	}
	missing := errors.Newf("nobody held %s at %s%s", who.Address, s.understood(who.At), aside(who))
	return errors.Mark(missing, replay.ErrNotFound)
}

// doubtful warns that the clocks leave open whether a holding stood at the moment
// asked about.
func (s *session) doubtful(x replay.Holding) {
	did, clock, revision := "took", x.From.Time, x.From.Revision
	if x.Doubt.Ended {
		did, clock, revision = "gave back", x.To.Time, x.To.Revision
	}
	between := "after " + s.local(x.Doubt.From)
	switch {
	case x.Doubt.From.IsZero() && x.Doubt.To.IsZero():
		between = "at a time that no other clock tells"
	case x.Doubt.From.IsZero():
		between = "before " + s.local(x.Doubt.To)
	case !x.Doubt.To.IsZero():
		between = "between " + s.local(x.Doubt.From) + " and " + s.local(x.Doubt.To)
	}
	who := words(kindUnlessEndpoint(x), holder(x))
	if x.Host != "" {
		who = words(who, "on", x.Host)
	}
	warn(s.stderr, "%s %s %s at %s by its own clock, and %s by the others': the answer is not sure, ask also --at %s and --at %s",
		who, did, x.Address, s.local(clock), between, at(revision-1), at(revision))
}

// kindUnlessEndpoint is what an address is held for where that is not plain.
func kindUnlessEndpoint(x replay.Holding) string {
	if x.Kind == events.Endpoint && holder(x) != "" {
		return ""
	}
	return x.Kind.String()
}

func aside(who replay.Who) string {
	switch {
	case who.Before == nil && who.After == nil:
		return ", nor ever: see whether another pool or prefix is meant"
	case who.Before == nil:
		return ": what is listed is who held it next"
	case who.After == nil:
		return ": what is listed is who held it last"
	}
	return ": what is listed is who held it before and after"
}
