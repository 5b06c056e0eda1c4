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
	here    bool     // what answers them is this process
	samples []sample // by round
}

// reading is what goes on rising: the store's revision, and the time that
// processes have had of the CPUs: the daemon that the etcd is in, the others, and
// this one.
type reading struct {
	revision         int64
	main, hosts, own time.Duration
}

type meter func() (reading, error)

// takeTurns measures sides one after the other, round by round.
func takeTurns(ctx context.Context, sides []*side, rounds int, d time.Duration, read meter) error {
	for _, s := range sides {
		if err := patiently(ctx, func() error { _, err := load(ctx, s.clients, warmUp); return err }); err != nil {
			return err
		}
	}
	for range rounds {
		for _, s := range sides {
			if err := patiently(ctx, func() error { return s.measure(ctx, d, read) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// patiently does again what failed because the machine, a virtual one among many, stood
// still for seconds: then etcd refuses writes, and whoever asks is refused.
func patiently(ctx context.Context, do func() error) error {
	err := do()
	for again := 0; again < 2 && err != nil && ctx.Err() == nil; again++ {
		progress("once more, for %v", err)
		err = do()
	}
	return err
}

// measure adds a sample.
func (s *side) measure(ctx context.Context, d time.Duration, read meter) error {
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
	requests := time.Duration(one.requests)
	one.perCommit = float64(one.requests) / float64(after.revision-before.revision)
	one.hostsCPU = (after.hosts - before.hosts) / requests
	one.cpu = (after.main-before.main)/requests + one.hostsCPU
	if s.here {
		one.cpu += (after.own - before.own) / requests
	}
	s.samples = append(s.samples, one)
	return nil
}

// spread is a figure over the rounds.
type spread struct {
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
}

func spreadOf(figures []float64) spread {
	sorted := slices.Sorted(slices.Values(figures))
	n := len(sorted)
	return spread{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Least: sorted[0], Most: sorted[n-1]}
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
