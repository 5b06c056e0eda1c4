// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
)

func historyCommand() *cobra.Command {
	var since, until string
	var cmd *cobra.Command
	cmd = asking(&cobra.Command{
		Use:   "history SUBJECT [--since T] [--until T]",
		Short: "List everything that an address, a container or a pool ever held",
		Long: `List every holding of a subject, oldest first.

SUBJECT is one of
  an address or a MAC
  a pool      its name, its subnet, its id or the beginning of its id
  a host      its name
  a container any name it had, its id or the beginning of its id
  an image    as it was asked for (nginx:1.27), its id or the beginning of its
              id; without a tag (nginx) it is every tag of that image
  a network   its name, its id or the beginning of its id
  an endpoint its name
  a label     label:KEY=VALUE, or label:KEY for any value
The beginning of a container's, image's or network's id has four characters at
least, and counts only where nothing bears that name. A word that means several
things is settled by writing the kind before it, as in image:nginx:
` + strings.Join(replay.SubjectKinds(), ":, ") + `:.

With --since and --until only those that were held at some time between are
listed. In a terminal the holdings are drawn as bars over that time, those of one
address together: a bar that goes on at the right edge is held still, and ? is
an end whose clock contradicted the others. With -o table they are listed there
too, with the exact times.

` + aboutSpans + `

Exit status: 0 done; 1 failed; 2 wrong usage, or SUBJECT means several things; 3
the log knows no such thing, or it held nothing then.`,
		Example: `  ipamlog history 10.50.0.2
  ipamlog history web-1 --since "2 days ago"
  ipamlog history image:nginx -o csv
  ipamlog history label:com.docker.compose.project=shop
  ipamlog history host:h1 --since @4711 --until @4800 -o jsonl`,
		Args:              needs("SUBJECT"),
		ValidArgsFunction: completePools,
	}, func(ctx context.Context, s *session, args []string) error {
		h, err := s.history(ctx)
		if err != nil {
			return err
		}
		subject, err := h.Subject(args[0])
		if errors.Is(err, replay.ErrNotFound) {
			return errors.Mark(errors.Newf("%v: ipamlog pools, hosts and export list what it knows", err), replay.ErrNotFound)
		}
		if err != nil {
			return err
		}
		span, err := s.span(h, "since", since, "until", until)
		if err != nil {
			return err
		}
		list := h.Of(subject, span)
		drawn := false
		if s.out.Format == render.FormatTable && !cmd.Flags().Changed("output") && len(list) > 0 {
			if drawn, err = s.draw(h, subject, span, until != "", list); err != nil {
				return err
			}
		}
		if !drawn {
			if err := show(s, s.holdings(list), list); err != nil {
				return err
			}
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
