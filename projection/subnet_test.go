// SPDX-License-Identifier: Apache-2.0

package projection_test

import (
	"math/big"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/projection"
)

func TestSubnet(t *testing.T) {
	power := func(n uint) string { return new(big.Int).Lsh(big.NewInt(1), n).String() }
	less := func(n uint) string { x := new(big.Int).Lsh(big.NewInt(1), n); return x.Sub(x, big.NewInt(1)).String() }
	for _, tc := range []struct {
		prefix       string
		offsets      uint64
		size, usable string
		reserved     []string // never given out
		given        []string // the ends of what is
	}{
		{"10.0.0.0/8", 1 << 24, "16777216", "16777214", []string{"10.0.0.0", "10.255.255.255"}, []string{"10.0.0.1", "10.255.255.254", "10.1.0.0", "10.0.0.255"}},
		{"0.0.0.0/0", 1 << 32, power(32), "4294967294", []string{"0.0.0.0", "255.255.255.255"}, []string{"0.0.0.1"}},
		{"192.168.1.0/24", 256, "256", "254", []string{"192.168.1.0", "192.168.1.255"}, []string{"192.168.1.1", "192.168.1.254"}},
		{"192.168.1.77/24", 256, "256", "254", []string{"192.168.1.0", "192.168.1.255"}, []string{"192.168.1.77"}},
		{"10.0.0.4/30", 4, "4", "2", []string{"10.0.0.4", "10.0.0.7"}, []string{"10.0.0.5", "10.0.0.6"}},
		{"10.0.0.4/31", 2, "2", "2", nil, []string{"10.0.0.4", "10.0.0.5"}},
		{"10.0.0.4/32", 1, "1", "1", nil, []string{"10.0.0.4"}},
		{"255.255.255.254/31", 2, "2", "2", nil, []string{"255.255.255.254", "255.255.255.255"}},
		{"fd00:1::/48", 1 << 63, power(80), less(80), []string{"fd00:1::"}, []string{"fd00:1::1", "fd00:1:0:ffff:ffff:ffff:ffff:ffff"}},
		{"fd00:1::/64", 1 << 63, power(64), less(64), []string{"fd00:1::"}, []string{"fd00:1::1", "fd00:1::ffff:ffff:ffff:ffff"}},
		{"fd00:1::/65", 1 << 63, power(63), less(63), []string{"fd00:1::"}, []string{"fd00:1::7fff:ffff:ffff:ffff"}},
		{"fd00:1::8/126", 4, "4", "3", []string{"fd00:1::8"}, []string{"fd00:1::9", "fd00:1::b"}},
		{"fd00:1::8/127", 2, "2", "1", []string{"fd00:1::8"}, []string{"fd00:1::9"}},
		{"fd00:1::8/128", 1, "1", "0", []string{"fd00:1::8"}, nil},
	} {
		t.Run(tc.prefix, func(t *testing.T) {
			s := projection.NewSubnet(netip.MustParsePrefix(tc.prefix))
			if s.Offsets() != tc.offsets {
				t.Errorf("%d offsets, want %d", s.Offsets(), tc.offsets)
			}
			if got := s.Size().String(); got != tc.size {
				t.Errorf("%s addresses, want %s", got, tc.size)
			}
			if got := s.Usable().String(); got != tc.usable {
				t.Errorf("%s usable, want %s", got, tc.usable)
			}
			for _, a := range tc.reserved {
				if addr := netip.MustParseAddr(a); !s.Reserved(addr) || !s.Contains(addr) {
					t.Errorf("%s is given out", a)
				}
			}
			for _, a := range tc.given {
				if addr := netip.MustParseAddr(a); s.Reserved(addr) || !s.Contains(addr) {
					t.Errorf("%s is not given out", a)
				}
			}
			for _, outside := range []netip.Addr{s.Prefix().Addr().Prev(), netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("::ffff:10.0.0.5"), {}} {
				if tc.prefix == "0.0.0.0/0" && outside.Is4() {
					continue
				}
				if _, ok := s.Offset(outside); ok || s.Contains(outside) || s.Reserved(outside) {
					t.Errorf("%s belongs to it", outside)
				}
			}
		})
	}
}

func TestOffsetsStopAtTheHalfOfWideSubnets(t *testing.T) {
	s := projection.NewSubnet(netip.MustParsePrefix("fd00:1::/64"))
	for _, tc := range []struct {
		addr   string
		offset uint64
		ok     bool
	}{
		{"fd00:1::", 0, true},
		{"fd00:1::1", 1, true},
		{"fd00:1::7fff:ffff:ffff:ffff", 1<<63 - 1, true},
		{"fd00:1::8000:0:0:0", 0, false},
		{"fd00:1::ffff:ffff:ffff:ffff", 0, false},
	} {
		if offset, ok := s.Offset(netip.MustParseAddr(tc.addr)); offset != tc.offset || ok != tc.ok {
			t.Errorf("%s: offset %d, %v", tc.addr, offset, ok)
		}
	}
	wide := projection.NewSubnet(netip.MustParsePrefix("fd00:1::/48"))
	if _, ok := wide.Offset(netip.MustParseAddr("fd00:1:0:1::")); ok {
		t.Error("the second /64 of a /48 has an offset")
	}
}

func TestOffsetAndAddrAreInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var base netip.Addr
		if rapid.Bool().Draw(t, "IPv4") {
			base = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "base")))
		} else {
			base = netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "base")))
		}
		s := projection.NewSubnet(netip.PrefixFrom(base, rapid.IntRange(0, base.BitLen()).Draw(t, "bits")))
		offset := rapid.Uint64Range(0, s.Offsets()-1).Draw(t, "offset")
		addr := s.Addr(offset)
		if !s.Contains(addr) {
			t.Fatalf("%s of %s is outside", addr, s.Prefix())
		}
		if back, ok := s.Offset(addr); !ok || back != offset {
			t.Fatalf("%s: offset %d came back as %d, %v", s.Prefix(), offset, back, ok)
		}
		if next := addr.Next(); s.Contains(next) && offset+1 < s.Offsets() && s.Addr(offset+1) != next {
			t.Fatalf("after %s comes %s, not %s", addr, s.Addr(offset+1), next)
		}
	})
}

func TestInterval(t *testing.T) {
	for _, tc := range []struct {
		subnet, within string
		first, last    uint64
		ok             bool
	}{
		{"10.0.0.0/24", "", 0, 255, true},
		{"10.0.0.0/24", "10.0.0.0/24", 0, 255, true},
		{"10.0.0.0/24", "10.0.0.128/25", 128, 255, true},
		{"10.0.0.0/24", "10.0.0.200/25", 128, 255, true}, // host bits do not count
		{"10.0.0.0/24", "10.0.0.7/32", 7, 7, true},
		{"10.0.0.0/24", "10.0.0.6/31", 6, 7, true},
		{"10.0.0.0/24", "10.0.1.0/25", 0, 0, false},
		{"10.0.0.0/24", "fd00::/64", 0, 0, false},
		{"10.0.0.4/32", "", 0, 0, true},
		{"10.0.0.4/31", "10.0.0.5/32", 1, 1, true},
		{"fd00:1::/64", "", 0, 1<<63 - 1, true},
		{"fd00:1::/64", "fd00:1::/65", 0, 1<<63 - 1, true},
		{"fd00:1::/64", "fd00:1::8000:0:0:0/65", 0, 0, false}, // past the offsets
		{"fd00:1::/64", "fd00:1::1:0/112", 1 << 16, 1<<17 - 1, true},
		{"fd00:1::/48", "fd00:1::/60", 0, 1<<63 - 1, true},
		{"fd00:1::/48", "fd00:1:0:10::/60", 0, 0, false},
		{"fd00:1::/48", "fd00:1::/64", 0, 1<<63 - 1, true},
		{"fd00:1::8/127", "fd00:1::9/128", 1, 1, true},
	} {
		var within netip.Prefix
		if tc.within != "" {
			within = netip.MustParsePrefix(tc.within)
		}
		first, last, ok := projection.NewSubnet(netip.MustParsePrefix(tc.subnet)).Interval(within)
		if first != tc.first || last != tc.last || ok != tc.ok {
			t.Errorf("%q of %s: %d to %d, %v; want %d to %d, %v", tc.within, tc.subnet, first, last, ok, tc.first, tc.last, tc.ok)
		}
	}
}
