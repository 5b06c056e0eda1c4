// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/cockroachdb/errors"
)

// warmUp is how long each side works before it is measured.
const warmUp = 300 * time.Millisecond

// result is what came of one kind of work.
type result struct {
	work
	sides   []*side
	samples [][]sample // by side and round
}

// takeTurns has all sides do the work, one after the other, round by round.
func takeTurns(ctx context.Context, sides []*side, w work, rounds int, d time.Duration) (result, error) {
	r := result{work: w, sides: sides, samples: make([][]sample, len(sides))}
	for _, s := range sides { // the first time is always slower
		if _, err := s.do(ctx, w, warmUp); err != nil {
			return r, err
		}
	}
	for range rounds {
		for i, s := range sides {
			one, err := s.do(ctx, w, d)
			if err != nil {
				return r, err
			}
			r.samples[i] = append(r.samples[i], one)
		}
	}
	return r, nil
}

// spread is a figure over the rounds.
type spread struct{ median, least, most float64 }

func spreadOf(figures []float64) spread {
	sorted := slices.Sorted(slices.Values(figures))
	n := len(sorted)
	return spread{median: (sorted[(n-1)/2] + sorted[n/2]) / 2, least: sorted[0], most: sorted[n-1]}
}

func rate(s sample) float64 { return s.rate }
func p50(s sample) float64  { return s.p50.Seconds() }

// over is a figure of a side over the rounds.
func (r result) over(i int, figure func(sample) float64) spread {
	var figures []float64
	for _, s := range r.samples[i] {
		figures = append(figures, figure(s))
	}
	return spreadOf(figures)
}

// ratio is a figure of a side to that of the first, each round by itself: a drift of the
// machine's is in both.
func (r result) ratio(i int, figure func(sample) float64) spread {
	var ratios []float64
	for round, s := range r.samples[i] {
		ratios = append(ratios, figure(s)/figure(r.samples[0][round]))
	}
	return spreadOf(ratios)
}

// write writes the table.
func write(w io.Writer, results []result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "work\tat once\tdriver\ta second\tp50\trate ×\tp50 ×")
	for _, r := range results {
		for i, s := range r.sides {
			took := time.Duration(r.over(i, p50).median * float64(time.Second))
			fmt.Fprintf(t, "%s\t%d\t%s\t%.1f\t%s", r.what, r.atOnce, s.what, r.over(i, rate).median, took.Round(100*time.Microsecond))
			if i > 0 {
				for _, figure := range []func(sample) float64{rate, p50} {
					x := r.ratio(i, figure)
					fmt.Fprintf(t, "\t%.2f (%.2f to %.2f)", x.median, x.least, x.most)
				}
			}
			fmt.Fprintln(t)
		}
	}
	return errors.Wrap(t.Flush(), "print the table")
}
