// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/pflag"

	"github.com/ipamlog/ipamlog/lab"
)

func main() {
	var o options
	pflag.DurationVar(&o.duration, "duration", time.Minute, "how long there is trouble")
	pflag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of the troubles and of what clients do: the `number` that a run printed")
	pflag.DurationVar(&o.calm, "calm", 2*time.Second, "the mean `time` between two troubles of a kind")
	pflag.IntVar(&o.crowd, "crowd", 1, "how many `times` as many clients as usual")
	pflag.StringVar(&o.keep, "keep", "", "`directory` for the history; without it one is made where something was wrong")
	pflag.Parse()
	if o.duration <= 0 || o.calm <= 0 || o.crowd < 1 || pflag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "chaos: see --help: the duration, the calm and the crowd are more than nothing, and there are no other words")
		os.Exit(2)
	}
	o.terminal = isatty.IsTerminal(os.Stderr.Fd())

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	os.Exit(lab.Visit("chaos", func(v *lab.Visitor) int {
		v.Cleanup(func() {
			if err := lab.RemovePrograms(); err != nil {
				v.Errorf("%v", err)
			}
		})
		v.Logf("the seed is %d", o.seed)
		found := run(ctx, v, o)
		if err := found.write(os.Stdout); err != nil {
			v.Fatal(err)
		}
		if len(found.wrong) > 0 {
			return 1
		}
		return 0
	}))
}
