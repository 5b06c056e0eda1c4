// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
)

func verifyCommand() *cobra.Command {
	var in string
	cmd := asking(&cobra.Command{
		Use:   "verify [--pool P]",
		Short: "Check that the log keeps its rules and agrees with the state",
		Long: `Replay the whole log, check that it keeps its rules, and compare the state that
it gives with the guards the daemons decide on. What is wrong is listed: which
rule, in which pool, where (an event as revision.index, or a guard), since when,
and what it is.

The rules: an address has one holder, or several who share it (one-holder);
what ends had begun (releases); grants open, are held through, and close
(grants); pools are made once and do not overlap (pools); addresses lie in their
subnet (addresses); a holding is told to be one container's (attribution); a
host's incarnations rise (hosts); commits stand in order (order); clocks
contradict each other by 10 seconds at most (clocks); the guards are what the log
gives (guards); every event is understood (readable).

It changes nothing, and may run while daemons write. With -o json the answer is
one object: revision, pools, commits, events, guards, suspect, findings; with -o
jsonl a finding a line.

Exit status: 0 all is well; 1 something is wrong, or could not be checked; 2
wrong usage; 3 there never was such a pool.`,
		Example: `  ipamlog verify
  ipamlog verify --pool web -o json`,
		Args:              none,
		ValidArgsFunction: cobra.NoFileCompletions,
	}, func(ctx context.Context, s *session, _ []string) error {
		progress, done := s.progress()
		report, journal, err := replay.Verify(ctx, s.log, progress)
		done()
		if err != nil {
			return err
		}
		if in != "" {
			var pools []*projection.PoolLife
			if pools, err = journal.PoolsEver(in); err != nil {
				return err
			}
			report.About(pools)
		}
		return s.verified(report)
	})
	poolFlag(cmd, &in, "list what concerns this `pool` alone")
	return cmd
}

func (s *session) verified(report *replay.Report) error {
	var err error
	switch {
	case s.out.Format == render.FormatJSON:
		err = render.JSON(s.out, report)
	case s.out.Format != render.FormatTable || len(report.Findings) > 0:
		err = show(s, s.findings(), report.Findings)
	}
	if err != nil {
		return err
	}
	s.note("%d commits with %d events, up to @%d, and %d guards of %d pools", report.Commits, report.Events, report.Revision, report.Guards, report.Pools)
	if report.Suspect > 0 {
		s.note("commits marked by their writers: %d; their clocks were wrong then, and answers near them say so", report.Suspect)
	}
	if n := len(report.Findings); n > 0 {
		things := "things are"
		if n == 1 {
			things = "thing is"
		}
		return errors.Newf("%d %s wrong: keep a copy of the store (etcdctl snapshot save), and look at what is listed, from the earliest on", n, things)
	}
	s.note("all is well")
	return nil
}
