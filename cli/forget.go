// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/archive"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/timespec"
)

func forgetCommand() *cobra.Command {
	var before string
	var dryRun, yes bool
	cmd := &cobra.Command{
		Use:   "forget --before T [--dry-run] [--yes]",
		Short: "Delete the oldest part of the archive, for good",
		Long: `Delete the segments of the archive of which everything happened before a time T:
whole segments, from the oldest on. What is younger still reads and proves
itself; who held what before cannot be found out any more, by anybody. What is
in etcd still is not touched: archive it first.

What was held at the border stays known, since when and by whom, for as long as
it is held: it is in a residue, a file in the archive that is signed with the key
in --archive-key. The checkpoints of what was deleted stay, too; they say no more
than that there was something. Each host's index is made anew by the next
question or by its daemon. Copies of the archive and backups are not touched:
delete those yourself. So --archive, which names a copy, is refused.

It may be interrupted at any moment, and run again.

Exit status: 0 done, also if nothing is so old; 1 failed; 2 wrong usage.`,
		Example: `  ipamlog forget --before '2 years ago' --dry-run
  ipamlog forget --before 2025-01-01 --yes`,
		GroupID:           GroupDaemon,
		Args:              none,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	momentFlag(cmd, &before, "before", "what happened before this `moment` is deleted")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "list what would be deleted, and delete nothing")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().Duration(timeoutFlag, storePatience, "how long to wait for an answer of the store")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case before == "":
			return Usagef("forget takes --before T: see ipamlog forget --help")
		case dryRun && yes:
			return Usagef("--yes does not go with --dry-run: see ipamlog forget --help")
		}
		s, err := open(cmd, wantLog)
		if err != nil {
			return err
		}
		if s.cfg.Archive != "" {
			return errors.CombineErrors(errors.Newf("forget deletes segments where they were put, and not in %s: leave --archive out (a place that has moved must be there under its old name, by a link or a mount), and delete copies yourself", s.cfg.Archive), s.close())
		}
		confirm := func(format string, args ...any) error { return confirmed(cmd, yes, format, args...) }
		if dryRun {
			confirm = nil
		}
		return errors.CombineErrors(s.forget(cmd.Context(), before, confirm), s.close())
	}
	return cmd
}

// forget forgets what is of before a moment, or only lists it where nobody is to confirm
// it.
func (s *session) forget(ctx context.Context, before string, confirm func(string, ...any) error) error {
	spec, err := timespec.Parse(before, s.now, s.zone)
	switch {
	case err != nil:
		return errors.Mark(errors.Wrap(err, "--before"), ErrUsage)
	case spec.IsRevision():
		return Usagef("--before takes a time, not a revision: write one such as '2 years ago'")
	}
	s.note("before %s", s.local(spec.Time))
	store, err := s.log.Store(ctx)
	if err != nil {
		return err
	}
	f := &archive.Forgetter{Log: s.log, Store: store.ID, Shelf: &archive.Shelf{}}
	plan, err := f.Plan(ctx, spec.Time)
	if err != nil {
		return err
	}
	if confirm == nil {
		return s.forgot(plan, "would be forgotten")
	}
	if n := len(plan); n > 0 {
		err := confirm("Everything before %s (%s, up to @%d) is deleted from the archive for good.",
			s.local(plan[n-1].Running), counted(n, "segment", "segments"), plan[n-1].Last)
		if err != nil {
			return err
		}
	}
	segments, err := s.log.Segments(ctx)
	if err != nil {
		return err
	}
	if f.Key, err = archive.LoadKey(s.cfg.ArchiveKeyFile(), archive.Origin(store.ID, segments)); err != nil {
		return err
	}
	gone := []etcdlog.Segment{}
	err = f.Run(ctx, spec.Time, func(some []etcdlog.Segment) { gone = append(gone, some...) })
	if err != nil {
		return s.archiving(err)
	}
	if len(gone) > 0 {
		s.note("what verifies it: %s", f.Key.Public)
	}
	return s.forgot(gone, "were forgotten")
}

func (s *session) forgot(list []etcdlog.Segment, how string) error {
	return s.sumUp(list, "nothing in the archive is so old", func(commits, last int64, segments string) string {
		return fmt.Sprintf("%d commits, up to @%d, in %s %s", commits, last, segments, how)
	})
}

// lacking warns of what an answer about a moment lacks.
func (s *session) lacking(h *replay.History, m replay.Moment) {
	if h.Lacks(m) {
		warn(s.stderr, "the log was forgotten up to %s: what had ended by then is not known", s.local(h.Border.Running))
	}
}
