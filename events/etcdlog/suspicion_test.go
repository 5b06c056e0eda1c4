// SPDX-License-Identifier: Apache-2.0

package etcdlog_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

func suspect(a events.AddressAllocated) events.Event {
	return events.AddressSuspected{Allocation: a.Allocation, Address: a.Address}
}

func clearOf(a events.AddressAllocated) events.Event {
	return events.AddressCleared{Allocation: a.Allocation, Address: a.Address}
}

func reclaim(a events.AddressAllocated) events.Event {
	return events.AddressReclaimed{Allocation: a.Allocation, Address: a.Address}
}

// TestSuspicionsAreGuarded leads an endpoint through all that can be suspected of it:
// the guards in the store are what the log says, to the microsecond.
func TestSuspicionsAreGuarded(t *testing.T) {
	b := startBed(t)
	c1, c2 := b.allocate(2), b.allocate(3)
	b.append(c1, c2)
	for _, step := range [][]events.Event{
		{suspect(c1), suspect(c2)},
		{clearOf(c2)},
		{events.AddressConflicted{Address: c2.Address, Host: "h2", Holder: c2.Allocation}},
		{reclaim(c1), suspect(c2)},
	} {
		b.append(step...)
		b.agree()
	}
	g, _ := b.guards()
	if len(g.Held) != 1 || g.Suspected() != 1 {
		t.Errorf("held: %+v", g.Held)
	}
	raw := b.raw("held/")["held/"+b.pool.String()+"/"+c2.Address.String()]
	if !strings.Contains(raw, `"suspected":"`) {
		t.Errorf("the guard says %s", raw)
	}
	b.append(release(c2, events.Released))
	b.agree()
}

// TestSuspicionsLoseToWhoeverIsFaster: who was asked, or released, meanwhile is not
// suspected, and not reclaimed.
func TestSuspicionsLoseToWhoeverIsFaster(t *testing.T) {
	b := startBed(t)
	c1 := b.allocate(2)
	b.append(c1)
	late := b.propose(suspect(c1))
	b.append(release(c1, events.Released))
	again := b.allocate(2)
	b.append(again)
	if r, err := b.w.Append(within(t, 20*time.Second), late); err == nil {
		t.Errorf("suspected: %+v", r)
	}
	b.append(suspect(again))
	late = b.propose(reclaim(again))
	b.append(clearOf(again))
	if r, err := b.w.Append(within(t, 20*time.Second), late); err == nil {
		t.Errorf("reclaimed: %+v", r)
	}
	b.agree()
}

// TestSuspicionsAreFenced: a daemon whose host was taken over, or is served by another
// one by now, suspects and reclaims nothing any more.
func TestSuspicionsAreFenced(t *testing.T) {
	for name, replace := range map[string]func(*bed){
		"by a newer daemon of the host": func(b *bed) {
			log := etcdlog.New(b.client, etcdlog.DefaultPrefix)
			if _, err := log.Join(b.tb.Context(), "h1", etcdlog.Presence{Machine: "machine-of-h1"}, lease(b.tb, b.client), dead); err != nil {
				b.tb.Fatal(err)
			}
		},
		"by a take-over": func(b *bed) {
			if _, err := b.client.Delete(b.tb.Context(), etcdlog.DefaultPrefix+"alive/h1"); err != nil {
				b.tb.Fatal(err)
			}
			operator, err := b.log.Operator(b.tb.Context(), "h2", "1.2.0")
			if err != nil {
				b.tb.Fatal(err)
			}
			takeOver(b, operator)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBed(t)
			suspected, other := b.allocate(2), b.allocate(3)
			b.append(suspected, other)
			b.append(suspect(suspected))
			replace(b)
			for _, e := range []events.Event{suspect(other), clearOf(suspected), reclaim(suspected)} {
				if r, err := b.w.Append(within(t, 20*time.Second), b.propose(e)); !errors.Is(err, etcdlog.ErrFenced) {
					t.Errorf("%s: %+v %v", e.Type(), r, err)
				}
			}
			// What Docker released is released whoever is there.
			b.append(release(other, events.Released))
			b.agree()
		})
	}
}

// takeOver writes that h1 was taken over, on what the store says of it now.
func takeOver(b *bed, w *etcdlog.Writer) {
	b.tb.Helper()
	hosts, _, err := b.log.Hosts(b.tb.Context())
	if err != nil {
		b.tb.Fatal(err)
	}
	seen := events.NewGuards()
	seen.Hosts["h1"] = hosts["h1"]
	if _, err := w.Append(within(b.tb, 20*time.Second), etcdlog.Proposal{
		ID: b.log.Clock.NewID(), Stream: events.Catalogue, Seen: seen, Dead: []string{"h1"},
		Events: []events.Event{events.HostTakenOver{Host: "h1", Incarnation: hosts["h1"].Value.Incarnation + 1, By: "h2"}},
	}); err != nil {
		b.tb.Fatal(err)
	}
}

// TestHostGuardsTellOfTheEnd: a host that left, or was taken over, is known as such
// until a daemon joins again.
func TestHostGuardsTellOfTheEnd(t *testing.T) {
	b := startBed(t)
	now := func() events.HostGuard {
		hosts, _, err := b.log.Hosts(within(t, 20*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		records, _, err := b.log.Read(within(t, 20*time.Second), 0, nil, events.Catalogue)
		if err != nil {
			t.Fatal(err)
		}
		folded := events.NewGuards()
		for _, r := range records {
			if err := folded.Apply(r); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := hosts["h1"].Value, folded.Hosts["h1"].Value; got.Left != want.Left || got.TakenOver != want.TakenOver || got.Incarnation != want.Incarnation {
			t.Errorf("the store says %+v, and the log %+v", got, want)
		}
		return hosts["h1"].Value
	}
	seen := events.NewGuards()
	hosts, _, err := b.log.Hosts(within(t, 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	seen.Hosts["h1"] = hosts["h1"]
	left := events.HostLeft{Host: "h1", Incarnation: b.w.Incarnation()}
	if _, err := b.w.Append(within(t, 20*time.Second), etcdlog.Proposal{ID: b.log.Clock.NewID(), Stream: events.Catalogue, Seen: seen, Events: []events.Event{left}}); err != nil {
		t.Fatal(err)
	}
	if h := now(); h.Left.IsZero() || h.TakenOver || h.Incarnation != 1 {
		t.Errorf("left: %+v", h)
	}
	if _, err := b.client.Delete(t.Context(), etcdlog.DefaultPrefix+"alive/h1"); err != nil {
		t.Fatal(err)
	}
	operator, err := b.log.Operator(t.Context(), "h2", "1.2.0")
	if err != nil {
		t.Fatal(err)
	}
	takeOver(b, operator)
	if h := now(); h.Left.IsZero() || !h.TakenOver || h.Incarnation != 2 {
		t.Errorf("taken over: %+v", h)
	}
	w := join(t, b.log, "h1")
	if h := now(); !h.Left.IsZero() || h.TakenOver || h.Incarnation != 3 || w.Incarnation() != 3 {
		t.Errorf("joined: %+v", h)
	}
}
