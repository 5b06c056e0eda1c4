// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/pflag"

	"github.com/ipamlog/ipamlog/sim/model"
)

// flagServe makes this program the etcd that another one of it measures.
const flagServe = "serve"

// kept is what was measured when the costs were last looked at.
//
//go:embed costs.json
var kept []byte

// flags are what is asked.
type flags struct {
	calibrate bool
	stretch   time.Duration
	keep      string
	cores     int
	index     time.Duration
	indexed   int
	commits   int
	seed      uint64
	serve     string
}

func main() {
	var f flags
	pflag.BoolVar(&f.calibrate, "calibrate", false, "measure the costs here and now, on an etcd of its own")
	pflag.DurationVar(&f.stretch, "stretch", 2*time.Second, "how long each cost is measured")
	pflag.StringVar(&f.keep, "keep", "", "`file` for what was measured")
	pflag.IntVar(&f.cores, "cores", 4, "`number` of cores that etcd has")
	pflag.DurationVar(&f.index, "index", time.Minute, "how `often` a daemon brings its index of the past up to date; 0 for never")
	pflag.IntVar(&f.indexed, "indexed", 32, "how many `daemons` keep an index, at most; 0 for all")
	pflag.IntVar(&f.commits, "commits", 20_000, "`number` of commits to simulate")
	pflag.Uint64Var(&f.seed, "seed", 1, "of the simulation: the same `number` tells the same")
	pflag.StringVar(&f.serve, flagServe, "", "`directory` to serve an etcd on")
	_ = pflag.CommandLine.MarkHidden(flagServe)
	pflag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := do(ctx, f); err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		stop()
		os.Exit(1)
	}
}

func do(ctx context.Context, f flags) error {
	if f.serve != "" {
		return serve(ctx, f.serve, os.Stdin, os.Stdout)
	}
	if f.cores < 1 || f.commits < 100 || f.index < 0 || f.indexed < 0 || f.stretch <= 0 || pflag.NArg() > 0 {
		return errors.New("see --help: there must be a core, 100 commits and a stretch, and no other words")
	}
	m, err := costs(ctx, f)
	if err != nil {
		return err
	}
	return write(os.Stdout, m, model.Site{Cores: f.cores, Index: f.index, Indexed: f.indexed}, f.commits, f.seed)
}

// costs are those that are kept, or measured now.
func costs(ctx context.Context, f flags) (m measured, err error) {
	switch {
	case f.calibrate:
	case f.keep != "":
		return m, errors.New("--keep keeps what --calibrate measures: give both")
	default:
		return m, errors.Wrap(json.Unmarshal(kept, &m), "read costs.json")
	}
	m, err = calibrate(ctx, f.stretch, func(what string) { fmt.Fprintf(os.Stderr, "sim: measuring %s …\n", what) })
	if err != nil || f.keep == "" {
		return m, err
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, errors.Wrap(err, "write what was measured")
	}
	return m, errors.Wrap(os.WriteFile(f.keep, append(text, '\n'), 0o644), "keep what was measured")
}
