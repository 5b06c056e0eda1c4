// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
)

// Range is a stretch of addresses of a subnet.
type Range struct {
	netipx.IPRange
	Subnet netip.Prefix
}

// ParseRange reads both ends of a range, each written with the length of its
// subnet, such as 10.0.0.10/24. It returns an [ErrInvalid] for ends that are none,
// or of different subnets, or the wrong way round, and for a range with the
// network or broadcast address in it, or IPv6's subnet-router anycast address.
func ParseRange(start, end string) (Range, error) {
	first, err := parseEnd("--ip-start", start)
	if err != nil {
		return Range{}, err
	}
	last, err := parseEnd("--ip-end", end)
	if err != nil {
		return Range{}, err
	}
	subnet := projection.NewSubnet(first)
	switch {
	case first.Addr().Is4() != last.Addr().Is4():
		return Range{}, invalid("--ip-start %s and --ip-end %s are of different families: write both as IPv4 or both as IPv6", first, last)
	case first.Bits() != last.Bits():
		return Range{}, invalid("--ip-start %s and --ip-end %s have subnets of different lengths: write both with the length that the subnet has", first, last)
	case first.Masked() != last.Masked():
		return Range{}, invalid("--ip-start %s is of %s and --ip-end %s of %s: a range lies in one subnet", first.Addr(), first.Masked(), last.Addr(), last.Masked())
	case last.Addr().Less(first.Addr()):
		return Range{}, invalid("the range ends before it begins: write --ip-start %s --ip-end %s", last, first)
	}
	if subnet.Usable().Sign() == 0 {
		return Range{}, invalid("%s has no address that anybody could get: write the length that the subnet has, such as %s/%d", subnet.Prefix(), first.Addr(), usualLength(first.Addr()))
	}
	for _, a := range []netip.Addr{first.Addr(), last.Addr()} {
		if subnet.Reserved(a) {
			return Range{}, invalid("%s is %s of %s, which nobody can have: leave it out of the range", a, nobodys(a), subnet.Prefix())
		}
	}
	return Range{netipx.IPRangeFrom(first.Addr(), last.Addr()), subnet.Prefix()}, nil
}

func parseEnd(flag, text string) (netip.Prefix, error) {
	text = strings.TrimSpace(text)
	p, err := netip.ParsePrefix(text)
	switch {
	case err == nil && (p.Addr().IsLoopback() || p.Addr().IsMulticast()):
		return netip.Prefix{}, invalid("%s %s is an address that nobody can have on a network: use one such as 10.0.0.10/24", flag, text)
	case err == nil && !p.Addr().Is4In6():
		return p, nil
	}
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" && !a.Is4In6() {
		return netip.Prefix{}, invalid("%s %s lacks the length of its subnet: write it as %s/%d", flag, text, text, usualLength(a))
	}
	return netip.Prefix{}, invalid("%s %q is no address with the length of its subnet, such as 10.0.0.10/24", flag, text)
}

// nobodys says what an address is that its subnet gives to nobody.
func nobodys(a netip.Addr) string {
	if a.Is6() {
		return "the subnet-router anycast address"
	}
	return "the network or broadcast address"
}

func usualLength(a netip.Addr) int {
	if a.Is4() {
		return 24
	}
	return 64
}

func invalid(format string, args ...any) error {
	return errors.Mark(errors.Newf(format, args...), ErrInvalid)
}

// add joins a range to a list.
func add(list []netipx.IPRange, more ...netipx.IPRange) []netipx.IPRange {
	return events.Normalize(slices.Concat(list, more))
}

// without takes a range out of a list.
func without(list []netipx.IPRange, r netipx.IPRange) ([]netipx.IPRange, error) {
	var b netipx.IPSetBuilder
	for _, each := range list {
		b.AddRange(each)
	}
	b.RemoveRange(r)
	set, err := b.IPSet()
	return set.Ranges(), errors.Wrap(err, "take a range away")
}

// meeting is the first range of a list that has an address in common with another.
func meeting(list []netipx.IPRange, r netipx.IPRange) (netipx.IPRange, bool) {
	i := slices.IndexFunc(list, r.Overlaps)
	if i < 0 {
		return netipx.IPRange{}, false
	}
	return list[i], true
}

// listed writes ranges as people read them.
func listed(list []netipx.IPRange) string { return events.FormatRanges(list, ", ") }
