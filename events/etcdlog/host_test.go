// SPDX-License-Identifier: Apache-2.0

package etcdlog_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"

	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

func TestJoinLetsOneDaemonIn(t *testing.T) {
	client := etcdtest.Start(t).Client()
	log := etcdlog.New(client, etcdlog.DefaultPrefix)
	here := etcdlog.Presence{Machine: "m1", Boot: "b", PIDSpace: "pid:[1]", PID: 10, Started: "99", Version: "1.2.0"}
	first, second := lease(t, client), lease(t, client)
	w, err := log.Join(within(t, 20*time.Second), "h1", here, first, alive)
	if err != nil {
		t.Fatal(err)
	}
	if w.Incarnation() != 1 || w.Host() != "h1" || w.Log() != log {
		t.Errorf("%s in incarnation %d", w.Host(), w.Incarnation())
	}

	var asked etcdlog.Presence
	_, err = log.Join(within(t, 20*time.Second), "h1", etcdlog.Presence{Machine: "m1", PID: 11}, second, func(p etcdlog.Presence) bool { asked = p; return false })
	if !errors.Is(err, etcdlog.ErrHostAlive) {
		t.Errorf("two daemons of one host: %v", err)
	}
	want := here
	want.Incarnation = 1
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("asked about another daemon: %s", diff)
	}
	if _, err = log.Join(within(t, 20*time.Second), "h1", etcdlog.Presence{Machine: "m2"}, second, dead); !errors.Is(err, etcdlog.ErrOtherMachine) {
		t.Errorf("another machine under the name: %v", err)
	}

	again, err := log.Join(within(t, 20*time.Second), "h1", etcdlog.Presence{Machine: "m1", PID: 12}, second, dead)
	if err != nil || again.Incarnation() != 2 {
		t.Fatalf("the dead one is not replaced: %v", err)
	}
	// The presence goes with the new lease, not with the old.
	if _, err := client.Revoke(within(t, 20*time.Second), first); err != nil {
		t.Fatal(err)
	}
	if _, err = log.Join(within(t, 20*time.Second), "h1", etcdlog.Presence{Machine: "m1"}, second, alive); !errors.Is(err, etcdlog.ErrHostAlive) {
		t.Errorf("the end of the old lease took the new presence: %v", err)
	}
	if _, err := client.Revoke(within(t, 20*time.Second), second); err != nil {
		t.Fatal(err)
	}
	third, err := log.Join(within(t, 20*time.Second), "h1", etcdlog.Presence{Machine: "m1"}, lease(t, client), alive)
	if err != nil || third.Incarnation() != 3 {
		t.Errorf("a lost lease is not a free place: %v", err)
	}

	records, _, err := log.Read(within(t, 20*time.Second), 0, nil, events.Catalogue)
	if err != nil {
		t.Fatal(err)
	}
	var told []uint64
	for _, r := range records {
		told = append(told, r.Events[0].(events.HostJoined).Incarnation)
	}
	if diff := cmp.Diff([]uint64{1, 2, 3}, told); diff != "" {
		t.Errorf("the log tells other incarnations: %s", diff)
	}
}

// Of daemons that start at once, one is in at a time, and each has an
// incarnation of its own.
func TestJoinRaces(t *testing.T) {
	client := etcdtest.Start(t).Client()
	type outcome struct {
		w   *etcdlog.Writer
		err error
	}
	outcomes := make(chan outcome)
	const n = 8
	for i := range n {
		id := lease(t, client)
		go func() {
			w, err := etcdlog.New(client, etcdlog.DefaultPrefix).Join(t.Context(), "h1", etcdlog.Presence{Machine: "m1", PID: i}, id, alive)
			outcomes <- outcome{w, err}
		}()
	}
	in := 0
	for range n {
		o := <-outcomes
		switch {
		case o.err == nil:
			in++
		case !errors.Is(o.err, etcdlog.ErrHostAlive):
			t.Error(o.err)
		}
	}
	if in != 1 {
		t.Errorf("%d daemons are in", in)
	}
}

// TestClosingsAreFenced: an old daemon that wakes up can do no harm.
func TestClosingsAreFenced(t *testing.T) {
	for name, replace := range map[string]func(*bed){
		"by a newer daemon of the host": func(b *bed) {
			log := etcdlog.New(b.client, etcdlog.DefaultPrefix)
			if _, err := log.Join(b.tb.Context(), "h1", etcdlog.Presence{Machine: "machine-of-h1"}, lease(b.tb, b.client), dead); err != nil {
				b.tb.Fatal(err)
			}
		},
		"by another machine": func(b *bed) {
			if _, err := b.client.Delete(b.tb.Context(), etcdlog.DefaultPrefix+"alive/h1"); err != nil {
				b.tb.Fatal(err)
			}
			if err := b.log.Adopt(b.tb.Context(), "h1", "new", "1.2.0"); err != nil {
				b.tb.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBed(t)
			a := b.share(1)
			b.append(a)
			closing := b.propose(events.GrantClosing{Grant: b.grant})
			replace(b)
			if r, err := b.w.Append(within(t, 20*time.Second), closing); !errors.Is(err, etcdlog.ErrFenced) {
				t.Errorf("closed: %+v %v", r, err)
			}
			if r, err := b.w.Append(within(t, 20*time.Second), b.propose(release(a, events.GrantEnded))); !errors.Is(err, etcdlog.ErrFenced) {
				t.Errorf("released: %+v %v", r, err)
			}
			b.agree()
		})
	}
}

func TestAdopt(t *testing.T) {
	client := etcdtest.Start(t).Client()
	log := etcdlog.New(client, etcdlog.DefaultPrefix)
	id := lease(t, client)
	if _, err := log.Join(within(t, 20*time.Second), "h1", etcdlog.Presence{Machine: "old"}, id, alive); err != nil {
		t.Fatal(err)
	}
	if err := log.Adopt(within(t, 20*time.Second), "h1", "new", "1.2.0"); !errors.Is(err, etcdlog.ErrHostAlive) {
		t.Errorf("adopted under a living daemon: %v", err)
	}
	if _, err := client.Revoke(within(t, 20*time.Second), id); err != nil {
		t.Fatal(err)
	}
	if err := log.Adopt(within(t, 20*time.Second), "h1", "new", "1.2.0"); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Join(within(t, 20*time.Second), "h1", etcdlog.Presence{Machine: "old"}, lease(t, client), alive); !errors.Is(err, etcdlog.ErrOtherMachine) {
		t.Errorf("the old machine is still let in: %v", err)
	}
	w, err := log.Join(within(t, 20*time.Second), "h1", etcdlog.Presence{Machine: "new"}, lease(t, client), alive)
	if err != nil || w.Incarnation() != 3 {
		t.Errorf("the new machine is not let in: %v", err)
	}
}

func TestStoreIsKnownAgain(t *testing.T) {
	b := startBed(t)
	ctx := within(t, 60*time.Second)
	if _, err := b.log.Store(ctx); !errors.Is(err, etcdlog.ErrNoStore) {
		t.Errorf("a store nobody founded: %v", err)
	}
	s, err := b.log.Found(ctx)
	if err != nil || s.ID.IsZero() || s.Format != etcdlog.Format {
		t.Fatalf("%+v %v", s, err)
	}
	if again, err := etcdlog.New(b.client, etcdlog.DefaultPrefix).Found(ctx); err != nil || again != s {
		t.Errorf("founded twice: %+v %v", again, err)
	}
	r := b.append(b.allocate(1))
	good := etcdlog.Memory{Store: s.ID, Revision: r.Revision, Stream: r.Stream, Commit: r.ID}
	bend := func(f func(*etcdlog.Memory)) etcdlog.Memory { m := good; f(&m); return m }
	for name, tc := range map[string]struct {
		memory etcdlog.Memory
		want   error
	}{
		"the same":              {good, nil},
		"nothing seen in it":    {etcdlog.Memory{Store: s.ID}, nil},
		"another store":         {bend(func(m *etcdlog.Memory) { m.Store = r.ID }), etcdlog.ErrOtherStore},
		"an older copy":         {bend(func(m *etcdlog.Memory) { m.Revision += 1000 }), etcdlog.ErrOtherStore},
		"a copy that went on":   {bend(func(m *etcdlog.Memory) { m.Commit = b.log.Clock.NewID() }), etcdlog.ErrOtherStore},
		"other revisions in it": {bend(func(m *etcdlog.Memory) { m.Revision-- }), etcdlog.ErrOtherStore},
	} {
		if err := b.log.Recall(ctx, tc.memory); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}

	swapped := etcdlog.New(etcdtest.Start(t).Client(), etcdlog.DefaultPrefix)
	if err := swapped.Recall(ctx, etcdlog.Memory{Store: s.ID}); !errors.Is(err, etcdlog.ErrOtherStore) {
		t.Errorf("an empty store: %v", err)
	}
	if _, err := swapped.Found(ctx); err != nil {
		t.Fatal(err)
	}
	if err := swapped.Recall(ctx, etcdlog.Memory{Store: s.ID}); !errors.Is(err, etcdlog.ErrOtherStore) {
		t.Errorf("a swapped store: %v", err)
	}
	for what, format := range map[string]int{"a newer format": etcdlog.Format + 1, "one of before the first release": etcdlog.OldestFormat - 1} {
		if _, err := b.client.Put(ctx, etcdlog.DefaultPrefix+"meta/store", fmt.Sprintf(`{"store":%q,"format":%d}`, s.ID, format)); err != nil {
			t.Fatal(err)
		}
		if _, err := b.log.Store(ctx); !errors.Is(err, etcdlog.ErrStoreFormat) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
