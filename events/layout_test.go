// SPDX-License-Identifier: Apache-2.0

package events_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/events"
)

// Sorted and joined, ranges hold the same addresses as before, a layout may have
// them, and there is nothing more to sort or join.
func TestNormalize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := netip.MustParseAddr(rapid.SampledFrom([]string{"10.0.0.0", "255.255.255.192", "fd00::"}).Draw(t, "base"))
		var addrs []netip.Addr
		for a := base; a.IsValid() && len(addrs) < 40; a = a.Next() {
			addrs = append(addrs, a)
		}
		var list []netipx.IPRange
		for range rapid.IntRange(0, 8).Draw(t, "ranges") {
			from := rapid.IntRange(0, len(addrs)-1).Draw(t, "from")
			to := rapid.IntRange(from, len(addrs)-1).Draw(t, "to")
			list = append(list, netipx.IPRangeFrom(addrs[from], addrs[to]))
		}
		got := events.Normalize(list)
		for _, a := range addrs {
			if events.InRanges(list, a) != events.InRanges(got, a) {
				t.Fatalf("%s: %v became %v", a, list, got)
			}
		}
		for i := 1; i < len(got); i++ {
			if !got[i-1].To().Next().Less(got[i].From()) {
				t.Fatalf("%v is not sorted and joined", got)
			}
		}
		if again := events.Normalize(got); len(again) != len(got) {
			t.Fatalf("%v became %v", got, again)
		}
		changed := events.PoolChanged{Space: events.Local, Layout: events.Layout{Ranges: got, Exclude: got, HostRanges: got}}
		if _, err := events.Encode(commitOf(changed)); err != nil {
			t.Fatalf("a layout may not have %v: %v", got, err)
		}
	})
}

// What a writer must not say of a layout, and a reader does not take for one.
func TestLayoutsThatAreNone(t *testing.T) {
	ranges := func(list ...string) (all []netipx.IPRange) {
		for _, r := range list {
			all = append(all, netipx.MustParseIPRange(r))
		}
		return all
	}
	for name, tt := range map[string]struct {
		layout  events.Layout
		says    string
		created bool // only where the subnet is known
	}{
		"no range":                 {layout: events.Layout{Ranges: []netipx.IPRange{{}}}, says: "is no range"},
		"not in order":             {layout: events.Layout{Exclude: ranges("10.0.0.9-10.0.0.12", "10.0.0.1-10.0.0.3")}, says: "not in order"},
		"not apart":                {layout: events.Layout{HostRanges: ranges("10.0.0.1-10.0.0.3", "10.0.0.3-10.0.0.5")}, says: "not apart"},
		"twice":                    {layout: events.Layout{Ranges: ranges("10.0.0.1-10.0.0.3", "10.0.0.1-10.0.0.3")}, says: "not apart"},
		"backwards":                {layout: events.Layout{Ranges: []netipx.IPRange{netipx.IPRangeFrom(netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("10.0.0.1"))}}, says: "is no range"},
		"a router in IPv6 clothes": {layout: events.Layout{Router: netip.MustParseAddr("::ffff:10.0.0.1")}, says: ""},
		"a router with a zone":     {layout: events.Layout{Router: netip.MustParseAddr("fe80::1%eth0")}, says: ""},
		"a range outside":          {layout: events.Layout{Ranges: ranges("10.0.1.0-10.0.1.9")}, says: "is not in 10.0.0.0/24", created: true},
		"a range that leaves":      {layout: events.Layout{Exclude: ranges("10.0.0.250-10.0.1.9")}, says: "is not in 10.0.0.0/24", created: true},
		"another family's":         {layout: events.Layout{HostRanges: ranges("fd00::1-fd00::9")}, says: "is not in 10.0.0.0/24", created: true},
		"a router outside":         {layout: events.Layout{Router: netip.MustParseAddr("10.0.1.1")}, says: "router 10.0.1.1 is not in", created: true},
	} {
		t.Run(name, func(t *testing.T) {
			list := []events.Event{events.PoolCreated{Space: events.Local, Subnet: pool.Subnet, Policy: pool.Policy, Layout: tt.layout}}
			if !tt.created {
				list = append(list, events.PoolChanged{Space: events.Local, Layout: tt.layout})
			}
			for _, e := range list {
				if _, err := events.Encode(commitOf(e)); !errors.Is(err, events.ErrInvalid) || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%s was written: %v", e.Type(), err)
				}
				shown, err := events.EncodeEvent(e)
				if err != nil {
					continue // cannot even be shown
				}
				if _, err := events.DecodeEvent(shown); !errors.Is(err, events.ErrMalformed) {
					t.Errorf("%s was read: %v", shown, err)
				}
			}
		})
	}
}
