// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/pflag"
)

// flags are how the measurement is asked for.
type flags struct {
	rounds   int
	duration time.Duration
	short    bool
	clients  []int
	fills    []float64
	pools    []string
	hosts    []int

	past   int
	start  []int
	away   int
	memory crowd
	curves string

	json    string
	program string
}

func main() {
	f := parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := measure(ctx, f); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func parse() flags {
	var f flags
	pflag.IntVar(&f.rounds, "rounds", 3, "`times` that each side is measured, in turns")
	pflag.DurationVar(&f.duration, "duration", time.Second, "how long each time")
	pflag.BoolVar(&f.short, "short", false, "only some rows of the table, in well under a minute")
	pflag.IntSliceVar(&f.clients, "clients", []int{1, 4, 16, 64, 256}, "`numbers` of clients at once; 0 for none")
	pflag.Float64SliceVar(&f.fills, "fills", []float64{50, 90, 99, 99.9}, "how full a /16 is, in `percent`, that 64 clients ask; 0 for none")
	pflag.StringSliceVar(&f.pools, "pools", []string{"10.5.0.0/24", "11.0.0.0/8", "fd00:5::/64"}, "`subnets` that 64 clients ask, beside a /16; none for none")
	pflag.IntSliceVar(&f.hosts, "hosts", []int{1, 4, 16}, "`numbers` of hosts, a daemon and a client each, that share one pool; 0 for none")
	pflag.IntVar(&f.past, "past", 0, "instead of the table: questions about the past of so many `events`")
	pflag.IntSliceVar(&f.start, "start", nil, "instead of the table: the start of a daemon on logs of so many `events`")
	pflag.IntVar(&f.away, "away", 0, "instead of the table: the start of a daemon that missed so many `events` of its pool")
	pflag.IntVar(&f.memory.pools, "memory", 0, "instead of the table: memory of a daemon with so many `pools`")
	pflag.IntVar(&f.memory.held, "held", 1_000_000, "with --memory: how many `addresses` are held in them")
	pflag.StringVar(&f.curves, "curves", "", "instead of the table: `directory` to draw what a request costs in, over fill, hosts and, with --start, the log's length")
	pflag.StringVar(&f.json, "json", "", "`file` to keep the figures in, too")
	pflag.StringVar(&f.program, "program", "", "`path` of the ipamlog to measure (default: built from this source)")
	pflag.Parse()
	if f.short {
		f.shorten(pflag.CommandLine.Changed)
	}
	f.clients = slices.DeleteFunc(f.clients, func(n int) bool { return n <= 0 })
	f.hosts = slices.DeleteFunc(f.hosts, func(n int) bool { return n <= 0 })
	f.fills = slices.DeleteFunc(f.fills, func(n float64) bool { return n <= 0 })
	f.pools = slices.DeleteFunc(f.pools, func(s string) bool { return s == "none" })
	return f
}

// shorten leaves out what was not asked for by name.
func (f *flags) shorten(named func(flag string) bool) {
	if !named("duration") {
		f.duration = 400 * time.Millisecond
	}
	if !named("clients") {
		f.clients = []int{1, 16, 64}
	}
	if !named("fills") {
		f.fills = nil // to fill a pool takes longer than all the rest
	}
	if !named("pools") {
		f.pools = nil
	}
	if !named("hosts") {
		f.hosts = []int{4}
	}
}

// measure runs everything in a directory of its own, and prints what it found.
func measure(ctx context.Context, f flags) error {
	if f.rounds < 1 || f.duration <= 0 || pflag.NArg() > 0 {
		return errors.New("see --help: there must be a round and a duration, and no other words")
	}
	dir, err := os.MkdirTemp("", "ipamlog-bench")
	if err != nil {
		return errors.Wrap(err, "make a directory")
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if f.program == "" {
		if f.program, err = build(ctx, dir); err != nil {
			return err
		}
	}
	r := &report{At: time.Now().UTC(), CPUs: runtime.NumCPU(), Go: runtime.Version(), Rounds: f.rounds, Duration: f.duration.String()}
	for _, of := range []struct {
		asked   bool
		measure func(context.Context, flags, string, *report) error
	}{
		{f.past == 0 && len(f.start) == 0 && f.away == 0 && f.memory.pools == 0 && f.curves == "", measureTable},
		{f.past > 0, measurePast},
		{len(f.start) > 0, measureStart},
		{f.away > 0, measureAway},
		{f.memory.pools > 0, measureMemory},
		{f.curves != "", drawCurves},
	} {
		if of.asked {
			if err := of.measure(ctx, f, dir, r); err != nil {
				return err
			}
		}
	}
	if f.json == "" {
		return nil
	}
	return r.keep(f.json)
}

// progress tells on standard error what is going on.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+" …\n", args...)
}
