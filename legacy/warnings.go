// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"fmt"
	"net/netip"
	"strings"

	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/events"
)

// A damaged store can have thousands of damaged keys; a warning names a few.
const named = 6

// warnings gathers sentences in the order in which things were found, which is
// the same for the same dump.
type warnings struct {
	list []string
}

func (w *warnings) add(format string, args ...any) {
	w.list = append(w.list, fmt.Sprintf(format, args...))
}

// about says something of addresses of a subnet, and nothing where there are none.
func (w *warnings) about(subnet netip.Prefix, what string, addresses *netipx.IPSet) {
	if list := spelled(addresses); len(list) > 0 {
		w.add("%s: %s: %s", subnet, what, some(list))
	}
}

// spelled writes ranges as people do.
func spelled(addresses *netipx.IPSet) []string {
	var list []string
	for _, r := range addresses.Ranges() {
		list = append(list, events.FormatRange(r))
	}
	return list
}

// some joins the first few.
func some(list []string) string {
	if len(list) > named {
		return strings.Join(list[:named], ", ") + fmt.Sprintf(" and %d more", len(list)-named)
	}
	return strings.Join(list, ", ")
}

// overlaps warns of pools of one space that share addresses. The pools are
// sorted.
func (w *warnings) overlaps(pools []Pool) {
	for i, a := range pools {
		for _, b := range pools[i+1:] {
			if b.Space != a.Space || b.Name != a.Name || !a.Subnet.Contains(b.Subnet.Addr()) {
				break // none of those that follow starts within it either
			}
			w.add("%s and %s overlap, and each would give out addresses of the other: correct the mask that is wrong, or leave one out with --leave-out %s", a.Subnet, b.Subnet, b.InSpace())
		}
	}
}
