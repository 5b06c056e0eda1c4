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
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/operator"
	"github.com/ipamlog/ipamlog/reconcile"
)

var subnet = netip.MustParsePrefix("10.1.0.0/24")

// docker is an engine that can fail where a real one hardly lets itself be made to.
type docker struct {
	mu       sync.Mutex
	networks []engine.Network
	broken   string // the network of which it does not tell
	silent   error  // why it tells of nothing
	looks    int
}

func (d *docker) Networks(context.Context) ([]engine.Network, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.looks++
	if d.silent != nil {
		return nil, d.silent
	}
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
	mode   reconcile.Mode
	client *clientv3.Client
	log    *etcdlog.Log
	stop   func() // the host and the reconciler; more than once is harmless
	host   *actor.Host
	ref    actor.Ref
	left   []events.ID // what the next host has not looked at
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
	b := &bed{t: t, mode: mode, client: etcdtest.Start(t).Client(), engine: &docker{}, said: &lines{}}
	b.log = etcdlog.New(b.client, etcdlog.DefaultPrefix)
	b.start()
	granted, err := b.host.RequestPool(t.Context(), actor.PoolRequest{Space: events.Local, Subnet: subnet})
	if err != nil {
		t.Fatal(err)
	}
	b.ref = granted.Ref
	b.engine.change(func() { b.engine.networks = []engine.Network{network("n")} })
	return b
}

// start runs the host, and a reconciler on it, until stop or the test's end.
func (b *bed) start() {
	b.t.Helper()
	r := b.reconciler(b.mode, 5*time.Millisecond, 30*time.Millisecond)
	b.host = b.join("h1", "m1", r, b.left...)
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	looking, stop := context.WithCancel(ctx)
	host := b.host
	var running sync.WaitGroup
	running.Go(func() { _ = host.Run(ctx) })
	running.Go(func() { r.Run(looking, host) })
	b.stop = sync.OnceFunc(func() { stop(); cancel(); running.Wait() })
	b.t.Cleanup(b.stop)
}

func (b *bed) reconciler(mode reconcile.Mode, every, grace time.Duration) *reconcile.Reconciler {
	return reconcile.New(reconcile.Options{Engine: b.engine, Driver: "ipamlog", Mode: mode, Every: every, Grace: grace, Logger: zerolog.New(b.said)})
}

// join makes a host that waits for the looks of a reconciler; of none, if it is nil.
func (b *bed) join(name, machine string, r *reconcile.Reconciler, left ...events.ID) *actor.Host {
	b.t.Helper()
	looking := actor.Looking{Left: actor.Unlooked{Grants: left}}
	if r != nil && r.Mode == reconcile.Fix {
		looking.Soon = r.Soon
	}
	host, err := actor.Join(b.t.Context(), actor.Options{
		Looking: looking,
		Client:  b.client, Log: etcdlog.New(b.client, etcdlog.DefaultPrefix), Identity: actor.Identity{Host: name, Machine: machine, Version: "test"},
		Routes: func() ([]netip.Prefix, error) { return nil, nil }, Observer: quiet{}, Logger: zerolog.Nop(),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return host
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

// TestHomeless: what is used on a network whose grant is gone is told of.
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
	b.engine.change(func() { b.engine.networks = nil })
	a := b.ask(1)
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
	eventually(t, "whose it is", func() bool {
		records, err := b.log.Since(t.Context(), events.PoolStream(b.ref.Pool), time.UnixMilli(0))
		return err == nil && slices.ContainsFunc(records, func(r events.Record) bool {
			a, is := r.Events[0].(events.AddressAttributed)
			return is && a.Allocation == b.held(used)[0].ID && a.ContainerID == "c10.1.0.77" && a.NetworkID == "n"
		})
	})
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

// TestTakenOver: a host that comes back after it was taken over gets its networks' grants
// back, and its containers what they use and nobody else has; the rest is a conflict.
func TestTakenOver(t *testing.T) {
	for name, alone := range map[string]bool{"another host in the pool": false, "the pool is gone": true} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, reconcile.Fix)
			gateway, err := b.host.RequestAddress(t.Context(), b.ref, actor.AddressRequest{Asking: actor.AskGateway})
			if err != nil {
				t.Fatal(err)
			}
			free, lost := b.ask(1), b.ask(2)
			b.engine.change(func() { b.engine.networks = []engine.Network{network("n", free.String(), lost.String())} })
			b.stop()
			o, err := operator.New(t.Context(), etcdlog.New(b.client, etcdlog.DefaultPrefix), operator.Options{Host: "h2", Version: "test", Machine: "m2"})
			if err != nil {
				t.Fatal(err)
			}
			if out, err := o.TakeOver(t.Context(), "h1"); err != nil || out.Released != 3 {
				t.Fatalf("%+v %v", out, err)
			}
			if !alone {
				other := b.join("h2", "m2", nil)
				ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
				var running sync.WaitGroup
				running.Go(func() { _ = other.Run(ctx) })
				t.Cleanup(func() { cancel(); running.Wait() })
				granted, err := other.RequestPool(t.Context(), actor.PoolRequest{Space: events.Local, Subnet: subnet})
				if err != nil {
					t.Fatal(err)
				}
				b.ref = granted.Ref
				if _, err := other.RequestAddress(t.Context(), granted.Ref, actor.AddressRequest{Asking: actor.AskEndpoint, Address: lost, MAC: events.MAC{2, 9}}); err != nil {
					t.Fatal(err)
				}
			}

			b.start()
			if alone {
				eventually(t, "the pool", func() bool {
					pools, _, err := b.log.Pools(t.Context())
					if err == nil && len(pools) == 1 {
						b.ref.Pool = pools[0].ID
					}
					return err == nil && len(pools) == 1
				})
			}
			ours := func(a netip.Addr, kind events.Kind) bool {
				h := b.held(a)
				return len(h) == 1 && h[0].Host == "h1" && h[0].Kind == kind
			}
			eventually(t, "the gateway", func() bool { return ours(gateway.Address, events.Gateway) })
			eventually(t, "the address that nobody took", func() bool { return ours(free, events.Endpoint) })
			if alone {
				eventually(t, "the other one", func() bool { return ours(lost, events.Endpoint) })
				return
			}
			eventually(t, "the conflict", func() bool { return b.said.count("conflict: the engine uses an address that another holds") > 0 })
			if h := b.held(lost); len(h) != 1 || h[0].Host != "h2" {
				t.Errorf("what another has is held by %+v", h)
			}
			// What Docker gives back then is gone, and stays so.
			b.engine.change(func() { b.engine.networks = nil })
			grants := func() int {
				guards, _, err := b.log.Guards(t.Context(), events.Local, b.ref.Pool)
				if err != nil {
					t.Fatal(err)
				}
				return len(guards.Grants)
			}
			eventually(t, "the grant's end", func() bool { return grants() == 1 })
			b.engine.change(func() { b.engine.networks = []engine.Network{network("n")} })
			b.engine.lookedAt(t, 20)
			if n := grants(); n != 1 {
				t.Errorf("%d grants: one that the host had ended itself was opened again", n)
			}
		})
	}
}

// TestTakenOver_reported: nothing is opened again where nothing is to be changed.
func TestTakenOver_reported(t *testing.T) {
	b := newBed(t, reconcile.Report)
	a := b.ask(1)
	b.engine.change(func() { b.engine.networks = []engine.Network{network("n", a.String())} })
	b.stop()
	o, err := operator.New(t.Context(), etcdlog.New(b.client, etcdlog.DefaultPrefix), operator.Options{Host: "h2", Version: "test", Machine: "m2"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.TakeOver(t.Context(), "h1"); err != nil {
		t.Fatal(err)
	}
	b.start()
	eventually(t, "the report", func() bool { return b.said.count(`"would_be":"reopened"`) > 0 })
	b.engine.lookedAt(t, 10)
	if pools, _, err := b.log.Pools(t.Context()); err != nil || len(pools) > 0 || b.said.count(`"would_be":"reopened"`) != 1 {
		t.Errorf("%v %v", pools, err)
	}
}

// TestTakenOver_halfWay: a host that comes back in the middle of a take-over goes on with
// what the engine has, and gives back what it has no more.
func TestTakenOver_halfWay(t *testing.T) {
	for name, there := range map[string]bool{"the network is there": true, "the network is gone": false} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, reconcile.Fix)
			a := b.ask(1)
			b.engine.change(func() {
				if b.engine.networks = nil; there {
					b.engine.networks = []engine.Network{network("n", a.String())}
				}
			})
			b.stop()
			w, err := b.log.Operator(t.Context(), "h2", "test")
			if err != nil {
				t.Fatal(err)
			}
			write := func(stream events.Stream, event func(events.HostGuard) events.Event) {
				t.Helper()
				hosts, _, err := b.log.Hosts(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				seen, _, err := b.log.Guards(t.Context(), events.Local, b.ref.Pool)
				if err != nil {
					t.Fatal(err)
				}
				seen.Hosts["h1"] = hosts["h1"]
				_, err = w.Append(t.Context(), etcdlog.Proposal{
					ID: b.log.Clock.NewID(), Stream: stream, Seen: seen, For: "h1", Dead: []string{"h1"},
					Events: []events.Event{event(hosts["h1"].Value)},
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			write(events.Catalogue, func(h events.HostGuard) events.Event {
				return events.HostTakenOver{Host: "h1", Incarnation: h.Incarnation + 1, By: "h2"}
			})
			write(events.PoolStream(b.ref.Pool), func(events.HostGuard) events.Event { return events.GrantClosing{Grant: b.ref.Grant} })

			b.start()
			state := func() events.GrantState {
				guard, _, err := b.log.Grant(t.Context(), b.ref.Pool, b.ref.Grant)
				if err != nil {
					t.Fatal(err)
				}
				return guard.Value.State
			}
			if !there {
				eventually(t, "the end", func() bool { return state() == "" && len(b.held(a)) == 0 })
				return
			}
			eventually(t, "its opening", func() bool { return state() == events.StateOpen })
			b.engine.lookedAt(t, 20)
			if h := b.held(a); len(h) != 1 || !h[0].Suspected.IsZero() || state() != events.StateOpen {
				t.Errorf("held: %+v, and the grant is %q", h, state())
			}
		})
	}
}
