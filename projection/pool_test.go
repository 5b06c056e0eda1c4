// SPDX-License-Identifier: Apache-2.0

package projection_test

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/projection/bitmap"
)

var equate = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netipx.IPRange{}), cmpopts.EquateEmpty()}

// TestEveryWayLeadsToTheSameState is what everything stands on: a state is the
// same whether all records led to it, or guards read at any revision and the
// records from anywhere before it on.
func TestEveryWayLeadsToTheSameState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := histories(150).Draw(t, "history")
		n := len(h.records)

		whole := projection.New()
		middle := rapid.IntRange(0, n).Draw(t, "middle")
		apply(t, whole, h.records[:middle])
		same(t, "half-way", whole, h.states[middle], revisionOf(h, middle))
		again := rapid.IntRange(0, middle).Draw(t, "again from")
		apply(t, whole, h.records[again:])
		same(t, "from the first record on", whole, h.states[n], revisionOf(h, n))

		at := rapid.IntRange(0, n).Draw(t, "guards after")
		revision := revisionOf(h, at)
		if at < n { // other pools' commits have revisions too
			revision = rapid.Int64Range(revision, revisionOf(h, at+1)-1).Draw(t, "revision")
		}
		p := projection.FromGuards(throughTheStore(t, h.states[at]), revision)
		same(t, "from guards", p, h.states[at], revision)
		apply(t, p, h.records[rapid.IntRange(0, at).Draw(t, "records from"):])
		same(t, "from guards and the rest", p, h.states[n], max(revision, revisionOf(h, n)))
	})
}

func revisionOf(h *history, n int) int64 {
	if n == 0 {
		return 0
	}
	return h.records[n-1].Revision
}

func apply(t *rapid.T, p *projection.Pool, records []events.Record) {
	for _, r := range records {
		if err := p.Apply(r); err != nil {
			t.Fatal(err)
		}
	}
}

// same compares everything a projection tells with the guards it should have,
// and its bitmap with one laid from nothing.
func same(t *rapid.T, where string, p *projection.Pool, want events.Guards, revision int64) {
	if diff := cmp.Diff(want, p.Guards(), equate); diff != "" {
		t.Fatalf("%s: guards (-want +got):\n%s", where, diff)
	}
	if p.Revision() != revision {
		t.Fatalf("%s: at revision %d, want %d", where, p.Revision(), revision)
	}
	if diff := cmp.Diff(want.Grants, maps.Collect(p.Grants()), equate); diff != "" {
		t.Fatalf("%s: grants: %s", where, diff)
	}
	if diff := cmp.Diff(want.Held, maps.Collect(p.HeldAll()), equate); diff != "" || p.Count() != len(want.Held) {
		t.Fatalf("%s: %d held: %s", where, p.Count(), diff)
	}
	suspected := 0
	for _, held := range want.Held {
		for _, a := range held.Value {
			if a.Suspected != (time.Time{}) {
				suspected++
			}
		}
	}
	if got := p.Suspected(); got != suspected {
		t.Fatalf("%s: %d suspected, not %d", where, got, suspected)
	}
	if !want.Pool.Present() {
		if p.Taken() != nil || p.Subnet().Prefix().IsValid() {
			t.Fatalf("%s: no pool, but a subnet %s", where, p.Subnet().Prefix())
		}
		return
	}
	s := projection.NewSubnet(want.Pool.Value.Subnet)
	taken := bitmap.New(s.Offsets())
	for _, a := range addressesOf(want.Pool.Value.Subnet) {
		if offset, ok := s.Offset(a); ok && (want.Held[a].Present() || s.Reserved(a)) {
			taken.Add(offset)
		}
	}
	if got := p.Taken(); !got.Equal(taken) {
		t.Fatalf("%s: the bitmap has %d taken, the guards %d", where, got.Count(), taken.Count())
	}
}

// throughTheStore writes guards and reads them again.
func throughTheStore(t *rapid.T, g events.Guards) events.Guards {
	read := events.NewGuards()
	if g.Pool.Present() {
		read.Pool = written(t, g.Pool)
		read.Pool.Value.Space = g.Pool.Value.Space // stands in the key
	}
	for k, v := range g.Grants {
		read.Grants[k] = written(t, v)
	}
	for k, v := range g.Held {
		read.Held[k] = written(t, v)
	}
	return read
}

func written[T events.Pool | events.Grant | events.Held](t *rapid.T, g events.Guarded[T]) events.Guarded[T] {
	data, err := events.EncodeGuard(g.Value)
	if err != nil {
		t.Fatal(err)
	}
	v, err := events.DecodeGuard[T](data)
	if err != nil {
		t.Fatal(err)
	}
	return events.Guarded[T]{Value: v, Revision: g.Revision}
}

var (
	prefix = netip.MustParsePrefix("10.0.0.0/29")
	first  = netip.MustParseAddr("10.0.0.1")
)

func record(revision int64, list ...events.Event) events.Record {
	return events.Record{Revision: revision, Commit: events.Commit{ID: events.ID{15: byte(revision)}, Host: "h1", Events: list}}
}

func created() events.Record {
	return record(1, events.PoolCreated{Space: events.Local, Subnet: prefix, Policy: events.DefaultPolicy()})
}

// A state that one record is missing from must not go on.
func TestPoolStopsForGood(t *testing.T) {
	for name, tc := range map[string]struct {
		bad  events.Event
		want error
	}{
		"an unknown event": {events.Unknown{Name: "pool.split", Raw: []byte(`{"type":"pool.split"}`)}, events.ErrUnknownEvent},
		"a contradiction":  {events.AddressReleased{Allocation: events.ID{1}, Address: first, Reason: events.Released}, events.ErrContradiction},
	} {
		t.Run(name, func(t *testing.T) {
			p := projection.New()
			if err := p.Apply(created()); err != nil {
				t.Fatal(err)
			}
			if err := p.Apply(record(2, tc.bad)); !errors.Is(err, tc.want) {
				t.Fatal(err)
			}
			if err := p.Apply(record(3, events.AddressAllocated{Allocation: events.ID{1}, Address: first, Kind: events.Host})); !errors.Is(err, tc.want) {
				t.Errorf("went on after it: %v", err)
			}
			if p.Revision() != 1 {
				t.Errorf("claims to be complete up to %d", p.Revision())
			}
		})
	}
}

func TestReachedOnlyGoesForward(t *testing.T) {
	p := projection.New()
	if err := p.Apply(created()); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ to, want int64 }{{5, 5}, {3, 5}, {9, 9}} {
		if p.Reached(step.to); p.Revision() != step.want {
			t.Errorf("reached %d: at %d, want %d", step.to, p.Revision(), step.want)
		}
	}
	// What it has reached it has seen.
	if err := p.Apply(record(9, events.AddressAllocated{Allocation: events.ID{1}, Address: first, Kind: events.Host})); err != nil || p.Count() != 0 {
		t.Errorf("applied a record it was past: %v", err)
	}
}

func TestTakenIsACopy(t *testing.T) {
	p := projection.New()
	if err := p.Apply(created()); err != nil {
		t.Fatal(err)
	}
	p.Taken().Add(3)
	if p.Taken().Has(3) {
		t.Error("the caller changed the projection")
	}
}

func BenchmarkApply(b *testing.B) {
	for name, size := range map[string]int{"single": 1, "64-a-commit": 64} {
		b.Run(name, func(b *testing.B) {
			// A /16 half full, in which addresses come and go.
			s := projection.NewSubnet(netip.MustParsePrefix("10.0.0.0/16"))
			p := projection.New()
			if err := p.Apply(record(1, events.PoolCreated{Space: events.Local, Subnet: s.Prefix(), Policy: events.DefaultPolicy()})); err != nil {
				b.Fatal(err)
			}
			records := churn(s, 1<<15, size)
			b.ReportAllocs()
			b.ResetTimer()
			revision, done := int64(1), 0
			for b.Loop() {
				for _, r := range records {
					revision++
					r.Revision = revision
					if err := p.Apply(r); err != nil {
						b.Fatal(err)
					}
					done += len(r.Events)
				}
			}
			b.ReportMetric(float64(done)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// churn allocates n addresses and releases them again.
func churn(s projection.Subnet, n, size int) []events.Record {
	var list []events.Event
	for i := range n {
		list = append(list, events.AddressAllocated{Allocation: events.ID{12: byte(i >> 16), 13: byte(i >> 8), 14: byte(i)}, Address: s.Addr(uint64(i) + 1), Kind: events.Endpoint, Host: "h1", Endpoint: "web"})
	}
	for _, e := range slices.Clone(list) {
		a := e.(events.AddressAllocated)
		list = append(list, events.AddressReleased{Allocation: a.Allocation, Address: a.Address, Reason: events.Released})
	}
	var records []events.Record
	for chunk := range slices.Chunk(list, size) {
		records = append(records, events.Record{Commit: events.Commit{Host: "h1", Events: chunk}})
	}
	return records
}
