// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"reflect"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/archive"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
)

func verifyCommand() *cobra.Command {
	var in string
	var offline bool
	var with proof
	cmd := asking(&cobra.Command{
		Use:   "verify [--pool P] | --offline --archive PLACE",
		Short: "Check that the log keeps its rules and agrees with the state",
		Long: `Replay the whole log, check that it keeps its rules, and compare the state that
it gives with the guards the daemons decide on. What is wrong is listed: which
rule, in which pool, where (an event as revision.index, or a guard), since when,
and what it is.

The rules: an address has one holder, or several who share it (one-holder);
what ends had begun (releases); a holding is suspected once until that is
cleared (suspicions); grants open, are held through, and close (grants); pools
are made once and do not overlap (pools); addresses lie in their subnet
(addresses); a holding is told to be one container's (attribution); a host's
incarnations rise (hosts); a stream has as many commits as were written
(complete); commits stand in order (order); clocks contradict each other by 10
seconds at most (clocks); the guards are what the log gives (guards); every
event is understood (readable).

Of a log that has an archive, the archive is verified as well (archive): no
segment was changed, removed or inserted since it was sealed, which the keys of
--public-key have signed. --offline does that alone, without the store, with
nothing but the files in --archive and the public key. That segments are missing
at the end only the store knows, or who has kept a checkpoint (--checkpoint).

It changes nothing, and may run while daemons write. With -o json the answer is
one object: revision, pools, commits, events, guards, suspect, findings (of
--offline: origin, segments, commits, first, last, from, to, size, root,
findings); with -o jsonl a finding a line.

Exit status: 0 all is well; 1 something is wrong, or could not be checked; 2
wrong usage; 3 there never was such a pool.`,
		Example: `  ipamlog verify
  ipamlog verify --pool web -o json
  ipamlog verify --offline --archive /srv/ipamlog-archive --public-key archive.key.pub`,
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
			return s.verified(report)
		}
		if err := s.verifyArchive(ctx, with, report); err != nil {
			return err
		}
		return s.verified(report)
	})
	poolFlag(cmd, &in, "list what concerns this `pool` alone")
	proofFlags(cmd, &with)
	cmd.Flags().BoolVar(&offline, "offline", false, "verify the archive alone, without the store")
	online := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if offline {
			return verifyOffline(cmd, with, in)
		}
		return online(cmd, args)
	}
	return cmd
}

// verifyArchive adds what is wrong with the archive of the log, if it has one.
func (s *session) verifyArchive(ctx context.Context, with proof, report *replay.Report) error {
	segments, err := s.log.Segments(ctx)
	if err != nil || len(segments) == 0 {
		return err
	}
	place, err := archive.Together(segments, s.cfg.Archive)
	if err != nil {
		return err
	}
	keys, err := publicKeys(s.cfg, with.keys)
	if err != nil && (len(with.keys) > 0 || len(with.kept) > 0) {
		return err
	}
	if err != nil {
		warn(s.stderr, "who signed the archive was not looked at: %v", err)
	}
	proved, err := with.verify(ctx, place, keys, segments)
	// Somebody may have archived or forgotten meanwhile: then it is looked at as it is now.
	if err != nil || len(proved.Findings) > 0 {
		if now, failed := s.log.Segments(ctx); failed == nil && !reflect.DeepEqual(now, segments) {
			return s.verifyArchive(ctx, with, report)
		}
	}
	if err != nil {
		return err
	}
	s.note("%s", proven(proved, place))
	report.Findings = append(report.Findings, inArchive(proved.Findings)...)
	return nil
}

// verifyOffline verifies an archive without a store.
func verifyOffline(cmd *cobra.Command, with proof, pool string) error {
	cfg, err := Config(cmd)
	switch {
	case err != nil:
		return err
	case pool != "":
		return Usagef("--offline verifies a whole archive: leave --pool away")
	case cfg.Archive == "":
		return Usagef("--offline needs --archive PLACE: a directory, or s3://BUCKET/PREFIX")
	}
	place, err := archive.OpenPlace(cfg.Archive)
	if err != nil {
		return err
	}
	keys, err := publicKeys(cfg, with.keys)
	if err != nil {
		return err
	}
	proved, err := with.verify(cmd.Context(), place, keys, nil)
	if err != nil {
		return err
	}
	s := sessionOn(cmd, cfg, nil)
	switch {
	case s.out.Format == render.FormatJSON:
		err = render.JSON(s.out, proved)
	case s.out.Format != render.FormatTable || len(proved.Findings) > 0:
		err = show(s, s.findings(), inArchive(proved.Findings))
	}
	if err != nil {
		return err
	}
	s.note("%s", proven(proved, place))
	if n := len(proved.Findings); n > 0 {
		return errors.Newf("%s wrong with the archive: keep it as it is, and compare it with your copies", counted(n, "thing is", "things are"))
	}
	s.note("all is well")
	return nil
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
		return errors.Newf("%s wrong: keep a copy of the store (etcdctl snapshot save), and look at what is listed, from the earliest on", counted(n, "thing is", "things are"))
	}
	s.note("all is well")
	return nil
}
