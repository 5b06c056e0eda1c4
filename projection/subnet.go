// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"encoding/binary"
	"math/big"
	"net/netip"
	"slices"
)

// Subnet maps the addresses of a pool to offsets, and knows those that are never
// given out: network and broadcast address of an IPv4 subnet up to /30, the
// subnet-router anycast address (the first) of an IPv6 one, as Docker's own IPAM
// has it. A /31 (RFC 3021) and a /32 have neither.
type Subnet struct {
	prefix netip.Prefix
}

// NewSubnet returns the subnet of a prefix; host bits are masked off.
func NewSubnet(prefix netip.Prefix) Subnet { return Subnet{prefix.Masked()} }

// Prefix is the subnet in CIDR form.
func (s Subnet) Prefix() netip.Prefix { return s.prefix }

func (s Subnet) hostBits() int { return s.prefix.Addr().BitLen() - s.prefix.Bits() }

// Offsets is how many addresses, from the first on, have an offset: all, but for
// IPv6 subnets wider than 63 host bits the first 2^63. Addresses past that can be
// asked for by name, but are never picked.
func (s Subnet) Offsets() uint64 { return 1 << min(s.hostBits(), 63) }

// Size is the number of addresses, reserved ones included.
func (s Subnet) Size() *big.Int { return new(big.Int).Lsh(big.NewInt(1), uint(s.hostBits())) }

// Usable is the number of addresses that can be held.
func (s Subnet) Usable() *big.Int {
	return new(big.Int).Sub(s.Size(), big.NewInt(int64(len(s.reserved()))))
}

// Contains says whether an address belongs to the subnet.
func (s Subnet) Contains(a netip.Addr) bool { return s.prefix.Contains(a) }

// Reserved says whether an address of the subnet is never given out.
func (s Subnet) Reserved(a netip.Addr) bool {
	return slices.Contains(s.reserved(), a)
}

func (s Subnet) reserved() []netip.Addr {
	first := s.prefix.Addr()
	switch {
	case first.Is6():
		return []netip.Addr{first}
	case s.hostBits() <= 1:
		return nil
	}
	return []netip.Addr{first, s.Addr(s.Offsets() - 1)}
}

// Offset is the place of an address in the subnet; false for one outside, and
// for one past [Subnet.Offsets].
func (s Subnet) Offset(a netip.Addr) (uint64, bool) {
	if !s.prefix.Contains(a) {
		return 0, false
	}
	hi, lo := split(a)
	baseHi, baseLo := split(s.prefix.Addr())
	if hi != baseHi || lo-baseLo >= s.Offsets() {
		return 0, false
	}
	return lo - baseLo, true
}

// Addr is the address at an offset, which must be below [Subnet.Offsets].
func (s Subnet) Addr(offset uint64) netip.Addr {
	hi, lo := split(s.prefix.Addr())
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], hi)
	binary.BigEndian.PutUint64(b[8:], lo+offset)
	if s.prefix.Addr().Is4() {
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return netip.AddrFrom16(b)
}

// Interval is the first and the last offset of a range within the subnet; the
// zero range means all of it. False if the range has no offset at all.
func (s Subnet) Interval(within netip.Prefix) (first, last uint64, ok bool) {
	if !within.IsValid() {
		return 0, s.Offsets() - 1, true
	}
	first, ok = s.Offset(within.Masked().Addr())
	if !ok {
		return 0, 0, false
	}
	length := NewSubnet(within).Offsets()
	return first, min(first+(length-1), s.Offsets()-1), true
}

func split(a netip.Addr) (hi, lo uint64) {
	if a.Is4() {
		b := a.As4()
		return 0, uint64(binary.BigEndian.Uint32(b[:]))
	}
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}
