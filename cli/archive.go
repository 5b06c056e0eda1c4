// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/archive"
	"github.com/ipamlog/ipamlog/config"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/timespec"
)

func archiveCommand() *cobra.Command {
	var before, to string
	cmd := &cobra.Command{
		Use:   "archive --before T --to PLACE",
		Short: "Move the old part of the log out of etcd, into sealed segments",
		Long: `Seal what happened before a time T into segments, put them into a place, and then
delete it from etcd. T is an hour ago at least. Questions go on to be answered
over both: who asks must be able to read the place (or a copy: --archive).

PLACE is a directory, which has to be the same on all machines that ask, or
s3://BUCKET/PREFIX, for which AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY and AWS_REGION are read as other programs do.

A segment is a file of JSON lines packed with zstd (zstdcat reads it), and beside
it stands a checkpoint: a statement about all commits of the log so far, signed
with the key in --archive-key. The key is made the first time; its public part
stands beside it, under the same name with .pub. Keep a copy of that and of the
last checkpoint elsewhere: with them ipamlog verify --offline proves that nothing
in the archive was changed, removed or inserted.

It may be interrupted at any moment, and run again. A daemon does the same by
itself with serve --archive-after 90d --archive-to PLACE.

Exit status: 0 done, also if nothing is so old; 1 failed; 2 wrong usage.`,
		Example: `  ipamlog archive --before '90 days ago' --to /srv/ipamlog-archive
  ipamlog archive --before 2026-01-01 --to s3://logs/ipamlog`,
		GroupID:           GroupDaemon,
		Args:              none,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	momentFlag(cmd, &before, "before", "what happened before this `moment` is moved")
	cmd.Flags().StringVar(&to, "to", "", "`place` for the segments: a directory, or s3://BUCKET/PREFIX")
	cmd.Flags().Duration(timeoutFlag, storePatience, "how long to wait for an answer of the store")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if before == "" || to == "" {
			return Usagef("archive takes --before T and --to PLACE: see ipamlog archive --help")
		}
		to, err := config.ParsePlace(to)
		if err != nil {
			return Usagef("--to %v", err)
		}
		s, err := open(cmd, wantLog)
		if err != nil {
			return err
		}
		return errors.CombineErrors(s.archive(cmd.Context(), before, to), s.close())
	}
	return cmd
}

func (s *session) archive(ctx context.Context, before, to string) error {
	spec, err := timespec.Parse(before, s.now, s.zone)
	switch {
	case err != nil:
		return errors.Mark(errors.Wrap(err, "--before"), ErrUsage)
	case spec.IsRevision():
		return Usagef("--before takes a time, not a revision: write one such as '90 days ago'")
	case s.now.Sub(spec.Time) < archive.MinimumAge:
		return Usagef("--before %s is less than an hour ago: what is younger stays in etcd", before)
	}
	s.note("before %s", s.local(spec.Time))
	store, err := s.log.Store(ctx)
	if err != nil {
		return err
	}
	place, err := archive.OpenPlace(to)
	if err != nil {
		return err
	}
	segments, err := s.log.Segments(ctx)
	if err != nil {
		return err
	}
	key, err := archive.LoadKey(s.cfg.ArchiveKeyFile(), archive.Origin(store.ID, segments))
	if err != nil {
		return err
	}
	a := &archive.Archiver{Log: s.log, Store: store.ID, Place: place, Key: key}
	moved := []etcdlog.Segment{}
	err = a.Run(ctx, spec.Time, func(segment etcdlog.Segment) {
		if segment.State == etcdlog.Removed {
			moved = append(moved, segment)
			s.note("%s: %d commits, @%d to @%d", segment.File, segment.Commits, segment.First, segment.Last)
		}
	})
	if err != nil {
		return s.archiving(err)
	}
	s.note("what verifies it: %s", key.Public)
	return s.moved(moved, place)
}

// archiving is why nothing more was archived, as a sentence for the user.
func (s *session) archiving(err error) error {
	if errors.Is(err, etcdlog.ErrOvertaken) {
		return errors.New("another ipamlog is archiving this log at the same time: wait until it is done, and run the same again")
	}
	return err
}

func (s *session) moved(moved []etcdlog.Segment, place archive.Place) error {
	return s.sumUp(moved, "nothing is so old", func(commits, last int64, segments string) string {
		return fmt.Sprintf("moved %d commits, up to @%d, to %s in %s", commits, last, segments, place)
	})
}

// sumUp prints what was done with segments: for programs each of them, for people one
// sentence.
func (s *session) sumUp(list []etcdlog.Segment, none string, some func(commits, last int64, segments string) string) error {
	if s.out.ForPrograms() {
		return render.JSON(s.out, append([]etcdlog.Segment{}, list...))
	}
	text := none
	if n := len(list); n > 0 {
		var commits int64
		for _, m := range list {
			commits += m.Commits
		}
		text = some(commits, list[n-1].Last, counted(n, "segment", "segments"))
	}
	_, err := fmt.Fprintln(s.out.Writer, render.Line(text))
	return errors.Wrap(err, "print what was done")
}

// counted is a number of things.
func counted(n int, one, several string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, several)
}

// proven says what an archive has, and as what it proved itself.
func proven(r *archive.Report, place archive.Source) string {
	if r.Segments == 0 {
		return "the archive has no segment"
	}
	return fmt.Sprintf("the archive in %s: %s with %d commits, @%d to @%d, of %s to %s; the root of its %d commits is %s",
		place, counted(r.Segments, "segment", "segments"), r.Commits, r.First, r.Last, day(r.From), day(r.To), r.Size, r.Root)
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// inArchive are findings about an archive as those about the log are listed.
func inArchive(list []archive.Finding) []replay.Finding {
	findings := []replay.Finding{}
	for _, f := range list {
		findings = append(findings, replay.Finding{Rule: replay.RuleArchive, Where: f.File, What: f.What})
	}
	return findings
}

// proof is what an archive is verified with.
type proof struct {
	keys []string // public keys, or files with one
	kept []string // files with checkpoints
}

func proofFlags(cmd *cobra.Command, into *proof) {
	cmd.Flags().StringArrayVar(&into.keys, "public-key", nil, "public `key` of the archive, or a file with it, repeatable (default that of --archive-key)")
	cmd.Flags().StringArrayVar(&into.kept, "checkpoint", nil, "`file` with a checkpoint of the archive that was kept elsewhere, repeatable")
}

// verify verifies an archive. expected are the segments that the store knows; nil where
// there is no store.
func (p proof) verify(ctx context.Context, place archive.Source, keys archive.Keys, expected []etcdlog.Segment) (*archive.Report, error) {
	var kept []archive.Checkpoint
	for _, file := range p.kept {
		text, err := readShort(file)
		if err != nil {
			return nil, errors.Newf("a checkpoint cannot be read, name its file with --checkpoint: %v", err)
		}
		checkpoint, err := archive.ReadCheckpoint([]byte(text), keys)
		if err != nil {
			return nil, errors.Wrap(err, file)
		}
		kept = append(kept, checkpoint)
	}
	return archive.Verify(ctx, place, keys, kept, expected, nil)
}

// publicKeys are the keys that an archive is verified with: those that are given, each a
// key or a file with one, and else that of this machine.
func publicKeys(cfg config.Config, given []string) (archive.Keys, error) {
	if len(given) == 0 {
		given = []string{cfg.ArchiveKeyFile() + ".pub"}
	}
	texts := make([]string, 0, len(given))
	for _, text := range given {
		if !archive.IsKey(text) {
			var err error
			if text, err = readShort(text); err != nil {
				return archive.Keys{}, errors.Newf("the archive's public key cannot be read, give it or its file with --public-key: %v", err)
			}
		}
		texts = append(texts, text)
	}
	return archive.ParseKeys(texts...)
}

// readShort reads a file that holds a line or some.
func readShort(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(f, 1<<16))
	return string(text), errors.CombineErrors(err, f.Close())
}
