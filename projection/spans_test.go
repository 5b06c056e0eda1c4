// SPDX-License-Identifier: Apache-2.0

package projection_test

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/projection/bitmap"
)

// laidOut is a subnet divided at will, and the offsets at which anything can
// change: between two of them all are alike.
type laidOut struct {
	subnet projection.Subnet
	layout events.Layout
	within netip.Prefix
	points []uint64
}

// given says, address by address, what a layout gives out on its own.
func (l laidOut) given(offset uint64) bool {
	a := l.subnet.Addr(offset)
	switch {
	case l.subnet.Reserved(a), a == l.layout.Router:
		return false
	case l.within.IsValid() && !l.within.Contains(a):
		return false
	case events.InRanges(l.layout.Exclude, a), events.InRanges(l.layout.HostRanges, a):
		return false
	}
	return len(l.layout.Ranges) == 0 || events.InRanges(l.layout.Ranges, a)
}

// forHosts says the same of what is kept for the hosts' bridges.
func (l laidOut) forHosts(offset uint64) bool {
	a := l.subnet.Addr(offset)
	return events.InRanges(l.layout.HostRanges, a) && a != l.layout.Router && !l.subnet.Reserved(a)
}

// layouts draws a division of a subnet, with the ends of its ranges among
// addresses at both ends of the subnet and, in a wide one, about the middle, past
// which nothing is picked.
func layouts() *rapid.Generator[laidOut] {
	return rapid.Custom(func(t *rapid.T) laidOut {
		l := laidOut{subnet: projection.NewSubnet(netip.MustParsePrefix(rapid.SampledFrom([]string{
			"10.0.0.0/26", "10.0.0.8/30", "10.0.0.8/31", "10.0.0.8/32", "10.0.0.0/8", "0.0.0.0/0", "255.255.255.192/26",
			"fd00::/122", "fd00::8/127", "fd00::8/128", "fd00::/64", "fd00::/65", "fd00::/48", "ffff:ffff:ffff:ffff::/64",
		}).Draw(t, "subnet")))}
		addrs := anchors(l.subnet.Prefix())
		anchor := rapid.SampledFrom(addrs)
		list := func(what string) []netipx.IPRange {
			var ranges []netipx.IPRange
			for range rapid.IntRange(0, 3).Draw(t, what) {
				a, b := anchor.Draw(t, "end"), anchor.Draw(t, "end")
				if b.Less(a) {
					a, b = b, a
				}
				ranges = append(ranges, netipx.IPRangeFrom(a, b))
			}
			return events.Normalize(ranges)
		}
		l.layout = events.Layout{Ranges: list("ranges"), Exclude: list("exclude"), HostRanges: list("host ranges")}
		if rapid.Bool().Draw(t, "has router") {
			l.layout.Router = anchor.Draw(t, "router")
		}
		ends := slices.Clone(addrs)
		if rapid.Bool().Draw(t, "has grant range") {
			bits := rapid.IntRange(l.subnet.Prefix().Bits(), l.subnet.Prefix().Addr().BitLen()).Draw(t, "bits")
			l.within = netip.PrefixFrom(anchor.Draw(t, "in"), bits).Masked()
			r := netipx.RangeOfPrefix(l.within)
			ends = append(ends, r.From(), r.To())
		}
		seen := map[uint64]bool{0: true, l.subnet.Offsets() - 1: true}
		for _, a := range ends {
			for _, near := range []netip.Addr{a.Prev(), a, a.Next()} {
				if offset, ok := l.subnet.Offset(near); ok {
					seen[offset] = true
				}
			}
		}
		l.points = slices.Sorted(maps.Keys(seen))
		return l
	})
}

// anchors are addresses of a subnet: its first and last, and in a wide one some
// about the last that has an offset.
func anchors(subnet netip.Prefix) []netip.Addr {
	r := netipx.RangeOfPrefix(subnet)
	seen := map[netip.Addr]bool{}
	up, down := r.From(), r.To()
	middle := projection.NewSubnet(subnet)
	left := middle.Addr(middle.Offsets() - 1)
	right := left
	for range 12 {
		for _, a := range []netip.Addr{up, down, left, right} {
			if subnet.Contains(a) {
				seen[a] = true
			}
		}
		up, down, left, right = up.Next(), down.Prev(), left.Prev(), right.Next()
	}
	return slices.SortedFunc(maps.Keys(seen), netip.Addr.Compare)
}

// counted is how many offsets fit, from what is true at the points.
func (l laidOut) counted(fits func(uint64) bool) uint64 {
	var n uint64
	for i, p := range l.points {
		if fits(p) {
			n++
		}
		if i+1 < len(l.points) && l.points[i+1] > p+1 && fits(p+1) {
			n += l.points[i+1] - p - 1
		}
	}
	return n
}

// checkSpans compares spans with what they should hold.
func checkSpans(t *rapid.T, l laidOut, s projection.Spans, fits func(uint64) bool) {
	for _, p := range l.points {
		for _, offset := range []uint64{p, p + 1} {
			if want := offset < l.subnet.Offsets() && fits(offset); s.Contains(offset) != want {
				t.Fatalf("offset %d: contained is %v", offset, !want)
			}
		}
	}
	if want := l.counted(fits); s.Total() != want {
		t.Fatalf("%d in all, want %d", s.Total(), want)
	}
	var n uint64
	for i, span := range s.List() {
		if span.Last < span.First || i > 0 && span.First <= s.List()[i-1].Last+1 || span.Last >= l.subnet.Offsets() {
			t.Fatalf("stretches are not in order, apart and within the subnet: %v", s.List())
		}
		length := span.Last - span.First
		middle := rapid.Uint64Range(0, length).Draw(t, "middle")
		for _, d := range []uint64{0, middle, length} {
			if got := s.At(n + d); got != span.First+d {
				t.Fatalf("the offset at %d is %d, want %d of %v", n+d, got, span.First+d, s.List())
			}
		}
		n += length + 1
	}
	if n != s.Total() {
		t.Fatalf("%d in the list, %d in all", n, s.Total())
	}
}

func TestSpansAreWhatTheLayoutSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := layouts().Draw(t, "layout")
		checkSpans(t, l, l.subnet.Assignable(l.layout, l.within), l.given)
		checkSpans(t, l, l.subnet.HostSpans(l.layout), l.forHosts)
	})
}

// The next free offset is the lowest one that is given out, is not taken, and
// does not come before the one it is asked from.
func TestSpansNext(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := layouts().Draw(t, "layout")
		s := l.subnet.Assignable(l.layout, l.within)
		taken := bitmap.New(l.subnet.Offsets())
		for _, p := range rapid.SliceOfN(rapid.SampledFrom(l.points), 0, 40).Draw(t, "taken") {
			taken.Add(p)
		}
		from := rapid.SampledFrom(l.points).Draw(t, "from") + rapid.Uint64Range(0, 1).Draw(t, "and")
		got, ok := s.Next(from, func(first, last uint64) (uint64, bool) {
			if first > last || first < from || !s.Contains(first) || !s.Contains(last) {
				t.Fatalf("asked about %d to %d from %d on, of %v", first, last, from, s.List())
			}
			return taken.NextFree(first, last)
		})
		// Taken are points alone: the first free one is a point, or right behind one.
		var want uint64
		var some bool
		candidates := []uint64{from}
		for _, p := range l.points {
			candidates = append(candidates, p, p+1)
		}
		for _, c := range slices.Sorted(slices.Values(candidates)) {
			if c >= from && c < l.subnet.Offsets() && l.given(c) && !taken.Has(c) {
				want, some = c, true
				break
			}
		}
		if got != want || ok != some {
			t.Fatalf("next from %d is %d, %v; want %d, %v", from, got, ok, want, some)
		}
	})
}

func TestSpans(t *testing.T) {
	ranges := func(list ...string) (all []netipx.IPRange) {
		for _, r := range list {
			all = append(all, netipx.MustParseIPRange(r))
		}
		return all
	}
	for _, tt := range []struct {
		name, subnet, within string
		layout               events.Layout
		want                 []projection.Span
	}{
		{name: "all of it", subnet: "10.0.0.0/24", want: []projection.Span{{1, 254}}},
		{name: "a range of all gives neither end", subnet: "10.0.0.0/24", layout: events.Layout{Ranges: ranges("10.0.0.0-10.0.0.255")}, want: []projection.Span{{1, 254}}},
		{name: "a hole", subnet: "10.0.0.0/24", layout: events.Layout{Exclude: ranges("10.0.0.10-10.0.0.20")}, want: []projection.Span{{1, 9}, {21, 254}}},
		{name: "the router splits", subnet: "10.0.0.0/29", layout: events.Layout{Router: netip.MustParseAddr("10.0.0.4")}, want: []projection.Span{{1, 3}, {5, 6}}},
		{name: "hosts go before ranges", subnet: "10.0.0.0/24", layout: events.Layout{Ranges: ranges("10.0.0.5-10.0.0.9"), HostRanges: ranges("10.0.0.8-10.0.0.19")}, want: []projection.Span{{5, 7}}},
		{name: "a grant's part", subnet: "10.0.0.0/24", within: "10.0.0.4/30", layout: events.Layout{Ranges: ranges("10.0.0.6-10.0.0.90")}, want: []projection.Span{{6, 7}}},
		{name: "nothing in common", subnet: "10.0.0.0/24", within: "10.0.0.128/25", layout: events.Layout{Ranges: ranges("10.0.0.6-10.0.0.90")}},
		{name: "a /31 has no ends to keep", subnet: "10.0.0.4/31", want: []projection.Span{{0, 1}}},
		{name: "wide", subnet: "fd00::/48", want: []projection.Span{{1, 1<<63 - 1}}},
		{name: "wide, a range past the middle", subnet: "fd00::/64", layout: events.Layout{Ranges: ranges("fd00::8000:0:0:0-fd00::9000:0:0:0")}},
		{name: "wide, a range across the middle", subnet: "fd00::/64", layout: events.Layout{Ranges: ranges("fd00::7fff:ffff:ffff:fff0-fd00::9000:0:0:0")}, want: []projection.Span{{1<<63 - 16, 1<<63 - 1}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var within netip.Prefix
			if tt.within != "" {
				within = netip.MustParsePrefix(tt.within)
			}
			s := projection.NewSubnet(netip.MustParsePrefix(tt.subnet)).Assignable(tt.layout, within)
			if diff := cmp.Diff(tt.want, s.List()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
