// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"net/netip"

	"github.com/cockroachdb/errors"
	"go4.org/netipx"
)

// parseAddr takes an address as stores and engines write it.
func parseAddr(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, errors.Newf("%q is no address", text)
	}
	if a.Zone() != "" {
		return netip.Addr{}, errors.Newf("%q has a zone, which a pool's address cannot have", text)
	}
	return a.Unmap(), nil
}

// parseSubnet takes a subnet with or without bits beyond its length.
func parseSubnet(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, errors.Newf("%q is no subnet", text)
	}
	return p.Masked(), nil
}

// ends are the addresses that no container may have for what they mean to the
// network: the first, and with IPv4 the last. Where a subnet has one or two
// addresses, they mean nothing special.
func ends(subnet netip.Prefix) *netipx.IPSet {
	if subnet.Addr().BitLen()-subnet.Bits() < 2 {
		return setOf()
	}
	if subnet.Addr().Is6() {
		return setOf(subnet.Addr())
	}
	return setOf(subnet.Addr(), netipx.PrefixLastIP(subnet))
}

// setOf joins addresses to ranges; those that are not valid are none.
func setOf(addresses ...netip.Addr) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, a := range addresses {
		if a.IsValid() {
			b.Add(a)
		}
	}
	return built(&b)
}

func union(sets ...*netipx.IPSet) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, s := range sets {
		b.AddSet(s)
	}
	return built(&b)
}

func common(a, b *netipx.IPSet) *netipx.IPSet {
	var both netipx.IPSetBuilder
	both.AddSet(a)
	both.Intersect(b)
	return built(&both)
}

func without(a *netipx.IPSet, others ...*netipx.IPSet) *netipx.IPSet {
	var b netipx.IPSetBuilder
	b.AddSet(a)
	for _, s := range others {
		b.RemoveSet(s)
	}
	return built(&b)
}

func built(b *netipx.IPSetBuilder) *netipx.IPSet {
	set, err := b.IPSet()
	if err != nil {
		panic(err) // an address that is not valid was added, which no caller does
	}
	return set
}
