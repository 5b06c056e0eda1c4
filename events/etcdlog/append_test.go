// SPDX-License-Identifier: Apache-2.0

package etcdlog_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// TestAppendWritesWhatTheEventsSay leads a pool through its life, and after each
// commit compares the guards in the store with the log folded.
func TestAppendWritesWhatTheEventsSay(t *testing.T) {
	b := startBed(t)
	gateway, c1, c2 := b.share(1), b.allocate(2), b.allocate(3)
	mine := b.allocate(200)
	mine.Grant, mine.Kind = events.ID{}, events.Reserved
	second := b.log.Clock.NewID()
	theirs := b.share(1)
	theirs.Grant = second
	c1.MAC, c1.Endpoint = events.MAC{2, 0x42, 10, 0, 0, 2}, "web-1"
	b.agree()
	for _, step := range [][]events.Event{
		{gateway},
		{c1, c2},
		{events.PoolExhausted{Grant: b.grant}},
		{release(c2, events.Released), mine},
		{events.GrantOpened{Grant: second, Host: "h1", Range: netip.MustParsePrefix("10.0.1.0/24")}, theirs},
		{events.GrantClosing{Grant: b.grant}},
		{events.GrantReopened{Grant: b.grant, Host: "h1"}},
		{events.GrantClosing{Grant: b.grant}},
		{release(c1, events.GrantEnded), release(gateway, events.GrantEnded), events.GrantClosed{Grant: b.grant}},
		{events.GrantReopened{Grant: b.grant, Host: "h1"}},
		{events.GrantClosing{Grant: b.grant}, events.GrantClosing{Grant: second}},
		{release(theirs, events.GrantEnded), events.GrantClosed{Grant: second}},
		{release(mine, events.Released), events.GrantClosed{Grant: b.grant}, events.PoolRetired{Space: events.Local}},
	} {
		r := b.append(step...)
		b.agree()
		g, revision := b.guards()
		if revision != r.Revision {
			t.Errorf("%s: more than one revision was written", r.Name(0))
		}
		for addr, held := range g.Held {
			if got, _, err := b.log.Holding(t.Context(), b.pool, addr); err != nil || !cmp.Equal(got, held, equate) {
				t.Errorf("asked alone, the store says of %s: %+v (%v)", addr, got, err)
			}
		}
		for id, grant := range g.Grants {
			if got, _, err := b.log.Grant(t.Context(), b.pool, id); err != nil || !cmp.Equal(got, grant, equate) {
				t.Errorf("asked alone, the store says of grant %s: %+v (%v)", id, got, err)
			}
		}
		// The record that Append returned is the one that is there.
		stored, err := b.log.Commits(t.Context(), r.Stream, []events.ID{r.ID, b.log.Clock.NewID()})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[events.ID]events.Record{r.ID: r}, stored, equate); diff != "" {
			t.Errorf("(-returned +stored):\n%s", diff)
		}
	}
	for _, below := range []string{"held/", "grants/", "pools/"} {
		if left := b.raw(below); len(left) > 0 {
			t.Errorf("left after the pool was retired: %v", left)
		}
	}
	if got, _, err := b.log.Holding(t.Context(), b.pool, address(1)); err != nil || got.Present() {
		t.Errorf("%+v %v", got, err)
	}
}

// In an emergency etcdctl alone must be enough to read history.
func TestTheLogIsReadable(t *testing.T) {
	b := startBed(t)
	c1 := b.allocate(2)
	c1.MAC, c1.Endpoint = events.MAC{2, 0x42, 10, 0, 0, 2}, "web-1"
	r := b.append(c1)
	key := "log/" + b.pool.String() + "/" + r.ID.String()
	value := b.raw("log/")[key]
	t.Logf("%s%s\n%s", etcdlog.DefaultPrefix, key, value)
	if !json.Valid([]byte(value)) {
		t.Fatalf("no JSON: %s", value)
	}
	for _, word := range []string{`"type":"address.allocated"`, `"address":"10.0.0.2"`, `"kind":"endpoint"`, `"mac":"02:42:0a:00:00:02"`, `"endpoint":"web-1"`, `"host":"h1"`, `"time":"20`, b.grant.String()} {
		if !strings.Contains(value, word) {
			t.Errorf("%s does not say %s", value, word)
		}
	}
	if held := b.raw("held/")["held/"+b.pool.String()+"/10.0.0.2"]; !strings.Contains(held, `"endpoint":"web-1"`) {
		t.Errorf("the guard says %s", held)
	}
}

// TestAppendConflicts has h1 decide on what it saw, and h2 change it first.
func TestAppendConflicts(t *testing.T) {
	held := func(n int) func(*testing.T, *bed, events.Guards) {
		return func(t *testing.T, b *bed, now events.Guards) {
			g, _ := b.guards()
			if diff := cmp.Diff(g.Held[address(n)], now.Held[address(n)], equate); diff != "" {
				t.Errorf("the conflict does not tell who holds it: %s", diff)
			}
		}
	}
	grant := func(t *testing.T, b *bed, now events.Guards) {
		g, _ := b.guards()
		if diff := cmp.Diff(g.Grants[b.grant], now.Grants[b.grant], equate); diff != "" {
			t.Errorf("the conflict does not tell how the grant is: %s", diff)
		}
	}
	other := func(b *bed) events.GrantOpened { return events.GrantOpened{Grant: b.log.Clock.NewID(), Host: "h2"} }
	for name, tc := range map[string]struct {
		before   func(*bed)                                    // h1, and everybody sees it
		decision func(*bed) []events.Event                     // h1
		meantime func(*bed)                                    // h2
		tells    func(t *testing.T, b *bed, now events.Guards) // what the conflict should know
	}{
		"the address was taken": {
			decision: func(b *bed) []events.Event { return []events.Event{b.allocate(5)} },
			meantime: func(b *bed) { b.append(b.allocate(5)) },
			tells:    held(5),
		},
		"one of two addresses was taken": {
			decision: func(b *bed) []events.Event { return []events.Event{b.allocate(5), b.allocate(6)} },
			meantime: func(b *bed) { b.append(b.allocate(6)) },
			tells:    held(6),
		},
		"the address was taken and is free again, but not as it was": {
			before:   func(b *bed) { b.append(b.share(1)) },
			decision: func(b *bed) []events.Event { return []events.Event{b.share(1)} },
			meantime: func(b *bed) { a := b.share(1); b.append(a); b.append(release(a, events.Released)) },
			tells:    held(1),
		},
		"the shared address was joined": {
			before:   func(b *bed) { b.append(b.share(1)) },
			decision: func(b *bed) []events.Event { return []events.Event{b.share(1)} },
			meantime: func(b *bed) { b.append(b.share(1)) },
			tells:    held(1),
		},
		"the holding was released": {
			before: func(b *bed) { b.append(b.allocate(5)) },
			decision: func(b *bed) []events.Event {
				g, _ := b.guards()
				return []events.Event{events.AddressReleased{Allocation: g.Held[address(5)].Value[0].ID, Address: address(5), Reason: events.Released}}
			},
			meantime: func(b *bed) {
				g, _ := b.guards()
				b.append(events.AddressReleased{Allocation: g.Held[address(5)].Value[0].ID, Address: address(5), Reason: events.Released})
			},
			tells: held(5),
		},
		"the grant is closing": {
			decision: func(b *bed) []events.Event { return []events.Event{b.allocate(5)} },
			meantime: func(b *bed) { b.append(events.GrantClosing{Grant: b.grant}) },
			tells:    grant,
		},
		"the grant was closed": {
			decision: func(b *bed) []events.Event { return []events.Event{b.allocate(5)} },
			meantime: func(b *bed) { b.append(events.GrantClosing{Grant: b.grant}, events.GrantClosed{Grant: b.grant}) },
			tells:    grant,
		},
		"the grant closed and opened again": {
			decision: func(b *bed) []events.Event { return []events.Event{b.allocate(5)} },
			meantime: func(b *bed) {
				b.append(events.GrantClosing{Grant: b.grant})
				b.append(events.GrantReopened{Grant: b.grant, Host: "h1"})
			},
			tells: grant,
		},
		"the closing grant was opened again, and its gateway must not go": {
			before: func(b *bed) { b.append(b.share(1)); b.append(events.GrantClosing{Grant: b.grant}) },
			decision: func(b *bed) []events.Event {
				g, _ := b.guards()
				return []events.Event{events.AddressReleased{Allocation: g.Held[address(1)].Value[0].ID, Address: address(1), Reason: events.GrantEnded}}
			},
			meantime: func(b *bed) { b.append(events.GrantReopened{Grant: b.grant, Host: "h1"}) },
			tells:    grant,
		},
		"the grant was closed already": {
			before:   func(b *bed) { b.append(events.GrantClosing{Grant: b.grant}) },
			decision: func(b *bed) []events.Event { return []events.Event{events.GrantClosed{Grant: b.grant}} },
			meantime: func(b *bed) { b.append(events.GrantClosed{Grant: b.grant}) },
			tells:    grant,
		},
		"the pool was retired, for a grant": {
			decision: func(b *bed) []events.Event {
				return []events.Event{events.GrantOpened{Grant: b.log.Clock.NewID(), Host: "h1"}}
			},
			meantime: func(b *bed) {
				b.append(events.GrantClosing{Grant: b.grant}, events.GrantClosed{Grant: b.grant}, events.PoolRetired{Space: events.Local})
			},
			tells: func(t *testing.T, _ *bed, now events.Guards) {
				if now.Pool.Present() {
					t.Error("the conflict says that the pool is there")
				}
			},
		},
		"the pool was retired, for a reservation": {
			decision: func(b *bed) []events.Event {
				e := b.allocate(5)
				e.Grant, e.Kind = events.ID{}, events.Reserved
				return []events.Event{e}
			},
			meantime: func(b *bed) {
				b.append(events.GrantClosing{Grant: b.grant}, events.GrantClosed{Grant: b.grant}, events.PoolRetired{Space: events.Local})
			},
		},
		"a grant is left in the pool to be retired": {
			before: func(b *bed) { b.append(events.GrantClosing{Grant: b.grant}) },
			decision: func(b *bed) []events.Event {
				return []events.Event{events.GrantClosed{Grant: b.grant}, events.PoolRetired{Space: events.Local}}
			},
			meantime: func(b *bed) { b.append(other(b)) },
		},
		"an address is held in the pool to be retired": {
			before: func(b *bed) { b.append(b.allocate(9)); b.append(events.GrantClosing{Grant: b.grant}) },
			decision: func(b *bed) []events.Event {
				g, _ := b.guards()
				return []events.Event{
					events.AddressReleased{Allocation: g.Held[address(9)].Value[0].ID, Address: address(9), Reason: events.GrantEnded},
					events.GrantClosed{Grant: b.grant},
					events.PoolRetired{Space: events.Local},
				}
			},
			meantime: func(b *bed) {
				o := other(b)
				e := b.allocate(10)
				e.Grant = o.Grant
				b.append(o, e)
				b.append(events.GrantClosing{Grant: o.Grant}, events.GrantClosed{Grant: o.Grant})
			},
		},
		"a shared address is held on in the pool to be retired": {
			before: func(b *bed) {
				o := other(b)
				e := b.share(1)
				e.Grant = o.Grant
				b.append(o, b.share(1))
				b.append(e)
				b.append(events.GrantClosing{Grant: b.grant}, events.GrantClosing{Grant: o.Grant}, events.GrantClosed{Grant: o.Grant})
			},
			decision: func(b *bed) []events.Event {
				g, _ := b.guards()
				return []events.Event{
					events.AddressReleased{Allocation: g.Held[address(1)].Value[0].ID, Address: address(1), Reason: events.GrantEnded},
					events.GrantClosed{Grant: b.grant},
					events.PoolRetired{Space: events.Local},
				}
			},
			meantime: func(*bed) {},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBed(t)
			rival := b.by(join(t, etcdlog.New(b.client, etcdlog.DefaultPrefix), "h2"))
			if tc.before != nil {
				tc.before(b)
			}
			p := b.propose(tc.decision(b)...)
			tc.meantime(rival)
			log, guards := b.raw("log/"), b.raw("")
			_, err := b.w.Append(within(t, 20*time.Second), p)
			var conflict *etcdlog.ConflictError
			if !errors.Is(err, etcdlog.ErrConflict) || !errors.As(err, &conflict) {
				t.Fatalf("%v", err)
			}
			if tc.tells != nil {
				tc.tells(t, b, conflict.Now)
			}
			if _, revision := b.guards(); conflict.Revision != revision {
				t.Errorf("the conflict speaks of revision %d, the store is at %d", conflict.Revision, revision)
			}
			if !cmp.Equal(log, b.raw("log/")) || !cmp.Equal(guards, b.raw("")) {
				t.Error("something was written")
			}
			b.agree()
		})
	}
}

func TestCreationComparesTheCatalogue(t *testing.T) {
	b := startBed(t)
	create := func(space events.Space, at int64) error {
		e := created()
		e.Space = space
		_, err := b.w.Append(within(t, 20*time.Second), etcdlog.Proposal{
			ID: b.log.Clock.NewID(), Stream: events.PoolStream(b.log.Clock.NewID()),
			Seen: events.NewGuards(), CatalogueAt: at,
			Events: []events.Event{e},
		})
		return err
	}
	pools, at, err := b.log.Pools(t.Context())
	if err != nil || len(pools) != 1 || pools[0].ID != b.pool || pools[0].Value.Name != "web" {
		t.Fatalf("%+v %v", pools, err)
	}
	// What happens elsewhere is not the catalogue's.
	b.append(b.allocate(5))
	if err := create(events.Local, at); err != nil {
		t.Fatal(err)
	}
	for _, space := range events.Spaces() {
		if err := create(space, at); !errors.Is(err, etcdlog.ErrConflict) {
			t.Fatalf("a pool was created after the catalogue was read, and nobody noticed in the %s space: %v", space, err)
		}
	}
	if pools, at, err = b.log.Pools(t.Context()); err != nil || len(pools) != 2 {
		t.Fatalf("%+v %v", pools, err)
	}
	if err := create(events.Local, at); err != nil {
		t.Fatal(err)
	}
}

// A decision that rests on nothing is no decision: comparing with an absent
// guard would pass.
func TestAppendRefuses(t *testing.T) {
	b := startBed(t)
	stranger := b.allocate(5)
	stranger.Grant = b.log.Clock.NewID()
	nothing := func(p *etcdlog.Proposal) { p.Seen = events.NewGuards() }
	many := make([]events.Event, 0, etcdlog.MaxEvents+1)
	for n := range etcdlog.MaxEvents + 1 {
		many = append(many, b.allocate(n))
	}
	for name, tc := range map[string]struct {
		list []events.Event
		bend func(*etcdlog.Proposal)
		want error
	}{
		"a grant that nobody saw":            {[]events.Event{stranger}, nil, events.ErrContradiction},
		"a pool that nobody saw":             {[]events.Event{events.GrantOpened{Grant: b.log.Clock.NewID()}}, nothing, events.ErrContradiction},
		"an allocation in one nobody saw":    {[]events.Event{b.allocate(5)}, nothing, events.ErrContradiction},
		"a release of what nobody holds":     {[]events.Event{release(b.allocate(5), events.Released)}, nil, events.ErrContradiction},
		"a release and use at once":          {[]events.Event{events.GrantClosing{Grant: b.grant}, b.allocate(5)}, nil, events.ErrContradiction},
		"somebody else's event":              {[]events.Event{events.Unknown{Name: "x", Raw: []byte(`{"type":"x"}`)}}, nil, events.ErrInvalid},
		"half an event":                      {[]events.Event{events.AddressAllocated{Address: address(1)}}, nil, events.ErrInvalid},
		"more than fits":                     {many, nil, nil},
		"a stream that is no pool's":         {[]events.Event{b.allocate(5)}, func(p *etcdlog.Proposal) { p.Stream = "elsewhere" }, nil},
		"the same address twice in a commit": {[]events.Event{b.allocate(5), b.allocate(5)}, nil, events.ErrContradiction},
	} {
		t.Run(name, func(t *testing.T) {
			p := b.propose(tc.list...)
			if tc.bend != nil {
				tc.bend(&p)
			}
			before := b.raw("")
			r, err := b.w.Append(within(t, 20*time.Second), p)
			if err == nil || (tc.want != nil && !errors.Is(err, tc.want)) {
				t.Errorf("%+v %v", r, err)
			}
			if !cmp.Equal(before, b.raw("")) {
				t.Error("something was written")
			}
		})
	}
}

func TestAppendTakesAHundredEvents(t *testing.T) {
	b := startBed(t)
	var in, out []events.Event
	for n := range etcdlog.MaxEvents {
		a := b.allocate(n)
		in, out = append(in, a), append(out, release(a, events.GrantEnded))
	}
	b.append(in...)
	b.agree()
	b.append(events.GrantClosing{Grant: b.grant})
	// The grant goes with the last of its holdings.
	b.append(out[1:]...)
	b.append(out[0], events.GrantClosed{Grant: b.grant}, events.PoolRetired{Space: events.Local})
	b.agree()
	if left := b.raw("held/"); len(left) > 0 {
		t.Errorf("still held: %v", left)
	}
}

// Sent twice under one ULID it is one commit, and the first is the truth.
func TestAppendAgainIsTheSameCommit(t *testing.T) {
	b := startBed(t)
	now := time.Now()
	b.log.Clock = etcdlog.ClockOn(func() time.Time { now = now.Add(time.Second); return now }, func() time.Duration { return 0 }, func() bool { return true })
	p := b.propose(b.allocate(5))
	first, err := b.w.Append(within(t, 20*time.Second), p)
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.w.Append(within(t, 20*time.Second), p)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, again, equate); diff != "" {
		t.Errorf("(-first +again):\n%s", diff)
	}
	b.agree()
}

func TestCloseVoidsOrTells(t *testing.T) {
	b := startBed(t)
	never, did := b.propose(b.allocate(5)), b.propose(b.allocate(6))
	record, err := b.w.Append(within(t, 20*time.Second), did)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // closing is settled once, however often it is asked
		void, err := b.w.Close(within(t, 20*time.Second), never.Stream, never.ID)
		if err != nil || !void.Void() || void.ID != never.ID {
			t.Errorf("%+v %v", void, err)
		}
		found, err := b.w.Close(within(t, 20*time.Second), did.Stream, did.ID)
		if diff := cmp.Diff(record, found, equate); diff != "" || err != nil {
			t.Errorf("%v (-committed +found):\n%s", err, diff)
		}
	}
	if r, err := b.w.Append(within(t, 20*time.Second), never); !errors.Is(err, etcdlog.ErrVoided) {
		t.Errorf("committed after it was closed: %+v %v", r, err)
	}
	if n := len(b.records()); n != 3 {
		t.Errorf("%d commits in the log", n)
	}
	b.agree()
}

// What the store refuses as such is not tried for ever.
func TestAppendRejected(t *testing.T) {
	s := etcdtest.Start(t)
	log := etcdlog.New(s.Client(), etcdlog.DefaultPrefix)
	_, err := log.Join(within(t, 20*time.Second), "h1", etcdlog.Presence{Machine: "m"}, clientv3.LeaseID(4711), alive)
	if !errors.Is(err, etcdlog.ErrRejected) || errors.Is(err, etcdlog.ErrUnknown) {
		t.Fatalf("joined under a lease that is not there: %v", err)
	}
}
