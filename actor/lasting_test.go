// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/spool"
)

// keeps gives a daemon a spool in a directory. It is closed when the daemon has ended.
func (b *bed) keeps(dir string) (*spool.Spool, func(*actor.Options)) {
	b.tb.Helper()
	s, err := spool.Open(dir)
	if err != nil {
		b.tb.Fatal(err)
	}
	return s, func(o *actor.Options) {
		o.Keeper = &actor.Keeper{Spool: s, Store: events.ID{7}, Prefix: etcdlog.DefaultPrefix, Clock: o.Log.Clock}
	}
}

// absent says whether no daemon of a host is present.
func (b *bed) absent(host string) bool {
	b.tb.Helper()
	alive, err := b.log.Alive(b.ctx())
	if err != nil {
		b.tb.Fatal(err)
	}
	_, present := alive[host]
	return !present
}

// restart opens a spool again as the next daemon does, which carries on.
func (b *bed) restart(s *spool.Spool, dir, name string) (*daemon, *spool.Spool) {
	b.tb.Helper()
	if err := s.Close(); err != nil {
		b.tb.Fatal(err)
	}
	s, keeps := b.keeps(dir)
	d := b.start(name, keeps)
	d.Resume()
	return d, s
}

// TestReleasesOutliveTheDaemon: what Docker released while the store was away is
// released when it is back, by another daemon of this host if need be, with the moment
// it happened.
func TestReleasesOutliveTheDaemon(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	g := newGate(t, b.etcd.Endpoint())
	dir := t.TempDir()
	s, keeps := b.keeps(dir)
	d := b.startAt(g.endpoint(), "h1", keeps)
	ref, closing := d.subnet("10.1.0.0/24"), d.subnet("10.2.0.0/24")
	a, kept := d.ask(ref, endpoint(1)), d.ask(ref, endpoint(2))
	d.ask(closing, endpoint(3))
	if released := d.release(ref, d.ask(ref, endpoint(4)).Address); released.Revision == 0 || len(s.Waiting()) > 0 {
		t.Errorf("with a store that answers: %+v, in the spool %v", released, s.Waiting())
	}
	g.shut(true, true)
	before := time.Now()
	d.release(ref, a.Address)
	d.closeGrant(closing)
	after := time.Now()
	waiting := s.Waiting()
	if len(waiting) != 2 || waiting[0].Allocation != a.Allocation || waiting[0].Address != a.Address || waiting[1].Address.IsValid() {
		t.Fatalf("in the spool: %+v", waiting)
	}
	if err := d.stop(); err != nil {
		t.Logf("the daemon ended with %v", err)
	}
	g.open()
	eventually(t, "the lease's end", func() bool { return b.absent("h1") })

	d, s = b.restart(s, dir, "h1")
	eventually(t, "the releases", func() bool {
		return len(b.held(ref)) == 1 && len(b.guards(closing).Grants) == 0 && len(s.Waiting()) == 0
	})
	b.same(ref, map[string][]string{kept.Address.String(): {"endpoint"}})
	d.settled(ref)
	b.agree(ref)
	found := false
	for _, r := range b.records(ref) {
		for _, e := range r.Events {
			if e, ok := e.(events.AddressReleased); ok && e.Allocation == a.Allocation {
				moment := e.At
				if moment.IsZero() {
					moment = r.Time // the first try arrived after all, and it was made in time
				}
				found = !moment.Before(before.Truncate(time.Microsecond)) && !moment.After(after)
			}
		}
	}
	if !found {
		t.Errorf("the release is not told with its moment, between %s and %s", before, after)
	}
}

// TestReleasesWithoutRestart: the same daemon carries them on, and the spool is empty
// then.
func TestReleasesWithoutRestart(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	g := newGate(t, b.etcd.Endpoint())
	s, keeps := b.keeps(t.TempDir())
	d := b.startAt(g.endpoint(), "h1", keeps)
	ref := d.subnet("10.1.0.0/24")
	a := d.ask(ref, endpoint(1))
	for _, shut := range []struct{ requests, answers bool }{{true, true}, {false, true}} {
		g.shut(shut.requests, shut.answers)
		d.release(ref, a.Address)
		if len(s.Waiting()) != 1 {
			t.Fatalf("in the spool: %+v", s.Waiting())
		}
		g.open()
		eventually(t, "the release", func() bool { return len(b.held(ref)) == 0 && len(s.Waiting()) == 0 })
		eventually(t, "the daemon to be present", d.Alive)
		a = d.ask(ref, endpoint(1))
	}
}

// TestReleaseOfWhatWasHeldThen: a release in the spool frees what was held when Docker
// made it, and never what is held now.
func TestReleaseOfWhatWasHeldThen(t *testing.T) {
	t.Parallel()
	for name, allocationKnown := range map[string]bool{"known when it was accepted": true, "found out afterwards": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			dir := t.TempDir()
			s, keeps := b.keeps(dir)
			d := b.start("h1", keeps)
			ref := d.subnet("10.1.0.0/24")
			first := d.ask(ref, endpointAt(1, addr("10.1.0.9")))
			keeper := &actor.Keeper{Spool: s, Store: events.ID{7}, Prefix: etcdlog.DefaultPrefix, Clock: b.log.Clock}
			if err := keeper.Keep(ref, first.Address); err != nil {
				t.Fatal(err)
			}
			if allocationKnown {
				if err := s.Resolve(s.Waiting()[0].ID, first.Allocation); err != nil {
					t.Fatal(err)
				}
			}
			// As though the daemon was killed after the log had the release, and before
			// the spool knew.
			before := s.Waiting()
			d.Resume()
			eventually(t, "the release", func() bool { return len(b.held(ref)) == 0 && len(s.Waiting()) == 0 })
			if err := d.stop(); err != nil {
				t.Fatal(err)
			}
			second := b.start("h1").ask(ref, endpointAt(2, addr("10.1.0.9")))
			if !allocationKnown {
				before[0].Allocation = first.Allocation // it was noted before the log was told
			}
			if err := s.Accept(before[0]); err != nil {
				t.Fatal(err)
			}
			other := b.start("h2", func(o *actor.Options) { o.Identity.Machine = "machine-2"; o.Keeper = keeper })
			other.Resume()
			eventually(t, "the release that was made already", func() bool { return len(s.Waiting()) == 0 })
			if got := b.guards(ref).Held[second.Address].Value; len(got) != 1 || got[0].ID != second.Allocation {
				t.Errorf("held now: %+v", got)
			}
		})
	}
}

// TestReleaseNotesWhatItMeans: a release whose allocation nobody knew is not told to the
// log before the spool has noted it.
func TestReleaseNotesWhatItMeans(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	dir := t.TempDir()
	s, keeps := b.keeps(dir)
	d := b.start("h1", keeps)
	ref := d.subnet("10.1.0.0/24")
	a := d.ask(ref, endpoint(1))
	keeper := &actor.Keeper{Spool: s, Prefix: etcdlog.DefaultPrefix, Clock: b.log.Clock} // before the store was known
	if err := keeper.Keep(ref, a.Address); err != nil {
		t.Fatal(err)
	}
	g := newGate(t, b.etcd.Endpoint())
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	d = b.startAt(g.endpoint(), "h1", keeps)
	d.settled(ref)
	g.shut(true, true)
	d.Resume()
	eventually(t, "the note", func() bool {
		waiting := s.Waiting()
		return len(waiting) == 1 && waiting[0].Allocation == a.Allocation
	})
	if len(b.held(ref)) != 1 {
		t.Error("the log was told first")
	}
	g.open()
	eventually(t, "the release", func() bool { return len(b.held(ref)) == 0 && len(s.Waiting()) == 0 })
}

// TestReleaseOfAnotherStore is set aside, and touches nothing.
func TestReleaseOfAnotherStore(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s, keeps := b.keeps(t.TempDir())
	d := b.start("h1", keeps)
	ref := d.subnet("10.1.0.0/24")
	a := d.ask(ref, endpoint(1))
	for _, keeper := range []actor.Keeper{
		{Spool: s, Store: events.ID{8}, Prefix: etcdlog.DefaultPrefix, Clock: b.log.Clock},
		{Spool: s, Store: events.ID{7}, Prefix: "/other/", Clock: b.log.Clock},
	} {
		if err := keeper.Keep(ref, a.Address); err != nil {
			t.Fatal(err)
		}
	}
	d.Resume()
	if len(s.Waiting()) > 0 || len(s.Aside()) != 2 || s.Aside()[0].Why == "" {
		t.Errorf("waiting %v, aside %v", s.Waiting(), s.Aside())
	}
	d.settled(ref)
	b.same(ref, map[string][]string{a.Address.String(): {"endpoint"}})
}

// TestReleaseOfAnothersGrant is refused, at once or from the spool, and not tried again.
func TestReleaseOfAnothersGrant(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	ref := b.start("h1").subnet("10.1.0.0/24")
	s, keeps := b.keeps(t.TempDir())
	d := b.start("h2", keeps, func(o *actor.Options) { o.Identity.Machine = "machine-2" })
	if _, err := d.ReleasePool(b.ctx(), ref); !errors.Is(err, actor.ErrNoGrant) {
		t.Errorf("got %v", err)
	}
	keeper := &actor.Keeper{Spool: s, Store: events.ID{7}, Prefix: etcdlog.DefaultPrefix, Clock: b.log.Clock}
	if err := keeper.Keep(ref, netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	d.Resume()
	eventually(t, "its being set aside", func() bool { return len(s.Waiting()) == 0 && len(s.Aside()) == 1 })
	if len(b.guards(ref).Grants) != 1 {
		t.Error("another's grant was closed")
	}
}

// TestReleasesComeFirst: what is asked for comes behind all that waits in the spool,
// however much that is: it is never told again of what one of them ends.
func TestReleasesComeFirst(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s, keeps := b.keeps(t.TempDir())
	d := b.start("h1", keeps)
	ref := d.subnet("10.1.0.0/20")
	const many = actor.MailboxSize + 300
	b.fill(d, ref, many)
	last := d.ask(ref, endpointAt(7, addr("10.1.15.1")))
	keeper := &actor.Keeper{Spool: s, Prefix: etcdlog.DefaultPrefix, Clock: b.log.Clock} // before the store was known
	for a, n := ref.Subnet.Addr().Next(), 0; n < many; a, n = a.Next(), n+1 {
		if err := keeper.Keep(ref, a); err != nil {
			t.Fatal(err)
		}
	}
	if err := keeper.Keep(ref, last.Address); err != nil {
		t.Fatal(err)
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	d = b.start("h1", keeps)
	d.Resume()
	var now actor.Answer
	eventually(t, "an answer", func() (answered bool) { // a slow disk takes its time for what the releases mean
		var err error
		if now, err = d.RequestAddress(b.ctx(), ref, endpoint(7)); err != nil && !errors.Is(err, actor.ErrStoreSilent) {
			t.Fatal(err)
		}
		return err == nil
	})
	eventually(t, "the releases", func() bool { return len(s.Waiting()) == 0 })
	if now.Allocation == last.Allocation {
		t.Error("it was told again of what a release in the spool ends")
	}
	b.same(ref, map[string][]string{now.Address.String(): {"endpoint"}})
	b.agree(ref)
}

// TestReleaseOfMovedGrant: a release in the spool that names a grant by the pool it was
// in first is made before anything is asked in the pool it is in now.
func TestReleaseOfMovedGrant(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s, keeps := b.keeps(t.TempDir())
	d := b.start("h1", keeps)
	ref := d.subnet("10.1.0.0/24")
	d.closeGrant(ref) // and with it the pool
	keeper := &actor.Keeper{Spool: s, Prefix: etcdlog.DefaultPrefix, Clock: b.log.Clock}
	ended := map[events.ID]bool{}
	for n := range 40 {
		a := d.ask(ref, endpoint(n))
		ended[a.Allocation] = true
		if err := keeper.Keep(ref, a.Address); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	d = b.start("h1", keeps)
	pools, _, err := b.log.Pools(b.ctx())
	if err != nil || len(pools) != 1 || pools[0].ID == ref.Pool {
		t.Fatalf("%+v %v", pools, err)
	}
	d.Resume()
	if in := d.PoolOf(ref); in != pools[0].ID {
		t.Errorf("the releases are in the hands of pool %s, and the grant is in %s", in, pools[0].ID)
	}
	want := map[string][]string{}
	for n := range 40 {
		a := d.ask(ref, endpoint(n))
		if want[a.Address.String()] = []string{"endpoint"}; ended[a.Allocation] {
			t.Error("it was told again of what a release in the spool ends")
		}
	}
	eventually(t, "the releases", func() bool { return len(s.Waiting()) == 0 })
	ref.Pool = pools[0].ID
	b.same(ref, want)
	b.agree(ref)
}
