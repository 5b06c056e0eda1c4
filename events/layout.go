// SPDX-License-Identifier: Apache-2.0

package events

import (
	"net/netip"
	"strings"

	"github.com/cockroachdb/errors"
	"go4.org/netipx"
)

// Layout is how a pool's subnet is divided. The lists are as [Normalize] makes
// them. The zero layout gives out the whole subnet.
type Layout struct {
	// Ranges are what is given out on its own; none means the whole subnet.
	// Addresses beside them can still be asked for by name.
	Ranges []netipx.IPRange `json:"ranges,omitempty"`
	// Exclude is what no endpoint gets, not even by name.
	Exclude []netipx.IPRange `json:"exclude,omitempty"`
	// HostRanges are for the hosts' own bridges, and for no container.
	HostRanges []netipx.IPRange `json:"host_ranges,omitempty"`
	// Router is the gateway that all networks of the pool share: it is given to no
	// endpoint. Zero: there is none, or it is not known yet.
	Router netip.Addr `json:"router,omitzero"`
}

// Undivided says whether the layout is the zero one.
func (l Layout) Undivided() bool {
	return len(l.Ranges) == 0 && len(l.Exclude) == 0 && len(l.HostRanges) == 0 && !l.Router.IsValid()
}

// Normalize sorts ranges by number and joins those that meet or overlap.
func Normalize(list []netipx.IPRange) []netipx.IPRange {
	var b netipx.IPSetBuilder
	for _, r := range list {
		b.AddRange(r)
	}
	set, err := b.IPSet()
	if err != nil {
		return list // an invalid range is in it, which check refuses
	}
	return set.Ranges()
}

// InRanges says whether an address lies in one of the ranges.
func InRanges(list []netipx.IPRange, a netip.Addr) bool {
	for _, r := range list {
		if r.Contains(a) {
			return true
		}
	}
	return false
}

// FormatRange writes a range as people and options do: A-B, or one address alone.
func FormatRange(r netipx.IPRange) string {
	if r.From() == r.To() {
		return r.From().String()
	}
	return r.String()
}

// FormatRanges writes a list of them, with a text between two.
func FormatRanges(list []netipx.IPRange, between string) string {
	texts := make([]string, 0, len(list))
	for _, r := range list {
		texts = append(texts, FormatRange(r))
	}
	return strings.Join(texts, between)
}

// check refuses what is not within the subnet, and lists that are not sorted and
// apart. A subnet that is not valid is not known.
func (l Layout) check(subnet netip.Prefix) error {
	for _, list := range [][]netipx.IPRange{l.Ranges, l.Exclude, l.HostRanges} {
		for i, r := range list {
			switch {
			case !r.IsValid():
				return errors.Newf("%s is no range", r)
			case i > 0 && !list[i-1].To().Less(r.From()):
				return errors.Newf("ranges %s and %s are not in order, or not apart", list[i-1], r)
			case subnet.IsValid() && (!subnet.Contains(r.From()) || !subnet.Contains(r.To())):
				return errors.Newf("range %s is not in %s", r, subnet)
			}
		}
	}
	if l.Router.IsValid() {
		if subnet.IsValid() && !subnet.Contains(l.Router) {
			return errors.Newf("router %s is not in %s", l.Router, subnet)
		}
		return checkAddress(l.Router)
	}
	return nil
}
