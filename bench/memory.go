// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/cockroachdb/errors"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

const (
	// settled is how long a process has been left alone before its memory is looked at,
	// and idle how long it is watched doing nothing.
	settled = 3 * time.Second
	idle    = 10 * time.Second
)

// weight is what a host costs that does nothing.
type weight struct {
	heap, goroutines         float64 // of a host in this process, after a collection
	resident, etcdResident   float64 // of a daemon as a process, and of its etcd
	busy, etcdBusy           float64 // shares of one CPU
	ready                    time.Duration
	etcdBefore, etcdWithHost float64 // resident, before and with the host in this process
}

// measureMemory measures what held addresses, pools and idle daemons cost.
func measureMemory(ctx context.Context, f flags, dir string, r *report) error {
	var weights []weight
	for i, c := range []crowd{{}, {pools: f.memory.pools}, f.memory} {
		w, err := weigh(ctx, f.program, filepath.Join(dir, fmt.Sprintf("crowd-%d", i)), c)
		if err != nil {
			return err
		}
		weights = append(weights, w)
	}
	nothing, pools, held := weights[0], weights[1], weights[2]
	n, m := float64(f.memory.pools), float64(f.memory.held/f.memory.pools*f.memory.pools)
	aim := func(v, most float64) string {
		if v <= most {
			return fmt.Sprintf("≤ %g: met", most)
		}
		return fmt.Sprintf("≤ %g: missed", most)
	}
	perAddress, perAddressRSS := (held.heap-pools.heap)/m, (held.resident-pools.resident)/m
	found := []finding{
		{"an idle daemon, resident", megabytes(nothing.resident), ""},
		{"an idle daemon, CPU", share(nothing.busy) + ", its etcd " + share(nothing.etcdBusy), ""},
		{"a pool, heap", kilobytes((pools.heap - nothing.heap) / n), ""},
		{"a pool, goroutines", fmt.Sprintf("%.1f", (pools.goroutines-nothing.goroutines)/n), ""},
		{"a pool, resident in the daemon", kilobytes((pools.resident - nothing.resident) / n), ""},
		{"a pool, resident in etcd", kilobytes((pools.etcdWithHost - pools.etcdBefore) / n), ""},
		{fmt.Sprintf("%d pools, CPU when idle", f.memory.pools), share(pools.busy) + ", etcd " + share(pools.etcdBusy), ""},
		{fmt.Sprintf("%d pools, start to the first answer", f.memory.pools), pools.ready.Round(time.Millisecond).String(), ""},
		{"a held address, heap", fmt.Sprintf("%.0f bytes", perAddress), aim(perAddress, 200)},
		{"a held address, resident in the daemon", fmt.Sprintf("%.0f bytes", perAddressRSS), ""},
		{fmt.Sprintf("%d pools with %.0f held, resident", f.memory.pools, m), megabytes(held.resident) + ", etcd " + megabytes(held.etcdResident), ""},
		{fmt.Sprintf("%d pools with %.0f held, start to the first answer", f.memory.pools, m), held.ready.Round(time.Millisecond).String(), ""},
	}
	watches, err := weighWatches(ctx, f.program, filepath.Join(dir, "watches"), f.memory.pools)
	if err != nil {
		return err
	}
	return r.add("Memory: \"heap\" and goroutines of a host in the bench's process after a garbage collection, \"resident\" what the\nkernel counts of a process without the files it maps.", append(found, watches...)...)
}

// weigh measures a host that has a crowd.
func weigh(ctx context.Context, program, dir string, c crowd) (w weight, err error) {
	if err := c.write(ctx, dir); err != nil {
		return w, err
	}
	progress("weighing %d pools with %d held", c.pools, c.held)
	store, err := start(ctx, program, dir, "store", "")
	if err != nil {
		return w, err
	}
	defer store.stop()
	if err := pause(ctx, settled); err != nil {
		return w, err
	}
	if w.etcdBefore, err = residentOf(store.pid()); err != nil {
		return w, err
	}
	heap, goroutines := collected()
	host, err := joinHere(ctx, store.etcd(), startHost)
	if err != nil {
		return w, err
	}
	if err = c.stands(ctx, host); err == nil {
		err = pause(ctx, settled)
	}
	after, more := collected()
	w.heap, w.goroutines = after-heap, more-goroutines
	w.etcdWithHost, _ = residentOf(store.pid())
	progress("in this process it has %s of heap and %.0f goroutines", megabytes(w.heap), w.goroutines)
	if err := errors.CombineErrors(err, host.leave()); err != nil {
		return w, err
	}
	progress("starting a daemon")
	question := probe
	if c.pools > 0 {
		question = (&asker{name: crowdPool(0), subnet: crowdSubnet}).ask
	}
	d, ready, err := startUntil(ctx, program, dir+"-host", startHost, store.etcd(), question)
	if err != nil {
		return w, err
	}
	defer d.stop()
	w.ready = ready
	if c.pools > 0 {
		progress("asking in each pool")
	}
	for n := range c.pools { // each has read its guards when it has answered
		a := &asker{name: crowdPool(n), subnet: crowdSubnet}
		if err := d.ask(ctx, a.ask); err != nil {
			return w, errors.Wrapf(err, "ask for an address of %s", a.name)
		}
	}
	if err := pause(ctx, settled); err != nil {
		return w, err
	}
	if w.busy, w.etcdBusy, err = idling(ctx, d, store); err != nil {
		return w, err
	}
	if w.resident, err = residentOf(d.pid()); err != nil {
		return w, err
	}
	w.etcdResident, err = residentOf(store.pid())
	return w, err
}

// stands waits until a host has read all that is held in its pools.
func (c crowd) stands(ctx context.Context, host *local) error {
	standing, err := host.Standing(ctx)
	if err == nil && len(standing) != c.pools {
		err = errors.Newf("the host has %d pools, not %d", len(standing), c.pools)
	}
	return err
}

// idling is which share of a CPU two daemons have that nobody asks for anything.
func idling(ctx context.Context, a, b *daemon) (shareA, shareB float64, err error) {
	var used [4]time.Duration
	for i := range 2 {
		for k, d := range []*daemon{a, b} {
			if used[2*i+k], err = d.cpu(); err != nil {
				return 0, 0, err
			}
		}
		if i == 0 {
			if err := pause(ctx, idle); err != nil {
				return 0, 0, err
			}
		}
	}
	return float64(used[2]-used[0]) / float64(idle), float64(used[3]-used[1]) / float64(idle), nil
}

// weighWatches measures bare watches of etcd, with a stream each as ours have, and all on
// one stream.
func weighWatches(ctx context.Context, program, dir string, n int) ([]finding, error) {
	store, err := start(ctx, program, dir, "store", "")
	if err != nil {
		return nil, err
	}
	defer store.stop()
	var found []finding
	for _, way := range []struct {
		what    string
		context func(context.Context, int) context.Context
	}{
		{"all on one stream", func(ctx context.Context, _ int) context.Context { return ctx }},
		{"a stream each", func(ctx context.Context, i int) context.Context {
			return metadata.AppendToOutgoingContext(ctx, "bench-watch", strconv.Itoa(i))
		}},
	} {
		progress("weighing %d watches, %s", n, way.what)
		one, err := weighWatching(ctx, store, n, way.context)
		if err != nil {
			return nil, err
		}
		found = append(found, finding{What: "a bare watch, " + way.what, Figure: one})
	}
	return found, nil
}

func weighWatching(ctx context.Context, store *daemon, n int, of func(context.Context, int) context.Context) (string, error) {
	client, err := dial(store.etcd())
	if err != nil {
		return "", err
	}
	defer func() { _ = client.Close() }()
	if err := pause(ctx, settled); err != nil {
		return "", err
	}
	etcd, err := residentOf(store.pid())
	if err != nil {
		return "", err
	}
	heap, goroutines := collected()
	watching, end := context.WithCancel(ctx)
	defer end()
	for i := range n {
		w := client.Watch(of(watching, i), fmt.Sprintf("/bench/watch/%d/", i), clientv3.WithPrefix(), clientv3.WithProgressNotify(), clientv3.WithCreatedNotify())
		if created := <-w; created.Err() != nil || !created.Created {
			return "", errors.Wrapf(created.Err(), "begin watch %d", i)
		}
	}
	if err := pause(ctx, settled); err != nil {
		return "", err
	}
	after, more := collected()
	etcdAfter, err := residentOf(store.pid())
	if err != nil {
		return "", err
	}
	before, err := store.cpu()
	if err != nil {
		return "", err
	}
	if err := pause(ctx, idle); err != nil {
		return "", err
	}
	used, err := store.cpu()
	each := float64(n)
	return fmt.Sprintf("%s heap and %.1f goroutines, %s resident in etcd; etcd idles at %s", kilobytes((after-heap)/each), (more-goroutines)/each,
		kilobytes((etcdAfter-etcd)/each), share(float64(used-before)/float64(idle))), err
}

// collected is what this process has on its heap after a collection, and its goroutines.
func collected() (heap, goroutines float64) {
	runtime.GC()
	runtime.GC() // what the first one finalised
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse), float64(runtime.NumGoroutine())
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func megabytes(v float64) string { return fmt.Sprintf("%.1f MB", v/1e6) }
func kilobytes(v float64) string { return fmt.Sprintf("%.1f kB", v/1e3) }
func share(v float64) string     { return fmt.Sprintf("%.1f %%", v*100) }
