// SPDX-License-Identifier: Apache-2.0

package attribution_test

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/attribution"
	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

var subnet = netip.MustParsePrefix("10.1.0.0/24")

// docker is an engine as far as the attributor asks it. What it has the test says.
type docker struct {
	mu         sync.Mutex
	down       error // what it answers instead
	networks   []engine.Network
	containers map[string]engine.Container
	events     chan engine.Event
	inspected  int
}

func newDocker() *docker {
	return &docker{containers: map[string]engine.Container{}, events: make(chan engine.Event), networks: []engine.Network{
		{ID: "n1", Name: "web", IPAM: engine.IPAM{Driver: "ipamlog", Pools: []engine.Pool{{Subnet: subnet}}}},
		{ID: "n2", Name: "other", IPAM: engine.IPAM{Driver: "default", Pools: []engine.Pool{{Subnet: subnet}}}},
	}}
}

// set changes what the engine has.
func (d *docker) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

// Networks implements [attribution.Engine].
func (d *docker) Networks(context.Context) ([]engine.Network, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := slices.Clone(d.networks)
	for i := range list {
		list[i].Endpoints = nil
	}
	return list, d.down
}

// Network implements [attribution.Engine].
func (d *docker) Network(_ context.Context, id string) (engine.Network, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inspected++
	for _, n := range d.networks {
		if n.ID == id {
			n.Endpoints = slices.Clone(n.Endpoints)
			return n, d.down
		}
	}
	return engine.Network{}, engine.ErrNoNetwork
}

// Containers implements [attribution.Engine].
func (d *docker) Containers(_ context.Context, ids []string) ([]engine.Container, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []engine.Container
	for _, id := range ids {
		if c, is := d.containers[id]; is {
			list = append(list, c)
		}
	}
	return list, d.down
}

// Container implements [attribution.Engine]: it is starting for ever.
func (*docker) Container(ctx context.Context, _ string) (engine.Container, error) {
	<-ctx.Done()
	return engine.Container{}, ctx.Err()
}

// Events implements [attribution.Engine].
func (d *docker) Events(ctx context.Context, _ time.Time, connected func(), each func(engine.Event)) error {
	d.mu.Lock()
	down := d.down
	d.mu.Unlock()
	if down != nil {
		return down
	}
	connected()
	for {
		select {
		case e := <-d.events:
			if e.Action == "" {
				return errors.New("the stream ended")
			}
			each(e)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// attach gives a container an endpoint.
func (d *docker) attach(container string, a actor.Answer, mac events.MAC) {
	d.set(func() {
		n := &d.networks[0]
		n.Endpoints = append(n.Endpoints, engine.Endpoint{
			ID: "e-" + container, Container: container, Name: container + "'s name", MAC: net.HardwareAddr(mac[:]),
			Addresses: []netip.Prefix{a.Prefix()},
		})
	})
}

func (d *docker) detach(container string) {
	d.set(func() {
		n := &d.networks[0]
		n.Endpoints = slices.DeleteFunc(slices.Clone(n.Endpoints), func(e engine.Endpoint) bool { return e.Container == container })
	})
}

// bed is a store, an engine, and a host whose addresses are attributed.
type bed struct {
	*actor.Host
	t      *testing.T
	etcd   *etcdtest.Server
	docker *docker
	ref    actor.Ref
	said   *lines
	stop   func()
}

// lines counts what was logged.
type lines struct {
	mu   sync.Mutex
	all  []string
	next zerolog.TestWriter
}

// Write implements [io.Writer].
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(p))
	return l.next.Write(p)
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{t: t, etcd: etcdtest.Start(t), docker: newDocker()}
	b.start()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	g, err := b.RequestPool(ctx, actor.PoolRequest{Space: events.Local, Subnet: subnet})
	if err != nil {
		t.Fatal(err)
	}
	b.ref = g.Ref
	return b
}

// start starts a daemon of the host, with its attributor.
func (b *bed) start() {
	b.t.Helper()
	b.said = &lines{next: zerolog.TestWriter{T: b.t}}
	log := zerolog.New(b.said).Level(zerolog.WarnLevel)
	whose := attribution.New(attribution.Options{Engine: b.docker, Driver: "ipamlog", Labels: []string{"team"}, Logger: log})
	client := etcdtest.Dial(b.t, b.etcd.Endpoint())
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	joining, joined := context.WithTimeout(ctx, patience)
	defer joined()
	var err error
	b.Host, err = actor.Join(joining, actor.Options{
		Client: client, Log: etcdlog.New(client, etcdlog.DefaultPrefix),
		Identity: actor.Identity{Host: "h1", Machine: "machine", Version: "test"},
		Routes:   func() ([]netip.Prefix, error) { return nil, nil }, Observer: blind{}, Witness: whose, Logger: zerolog.Nop(),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { whose.Run(ctx, b.Host) })
	running.Go(func() {
		if err := b.Run(ctx); err != nil {
			b.t.Error(err)
		}
	})
	b.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	b.t.Cleanup(b.stop)
}

type blind struct{}

func (blind) Committed(int, time.Duration) {}
func (blind) Conflicted()                  {}

var mac, mac2 = events.MAC{2, 0, 0, 0, 0, 1}, events.MAC{2, 0, 0, 0, 0, 2}

// ask asks for an endpoint's address.
func (b *bed) ask(mac events.MAC) actor.Answer {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	a, err := b.RequestAddress(ctx, b.ref, actor.AddressRequest{Asking: actor.AskEndpoint, MAC: mac})
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

// told is what the log tells of an allocation, once that is as much as wanted.
func (b *bed) told(allocation events.ID, wanted int) []events.AddressAttributed {
	b.t.Helper()
	var told []events.AddressAttributed
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		told = nil
		records, _, err := etcdlog.New(b.etcd.Client(), etcdlog.DefaultPrefix).Read(b.t.Context(), 0, nil, events.PoolStream(b.ref.Pool))
		if err != nil {
			b.t.Fatal(err)
		}
		for _, r := range records {
			for _, e := range r.Events {
				if e, is := e.(events.AddressAttributed); is && e.Allocation == allocation {
					told = append(told, e)
				}
			}
		}
		if len(told) >= wanted {
			return told
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("told %d times, wanted %d: %+v", len(told), wanted, told)
		}
	}
}
