// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cockroachdb/errors"
)

// Lab is one shared layer 2 with hosts on it. Any number of labs may run on a
// machine at the same time, in one test process or in several, without seeing
// each other. Its methods may be called from any goroutine, except those that
// fail the test, which follow the rules of [testing.T.FailNow].
type Lab struct {
	t      T
	ctx    context.Context // ends with the lab, and with it every command started for it
	cancel context.CancelFunc
	dir    string
	name   string // base of dir: unique on the machine, names the cgroups
	lock   *os.File
	wire   *wire

	mu    sync.Mutex
	hosts []*Host
}

// T is what a lab needs of those it is made for: every [testing.TB] is one.
type T interface {
	Helper()
	Cleanup(end func())
	Failed() bool
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// New makes an empty lab that lasts as long as the test. It fails the test,
// saying what to install, when the machine lacks something.
func New(t T) *Lab {
	t.Helper()
	if err := checkRequirements(); err != nil {
		t.Fatal(err)
	}
	l := &Lab{t: t}
	// It outlives the test, until its cleanup.
	l.ctx, l.cancel = context.WithCancel(context.Background())
	t.Cleanup(l.close)

	var err error
	if l.dir, l.lock, err = claimDirectory(); err != nil {
		t.Fatal(err)
	}
	l.name = filepath.Base(l.dir)
	if l.wire, err = newWire(); err != nil {
		t.Fatal(err)
	}
	return l
}

// Host adds a host to the lab, plugged into the shared layer 2 and without an
// engine yet. The name becomes its hostname and must be unique in the lab.
func (l *Lab) Host(name string) *Host {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.hosts {
		if h.name == name {
			l.t.Fatalf("there is a host %q in this lab already: choose another name", name)
		}
	}
	h := newHost(l, name, len(l.hosts)+1)
	l.hosts = append(l.hosts, h)
	if err := h.boot(); err != nil {
		l.t.Fatal(err)
	}
	return h
}

// Addr is the address of the test itself on the shared layer 2: where hosts
// find what the test serves with [Lab.Listen].
func (l *Lab) Addr() netip.Addr { return wireAddr4(0) }

func (l *Lab) close() {
	l.cancel()
	l.mu.Lock()
	hosts := l.hosts
	l.mu.Unlock()

	errs := inParallel(hosts, (*Host).powerOff)
	if l.t.Failed() {
		for _, h := range hosts {
			h.showLogs(l.t)
		}
	}
	if l.wire != nil {
		errs = append(errs, l.wire.close())
	}
	if l.dir != "" {
		errs = append(errs, removeCgroups(l.name), os.RemoveAll(l.dir), l.lock.Close())
	}
	if err := errors.Join(errs...); err != nil {
		l.t.Errorf("clean up the lab: %v", err)
	}
}

// StartEngines starts an engine on each of the hosts, all at the same time,
// and fails the test if one does not come up.
func StartEngines(t T, hosts ...*Host) {
	t.Helper()
	start := func(h *Host) error { return h.StartEngine() }
	if err := errors.Join(inParallel(hosts, start)...); err != nil {
		t.Fatal(err)
	}
}

func inParallel[E any](all []E, do func(E) error) []error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, one := range all {
		wg.Go(func() { errs[i] = do(one) })
	}
	wg.Wait()
	return errs
}

// poll asks done again and again until it says true or the time is over.
func poll(ctx context.Context, limit time.Duration, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
