// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/render"
)

func exportCommand() *cobra.Command {
	var since, until string
	var inEvents bool
	var cmd *cobra.Command
	cmd = asking(&cobra.Command{
		Use:   "export [--since T] [--until T] [--events]",
		Short: "Print every holding, or every event, for other programs",
		Long: `Print every holding of every pool, oldest first: all there ever were, or those
that were held at some time between --since and --until. With --events it is the
events of that time, as tail prints them.

The format is jsonl unless another is asked for with -o; --events also has ecs,
the Elastic Common Schema.

` + aboutSpans + `

Exit status: 0 done, also when there is nothing; 1 failed; 2 wrong usage.`,
		Example: `  ipamlog export >holdings.jsonl
  ipamlog export --since "last monday" --until yesterday -o csv
  ipamlog export --events -o ecs`,
		Args:              none,
		Annotations:       speaksECS,
		ValidArgsFunction: cobra.NoFileCompletions,
	}, func(ctx context.Context, s *session, _ []string) error {
		if s.out.Format == render.FormatECS && !inEvents {
			return Usagef("-o ecs is for events alone: add --events, or choose one of jsonl, csv, json")
		}
		out := s.out
		if !cmd.Flags().Changed("output") && out.Format == render.FormatTable {
			out.Format = render.FormatJSONL // what programs read without being asked twice
		}
		buffered := bufio.NewWriterSize(out.Writer, 64<<10)
		out.Writer = buffered
		export := s.exportHoldings
		if inEvents {
			export = s.exportEvents
		}
		if err := export(ctx, out, since, until); err != nil {
			return err
		}
		return errors.Wrap(buffered.Flush(), "print the answer")
	})
	momentFlag(cmd, &since, "since", "leave out what had ended before this moment")
	momentFlag(cmd, &until, "until", "leave out what began after this moment (default now)")
	cmd.Flags().BoolVar(&inEvents, "events", false, "print the events instead of the holdings")
	return cmd
}

func (s *session) exportHoldings(ctx context.Context, out render.Output, since, until string) error {
	h, err := s.history(ctx)
	if err != nil {
		return err
	}
	span, err := s.span(h, "since", since, "until", until)
	if err != nil {
		return err
	}
	stream := s.allHoldings().Stream(out)
	for x := range h.Holdings(span) {
		if err := stream.Write(x); err != nil {
			return err
		}
	}
	return stream.Close()
}

func (s *session) exportEvents(ctx context.Context, out render.Output, since, until string) error {
	h, err := s.history(ctx)
	if err != nil {
		return err
	}
	span, err := s.span(h, "since", since, "until", until)
	if err != nil {
		return err
	}
	j, err := s.journal(ctx, h, nil, span)
	if err != nil {
		return err
	}
	stream := s.eventStream(out, h)
	for e := range j.Events(nil, span) {
		if err := stream.write(e); err != nil {
			return err
		}
	}
	return stream.end()
}
