// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/errors"
)

// client is one that asks for something, waits for the answer, and asks again.
type client interface {
	// turn does one request or more, and tells how many and how long the first
	// one took.
	turn(ctx context.Context) (requests int, took time.Duration, err error)
	Close() error
}

// sample is what came of one stretch of load.
type sample struct {
	rate     float64       // requests per second, of all clients together
	p50, p99 time.Duration // of the requests that turns are timed by

	requests  int
	perCommit float64       // requests that shared one revision of the store
	cpu       time.Duration // of daemon and etcd, a request
	hostsCPU  time.Duration // what the daemons without an etcd had of it
}

// load lets clients ask for a while.
func load(ctx context.Context, clients []client, d time.Duration) (sample, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	times := make([][]time.Duration, len(clients))
	counts := make([]int, len(clients))
	failures := make([]error, len(clients))
	var wg sync.WaitGroup
	begun := time.Now()
	end := begun.Add(d)
	for i, c := range clients {
		wg.Go(func() {
			for time.Now().Before(end) && ctx.Err() == nil {
				n, took, err := c.turn(ctx)
				if err != nil {
					failures[i] = err
					cancel() // one that fails ends all
					return
				}
				counts[i] += n
				times[i] = append(times[i], took)
			}
		})
	}
	wg.Wait()
	lasted := time.Since(begun)
	for _, err := range failures {
		if err != nil && !errors.Is(err, context.Canceled) {
			return sample{}, err
		}
	}
	if err := ctx.Err(); err != nil {
		return sample{}, errors.Wrap(err, "measure")
	}
	all := slices.Concat(times...)
	slices.Sort(all)
	requests := 0
	for _, n := range counts {
		requests += n
	}
	return sample{requests: requests, rate: float64(requests) / lasted.Seconds(), p50: quantile(all, 0.5), p99: quantile(all, 0.99)}, nil
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
