// SPDX-License-Identifier: Apache-2.0

package legacy_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/legacy"
)

// A bitmap is written here bit by bit and read back: every address that was set is
// held, and no other.
func TestBitmapsHoldWhatWasSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.IntRange(2, 12).Draw(t, "width")
		subnet := netip.PrefixFrom(netip.MustParseAddr("10.32.0.0"), 32-width)
		if rapid.Bool().Draw(t, "v6") {
			subnet = netip.PrefixFrom(netip.MustParseAddr("fd00:0:0:7::"), 128-width)
		}
		size := 1 << width
		set := map[int]bool{0: true}
		if subnet.Addr().Is4() {
			set[size-1] = true
		}
		// Allocation fills from the bottom, so full blocks are common.
		for place := range rapid.IntRange(0, size).Draw(t, "filled") {
			set[place] = true
		}
		for _, place := range rapid.SliceOf(rapid.IntRange(0, size-1)).Draw(t, "others") {
			set[place] = !set[place]
		}

		blocks := make([]uint32, (size+31)/32)
		var want []netip.Addr
		a := subnet.Addr()
		for place := range size {
			if set[place] {
				blocks[place/32] |= 1 << (31 - place%32)
				if place != 0 && (place != size-1 || a.Is6()) {
					want = append(want, a)
				}
			}
			a = a.Next()
		}
		var runs []uint64
		for _, block := range blocks {
			if n := len(runs); n > 0 && runs[n-2] == uint64(block) {
				runs[n-1]++
			} else {
				if rapid.IntRange(0, 9).Draw(t, "empty run") == 0 {
					runs = append(runs, 0xabcd, 0)
				}
				runs = append(runs, uint64(block), 1)
			}
		}

		dump, err := legacy.Read(strings.NewReader(consul(t,
			"config/MySuperAwesomeGlobal", fmt.Sprintf(`{"Subnets":{"MySuperAwesomeGlobal/%s":{"RefCount":1}}}`, subnet),
			"data/MySuperAwesomeGlobal/"+subnet.String(), bitmap(t, uint64(size), runs...))))
		if err != nil {
			t.Fatal(err)
		}
		check(t, dump)
		var got []netip.Addr
		for _, h := range dump.Pools[0].Held {
			got = append(got, h.Address)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Fatalf("-want +got\n%s\nof %v", diff, slices.Sorted(maps.Keys(set)))
		}
	})
}
