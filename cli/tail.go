// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
)

func tailCommand() *cobra.Command {
	var since string
	var follow bool
	cmd := asking(&cobra.Command{
		Use:   "tail [-f] [POOL] [--since T]",
		Short: "Show the events themselves, oldest first",
		Long: `Show the events of the log, of one pool or all, oldest first. With -f it goes on
with those that come, until it is interrupted.

With -o jsonl every event is an object: revision, index, time, host (who wrote
it), stream (the pool's id, or catalogue), commit, type, and the type's own
fields. An own field that bears one of these names and says something else is
called event_<name>.

With -o ecs every event is an object of the Elastic Common Schema, for a SIEM. An
event is the same document whenever it is read, under the same event.id. Who was
interrupted goes on with --since @REVISION, the event.sequence of the last one:
the events of that commit come once more.

` + aboutSpans + `

Exit status: 0 done, or interrupted while following; 1 failed; 2 wrong usage, or
POOL means several pools; 3 there never was such a pool.`,
		Example: `  ipamlog tail --since -1h
  ipamlog tail -f web
  ipamlog tail -f -o jsonl | jq 'select(.type == "pool.exhausted")'
  ipamlog tail -f -o ecs --since @4711`,
		Args:              mayHave("POOL"),
		Annotations:       speaksECS,
		ValidArgsFunction: completePools,
	}, func(ctx context.Context, s *session, args []string) error {
		read := s.history
		if follow {
			read = s.ownHistory
		}
		h, err := read(ctx)
		if err != nil {
			return err
		}
		pools, err := poolsEver(h, args)
		if err != nil {
			return err
		}
		span, err := s.span(h, "since", since, "until", "")
		if err != nil {
			return err
		}
		j, err := s.journal(ctx, h, pools, span)
		if err != nil {
			return err
		}
		stream := s.eventStream(s.out, h)
		for e := range j.Events(pools, span) {
			if err := stream.write(e); err != nil {
				return err
			}
		}
		if !follow {
			return stream.end()
		}
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		trouble := func(err error) { warn(s.stderr, "%s: trying again", sentence(err)) }
		err = j.Follow(ctx, s.log, func(e replay.Event) error {
			if len(args) > 0 && !replay.Means(e.Pool, args[0]) {
				return nil
			}
			return stream.write(e)
		}, trouble)
		if ctx.Err() != nil {
			return stream.end() // interrupted: that is how following ends
		}
		return err
	})
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with the events that come")
	momentFlag(cmd, &since, "since", "begin at this moment (default the beginning)")
	return cmd
}

// eventStream prints events one by one.
type eventStream struct {
	write func(replay.Event) error
	end   func() error
}

func (s *session) eventStream(out render.Output, h *replay.History) eventStream {
	if out.Format != render.FormatECS {
		stream := s.events().Stream(out)
		return eventStream{stream.Write, stream.Close}
	}
	out.Format = render.FormatJSONL
	stream := render.Table[replay.ECS]{}.Stream(out)
	return eventStream{func(e replay.Event) error {
		doc, err := h.ECS(e)
		if err != nil {
			return err
		}
		return stream.Write(doc)
	}, stream.Close}
}
