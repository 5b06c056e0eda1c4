// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/reconcile"
)

var subnet = netip.MustParsePrefix("10.1.0.0/24")

// docker is an engine that can fail where a real one hardly lets itself be made to.
type docker struct {
	mu       sync.Mutex
	networks []engine.Network
	broken   string // the network of which it does not tell
	looks    int
}

func (d *docker) Networks(context.Context) ([]engine.Network, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.looks++
	list := slices.Clone(d.networks)
	for i := range list {
		list[i].Endpoints = nil
	}
	return list, nil
}

func (d *docker) Network(_ context.Context, id string) (engine.Network, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if id == d.broken {
		return engine.Network{}, errors.New("it does not answer")
	}
	for _, n := range d.networks {
		if n.ID == id {
			return n, nil
		}
	}
	return engine.Network{}, errors.Mark(errors.New("gone"), engine.ErrNoNetwork)
}

func (d *docker) change(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// lookedAt waits for so many more looks.
func (d *docker) lookedAt(t *testing.T, more int) {
	t.Helper()
	d.mu.Lock()
	until := d.looks + more
	d.mu.Unlock()
	eventually(t, "looks", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.looks >= until })
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s in vain", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func network(id string, endpoints ...string) engine.Network {
	n := engine.Network{ID: id, Name: id, Driver: "bridge", IPAM: engine.IPAM{Driver: "ipamlog", Pools: []engine.Pool{{Subnet: subnet}}}}
	for _, a := range endpoints {
		n.Endpoints = append(n.Endpoints, engine.Endpoint{ID: "e" + a, Container: "c" + a, Name: "c", Addresses: []netip.Prefix{netip.MustParsePrefix(a + "/24")}})
	}
	return n
}

// bed is a host with a reconciler on an engine.
type bed struct {
	t      *testing.T
	log    *etcdlog.Log
	host   *actor.Host
	ref    actor.Ref
	engine *docker
	said   *lines
}

// lines is a log that is read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

type quiet struct{}

func (quiet) Committed(int, time.Duration) {}
func (quiet) Conflicted()                  {}

func newBed(t *testing.T, mode reconcile.Mode) *bed {
	t.Helper()
	client := etcdtest.Start(t).Client()
	b := &bed{t: t, log: etcdlog.New(client, etcdlog.DefaultPrefix), engine: &docker{}, said: &lines{}}
	var err error
	b.host, err = actor.Join(t.Context(), actor.Options{
		Client: client, Log: b.log, Identity: actor.Identity{Host: "h1", Machine: "m1", Version: "test"},
		Routes: func() ([]netip.Prefix, error) { return nil, nil }, Observer: quiet{}, Logger: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = b.host.Run(ctx) })
	granted, err := b.host.RequestPool(t.Context(), actor.PoolRequest{Space: events.Local, Subnet: subnet})
	if err != nil {
		t.Fatal(err)
	}
	b.ref = granted.Ref
	b.engine.networks = []engine.Network{network("n")}
	r := reconcile.New(reconcile.Options{
		Engine: b.engine, Driver: "ipamlog", Mode: mode, Every: 5 * time.Millisecond, Grace: 30 * time.Millisecond, Logger: zerolog.New(b.said),
	})
	looking, stop := context.WithCancel(ctx)
	running.Go(func() { r.Run(looking, b.host) })
	t.Cleanup(func() { stop(); cancel(); running.Wait() })
	return b
}

func (b *bed) ask(mac byte) netip.Addr {
	b.t.Helper()
	a, err := b.host.RequestAddress(b.t.Context(), b.ref, actor.AddressRequest{Asking: actor.AskEndpoint, MAC: events.MAC{2, 0, 0, 0, 0, mac}})
	if err != nil {
		b.t.Fatal(err)
	}
	return a.Address
}

func (b *bed) held(a netip.Addr) events.Held {
	b.t.Helper()
	guard, _, err := b.log.Holding(b.t.Context(), b.ref.Pool, a)
	if err != nil {
		b.t.Fatal(err)
	}
	return guard.Value
}

// TestUnknown: what the engine does not know goes, and what it comes to know stays.
func TestUnknown(t *testing.T) {
	b := newBed(t, reconcile.Fix)
	kept, lost := b.ask(1), b.ask(2)
	b.engine.change(func() { b.engine.networks = []engine.Network{network("n", kept.String())} })
	eventually(t, "the lost one's end", func() bool { return len(b.held(lost)) == 0 })
	eventually(t, "no suspicion", func() bool { h := b.held(kept); return len(h) == 1 && h[0].Suspected.IsZero() })
}

// TestIncomplete: an engine that does not tell of everything takes nothing away, of
// any network.
func TestIncomplete(t *testing.T) {
	b := newBed(t, reconcile.Fix)
	a := b.ask(1)
	b.engine.change(func() { b.engine.networks, b.engine.broken = []engine.Network{network("n"), network("m")}, "m" })
	b.engine.lookedAt(t, 3)
	for _, h := range b.held(a) {
		// A look that was under way before may have suspected it.
		if len(b.held(a)) != 1 || h.Kind != events.Endpoint {
			t.Errorf("held: %+v", b.held(a))
		}
	}
	b.engine.change(func() { b.engine.networks, b.engine.broken = []engine.Network{network("n", a.String())}, "" })
	eventually(t, "no suspicion", func() bool { h := b.held(a); return len(h) == 1 && h[0].Suspected.IsZero() })
}

// TestStranger: an engine that knows no network of the host is not soon believed.
func TestStranger(t *testing.T) {
	b := newBed(t, reconcile.Fix)
	a := b.ask(1)
	known := []engine.Network{network("n", a.String())}
	b.engine.change(func() { b.engine.networks = known })
	b.engine.lookedAt(t, 2)
	begun := time.Now()
	b.engine.change(func() { b.engine.networks = []engine.Network{{ID: "other", IPAM: engine.IPAM{Driver: "default"}}} })
	eventually(t, "the warning", func() bool { return b.said.count("knows none of this host's networks") > 0 })
	eventually(t, "the end", func() bool { return len(b.held(a)) == 0 })
	if took := time.Since(begun); took < 300*time.Millisecond { // ten times the grace
		t.Errorf("it took only %s", took)
	}
}

// TestHomeless: what is used on a network whose grant is gone, as after a take-over, is
// told of.
func TestHomeless(t *testing.T) {
	b := newBed(t, reconcile.Fix)
	a := b.ask(1)
	b.engine.change(func() { b.engine.networks = []engine.Network{network("n", a.String())} })
	if _, err := b.host.ReleasePool(t.Context(), b.ref); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the word", func() bool { return b.said.count("not held, on a network without a grant") > 0 })
}

// TestReport changes nothing, and says each thing once.
func TestReport(t *testing.T) {
	b := newBed(t, reconcile.Report)
	a := b.ask(1)
	b.engine.change(func() { b.engine.networks = nil })
	eventually(t, "the report", func() bool {
		return b.said.count(`"would_be":"suspected"`) > 0 && b.said.count(`"would_be":"closed"`) > 0
	})
	b.engine.lookedAt(t, 20)
	if n := b.said.count(`"would_be":"suspected"`); n != 1 {
		t.Errorf("it was reported %d times", n)
	}
	if h := b.held(a); len(h) != 1 || !h[0].Suspected.IsZero() {
		t.Errorf("held: %+v", h)
	}
}

// TestTwoGrants: an address that is used where it may be one of two grants' is nobody's
// to allocate, and where it is one's, it is.
func TestTwoGrants(t *testing.T) {
	b := newBed(t, reconcile.Fix)
	b.engine.change(func() { b.engine.networks = []engine.Network{network("n", "10.1.0.77")} })
	used := netip.MustParseAddr("10.1.0.77")
	eventually(t, "the allocation", func() bool { return len(b.held(used)) == 1 })
	second, err := b.host.RequestPool(t.Context(), actor.PoolRequest{Space: events.Local, Subnet: subnet})
	if err != nil {
		t.Fatal(err)
	}
	b.engine.change(func() {
		b.engine.networks = []engine.Network{network("n", "10.1.0.77", "10.1.0.78"), network("m")}
	})
	b.engine.lookedAt(t, 20)
	if h := b.held(netip.MustParseAddr("10.1.0.78")); len(h) > 0 {
		t.Errorf("allocated: %+v, of grants %s and %s", h, b.ref.Grant, second.Grant)
	}
}
