// SPDX-License-Identifier: Apache-2.0

package projection_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
)

// noon is when the stories of these tests begin.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func tlID(kind, n byte) events.ID { return events.ID{0: kind, 15: n} }

func tlPool(n byte) events.ID { return tlID(1, n) }

func tlAlloc(n byte) events.ID { return tlID(2, n) }

// tlRecord is a commit of pool 1 some seconds after noon.
func tlRecord(revision int64, seconds int, list ...events.Event) events.Record {
	return events.Record{Revision: revision, Commit: events.Commit{
		ID: tlID(9, byte(revision)), Stream: events.PoolStream(tlPool(1)),
		Time: noon.Add(time.Duration(seconds) * time.Second),
		Host: "h1", Writer: "v1", Events: list,
	}}
}

func tlSuspect(r events.Record) events.Record { r.ClockSuspect = true; return r }

func tlIn(s events.Stream, r events.Record) events.Record { r.Stream = s; return r }

func tlCreated() events.Event {
	return events.PoolCreated{Space: events.Local, Name: "web", Subnet: netip.MustParsePrefix("10.50.0.0/24"), Policy: events.DefaultPolicy()}
}

func tlAllocated(n byte) events.Event {
	return events.AddressAllocated{
		Allocation: tlAlloc(n), Address: netip.AddrFrom4([4]byte{10, 50, 0, n}), Kind: events.Endpoint,
		Host: "h1", Grant: tlID(3, 1), MAC: events.MAC{2, 0x42, 10, 50, 0, n}, Endpoint: fmt.Sprintf("c%d", n),
	}
}

func tlReleased(n byte) events.AddressReleased {
	return events.AddressReleased{Allocation: tlAlloc(n), Address: netip.AddrFrom4([4]byte{10, 50, 0, n}), Reason: events.Released}
}

func tlReleasedAt(n byte, seconds int) events.Event {
	e := tlReleased(n)
	e.At = noon.Add(time.Duration(seconds) * time.Second)
	return e
}

func tlReserved(n byte) events.Event {
	return events.AddressReserved{Allocation: tlAlloc(n), Address: netip.AddrFrom4([4]byte{10, 50, 0, n}), Why: "the printer"}
}

func tlUnreserved(n byte) events.Event {
	return events.AddressUnreserved{Allocation: tlAlloc(n), Address: netip.AddrFrom4([4]byte{10, 50, 0, n})}
}

func tlSuspected(n byte) events.Event {
	return events.AddressSuspected{Allocation: tlAlloc(n), Address: netip.AddrFrom4([4]byte{10, 50, 0, n})}
}

func tlCleared(n byte) events.Event {
	return events.AddressCleared{Allocation: tlAlloc(n), Address: netip.AddrFrom4([4]byte{10, 50, 0, n})}
}

func tlReclaimed(n byte) events.Event {
	return events.AddressReclaimed{Allocation: tlAlloc(n), Address: netip.AddrFrom4([4]byte{10, 50, 0, n})}
}

// tell writes what a timeline knows of its holdings, a line each.
func tell(t *projection.Timeline) []string {
	mark := func(m projection.Mark) string {
		if !m.Reached() {
			return "…"
		}
		s := fmt.Sprintf("%gs@%d", m.Time.Sub(noon).Seconds(), m.Revision)
		if m.Suspect {
			s += "?"
		}
		return s
	}
	var lines []string
	for h := range t.Holdings() {
		line := fmt.Sprintf("%s in %q %s to %s", h.Address, h.Pool.Name, mark(h.From), mark(h.To))
		if h.End != "" {
			line += " " + string(h.End)
		}
		if h.Early {
			line += " early"
		}
		if h.Suspected.Reached() {
			line += " suspected " + mark(h.Suspected)
		}
		lines = append(lines, line)
	}
	return lines
}

func TestTimeline_holdings(t *testing.T) {
	created := tlRecord(2, 0, tlCreated(), events.GrantOpened{Grant: tlID(3, 1), Host: "h1"})
	for _, c := range []struct {
		name    string
		records []events.Record
		want    []string
		misfits []string
	}{
		{"nothing", nil, nil, nil},
		{"held", []events.Record{created, tlRecord(5, 1, tlAllocated(2))}, []string{`10.50.0.2 in "web" 1s@5 to …`}, nil},
		{
			"two in one commit, one given back",
			[]events.Record{created, tlRecord(5, 1, tlAllocated(2), tlAllocated(3)), tlRecord(9, 7, tlReleased(2))},
			[]string{`10.50.0.2 in "web" 1s@5 to 7s@9 released`, `10.50.0.3 in "web" 1s@5 to …`},
			nil,
		},
		{
			"allocated and released in one commit",
			[]events.Record{created, tlRecord(5, 1, tlAllocated(2), tlReleased(2))},
			[]string{`10.50.0.2 in "web" 1s@5 to 1s@5 released`},
			nil,
		},
		{
			"a spooled release ends when Docker released",
			[]events.Record{created, tlRecord(5, 1, tlAllocated(2)), tlRecord(9, 60, tlReleasedAt(2, 10))},
			[]string{`10.50.0.2 in "web" 1s@5 to 10s@9 released early`},
			nil,
		},
		{
			"a spooled release from before the allocation is doubted",
			[]events.Record{created, tlRecord(5, 1, tlAllocated(2)), tlRecord(9, 60, tlReleasedAt(2, -3600))},
			[]string{`10.50.0.2 in "web" 1s@5 to 1s@9? released early`},
			nil,
		},
		{
			"a spooled release from after its commit is doubted",
			[]events.Record{created, tlRecord(5, 1, tlAllocated(2)), tlRecord(9, 60, tlReleasedAt(2, 3600))},
			[]string{`10.50.0.2 in "web" 1s@5 to 60s@9? released`},
			nil,
		},
		{
			"suspect clocks are told",
			[]events.Record{created, tlSuspect(tlRecord(5, 99999, tlAllocated(2))), tlRecord(9, 60, tlReleased(2))},
			[]string{`10.50.0.2 in "web" 99999s@5? to 60s@9 released`},
			nil,
		},
		{
			"a retired pool keeps its history",
			[]events.Record{created, tlRecord(5, 1, tlAllocated(2)), tlRecord(6, 2, tlReleased(2)), tlRecord(7, 3, events.PoolRetired{Space: events.Local})},
			[]string{`10.50.0.2 in "web" 1s@5 to 2s@6 released`},
			nil,
		},
		{
			"a release of what nobody held, and a doubled allocation, are passed over",
			[]events.Record{created, tlRecord(5, 1, tlReleased(2)), tlRecord(6, 2, tlAllocated(2), tlAllocated(2)), tlRecord(7, 2, events.AddressReleased{Allocation: tlAlloc(2), Address: netip.MustParseAddr("10.50.0.9"), Reason: events.Released})},
			[]string{`10.50.0.2 in "web" 2s@6 to …`},
			[]string{"5.0", "6.1", "7.0"},
		},
		{
			"a reservation begins and ends a holding",
			[]events.Record{created, tlRecord(5, 1, tlReserved(2)), tlRecord(9, 7, tlUnreserved(2))},
			[]string{`10.50.0.2 in "web" 1s@5 to 7s@9 unreserved`},
			nil,
		},
		{
			"a reservation after a release, and one that stands",
			[]events.Record{created, tlRecord(5, 1, tlAllocated(2)), tlRecord(6, 2, tlReleased(2)), tlRecord(7, 3, tlReserved(12), tlReserved(13)), tlRecord(8, 4, tlUnreserved(13))},
			[]string{`10.50.0.2 in "web" 1s@5 to 2s@6 released`, `10.50.0.12 in "web" 3s@7 to …`, `10.50.0.13 in "web" 3s@7 to 4s@8 unreserved`},
			nil,
		},
		{
			"unreserved twice, and what never was",
			[]events.Record{created, tlRecord(5, 1, tlReserved(2)), tlRecord(6, 2, tlUnreserved(2)), tlRecord(7, 3, tlUnreserved(2)), tlRecord(8, 4, tlUnreserved(9))},
			[]string{`10.50.0.2 in "web" 1s@5 to 2s@6 unreserved`},
			[]string{"7.0", "8.0"},
		},
		{
			"another has the address of a mirror",
			[]events.Record{created, tlRecord(5, 1, tlAllocated(2)), tlRecord(6, 2, events.AddressReleased{Allocation: tlAlloc(2), Address: netip.MustParseAddr("10.50.0.2"), Reason: events.Superseded})},
			[]string{`10.50.0.2 in "web" 1s@5 to 2s@6 superseded`},
			nil,
		},
		{
			"suspected, and no more",
			[]events.Record{created, tlRecord(5, 1, tlAllocated(2), tlAllocated(3), tlAllocated(4)), tlRecord(6, 2, tlSuspected(2), tlSuspected(3)), tlRecord(7, 3, tlCleared(2)), tlRecord(8, 4, tlReleased(3))},
			[]string{`10.50.0.2 in "web" 1s@5 to …`, `10.50.0.3 in "web" 1s@5 to 4s@8 released suspected 2s@6`, `10.50.0.4 in "web" 1s@5 to …`},
			nil,
		},
		{
			"suspected twice, and reclaimed",
			[]events.Record{created, tlRecord(5, 1, tlAllocated(2)), tlRecord(6, 2, tlSuspected(2)), tlRecord(7, 3, tlCleared(2)), tlSuspect(tlRecord(8, 4, tlSuspected(2))), tlRecord(9, 5, tlReclaimed(2))},
			[]string{`10.50.0.2 in "web" 1s@5 to 5s@9 reclaimed suspected 4s@8?`},
			nil,
		},
		{
			"suspicions that do not fit",
			[]events.Record{
				created, tlRecord(5, 1, tlAllocated(2), tlReserved(3)), tlRecord(6, 2, tlSuspected(3), tlSuspected(9), tlCleared(2), tlReclaimed(2), tlSuspected(2), tlSuspected(2)),
				tlRecord(7, 3, events.AddressCleared{Allocation: tlAlloc(2), Address: netip.MustParseAddr("10.50.0.9")}, events.AddressReclaimed{Allocation: tlAlloc(2), Address: netip.MustParseAddr("10.50.0.9")}),
				tlRecord(8, 4, tlReclaimed(2), tlReclaimed(2), tlCleared(2), tlSuspected(2)),
			},
			[]string{`10.50.0.2 in "web" 1s@5 to 4s@8 reclaimed suspected 2s@6`, `10.50.0.3 in "web" 1s@5 to …`},
			[]string{"6.0", "6.1", "6.2", "6.3", "6.5", "7.0", "7.1", "8.1", "8.2", "8.3"},
		},
		{
			"a dead host's address",
			[]events.Record{created, tlRecord(5, 1, tlAllocated(2)), tlRecord(6, 2, events.AddressReleased{Allocation: tlAlloc(2), Address: netip.MustParseAddr("10.50.0.2"), Reason: events.TakenOver})},
			[]string{`10.50.0.2 in "web" 1s@5 to 2s@6 taken-over`},
			nil,
		},
		{
			"what begins and ends nothing",
			[]events.Record{
				created, tlRecord(5, 1, tlAllocated(2), events.AddressConflicted{Address: netip.MustParseAddr("10.50.0.2"), Host: "h2", Holder: tlAlloc(2)}),
				tlIn(events.Catalogue, tlRecord(6, 2, events.HostLeft{Host: "h1", Incarnation: 1}, events.HostTakenOver{Host: "h1", Incarnation: 2, By: "h2"})),
			},
			[]string{`10.50.0.2 in "web" 1s@5 to …`},
			nil,
		},
		{
			"the creation was not read",
			[]events.Record{tlRecord(5, 1, tlAllocated(2))},
			[]string{`10.50.0.2 in "" 1s@5 to …`},
			nil,
		},
		{
			"an allocation outside of a pool does not fit",
			[]events.Record{tlIn(events.Catalogue, tlRecord(5, 1, tlAllocated(2))), tlIn("a-newer-stream", tlRecord(6, 1, tlAllocated(3)))},
			nil,
			[]string{"5.0", "6.0"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			tl := projection.NewTimeline()
			for _, r := range c.records {
				tl.Apply(r)
				tl.Apply(r) // a second time it is passed over
			}
			if diff := cmp.Diff(c.want, tell(tl)); diff != "" {
				t.Errorf("holdings (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.misfits, tl.Misfits()); diff != "" {
				t.Errorf("misfits (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTimeline_facts(t *testing.T) {
	tl := projection.NewTimeline()
	tl.Apply(tlRecord(2, 0, tlCreated()))
	tl.Apply(tlRecord(5, 1, tlAllocated(2)))
	h, ok := tl.Allocation(tlAlloc(2))
	if !ok {
		t.Fatal("the allocation is not open")
	}
	want := projection.Holding{
		Allocation: tlAlloc(2), Address: netip.MustParseAddr("10.50.0.2"), Pool: tl.Pool(events.PoolStream(tlPool(1))), Kind: events.Endpoint,
		Host: "h1", Grant: tlID(3, 1), MAC: events.MAC{2, 0x42, 10, 50, 0, 2}, Endpoint: "c2",
		From: projection.Mark{Revision: 5, Time: noon.Add(time.Second)},
	}
	if diff := cmp.Diff(want, *h, cmp.Comparer(func(a, b *projection.PoolLife) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	pool := tl.Pool(events.PoolStream(tlPool(1)))
	if !pool.Known() || pool.Space != events.Local || pool.Subnet.String() != "10.50.0.0/24" || pool.ID != tlPool(1) {
		t.Errorf("pool: %+v", pool)
	}
	if tl.Pool(events.PoolStream(tlPool(7))) != nil {
		t.Error("there is a pool 7")
	}
}

// A reservation is held by an operator's word: by no host, through no grant.
func TestTimeline_reservation(t *testing.T) {
	tl := projection.NewTimeline()
	tl.Apply(tlRecord(2, 0, tlCreated()))
	tl.Apply(tlRecord(5, 1, tlReserved(2)))
	h, ok := tl.Allocation(tlAlloc(2))
	if !ok {
		t.Fatal("the reservation is not open")
	}
	want := projection.Holding{
		Allocation: tlAlloc(2), Address: netip.MustParseAddr("10.50.0.2"), Pool: tl.Pool(events.PoolStream(tlPool(1))), Kind: events.Reserved,
		Why: "the printer", From: projection.Mark{Revision: 5, Time: noon.Add(time.Second)},
	}
	if diff := cmp.Diff(want, *h, cmp.Comparer(func(a, b *projection.PoolLife) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A pool's new layout takes the place of the old one, and leaves all else alone.
func TestTimeline_layout(t *testing.T) {
	tl := projection.NewTimeline()
	created := tlCreated().(events.PoolCreated)
	created.Layout = events.Layout{Exclude: []netipx.IPRange{netipx.MustParseIPRange("10.50.0.9-10.50.0.9")}}
	tl.Apply(tlRecord(2, 0, created))
	pool := tl.Pool(events.PoolStream(tlPool(1)))
	if diff := cmp.Diff(events.Pool(created), pool.Pool, equate); diff != "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}
	changed := events.PoolChanged{Space: events.Local, Kept: true, Layout: events.Layout{
		Ranges: []netipx.IPRange{netipx.MustParseIPRange("10.50.0.5-10.50.0.20")}, Router: netip.MustParseAddr("10.50.0.1"),
	}}
	tl.Apply(tlRecord(5, 1, tlAllocated(9), changed))
	want := events.Pool(created)
	want.Layout, want.Kept = changed.Layout, true
	if diff := cmp.Diff(want, pool.Pool, equate); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
	tl.Apply(tlRecord(6, 2, events.PoolChanged{Space: events.Local}))
	if !pool.Undivided() || pool.Kept {
		t.Errorf("undone: %+v", pool.Pool)
	}
	if got := tell(tl); len(got) != 1 || len(tl.Misfits()) > 0 {
		t.Errorf("holdings %q, misfits %q", got, tl.Misfits())
	}
	// In a pool whose creation was not read there is nothing to change, and no harm.
	tl.Apply(tlIn(events.PoolStream(tlPool(7)), tlRecord(9, 3, changed)))
	tl.Apply(tlIn(events.Catalogue, tlRecord(10, 3, changed)))
	if p := tl.Pool(events.PoolStream(tlPool(7))); p == nil || p.Known() {
		t.Errorf("pool 7: %+v", p)
	}
}

// A newer writer's words do not stop the timeline, and are not kept quiet.
func TestTimeline_unread(t *testing.T) {
	tl := projection.NewTimeline()
	strange := func(name string) events.Event { return events.Unknown{Name: name, Raw: []byte(`{}`)} }
	tl.Apply(tlRecord(2, 0, tlCreated(), strange("pool.painted")))
	tl.Apply(tlRecord(3, 0, tlAllocated(2), strange("address.blessed"), strange("pool.painted")))
	want := []projection.Unread{{"address.blessed", 1, 3, "v1"}, {"pool.painted", 2, 2, "v1"}}
	if diff := cmp.Diff(want, tl.Unread()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := len(tell(tl)); got != 1 {
		t.Errorf("%d holdings", got)
	}
}

// The running time never goes back, and no clock living in 2038 pushes it.
func TestTimeline_running(t *testing.T) {
	tl := projection.NewTimeline()
	if tl.Until(noon) != 0 || !tl.Running(99).IsZero() || tl.Revision() != 0 {
		t.Error("an empty log has a past")
	}
	tl.Apply(tlRecord(10, 10))
	tl.Apply(tlRecord(20, 5)) // a clock that is behind
	tl.Apply(tlSuspect(tlRecord(30, 500_000)))
	tl.Apply(tlIn(events.Catalogue, tlRecord(40, 20)))
	tl.Apply(tlRecord(50, 20))
	tl.Apply(tlRecord(60, 30))
	for seconds, want := range map[int]int64{9: 0, 10: 30, 19: 30, 20: 50, 29: 50, 30: 60, 500_000: 60} {
		if got := tl.Until(noon.Add(time.Duration(seconds) * time.Second)); got != want {
			t.Errorf("until %ds: %d, want %d", seconds, got, want)
		}
	}
	for revision, want := range map[int64]float64{10: 10, 11: 10, 20: 10, 30: 10, 40: 20, 50: 20, 60: 30, 99: 30} {
		if got := tl.Running(revision).Sub(noon).Seconds(); got != want {
			t.Errorf("running at %d: %gs, want %gs", revision, got, want)
		}
	}
	if !tl.Running(9).IsZero() {
		t.Error("there is a running time before the log began")
	}
}

func TestTimeline_moments(t *testing.T) {
	tl := projection.NewTimeline()
	tl.Apply(tlRecord(10, 0, tlCreated()))
	tl.Apply(tlRecord(20, 1, tlAllocated(2)))
	tl.Apply(tlRecord(30, 2, tlReleased(2)))
	tl.Apply(tlRecord(40, 3, events.PoolRetired{Space: events.Local}))
	pool := tl.Pool(events.PoolStream(tlPool(1)))
	var h *projection.Holding
	for h = range tl.Holdings() {
	}
	for revision, want := range map[int64]string{9: "", 10: "pool", 19: "pool", 20: "pool held", 29: "pool held", 30: "pool", 39: "pool", 40: ""} {
		var got []string
		if pool.At(revision) {
			got = append(got, "pool")
		}
		if h.At(revision) {
			got = append(got, "held")
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("at %d: %q, want %q", revision, s, want)
		}
	}
}

// Whatever happens in a pool, what a timeline says stands at a revision is what
// the pool's guards say.
func TestTimeline_agreesWithGuards(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tl := projection.NewTimeline()
		pool := projection.New()
		held := map[int64]map[events.ID]bool{}
		var order []events.ID // allocations open
		addr := map[events.ID]netip.Addr{}
		shared := map[events.ID]bool{}
		tl.Apply(tlRecord(1, 0, tlCreated()))
		if err := pool.Apply(tlRecord(1, 0, tlCreated())); err != nil {
			t.Fatal(err)
		}
		steps := rapid.IntRange(1, 60).Draw(t, "steps")
		for i := range steps {
			var list []events.Event
			if len(order) > 0 && rapid.Bool().Draw(t, "release") {
				n := rapid.IntRange(0, len(order)-1).Draw(t, "which")
				id := order[n]
				order = append(order[:n], order[n+1:]...)
				list = append(list, events.AddressReleased{Allocation: id, Address: addr[id], Reason: events.Released})
			} else {
				a := netip.AddrFrom4([4]byte{10, 50, 0, byte(rapid.IntRange(1, 8).Draw(t, "addr"))})
				share := rapid.Bool().Draw(t, "shared")
				free := true
				for _, id := range order {
					if addr[id] == a && (!share || !shared[id]) {
						free = false
					}
				}
				if !free {
					continue
				}
				id := tlAlloc(byte(i))
				order, addr[id], shared[id] = append(order, id), a, share
				list = append(list, events.AddressAllocated{Allocation: id, Address: a, Kind: events.Gateway, Shared: share, Host: "h1"})
			}
			revision := int64(2 + 3*i)
			r := tlRecord(revision, rapid.IntRange(0, 100).Draw(t, "clock"), list...)
			tl.Apply(r)
			if err := pool.Apply(r); err != nil {
				t.Fatal(err)
			}
			held[revision] = map[events.ID]bool{}
			for _, g := range pool.HeldAll() {
				for _, a := range g.Value {
					held[revision][a.ID] = true
				}
			}
		}
		for revision, want := range held {
			got := map[events.ID]bool{}
			for h := range tl.Holdings() {
				if h.At(revision) {
					got[h.Allocation] = true
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("at %d (-want +got):\n%s", revision, diff)
			}
		}
	})
}

// What a timeline says is held, and suspected, in the end is what the guards say,
// whatever happened; and all of it fits.
func TestTimeline_endsAsTheGuards(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := histories(150).Draw(t, "history")
		tl := projection.NewTimeline()
		for _, r := range h.records {
			r.Stream = events.PoolStream(tlPool(1))
			tl.Apply(r)
		}
		want, got := map[events.ID]time.Time{}, map[events.ID]time.Time{}
		for _, guard := range h.guards.Held {
			for _, a := range guard.Value {
				want[a.ID] = a.Suspected
			}
		}
		for x := range tl.Holdings() {
			if !x.To.Reached() {
				got[x.Allocation] = x.Suspected.Time
			}
		}
		if diff := cmp.Diff(want, got); diff != "" || len(tl.Misfits()) > 0 {
			t.Fatalf("misfits %v (-guards +timeline):\n%s", tl.Misfits(), diff)
		}
	})
}

// BenchmarkTimeline_Apply folds commits of one event: allocations and releases
// in a pool that stays half full.
func BenchmarkTimeline_Apply(b *testing.B) {
	const n = 100_000
	records := make([]events.Record, 0, n)
	records = append(records, tlRecord(1, 0, tlCreated()))
	for i := 1; i < n; i++ {
		alloc := func(i int) events.ID {
			return events.ID{0: 2, 12: byte(i >> 24), 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}
		}
		addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 50, byte(i >> 8), byte(i)}) }
		var e events.Event = events.AddressAllocated{Allocation: alloc(i), Address: addr(i), Kind: events.Endpoint, Host: "h1", Grant: tlID(3, 1)}
		if i%2 == 0 && i > 1000 {
			e = events.AddressReleased{Allocation: alloc(i - 999), Address: addr(i - 999), Reason: events.Released}
		}
		records = append(records, tlRecord(int64(i+1), i, e))
	}
	for b.Loop() {
		tl := projection.NewTimeline()
		for _, r := range records {
			tl.Apply(r)
		}
		if len(tl.Misfits()) > 0 {
			b.Fatal("the benchmark's log does not fit together")
		}
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "events/s")
}
