// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/ipamlog/ipamlog/lab"
)

// flags are how the measurement is asked for.
type flags struct {
	rounds   int
	duration time.Duration
	short    bool
}

func main() {
	var f flags
	pflag.IntVar(&f.rounds, "rounds", 5, "`times` that each side does each kind of work, in turns")
	pflag.DurationVar(&f.duration, "duration", 3*time.Second, "how long each time")
	pflag.BoolVar(&f.short, "short", false, "2 rounds of 1s")
	pflag.Parse()
	if f.short {
		f.rounds, f.duration = 2, time.Second
	}
	if f.rounds < 1 || f.duration <= 0 || pflag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "engines: see --help: there must be a round and a duration, and no other words")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	os.Exit(lab.Visit("engines", func(v *lab.Visitor) int {
		v.Cleanup(func() {
			if err := lab.RemovePrograms(); err != nil {
				v.Errorf("%v", err)
			}
		})
		if err := measure(ctx, v, f); err != nil {
			v.Fatal(err)
		}
		return 0
	}))
}

// measure builds the hosts, has them work in turns, and prints the table.
func measure(ctx context.Context, v *lab.Visitor, f flags) error {
	sides, version, err := build(v)
	if err != nil {
		return err
	}
	var results []result
	for _, w := range works {
		v.Logf("%s, %d at once …", w.what, w.atOnce)
		r, err := takeTurns(ctx, sides, w, f.rounds, f.duration)
		if err != nil {
			return err
		}
		results = append(results, r)
	}
	fmt.Printf(preamble, version, runtime.NumCPU(), f.rounds, f.duration)
	return write(os.Stdout, results)
}

const preamble = `Docker %s; %d CPUs shared by three hosts with an engine each, ipamlog and etcd; %d rounds of %s each,
in turns. Medians over the rounds, and of the ratios to Docker's own driver in the same round the least and
the most. "p50" is of one start (create and start), or of one connect.

`
