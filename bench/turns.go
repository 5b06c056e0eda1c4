// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"
	"time"
)

// warmUp is how long each side runs before it is measured.
const warmUp = 300 * time.Millisecond

// side is one of those that are compared.
type side struct {
	what    string
	clients []client
	samples []sample // by round
}

// reading is what goes on rising: the store's revision, and the time that
// daemons have had of the CPUs, the one that the etcd is in and the others.
type reading struct {
	revision    int64
	main, hosts time.Duration
}

type meter func() (reading, error)

// takeTurns measures sides one after the other, round by round.
func takeTurns(ctx context.Context, sides []*side, rounds int, d time.Duration, read meter) error {
	for _, s := range sides {
		if _, err := load(ctx, s.clients, warmUp); err != nil {
			return err
		}
	}
	for range rounds {
		for _, s := range sides {
			before, err := read()
			if err != nil {
				return err
			}
			one, err := load(ctx, s.clients, d)
			if err != nil {
				return err
			}
			after, err := read()
			if err != nil {
				return err
			}
			one.perCommit = float64(one.requests) / float64(after.revision-before.revision)
			one.hostsCPU = (after.hosts - before.hosts) / time.Duration(one.requests)
			one.cpu = (after.main-before.main)/time.Duration(one.requests) + one.hostsCPU
			s.samples = append(s.samples, one)
		}
	}
	return nil
}

// spread is a figure over the rounds.
type spread struct{ median, least, most float64 }

func spreadOf(figures []float64) spread {
	sorted := slices.Sorted(slices.Values(figures))
	n := len(sorted)
	return spread{median: (sorted[(n-1)/2] + sorted[n/2]) / 2, least: sorted[0], most: sorted[n-1]}
}

// over is a figure of the side over the rounds.
func (s *side) over(figure func(sample) float64) spread {
	figures := make([]float64, 0, len(s.samples))
	for _, one := range s.samples {
		figures = append(figures, figure(one))
	}
	return spreadOf(figures)
}

// to is the ratio of a figure of two sides, each round by itself: a drift of
// the machine's is in both.
func (s *side) to(base *side, figure func(sample) float64) spread {
	ratios := make([]float64, 0, len(s.samples))
	for i, one := range s.samples {
		ratios = append(ratios, figure(one)/figure(base.samples[i]))
	}
	return spreadOf(ratios)
}

// The figures of a sample.
func rate(s sample) float64 { return s.rate }
func p50(s sample) float64  { return s.p50.Seconds() }
func p99(s sample) float64  { return s.p99.Seconds() }

func perCommit(s sample) float64 { return s.perCommit }
func cpu(s sample) float64       { return s.cpu.Seconds() }
func hostsCPU(s sample) float64  { return s.hostsCPU.Seconds() }
