// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/bench/bulk"
	"github.com/ipamlog/ipamlog/embedded"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
)

const (
	heldAtEnd = 10_000
	warmRuns  = 21
	logLines  = 3_000_000
	coldRuns  = 3
)

// finding is a line of what was measured by itself.
type finding struct {
	What   string `json:"what"`
	Figure string `json:"figure"`
	Aim    string `json:"aim,omitempty"` // with its verdict
}

// measurePast measures questions about the past of a log of so many events, each
// asked as a user does: by a process of its own.
func measurePast(ctx context.Context, f flags, dir string, r *report) error {
	n, program := f.past, f.program
	dir = filepath.Join(dir, "past")
	story := bulk.Story{Events: n, Held: heldAtEnd}
	found := []finding{projecting(story, n)}
	// What is measured reads: that writes are not on disk yet makes no difference.
	server, err := embedded.Start(ctx, embedded.Options{Dir: dir, Log: zerolog.Nop(), NoFsync: true})
	if err != nil {
		return errors.Wrap(err, "start an etcd")
	}
	defer server.Close()
	var last events.AddressReleased
	var at time.Time
	told := 0
	for c := range story.Commits() {
		if e, ok := c.Events[0].(events.AddressReleased); ok {
			last, at = e, c.Time
		}
		if told += len(c.Events); told > n/3 {
			break
		}
	}
	begun := time.Now()
	err = bulk.Write(ctx, server.Client(), etcdlog.DefaultPrefix, story.Commits(), func(done int) {
		if done%(50*1024) == 0 {
			progress("%d commits written", done)
		}
	})
	if err != nil {
		return errors.Wrap(err, "write the story")
	}
	found = append(found, finding{What: "events written by the bulk writer", Figure: perSecond(n, time.Since(begun))})

	ask := func(args ...string) (time.Duration, error) {
		cmd := exec.CommandContext(ctx, program, append(args, "--data-dir", dir, "--timeout", "1m")...)
		begun := time.Now()
		out, err := cmd.StdoutPipe()
		if err != nil {
			return 0, err
		}
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		// What is tidied up after the answer keeps nobody waiting.
		var answered time.Duration
		for b := make([]byte, 1<<16); err == nil; {
			var n int
			if n, err = out.Read(b); n > 0 {
				answered = time.Since(begun)
			}
		}
		if !errors.Is(err, io.EOF) {
			return 0, errors.Wrap(err, "read the answer")
		}
		return answered, errors.Wrapf(cmd.Wait(), "run ipamlog %s", args[0])
	}
	who := []string{"who", last.Address.String(), "--at", at.Add(-time.Second).Format(time.RFC3339)}
	index := filepath.Join(dir, "index")
	var cold, warm, replays, holders spans
	for range coldRuns {
		if err := os.RemoveAll(index); err != nil {
			return errors.Wrap(err, "delete the index")
		}
		if err := cold.add(ask(who...)); err != nil {
			return err
		}
	}
	files, err := filepath.Glob(filepath.Join(index, "*"))
	files = slices.DeleteFunc(files, func(name string) bool { return filepath.Ext(name) != "" })
	if err != nil || len(files) != 1 {
		return errors.Newf("there are %d files of an index, not one", len(files))
	}
	info, err := os.Stat(files[0])
	if err != nil {
		return errors.Wrap(err, "look at the index")
	}
	for range warmRuns {
		if err := warm.add(ask(who...)); err != nil {
			return err
		}
	}
	for range coldRuns {
		if err := replays.add(ask("replay", "net-2")); err != nil {
			return err
		}
		if err := holders.add(ask("holders", "net-2", "--at", at.Format(time.RFC3339))); err != nil {
			return err
		}
	}
	joined, err := measureEnrich(ctx, program, dir, story)
	if err != nil {
		return err
	}
	found = append(found,
		finding{"who --at, warm index", warm.String(), warm.verdict(50 * time.Millisecond)},
		finding{"who --at, no index", cold.String(), cold.verdict(2 * time.Second)},
		finding{"holders --at, warm index", holders.String(), ""},
		finding{"replay", replays.String(), ""},
		finding{"the index", fmt.Sprintf("%.1f MB", float64(info.Size())/1e6), ""},
		finding{fmt.Sprintf("enrich, %d lines of CSV", logLines), joined.String(), joined.verdict(logLines * time.Second / 1_000_000)},
	)
	return r.add(fmt.Sprintf("The past of %d events, %d addresses held at the end; each question is a process of its own, until its\nanswer is there: medians, and the least and the most.", n, heldAtEnd), found...)
}

// measureEnrich joins a firewall's log with the holders: a process of its own, from
// its start to the last line.
func measureEnrich(ctx context.Context, program, dir string, story bulk.Story) (spans, error) {
	var all spans
	name := filepath.Join(dir, "firewall.csv")
	f, err := os.Create(name)
	if err != nil {
		return nil, errors.Wrap(err, "write a log")
	}
	defer os.Remove(name)
	out := bufio.NewWriter(f)
	writeLog(out, story)
	if err := errors.CombineErrors(out.Flush(), f.Close()); err != nil {
		return nil, errors.Wrap(err, "write a log")
	}
	for range coldRuns {
		var said strings.Builder
		cmd := exec.CommandContext(ctx, program, "enrich", name, "--time", "time", "--ip", "src", "--data-dir", dir, "--timeout", "1m")
		cmd.Stderr = &said
		begun := time.Now()
		if err := cmd.Run(); err != nil {
			return nil, errors.Wrapf(err, "run ipamlog enrich: %s", said.String())
		}
		_ = all.add(time.Since(begun), nil)
		// The order of the story's commits in the store differs a little from theirs in time.
		var lines, joined int
		if _, err := fmt.Sscanf(said.String(), "%d lines: %d joined", &lines, &joined); err != nil || lines != logLines || joined < lines*99/100 {
			return nil, errors.Newf("not nearly all lines had a holder: %s", said.String())
		}
	}
	return all, nil
}

// writeLog writes a firewall's log of the time of a story, about addresses that are held.
func writeLog(out io.Writer, story bulk.Story) {
	fmt.Fprintln(out, "time,action,src,dst,dport")
	random := rand.New(rand.NewPCG(1, 2))
	var held []netip.Addr
	told, written := 0, 0
	for c := range story.Commits() {
		for _, e := range c.Events {
			switch e := e.(type) {
			case events.AddressAllocated:
				held = append(held, e.Address)
			case events.AddressReleased:
				held = slices.DeleteFunc(held, func(a netip.Addr) bool { return a == e.Address })
			default: // holds nothing
			}
		}
		for told += len(c.Events); written < logLines && written < told*logLines/story.Events && len(held) > 0; written++ {
			fmt.Fprintf(out, "%s,DROP,%s,203.0.113.9,4444\n", c.Time.Format(time.RFC3339Nano), held[random.IntN(len(held))])
		}
	}
}

// projecting measures the timeline, before there is an etcd in this process whose heap would
// be collected with its own.
func projecting(story bulk.Story, n int) finding {
	var records []events.Record
	for c := range story.Commits() {
		records = append(records, events.Record{Commit: c, Revision: int64(len(records) + 1)})
	}
	var took spans
	for range coldRuns {
		runtime.GC()
		begun := time.Now()
		t := projection.NewTimeline()
		for _, r := range records {
			t.Apply(r)
		}
		_ = took.add(time.Since(begun), nil)
	}
	return finding{"events projected in memory", perSecond(n, took.median()), took.verdict(time.Duration(n) * time.Second / 2_000_000)}
}

func perSecond(n int, took time.Duration) string {
	return fmt.Sprintf("%.0f/s", float64(n)/took.Seconds())
}

// spans are how long the runs took.
type spans []time.Duration

func (s *spans) add(took time.Duration, err error) error {
	*s = append(*s, took)
	return err
}

func (s spans) median() time.Duration { return slices.Sorted(slices.Values(s))[len(s)/2] }

// String implements [fmt.Stringer].
func (s spans) String() string {
	round := func(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
	return fmt.Sprintf("%s (%s to %s)", round(s.median()), round(slices.Min(s)), round(slices.Max(s)))
}

func (s spans) verdict(aim time.Duration) string {
	said := "missed"
	if s.median() <= aim {
		said = "met"
	}
	return fmt.Sprintf("≤ %s: %s", aim, said)
}

func writeFindings(w io.Writer, found []finding) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\tmeasured\taim")
	for _, f := range found {
		fmt.Fprintf(t, "%s\t%s\t%s\n", f.What, f.Figure, f.Aim)
	}
	return errors.Wrap(t.Flush(), "print the table")
}
