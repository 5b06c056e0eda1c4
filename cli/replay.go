// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"io"
	"math"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/replay"
)

func replayCommand() *cobra.Command {
	var when, from, to string
	var speed float64
	cmd := asking(&cobra.Command{
		Use:   "replay [POOL] [--at T] [--from T --to T] [--speed N]",
		Short: "Rebuild the state from the log alone",
		Long: `Rebuild the state of a pool, or of all, from the log alone, with the code that
the daemon allocates with, and print who held which address: what holders says,
found another way.

With --from or --to the events between are stepped through, with the number of
addresses held in the pool after the commit of each. On a terminal they come as
they came then, N times as fast; elsewhere at once.

` + aboutSpans + `

Unlike the other questions this one fails on what an allocator would stop at: an
event of a newer version, or one that contradicts the state before it.

Exit status: 0 done, or interrupted while stepping; 1 failed; 2 wrong usage, or
POOL means several pools; 3 there was no such pool.`,
		Example: `  ipamlog replay
  ipamlog replay web --at "yesterday 03:12"
  ipamlog replay web --from 03:00 --to 03:30 --speed 60`,
		Args:              mayHave("POOL"),
		ValidArgsFunction: completePools,
	}, func(ctx context.Context, s *session, args []string) error {
		stepping := from != "" || to != ""
		if stepping && when != "" {
			return Usagef("--at is one moment and --from and --to are two: leave one or the others out")
		}
		if speed <= 0 || math.IsNaN(speed) {
			return Usagef("--speed %g is no speed: write one above 0", speed)
		}
		h, err := s.history(ctx)
		if err != nil {
			return err
		}
		if stepping {
			return s.step(ctx, h, args, from, to, speed)
		}
		m, err := s.moment(h, "at", when, h.Now(s.now))
		if err != nil {
			return err
		}
		pools, err := poolsAt(h, args, m)
		if err != nil {
			return err
		}
		j, err := s.journal(ctx, h, pools, replay.Span{To: m})
		if err != nil {
			return err
		}
		held, err := j.Replay(m, pools...)
		if err != nil {
			return err
		}
		s.note("rebuilt from %d commits", j.CommitsUntil(m))
		if when == "" {
			return show(s, s.holders(), held)
		}
		return show(s, s.holdings(held), held)
	})
	momentFlag(cmd, &when, "at", "the moment to rebuild (default now)")
	momentFlag(cmd, &from, "from", "step through the events from this moment on (default the beginning)")
	momentFlag(cmd, &to, "to", "step through the events up to this moment (default now)")
	cmd.Flags().Float64Var(&speed, "speed", 1, "how many times as fast as it was, on a terminal")
	return cmd
}

// poolsAt finds the pool that was named, if one was.
func poolsAt(h *replay.History, args []string, m replay.Moment) ([]*projection.PoolLife, error) {
	if len(args) == 0 {
		return nil, nil
	}
	pool, err := h.PoolAt(args[0], m)
	return []*projection.PoolLife{pool}, err
}

// poolsEver finds all incarnations of the pool that was named, if one was.
func poolsEver(h *replay.History, args []string) ([]*projection.PoolLife, error) {
	if len(args) == 0 {
		return nil, nil
	}
	return h.PoolsEver(args[0])
}

func (s *session) step(ctx context.Context, h *replay.History, args []string, from, to string, speed float64) error {
	span, err := s.span(h, "from", from, "to", to)
	if err != nil {
		return err
	}
	pools, err := poolsEver(h, args)
	if err != nil {
		return err
	}
	// What is held at the span's beginning comes from all that was before it.
	j, err := s.journal(ctx, h, pools, replay.Span{To: span.To})
	if err != nil {
		return err
	}
	pace := pacer{speed: speed, wait: wait}
	if !onTerminal(s.out.Writer) {
		pace.wait = func(context.Context, time.Duration) error { return nil }
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	stream := s.steps().Stream(s.out)
	for step, err := range j.Steps(span, pools...) {
		if err != nil {
			return err
		}
		if err := pace.until(ctx, j.Timeline().Running(step.Record.Revision)); err != nil {
			break // interrupted: what was shown stands
		}
		if err := stream.Write(step); err != nil {
			return err
		}
	}
	return stream.Close()
}

func onTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && isatty.IsTerminal(file.Fd())
}

// pacer waits between two events as long as they were apart, at its speed.
type pacer struct {
	speed float64
	wait  func(context.Context, time.Duration) error
	last  time.Time
}

// until waits for the event that happened at a time. It returns the context's
// error if that ended first.
func (p *pacer) until(ctx context.Context, t time.Time) error {
	apart := t.Sub(p.last)
	if p.last.IsZero() {
		apart = 0
	}
	p.last = t
	return p.wait(ctx, time.Duration(float64(apart)/p.speed))
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
