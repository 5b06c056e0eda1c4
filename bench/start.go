// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"iter"
	"path/filepath"
	"sync"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/bench/bulk"
	"github.com/ipamlog/ipamlog/demo/engine"
	"github.com/ipamlog/ipamlog/embedded"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

const (
	startRuns = 5
	startHost = "bench"
	// One of the pools of a story that stay to its end.
	startPool, startSubnet = "net-2", "10.1.0.0/16"
)

// measureStart measures the start of a daemon on logs of different lengths.
func measureStart(ctx context.Context, f flags, dir string, r *report) error {
	found := make([]finding, 0, 2*len(f.start))
	for _, n := range f.start {
		at := filepath.Join(dir, fmt.Sprintf("log-%d", n))
		if err := writeStory(ctx, at, n); err != nil {
			return err
		}
		alone, err := startOnRunning(ctx, f.program, at)
		if err != nil {
			return err
		}
		whole, err := startWhole(ctx, f.program, at)
		if err != nil {
			return err
		}
		found = append(found,
			finding{fmt.Sprintf("%d events, on an etcd that runs", n), alone.String(), alone.verdict(time.Second)},
			finding{fmt.Sprintf("%d events, with its embedded etcd", n), whole.String(), whole.verdict(time.Second)},
		)
		if f.curves != "" {
			if r.overLog == nil {
				r.overLog = newCurve("log", "A request, as the log grows", "events in the log")
				r.overLog.log = true
			}
			if err := costOn(ctx, f, at, n, r.overLog); err != nil {
				return err
			}
		}
	}
	return r.add(fmt.Sprintf("The start of a daemon that has %d held addresses in 64 pools, from the start of its process to the first\nanswer about an address, by the events in the log: medians, and the least and the most of %d.", heldAtEnd, startRuns), found...)
}

// writeStory makes a data directory with a log of so many events, all by one host.
func writeStory(ctx context.Context, dir string, n int) error {
	progress("writing %d events", n)
	// It is read later: that it was not on disk at once makes no difference.
	server, err := embedded.Start(ctx, embedded.Options{Dir: dir, Log: zerolog.Nop(), NoFsync: true})
	if err != nil {
		return errors.Wrap(err, "start an etcd")
	}
	defer server.Close()
	story := bulk.Story{Events: n, Held: heldAtEnd}
	return errors.Wrap(bulk.Write(ctx, server.Client(), etcdlog.DefaultPrefix, byOneHost(story.Commits()), nil), "write the story")
}

// byOneHost tells a story as if one host had done everything.
func byOneHost(commits iter.Seq[events.Commit]) iter.Seq[events.Commit] {
	return func(yield func(events.Commit) bool) {
		for c := range commits {
			c.Host = startHost
			for i, e := range c.Events {
				switch e := e.(type) {
				case events.GrantOpened:
					e.Host = startHost
					c.Events[i] = e
				case events.AddressAllocated:
					e.Host = startHost
					c.Events[i] = e
				default: // says nothing of who did it
				}
			}
			if !yield(c) {
				return
			}
		}
	}
}

// asker asks a daemon for one more address of a pool, in the grant that the first ask
// opened, as Docker does when it finds the daemon again.
type asker struct{ pool, name, subnet string }

func (a *asker) ask(conn *engine.Conn) error {
	if a.pool == "" {
		options := map[string]string{"pool": a.name}
		if a.name == "" {
			options = nil
		}
		pool, err := conn.CreatePool(a.subnet, options)
		if err != nil {
			return err
		}
		a.pool = pool
	}
	_, err := conn.Endpoint(a.pool, "first", nextMAC().String(), "")
	return err
}

// starts measures starts, but the first, which joins.
func (a *asker) starts(ctx context.Context, program, dir, etcd string, runs int) (spans, error) {
	var took spans
	for run := range runs + 1 {
		d, t, err := startUntil(ctx, program, dir, startHost, etcd, a.ask)
		if err != nil {
			return nil, err
		}
		d.stop()
		if run > 0 {
			_ = took.add(t, nil)
		}
	}
	return took, nil
}

func startOnRunning(ctx context.Context, program, dir string) (spans, error) {
	progress("starting on an etcd that runs")
	server, err := embedded.Start(ctx, embedded.Options{Dir: dir, Log: zerolog.Nop()})
	if err != nil {
		return nil, errors.Wrap(err, "start an etcd")
	}
	defer server.Close()
	a := &asker{name: startPool, subnet: startSubnet}
	return a.starts(ctx, program, dir+"-alone", server.Endpoint(), startRuns)
}

func startWhole(ctx context.Context, program, dir string) (spans, error) {
	progress("starting with the embedded etcd")
	a := &asker{name: startPool, subnet: startSubnet}
	return a.starts(ctx, program, dir, "", startRuns)
}

// costOn measures what a request costs on a log of so many events.
func costOn(ctx context.Context, f flags, dir string, n int, c *curve) error {
	progress("requests on %d events", n)
	return onDaemon(ctx, f, dir, startHost, func(b *bench) error {
		p, err := b.makePool("", "10.200.0.0/16", "")
		if err != nil {
			return err
		}
		return c.measure(b, float64(n), p)
	})
}

// measureAway measures the start of a daemon in whose pool others were busy while it was
// not there.
func measureAway(ctx context.Context, f flags, dir string, r *report) error {
	own, err := start(ctx, f.program, filepath.Join(dir, "etcd"), "store", "")
	if err != nil {
		return err
	}
	defer own.stop()
	here, err := joinHere(ctx, own.etcd(), "here")
	if err != nil {
		return err
	}
	defer func() { _ = here.leave() }()
	a := &asker{subnet: startSubnet}
	away := filepath.Join(dir, "away")
	before, err := a.starts(ctx, f.program, away, own.etcd(), startRuns)
	if err != nil {
		return err
	}
	grant, err := here.open(ctx, startSubnet)
	if err != nil {
		return err
	}
	clients := newCallers(here.Host, grant, 4*crowdClients)
	var after spans
	for range f.rounds {
		progress("%d events without the daemon", f.away)
		if err := doing(ctx, clients, f.away); err != nil {
			return err
		}
		d, t, err := startUntil(ctx, f.program, away, startHost, own.etcd(), a.ask)
		if err != nil {
			return err
		}
		d.stop()
		_ = after.add(t, nil)
	}
	return r.add("A daemon that was not there, from the start of its process to the first answer in its pool: medians, and\nthe least and the most.",
		finding{"nothing had happened", before.String(), ""},
		finding{fmt.Sprintf("others had written %d events in the pool", f.away), after.String(), ""},
	)
}

// doing lets clients do so many requests.
func doing(ctx context.Context, clients []client, requests int) error {
	failures := make([]error, len(clients))
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			for done := 0; done < requests/len(clients) && failures[i] == nil; {
				var n int
				n, _, failures[i] = c.turn(ctx)
				done += n
			}
		})
	}
	wg.Wait()
	return firstOf(failures)
}
