// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/vishvananda/netlink"

	"github.com/ipamlog/ipamlog/events"
)

// ErrNoSubnet is returned when every subnet of the default address pools is in
// use.
var ErrNoSubnet = errors.New("all predefined address pools have been fully subnetted")

// ErrOnHost is returned for a pool that was named without its subnet, which
// Docker does not take while the host has an address or a route in it.
var ErrOnHost = errors.New("docker wants the subnet of this pool to be named")

// Block is a stretch of addresses, and the length of the subnets cut from it for
// pools whose creator names none.
type Block struct {
	Base netip.Prefix
	Bits int
}

// DefaultBlocks are those of a daemon that was told of none: 10.0.0.0/8 by /24,
// and a unique local /48 (RFC 4193) of the store's own by /64.
func DefaultBlocks(store events.ID) []Block {
	ula := [16]byte{0: 0xfd}
	copy(ula[1:6], store[11:16]) // the random part's end
	return []Block{
		{netip.MustParsePrefix("10.0.0.0/8"), 24},
		{netip.PrefixFrom(netip.AddrFrom16(ula), 48), 64},
	}
}

// HostRoutes lists what a subnet of our choice must pass over because Docker
// would not take it: the networks this host has routes to, the default routes
// left out, and its name servers.
func HostRoutes() ([]netip.Prefix, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, errors.Wrap(err, "list the host's routes")
	}
	var prefixes []netip.Prefix
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		addr, ok := netip.AddrFromSlice(r.Dst.IP)
		ones, _ := r.Dst.Mask.Size()
		if ok && ones > 0 {
			prefixes = append(prefixes, netip.PrefixFrom(addr.Unmap(), ones).Masked())
		}
	}
	servers, err := nameServers("/etc/resolv.conf")
	return append(prefixes, servers...), err
}

// nameServers reads the servers of a resolv.conf(5). None is no error.
func nameServers(path string) ([]netip.Prefix, error) {
	raw, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, errors.Wrap(err, "read the host's name servers")
	}
	var servers []netip.Prefix
	for line := range strings.Lines(string(raw)) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(words[1]); err == nil {
			addr = addr.WithZone("").Unmap()
			servers = append(servers, netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	return servers, nil
}

// freeSubnet cuts the first subnet of a family from the blocks that overlaps
// nothing in taken. bits, if not 0, is the length it must have.
func freeSubnet(blocks []Block, v6 bool, bits int, taken []netip.Prefix) (netip.Prefix, error) {
	for _, b := range blocks {
		length := b.Bits
		if bits != 0 {
			length = bits
		}
		if b.Base.Addr().Is6() != v6 || length < b.Base.Bits() {
			continue
		}
		candidate := netip.PrefixFrom(b.Base.Addr(), length)
		for b.Base.Contains(candidate.Addr()) {
			i := slices.IndexFunc(taken, candidate.Overlaps)
			if i < 0 {
				return candidate, nil
			}
			// On behind the wider of the two.
			end := lastOf(candidate)
			if taken[i].Bits() < length {
				end = lastOf(taken[i])
			}
			next := end.Next()
			if !next.IsValid() {
				break
			}
			candidate = netip.PrefixFrom(next, length)
		}
	}
	family := "IPv4"
	if v6 {
		family = "IPv6"
	}
	if bits != 0 {
		return netip.Prefix{}, errors.Wrapf(ErrNoSubnet, "no %s subnet of length /%d is left", family, bits)
	}
	return netip.Prefix{}, errors.Wrapf(ErrNoSubnet, "no %s subnet is left", family)
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	raw := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < 8*len(raw); i++ {
		raw[i/8] |= 0x80 >> (i % 8)
	}
	addr, _ := netip.AddrFromSlice(raw)
	return addr
}
