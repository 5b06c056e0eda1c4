// SPDX-License-Identifier: Apache-2.0

package legacy_test

import (
	"slices"

	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/legacy"
)

// failer is a test, a fuzz run or a property.
type failer interface {
	Helper()
	Errorf(string, ...any)
}

// check holds a dump to what its types promise.
func check(t failer, d legacy.Dump) {
	t.Helper()
	if !slices.Contains([]string{legacy.OAM, legacy.Skylark, legacy.July, legacy.Swan, legacy.KVIPAM, legacy.Docker}, d.Source) {
		t.Errorf("source is %q", d.Source)
	}
	type place struct{ space, name, subnet string }
	seen := map[place]bool{}
	for _, p := range d.Pools {
		at := place{p.Space, p.Name, p.Subnet.String()}
		if seen[at] {
			t.Errorf("pool %v is there twice", at)
		}
		seen[at] = true
		if p.Space != "local" && p.Space != "global" {
			t.Errorf("%s: space is %q", p.Subnet, p.Space)
		}
		if !p.Subnet.IsValid() || p.Subnet != p.Subnet.Masked() {
			t.Errorf("subnet is %s", p.Subnet)
		}
		if p.Router.IsValid() && !p.Subnet.Contains(p.Router) {
			t.Errorf("%s: router %s is outside", p.Subnet, p.Router)
		}
		for i, h := range p.Held {
			if !p.Subnet.Contains(h.Address) {
				t.Errorf("%s: %s is held outside", p.Subnet, h.Address)
			}
			if i > 0 && !p.Held[i-1].Address.Less(h.Address) {
				t.Errorf("%s: %s comes after %s", p.Subnet, h.Address, p.Held[i-1].Address)
			}
			if h.Kind == "" {
				t.Errorf("%s: %s has no kind", p.Subnet, h.Address)
			}
		}
		checkRanges(t, p, p.Ranges)
		checkRanges(t, p, p.HostRanges)
		for _, a := range p.Ranges {
			for _, b := range p.HostRanges {
				if a.Overlaps(b) {
					t.Errorf("%s: %s is for containers and %s for hosts", p.Subnet, a, b)
				}
			}
		}
	}
}

func checkRanges(t failer, p legacy.Pool, list []netipx.IPRange) {
	t.Helper()
	for i, r := range list {
		if !r.IsValid() || !p.Subnet.Contains(r.From()) || !p.Subnet.Contains(r.To()) {
			t.Errorf("%s: range %s is outside", p.Subnet, r)
		}
		if i > 0 && !list[i-1].To().Less(r.From()) {
			t.Errorf("%s: range %s comes after %s", p.Subnet, r, list[i-1])
		}
		if p.Router.IsValid() && r.Contains(p.Router) {
			t.Errorf("%s: router %s is in %s", p.Subnet, p.Router, r)
		}
	}
}
