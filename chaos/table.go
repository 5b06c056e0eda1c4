// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/cockroachdb/errors"
)

// result is a run and what came of it.
type result struct {
	*running
	*verdict
	wrong []string
	kept  string // where the history is
}

// shown is how many of the things that are wrong are printed.
const shown = 20

// write writes the table.
func (f *result) write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(what string, figure any) { fmt.Fprintf(t, "%s\t%v\n", what, figure) }
	line("seed", f.seed)
	line("trouble lasted", f.duration.Round(time.Second))
	line("clients, on hosts", fmt.Sprintf("%d, on %d", f.count(), hosts))
	line("operations", f.history.tally.all())
	for _, o := range []outcome{answered, refused, unknown} {
		line("  "+string(o), f.history.tally[o])
	}
	for _, said := range slices.Sorted(maps.Keys(f.history.refusals)) {
		line("  refused: "+said, f.history.refusals[said])
	}
	line("faults", f.faults.total())
	for _, what := range slices.Sorted(maps.Keys(f.faults.counts)) {
		line("  "+what, f.faults.counts[what])
	}
	line("looks at the guards", f.looks)
	line("holdings that nobody was told of", f.unheard)
	line("holdings that ended with their network", f.byGrant)
	line("grants that nobody was told of", len(f.orphans))
	line("double holdings", f.doubles)
	line("answers that are not in the log", f.lost)
	line("leaked", f.leaked)
	line("linearizable", f.linearizable())
	line("wrong in all", len(f.wrong))
	if err := t.Flush(); err != nil {
		return errors.Wrap(err, "print the table")
	}
	for _, what := range f.wrong[:min(shown, len(f.wrong))] {
		fmt.Fprintln(w, "WRONG:", what)
	}
	if f.kept != "" {
		fmt.Fprintf(w, "The history is in %s; the same troubles come again with --seed %d --duration %s --calm %s --crowd %d.\n", f.kept, f.seed, f.duration, f.calm, f.crowd)
	}
	return nil
}

func (f *result) count() int {
	n := 0
	for _, network := range f.networks {
		n += len(network.clients)
	}
	return n
}

func (f *result) linearizable() string {
	if n := len(f.illegal); n > 0 {
		return fmt.Sprintf("no: %d of %d addresses", n, f.spots)
	}
	return fmt.Sprintf("yes: %d steps on %d addresses", f.steps, f.spots)
}
