// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
)

// looking has a host wait for a look.
func looking(left actor.Unlooked) func(*actor.Options) {
	return func(o *actor.Options) { o.Looking = actor.Looking{Soon: func() {}, Left: left} }
}

// refused checks that an endpoint's ask is refused because nobody has looked, with words.
func (d *daemon) refused(ref actor.Ref, n int, words ...string) {
	d.bed.tb.Helper()
	a, err := d.RequestAddress(d.bed.ctx(), ref, endpoint(n))
	if !errors.Is(err, actor.ErrUnlooked) {
		d.bed.tb.Fatalf("given %v: %v", a.Address, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			d.bed.tb.Errorf("%q says nothing of %q", err, w)
		}
	}
}

// TestUnlooked: of many who ask at once through a grant that is gone, nobody is given an
// address before its network was looked at, whatever opened the grant again.
func TestUnlooked(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]func(*daemon, actor.Ref){
		"a container is first": func(*daemon, actor.Ref) {},
		"a gateway is first":   func(d *daemon, ref actor.Ref) { d.ask(ref, gateway("10.1.0.1")) },
		"a look at the engine": func(d *daemon, ref actor.Ref) {
			if err := d.Reopen(d.bed.ctx(), ref); err != nil {
				d.bed.tb.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			d := b.start("h1", looking(actor.Unlooked{}))
			for range 5 {
				ref := d.subnet("10.1.0.0/24")
				d.ask(ref, gateway("10.1.0.1"))
				d.closeGrant(ref)
				first(d, ref)
				var asking sync.WaitGroup
				for n := range 8 {
					asking.Go(func() {
						for range 5 {
							if a, err := d.RequestAddress(b.ctx(), ref, endpoint(n)); !errors.Is(err, actor.ErrUnlooked) {
								t.Errorf("given %v: %v", a.Address, err)
							}
						}
					})
				}
				asking.Wait()
				d.Looked(time.Now(), nil)
				d.ask(ref, endpoint(1))
				d.closeGrant(ref)
			}
		})
	}
}

// TestUnlooked_opening: a look that begins while a grant is being opened again, and so
// does not see it, does not count.
func TestUnlooked_opening(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	store := &lostAnswers{}
	d := b.start("h1", store.into, looking(actor.Unlooked{}))
	d.subnet("10.1.0.0/24") // keeps the pool
	ref := d.subnet("10.1.0.0/24")
	d.closeGrant(ref)
	store.during = func() {
		eventually(t, "the opening", func() bool {
			standing, err := d.Standing(b.ctx())
			return err == nil && slices.ContainsFunc(standing[0].Grants, func(g actor.Opened) bool { return g.Grant == ref.Grant })
		})
		d.Looked(time.Now(), nil)
		d.refused(ref, 2)
	}
	d.refused(ref, 1, "had lost this network")
	d.Looked(time.Now(), nil)
	d.ask(ref, endpoint(1))
}

// TestUnlooked_kept: what has to be looked at is written down before the grant is open,
// and a daemon that is told of it goes on with that.
func TestUnlooked_kept(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	var d *daemon
	var ref actor.Ref
	var kept atomic.Pointer[actor.Unlooked]
	d = b.start("h1", func(o *actor.Options) {
		o.Looking = actor.Looking{Soon: func() {}, Keep: func() {
			u := d.Unlooked()
			if kept.Swap(&u) == nil && b.state(ref) != "" {
				t.Error("it is open already")
			}
		}}
	})
	d.subnet("10.1.0.0/24") // keeps the pool
	ref = d.subnet("10.1.0.0/24")
	d.closeGrant(ref)
	d.refused(ref, 1)
	u := kept.Load()
	if u == nil || u.All || !slices.Equal(u.Grants, []events.ID{ref.Grant}) {
		t.Fatalf("written down was %+v", u)
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	next := b.start("h1", looking(*u))
	next.refused(ref, 1)
	next.Looked(time.Now(), nil)
	next.ask(ref, endpoint(1))
	if u := next.Unlooked(); u.All || len(u.Grants) > 0 {
		t.Errorf("not looked at: %+v", u)
	}
}

// TestUnlooked_all: on a store that may lack anything nothing is given out, but what the
// engine uses, before a look at the engine that asks.
func TestUnlooked_all(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1", looking(actor.Unlooked{All: true}))
	ref := d.subnet("10.1.0.0/24")
	if _, err := d.RequestAddress(b.ctx(), ref, gateway("10.1.0.1")); !errors.Is(err, actor.ErrUnlooked) {
		t.Errorf("a gateway: %v", err)
	}
	d.refused(ref, 1, "restored or adopted")
	if _, err := d.AllocateAgain(b.ctx(), ref, endpointAt(9, addr("10.1.0.9"))); err != nil {
		t.Error(err)
	}
	d.LookFailed(errors.New("nobody is in"))
	d.refused(ref, 2, "nobody is in")
	d.Looked(time.Now(), []events.ID{ref.Grant}) // though Docker has asked through it
	d.refused(ref, 2, "another engine")
	if !d.Unlooked().All {
		t.Error("it counts as looked at")
	}
	d.Looked(time.Now(), nil)
	d.ask(ref, gateway("10.1.0.1"))
	d.ask(ref, endpoint(2))
	d.ask(d.subnet("10.2.0.0/24"), endpoint(3))
}

// TestUnlooked_nobody: where nobody looks, nobody waits, and what was not looked at stays
// so for a daemon that does.
func TestUnlooked_nobody(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1", func(o *actor.Options) { o.Looking.Left.All = true })
	ref := d.subnet("10.1.0.0/24")
	d.ask(ref, gateway(""))
	d.ask(ref, endpoint(1))
	d.closeGrant(ref)
	d.ask(ref, endpoint(1))
	if u := d.Unlooked(); !u.All || len(u.Grants) > 0 {
		t.Errorf("%+v", u)
	}
}
