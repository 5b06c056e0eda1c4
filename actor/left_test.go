// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// host is what the log knows of a host, and its presence if there is one.
func (b *bed) host(name string) (events.HostGuard, etcdlog.Presence, bool) {
	b.tb.Helper()
	hosts, _, err := b.log.Hosts(b.ctx())
	if err != nil {
		b.tb.Fatal(err)
	}
	alive, err := b.log.Alive(b.ctx())
	if err != nil {
		b.tb.Fatal(err)
	}
	presence, lives := alive[name]
	return hosts[name].Value, presence, lives
}

// A daemon that stops in good order says so, and its place is free at once.
func TestLeft(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	if guard, _, lives := b.host("h1"); !lives || !guard.Left.IsZero() {
		t.Errorf("it runs, and is told as %+v, alive: %t", guard, lives)
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	if guard, _, lives := b.host("h1"); lives || guard.Left.IsZero() || guard.Incarnation != 1 {
		t.Errorf("it has stopped, and is told as %+v, alive: %t", guard, lives)
	}
	if leases, err := b.etcd.Client().Leases(b.ctx()); err != nil || len(leases.Leases) > 0 {
		t.Errorf("a lease is left: %v, %v", leases, err)
	}
	b.start("h1")
	if guard, _, lives := b.host("h1"); !lives || !guard.Left.IsZero() || guard.Incarnation != 2 {
		t.Errorf("it runs again, and is told as %+v, alive: %t", guard, lives)
	}
}

// Only who is in the host's place says that it leaves.
func TestLeft_fenced(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	other := b.start("h1") // takes its predecessor, of this very process, for dead
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	if guard, _, lives := b.host("h1"); !lives || !guard.Left.IsZero() {
		t.Errorf("the other runs, and the host is told as %+v, alive: %t", guard, lives)
	}
	if err := other.stop(); err != nil {
		t.Fatal(err)
	}
	if guard, _, lives := b.host("h1"); lives || guard.Left.IsZero() {
		t.Errorf("the other has stopped, and the host is told as %+v, alive: %t", guard, lives)
	}
}

// A store that does not answer holds nobody up for long.
func TestLeft_silent(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	g := newGate(t, b.etcd.Endpoint())
	d := b.startAt(g.endpoint(), "h1")
	g.shut(true, true)
	stopped := make(chan error, 1)
	go func() { stopped <- d.stop() }()
	select {
	case err := <-stopped:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("it does not stop")
	}
	g.open()
}

// The engine's version stands under the presence, also after the lease was lost.
func TestTellEngine(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ctx, cancel := context.WithCancel(b.ctx())
	var telling sync.WaitGroup
	defer telling.Wait()
	defer cancel()
	telling.Go(func() { d.TellEngine(ctx, func(context.Context) (string, error) { return "29.0.1", nil }) })
	told := func(incarnation uint64) func() bool {
		return func() bool {
			_, p, lives := b.host("h1")
			return lives && p.Engine == "29.0.1" && p.Incarnation == incarnation && p.Machine == "machine" && p.Version == "test"
		}
	}
	eventually(t, "the engine's version", told(1))
	b.loseLease()
	eventually(t, "the engine's version after it joined anew", told(2))
}

// loseLease ends the one lease there is.
func (b *bed) loseLease() {
	b.tb.Helper()
	leases, err := b.etcd.Client().Leases(b.ctx())
	if err != nil || len(leases.Leases) != 1 {
		b.tb.Fatal(leases, err)
	}
	if _, err := b.etcd.Client().Revoke(b.ctx(), leases.Leases[0].ID); err != nil {
		b.tb.Fatal(err)
	}
}

// lines are a daemon's log.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements [io.Writer].
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) say(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

// takeOver is the first commit of a take-over, by somebody on h9.
func (b *bed) takeOver(name string) {
	b.tb.Helper()
	w, err := b.log.Operator(b.ctx(), "h9", "test")
	if err != nil {
		b.tb.Fatal(err)
	}
	for {
		hosts, _, err := b.log.Hosts(b.ctx())
		if err != nil {
			b.tb.Fatal(err)
		}
		seen := events.NewGuards()
		seen.Hosts[name] = hosts[name]
		_, err = w.Append(b.ctx(), etcdlog.Proposal{
			ID: b.log.Clock.NewID(), Stream: events.Catalogue, Seen: seen, For: name, Dead: []string{name},
			Events: []events.Event{events.HostTakenOver{Host: name, Incarnation: hosts[name].Value.Incarnation + 1, By: "h9"}},
		})
		if err == nil {
			return
		}
		if !errors.IsAny(err, etcdlog.ErrHostAlive, etcdlog.ErrFenced) {
			b.tb.Fatal(err)
		}
	}
}

// A daemon whose host was taken for dead finds out, whether it runs on or starts
// anew, and says by whom.
func TestTakenOver_told(t *testing.T) {
	t.Parallel()
	const what = `its addresses were taken over`
	b := newBed(t)
	log := &lines{}
	heard := func(o *actor.Options) { o.Logger = zerolog.New(log) }
	g := newGate(t, b.etcd.Endpoint())
	d := b.startAt(g.endpoint(), "h1", heard)
	ref := d.subnet("10.1.0.0/24")
	first := d.ask(ref, endpoint(1))

	g.shut(true, true)
	b.loseLease()
	b.takeOver("h1")
	g.open()
	eventually(t, "the word of the take-over", func() bool {
		return log.say(what) && log.say(`"by":"h9"`) && log.say(`"incarnation":3`)
	})
	eventually(t, "its lease", d.Alive)
	if a := d.ask(ref, endpoint(1)); !a.Repeat || a.Allocation != first.Allocation {
		t.Errorf("nothing was given back, and it has %+v, not %+v again", a, first)
	}
	if guard, _, _ := b.host("h1"); guard.TakenOver || guard.Incarnation != 3 {
		t.Errorf("the host is told as %+v", guard)
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}

	b.takeOver("h1")
	log = &lines{}
	b.start("h1", heard)
	if !log.say(what) {
		t.Error("a daemon that starts on a host that was taken over says nothing")
	}
	log = &lines{}
	b.start("h1", heard)
	if log.say(what) {
		t.Error("it says so for ever")
	}
}

// What stands under the presence is the daemon's own to say.
func TestDescribe_fenced(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	client := etcdtest.Dial(t, b.etcd.Endpoint())
	join := func() (*etcdlog.Writer, clientv3.LeaseID) {
		lease, err := client.Grant(b.ctx(), actor.LeaseSeconds)
		if err != nil {
			t.Fatal(err)
		}
		w, err := b.log.Join(b.ctx(), "h1", etcdlog.Presence{Machine: "m"}, lease.ID, func(etcdlog.Presence) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		return w, lease.ID
	}
	old, oldLease := join()
	_, _ = join()
	if err := old.Describe(b.ctx(), etcdlog.Presence{Machine: "m", Engine: "1"}, oldLease); !errors.Is(err, etcdlog.ErrFenced) {
		t.Errorf("an old daemon tells: %v", err)
	}
	if _, p, _ := b.host("h1"); p.Engine != "" || p.Incarnation != 2 {
		t.Errorf("the presence is %+v", p)
	}
}
