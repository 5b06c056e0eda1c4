// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// settled waits until no commit's fate is open: a request that needs one goes
// through behind them.
func (d *daemon) settled(ref actor.Ref) {
	d.bed.tb.Helper()
	eventually(d.bed.tb, "an answer after the silence", func() bool {
		a, err := d.RequestAddress(d.bed.ctx(), ref, endpoint(0xfffff))
		if err != nil {
			return false
		}
		d.release(ref, a.Address)
		return true
	})
}

// soon checks that a refusal came in time, as far as a busy machine lets it.
func soon(tb testing.TB, begun time.Time) {
	tb.Helper()
	if took := time.Since(begun); took > 2*actor.RequestPatience {
		tb.Errorf("the refusal took %s", took)
	}
}

func TestSilence(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name              string
		requests, answers bool
	}{{"requests do not arrive", true, false}, {"answers do not arrive", false, true}, {"nothing arrives", true, true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			g := newGate(t, b.etcd.Endpoint())
			d := b.startAt(g.endpoint(), "h1")
			ref := d.subnet("10.1.0.0/24")
			given := d.ask(ref, endpoint(1))
			released := d.ask(ref, endpoint(2))
			closing := d.subnet("10.1.0.0/24")
			d.ask(closing, gateway("10.1.0.100"))

			g.shut(tt.requests, tt.answers)
			begun := time.Now()
			var wg sync.WaitGroup
			for name, call := range map[string]func() error{
				"RequestAddress": func() error { _, err := d.RequestAddress(b.ctx(), ref, endpoint(10)); return err },
				"the same again": func() error { _, err := d.RequestAddress(b.ctx(), ref, endpoint(10)); return err },
				"another":        func() error { _, err := d.RequestAddress(b.ctx(), ref, endpoint(11)); return err },
				"a named one":    func() error { _, err := d.RequestAddress(b.ctx(), ref, endpointAt(12, addr("10.1.0.99"))); return err },
				"a repeat":       func() error { _, err := d.RequestAddress(b.ctx(), ref, endpoint(1)); return err },
				"a gateway":      func() error { _, err := d.RequestAddress(b.ctx(), ref, gateway("10.1.0.100")); return err },
				"a new pool": func() error {
					_, err := d.RequestPool(b.ctx(), actor.PoolRequest{Space: events.Local, Subnet: prefix("10.2.0.0/24")})
					return err
				},
				"ReleaseAddress": func() error { _, err := d.ReleaseAddress(b.ctx(), ref, released.Address); return err },
				"ReleasePool":    func() error { _, err := d.ReleasePool(b.ctx(), closing); return err },
			} {
				wg.Go(func() {
					if err := call(); !errors.Is(err, actor.ErrStoreSilent) {
						t.Errorf("%s: %v", name, err)
					}
					soon(t, begun)
				})
			}
			wg.Wait()
			g.open()
			d.settled(ref)
			// What was refused is not there, or was taken back. What was released is.
			eventually(t, "the guards as they should be", func() bool {
				guards := b.guards(ref)
				return len(guards.Held) == 1 && len(guards.Grants) == 1
			})
			b.same(ref, map[string][]string{given.Address.String(): {"endpoint"}})
			eventually(t, "the refused pool's end", func() bool {
				pools, _, err := b.log.Pools(b.ctx())
				return err == nil && len(pools) == 1
			})
			b.agree(ref)
		})
	}
}

// An endpoint asks again while its first commit's fate is unknown, or its first
// request has left: it ends up with one address.
// The log has the moment of a release also when it had to wait for the store.
func TestReleasedDuringSilence(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	g := newGate(t, b.etcd.Endpoint())
	d := b.startAt(g.endpoint(), "h1")
	ref := d.subnet("10.1.0.0/24")
	atOnce, late := d.ask(ref, endpoint(1)), d.ask(ref, endpoint(2))
	d.release(ref, atOnce.Address)
	g.shut(true, true)
	before := time.Now()
	if _, err := d.ReleaseAddress(b.ctx(), ref, late.Address); !errors.Is(err, actor.ErrStoreSilent) {
		t.Fatalf("released: %v", err)
	}
	after := time.Now()
	g.open()
	d.settled(ref)
	eventually(t, "the release", func() bool { return len(b.held(ref)) == 0 })
	records, _, err := b.log.Read(b.ctx(), 0, nil, events.PoolStream(ref.Pool))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, r := range records {
		for _, e := range r.Events {
			released, is := e.(events.AddressReleased)
			switch {
			case !is:
			case released.Allocation == atOnce.Allocation:
				found++
				if !released.At.IsZero() {
					t.Errorf("released at once, and at %v", released.At)
				}
			case released.Allocation == late.Allocation:
				found++
				// The first try may be what came into the log, with the time it was made;
				// a later one says when it was meant for.
				moment := r.Time
				if !released.At.IsZero() {
					moment = released.At
				}
				if moment.Before(before.Truncate(time.Microsecond)) || !moment.Before(after) {
					t.Errorf("released between %v and %v, it says %v in a commit of %v", before, after, released.At, r.Time)
				}
			}
		}
	}
	if found != 2 {
		t.Errorf("%d releases are in the log", found)
	}
}

func TestAsksAgainDuringSilence(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name              string
		requests, answers bool
		wait              time.Duration // how long the first one waits for its answer
		named             bool          // the second asks for the address of the first
	}{
		{"committed, refused", false, true, time.Minute, false},
		{"committed, left", false, true, 300 * time.Millisecond, false},
		{"not committed, refused", true, true, time.Minute, false},
		{"not committed, left", true, true, 300 * time.Millisecond, false},
		{"committed, left, asks by name", false, true, 300 * time.Millisecond, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			g := newGate(t, b.etcd.Endpoint())
			d := b.startAt(g.endpoint(), "h1")
			ref := d.subnet("10.1.0.0/24")
			g.shut(tt.requests, tt.answers)
			ctx, cancel := context.WithTimeout(b.ctx(), tt.wait)
			defer cancel()
			_, err := d.RequestAddress(ctx, ref, endpoint(1))
			wantErr(t, err, actor.ErrStoreSilent)
			second := endpoint(1)
			if tt.named {
				second.Address = addr("10.1.0.1")
			}
			var a actor.Answer
			var wg sync.WaitGroup
			wg.Go(func() { a, err = d.RequestAddress(b.ctx(), ref, second) })
			g.open()
			wg.Wait()
			if err != nil {
				t.Fatal(err)
			}
			d.settled(ref)
			b.same(ref, map[string][]string{a.Address.String(): {"endpoint"}})
			if guard := b.guards(ref).Held[a.Address]; guard.Value[0].ID != a.Allocation {
				t.Errorf("answered allocation %s, held is %s", a.Allocation, guard.Value[0].ID)
			}
			b.agree(ref)
		})
	}
}

// Who leaves before the answer leaves nothing behind.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	g := newGate(t, b.etcd.Endpoint())
	d := b.startAt(g.endpoint(), "h1")
	ref := d.subnet("10.1.0.0/24")
	allocated := isType(events.TypeAddressAllocated)
	for n, ask := range []actor.AddressRequest{endpoint(1), {}, gateway("10.1.0.1"), gateway(""), plain("10.1.0.7")} {
		g.shut(false, true)
		ctx, cancel := context.WithCancel(b.ctx())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := d.RequestAddress(ctx, ref, ask); !hasLeft(err) {
				t.Error(err)
			}
		})
		eventually(t, "the commit", func() bool { return b.count(ref, allocated) == n+1 })
		cancel()
		wg.Wait()
		g.open()
		eventually(t, "the compensation", func() bool { return b.count(ref, isReleased(events.Compensated)) == n+1 })
		b.same(ref, nil)
	}
	// A pool's grant likewise, at whatever moment that is.
	answered := 0
	for n := range 30 {
		ctx, cancel := context.WithTimeout(b.ctx(), time.Duration(n)*time.Millisecond/2)
		if _, err := d.RequestPool(ctx, actor.PoolRequest{Space: events.Local, Subnet: prefix("10.1.0.0/24")}); err == nil {
			answered++
		}
		cancel()
	}
	eventually(t, "no more grants than answers", func() bool { return len(b.guards(ref).Grants) == 1+answered })
	ctx, cancel := context.WithCancel(b.ctx())
	cancel()
	// Gone before anything was done: nothing was.
	_, err := d.RequestAddress(ctx, ref, endpoint(9))
	wantErr(t, err, context.Canceled)
	d.settled(ref)
	b.same(ref, nil)
	b.agree(ref)
}

// hasLeft says whether an error is that of a caller who left, or who was refused
// before that on a slow machine.
func hasLeft(err error) bool { return errors.IsAny(err, context.Canceled, actor.ErrStoreSilent) }

// A mailbox that is full refuses at once; what is in it is answered.
func TestOverload(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	g := newGate(t, b.etcd.Endpoint())
	d := b.startAt(g.endpoint(), "h1")
	// Of this pool the actor has not read anything: it decides nothing.
	ref := actor.Ref{Space: events.Local, Pool: b.log.Clock.NewID(), Grant: b.log.Clock.NewID(), Host: "h1", Subnet: prefix("10.1.0.0/24")}
	g.shut(true, true)
	const extra = 200
	var overloaded, silent atomic.Int64
	var wg sync.WaitGroup
	for range actor.MailboxSize + extra {
		wg.Go(func() {
			_, err := d.RequestAddress(b.ctx(), ref, endpoint(1))
			switch {
			case errors.Is(err, actor.ErrOverloaded):
				overloaded.Add(1)
			case errors.Is(err, actor.ErrStoreSilent):
				silent.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if overloaded.Load() != extra || silent.Load() != actor.MailboxSize {
		t.Errorf("%d overloaded, %d silent", overloaded.Load(), silent.Load())
	}
	// Docker never repeats a release, so it waits for its place.
	_, err := d.ReleaseAddress(b.ctx(), ref, addr("10.1.0.9"))
	wantErr(t, err, actor.ErrStoreSilent)
	g.open()
	eventually(t, "an answer", func() bool { _, err := d.ReleaseAddress(b.ctx(), ref, addr("10.1.0.9")); return err == nil })
}

// A host that stops answers or refuses all it was asked, and leaves its place.
func TestDrain(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref := d.subnet("10.1.0.0/22")
	l := newLedger(t)
	var wg sync.WaitGroup
	var given atomic.Int64
	for w := range 64 {
		wg.Go(func() {
			for n := range 100 {
				a, err := d.RequestAddress(b.ctx(), ref, endpoint(w<<8|n))
				if err != nil {
					if !errors.IsAny(err, actor.ErrStopping, actor.ErrStoreSilent) {
						t.Error(err)
					}
					return
				}
				l.take(a.Address, fmt.Sprint(w))
				given.Add(1)
			}
		})
	}
	eventually(t, "some answers", func() bool { return given.Load() > 100 })
	if err := d.stop(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	l.matches(b, ref)
	b.agree(ref)
	if n := len(d.Running()); n != 0 {
		t.Errorf("%d pools run on", n)
	}
	if d.Alive() {
		t.Error("it still answers")
	}
	resp, err := b.etcd.Client().Get(b.ctx(), etcdlog.DefaultPrefix+"alive/", clientv3.WithPrefix())
	if err != nil || len(resp.Kvs) != 0 {
		t.Errorf("present: %v, %v", resp, err)
	}
	for _, call := range []func() error{
		func() error { _, err := d.RequestAddress(b.ctx(), ref, endpoint(1)); return err },
		func() error { _, err := d.RequestPool(b.ctx(), actor.PoolRequest{Space: events.Local}); return err },
		func() error { _, err := d.ReleaseAddress(b.ctx(), ref, addr("10.1.0.1")); return err },
		func() error { _, err := d.ReleasePool(b.ctx(), ref); return err },
	} {
		if err := call(); !errors.IsAny(err, actor.ErrStopping, actor.ErrStoreSilent) {
			t.Errorf("after the end: %v", err)
		}
	}
	d.Undo(ref, actor.Answer{Address: addr("10.1.0.1")}) // too late, and harmless
	d.UndoPool(ref)
	// The next one goes on where it was.
	next := b.start("h1")
	if a := next.ask(ref, endpoint(0xff00)); l.held[a.Address] != "" {
		t.Errorf("%s was given out before", a.Address)
	}
}

// A store that is silent does not keep a host from stopping.
func TestDrainDuringSilence(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	g := newGate(t, b.etcd.Endpoint())
	d := b.startAt(g.endpoint(), "h1")
	ref := d.subnet("10.1.0.0/24")
	a := d.ask(ref, endpoint(1))
	g.shut(true, true)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = d.ReleaseAddress(b.ctx(), ref, a.Address) })
	for n := range 10 {
		wg.Go(func() {
			if _, err := d.RequestAddress(b.ctx(), ref, endpoint(10+n)); err == nil {
				t.Error("an answer without a store")
			}
		})
	}
	begun := time.Now()
	if err := d.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("it took %s to stop", took)
	}
	wg.Wait()
}

// The lease is lost: the host refuses until it has joined anew, but forgets no
// release.
func TestLeaseLost(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	g := newGate(t, b.etcd.Endpoint())
	d := b.startAt(g.endpoint(), "h1")
	ref := d.subnet("10.1.0.0/24")
	a, kept := d.ask(ref, endpoint(1)), d.ask(ref, endpoint(2))
	closing := d.subnet("10.1.0.0/24")
	d.ask(closing, endpoint(3))
	g.shut(true, true)
	eventually(t, "the lease's end", func() bool { return !d.Alive() })
	begun := time.Now()
	for _, call := range []func() error{
		func() error { _, err := d.RequestAddress(b.ctx(), ref, endpoint(1)); return err },
		func() error { _, err := d.RequestPool(b.ctx(), actor.PoolRequest{Space: events.Local}); return err },
	} {
		if err := call(); !errors.Is(err, actor.ErrStoreSilent) || !strings.Contains(err.Error(), "lease") {
			t.Errorf("got %v", err)
		}
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("it took %s to refuse", took)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := d.ReleaseAddress(b.ctx(), ref, a.Address); !errors.Is(err, actor.ErrStoreSilent) {
			t.Error(err)
		}
	})
	wg.Go(func() {
		if _, err := d.ReleasePool(b.ctx(), closing); !errors.Is(err, actor.ErrStoreSilent) {
			t.Error(err)
		}
	})
	wg.Wait()
	g.open()
	eventually(t, "joined anew", d.Alive)
	if n := d.Writer().Incarnation(); n != 2 {
		t.Errorf("incarnation %d", n)
	}
	eventually(t, "the releases", func() bool { return len(b.held(ref)) == 1 && len(b.guards(ref).Grants) == 1 })
	b.same(ref, map[string][]string{kept.Address.String(): {"endpoint"}})
	d.settled(ref)
	b.agree(ref)
}

// The lease is revoked: the host joins anew at once.
func TestLeaseRevoked(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref := d.subnet("10.1.0.0/24")
	leases, err := b.etcd.Client().Leases(b.ctx())
	if err != nil || len(leases.Leases) != 1 {
		t.Fatal(leases, err)
	}
	if _, err := b.etcd.Client().Revoke(b.ctx(), leases.Leases[0].ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "joined anew", func() bool { return d.Writer().Incarnation() == 2 && d.Alive() })
	d.ask(ref, endpoint(1))
	d.closeGrant(ref)
	b.agree(ref)
}

// Two daemons of one host: the second is told of the first, unless it is dead;
// another machine is told so.
func TestJoinIsRefused(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	join := func(machine string) error {
		h, err := actor.Join(b.ctx(), actor.Options{
			Client: b.etcd.Client(), Log: b.log, Identity: actor.Identity{Host: "h1", Machine: machine, Version: "test"}, Observer: &observer{},
		})
		if err == nil {
			ctx, cancel := context.WithCancel(b.ctx())
			cancel()
			_ = h.Run(ctx)
		}
		return err
	}
	wantErr(t, join("another machine"), etcdlog.ErrOtherMachine)
	// A daemon of this machine that is present: in another place it may be alive.
	other := fmt.Sprintf(`{"machine":"machine","boot":%q,"pid_space":"elsewhere","pid":1,"started":"1","incarnation":1,"version":"x"}`, bootID(t))
	if _, err := b.etcd.Client().Put(b.ctx(), etcdlog.DefaultPrefix+"alive/h1", other); err != nil {
		t.Fatal(err)
	}
	wantErr(t, join("machine"), etcdlog.ErrHostAlive)
	// Before the machine booted: it is dead.
	if _, err := b.etcd.Client().Put(b.ctx(), etcdlog.DefaultPrefix+"alive/h1", strings.Replace(other, bootID(t), "long ago", 1)); err != nil {
		t.Fatal(err)
	}
	if err := join("machine"); err != nil {
		t.Error(err)
	}
	_ = d.stop()
}

// The store restarts: requests are refused meanwhile, and answered after.
func TestStoreRestarts(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref := d.subnet("10.1.0.0/24")
	first := d.ask(ref, endpoint(1))
	b.etcd.Stop()
	begun := time.Now()
	_, err := d.RequestAddress(b.ctx(), ref, endpoint(2))
	wantErr(t, err, actor.ErrStoreSilent)
	soon(t, begun)
	b.etcd.Restart()
	d.settled(ref)
	if a := d.ask(ref, endpoint(1)); !a.Repeat || a.Allocation != first.Allocation {
		t.Errorf("got %+v, want %+v again", a, first)
	}
	b.same(ref, map[string][]string{first.Address.String(): {"endpoint"}})
	b.agree(ref)
}

// A closing that was fenced out goes on once the host is in its place again.
func TestFencedClosing(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref := d.subnet("10.1.0.0/24")
	d.ask(ref, endpoint(1))
	other := b.start("h1") // takes its predecessor, of this very process, for dead
	_, err := d.ReleasePool(b.ctx(), ref)
	wantErr(t, err, etcdlog.ErrFenced)
	if _, err := d.RequestAddress(b.ctx(), ref, endpoint(2)); err != nil && !errors.Is(err, actor.ErrNoGrant) {
		t.Errorf("got %v", err)
	}
	if len(b.guards(ref).Grants) != 1 {
		t.Error("a daemon that was fenced out closed a grant")
	}
	_ = other.stop()
	leases, err := b.etcd.Client().Leases(b.ctx())
	if err != nil || len(leases.Leases) != 1 {
		t.Fatal(leases, err)
	}
	if _, err := b.etcd.Client().Revoke(b.ctx(), leases.Leases[0].ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the grant's end", func() bool { return len(b.guards(ref).Grants) == 0 })
	b.same(ref, nil)
	b.agree(ref)
}

// An event of a newer version stops the pool, and no other. What cannot be
// understood is not decided on.
func TestNewerEvent(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref, other := d.subnet("10.1.0.0/24"), d.subnet("10.2.0.0/24")
	key := etcdlog.DefaultPrefix + "log/" + ref.Pool.String() + "/" + b.log.Clock.NewID().String()
	value := `{"v":1,"time":"2026-01-01T00:00:00Z","host":"h9","incarnation":1,"writer":"9.9.9","events":[{"type":"address.teleported"}]}`
	if _, err := b.etcd.Client().Put(b.ctx(), key, value); err != nil {
		t.Fatal(err)
	}
	var refused error
	eventually(t, "a refusal", func() bool {
		_, refused = d.RequestAddress(b.ctx(), ref, actor.AddressRequest{})
		return refused != nil
	})
	if !errors.Is(refused, actor.ErrBroken) || !strings.Contains(refused.Error(), "9.9.9") {
		t.Errorf("got %v", refused)
	}
	d.ask(other, endpoint(1))
	begun := time.Now()
	if err := d.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("it took %s to stop", took)
	}
}
