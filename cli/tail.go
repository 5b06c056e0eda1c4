// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

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

` + aboutTimes + `

Exit status: 0 done, or interrupted while following; 1 failed; 2 wrong usage, or
POOL means several pools; 3 there never was such a pool.`,
		Example: `  ipamlog tail --since -1h
  ipamlog tail -f web
  ipamlog tail -f -o jsonl | jq 'select(.type == "pool.exhausted")'`,
		Args:              mayHave("POOL"),
		ValidArgsFunction: completePools,
	}, func(ctx context.Context, s *session, args []string) error {
		j, err := s.journal(ctx)
		if err != nil {
			return err
		}
		pools, err := poolsEver(j.History, args)
		if err != nil {
			return err
		}
		span, err := s.span(j.History, "since", since, "until", "")
		if err != nil {
			return err
		}
		stream := s.events().Stream(s.out)
		for e := range j.Events(pools, span) {
			if err := stream.Write(e); err != nil {
				return err
			}
		}
		if !follow {
			return stream.Close()
		}
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		trouble := func(err error) { warn(s.stderr, "%s: trying again", sentence(err)) }
		err = j.Follow(ctx, s.log, func(e replay.Event) error {
			if len(args) > 0 && !replay.Means(e.Pool, args[0]) {
				return nil
			}
			return stream.Write(e)
		}, trouble)
		if ctx.Err() != nil {
			return stream.Close() // interrupted: that is how following ends
		}
		return err
	})
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with the events that come")
	momentFlag(cmd, &since, "since", "begin at this moment (default the beginning)")
	return cmd
}
