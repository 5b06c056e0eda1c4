// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/replay"
)

func historyCommand() *cobra.Command {
	var since, until string
	cmd := asking(&cobra.Command{
		Use:   "history SUBJECT [--since T] [--until T]",
		Short: "List everything that an address, a host or a pool ever held",
		Long: `List every holding of a subject, oldest first.

SUBJECT is an address, a MAC, a pool (its name, subnet or id), a host or the
name of an endpoint. A word that is the name of several is settled by writing
the kind before it: ` + strings.Join(replay.SubjectKinds(), ":, ") + `:.

With --since and --until only those that were held at some time between are
listed.

` + aboutTimes + `

Exit status: 0 done; 1 failed; 2 wrong usage, or SUBJECT means several things; 3
the log knows no such thing, or it held nothing then.`,
		Example: `  ipamlog history 10.50.0.2
  ipamlog history 02:42:0a:32:00:02 --since "2 days ago"
  ipamlog history host:h1 --since @4711 --until @4800 -o jsonl`,
		Args:              needs("SUBJECT"),
		ValidArgsFunction: completePools,
	}, func(ctx context.Context, s *session, args []string) error {
		h, err := s.history(ctx)
		if err != nil {
			return err
		}
		subject, err := h.Subject(args[0])
		if err != nil {
			return err
		}
		span, err := s.span(h, "since", since, "until", until)
		if err != nil {
			return err
		}
		list := h.Of(subject, span)
		if err := show(s, s.holdings(true), list); err != nil {
			return err
		}
		if len(list) == 0 {
			when, hint := "", ""
			if since != "" || until != "" {
				when, hint = " in that time", ": widen it"
			}
			return errors.Mark(errors.Newf("%s %s held nothing%s%s", subject.Kind, subject.Word, when, hint), replay.ErrNotFound)
		}
		return nil
	})
	momentFlag(cmd, &since, "since", "leave out what had ended before this moment")
	momentFlag(cmd, &until, "until", "leave out what began after this moment (default now)")
	return cmd
}
