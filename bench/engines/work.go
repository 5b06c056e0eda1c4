// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/ipamlog/ipamlog/lab"
)

// work is something that users have an engine do, and undo.
type work struct {
	what   string
	atOnce int
	// turn does and undoes it once, with a name of its own, and tells how long the
	// doing took.
	turn func(ctx context.Context, s *side, name string) (time.Duration, error)
}

var works = []work{
	{"containers started and removed", 1, runAndRemove},
	{"containers started and removed", 4, runAndRemove},
	{"networks connected and disconnected", 1, connectAndDisconnect},
}

func runAndRemove(ctx context.Context, s *side, name string) (time.Duration, error) {
	begun := time.Now()
	created, err := s.engine.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name: name, Config: &container.Config{Image: lab.Image}, HostConfig: &container.HostConfig{NetworkMode: network},
	})
	if err != nil {
		return 0, errors.Wrap(err, "create a container")
	}
	if _, err := s.engine.ContainerStart(ctx, created.ID, client.ContainerStartOptions{}); err != nil {
		return 0, errors.Wrap(err, "start a container")
	}
	took := time.Since(begun)
	_, err = s.engine.ContainerRemove(ctx, created.ID, client.ContainerRemoveOptions{Force: true})
	return took, errors.Wrap(err, "remove a container")
}

func connectAndDisconnect(ctx context.Context, s *side, _ string) (time.Duration, error) {
	begun := time.Now()
	if _, err := s.engine.NetworkConnect(ctx, network, client.NetworkConnectOptions{Container: home}); err != nil {
		return 0, errors.Wrap(err, "connect a network")
	}
	took := time.Since(begun)
	_, err := s.engine.NetworkDisconnect(ctx, network, client.NetworkDisconnectOptions{Container: home})
	return took, errors.Wrap(err, "disconnect a network")
}

// sample is what came of one stretch of work.
type sample struct {
	rate float64       // turns a second
	p50  time.Duration // of the doing
}

// do works for a while, one turn at least. Turns that have begun are ended.
func (s *side) do(ctx context.Context, w work, d time.Duration) (sample, error) {
	times, failures := make([][]time.Duration, w.atOnce), make([]error, w.atOnce)
	var all sync.WaitGroup
	begun := time.Now()
	for i := range w.atOnce {
		s.names++
		stem := fmt.Sprintf("c%d", s.names)
		all.Go(func() {
			for n := 0; ctx.Err() == nil && (n == 0 || time.Since(begun) < d); n++ {
				took, err := w.turn(ctx, s, fmt.Sprintf("%s-%d", stem, n))
				if err != nil {
					failures[i] = errors.Wrapf(err, "%s", s.what)
					return
				}
				times[i] = append(times[i], took)
			}
		})
	}
	all.Wait()
	lasted := time.Since(begun)
	if err := errors.CombineErrors(ctx.Err(), errors.Join(failures...)); err != nil {
		return sample{}, err
	}
	sorted := slices.Concat(times...)
	slices.Sort(sorted)
	return sample{rate: float64(len(sorted)) / lasted.Seconds(), p50: sorted[len(sorted)/2]}, nil
}
