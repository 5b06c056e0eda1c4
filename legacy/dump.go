// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"cmp"
	"net/netip"
	"slices"

	"go4.org/netipx"
)

// What a dump can be of, in [Dump.Source].
const (
	OAM     = "oam-docker-ipam"
	Skylark = "skylark"
	July    = "july"
	Swan    = "swan"
	KVIPAM  = "kvipamdriver"
	Docker  = "docker"
)

// Dump is what was read.
type Dump struct {
	// Source is the program that stored it, one of the constants above.
	Source string
	// Pools are sorted by space, name and subnet, and are different in these.
	// Their subnets may overlap; a warning says so.
	Pools []Pool
	// Warnings are sentences about what was left out, and what was taken the safe
	// way. They name addresses or keys.
	Warnings []string
}

// Pool is a subnet and what is known of its addresses. All of them lie in it.
type Pool struct {
	// Name is empty for a pool that is known by its subnet.
	Name string
	// Space is "local" or "global".
	Space string
	// Subnet has no bits beyond its length.
	Subnet netip.Prefix
	// Ranges are what containers get on their own, sorted and apart. None means the
	// whole subnet, less the host ranges and the router.
	Ranges []netipx.IPRange
	// HostRanges are for the hosts' own bridges, sorted and apart, and have no
	// address in common with Ranges.
	HostRanges []netipx.IPRange
	// Router is the gateway all hosts share; invalid where it is not known.
	Router netip.Addr
	// Held is sorted by address and has none twice. Held addresses may lie beside
	// the ranges.
	Held []Holding
}

// InSpace is the pool's subnet with its space before it, as --leave-out takes it:
// "local/10.1.0.0/16".
func (p Pool) InSpace() string { return p.Space + "/" + p.Subnet.String() }

// Kind says what holds an address.
type Kind string

// The kinds of holders, in the words ipamlog answers with.
const (
	Endpoint  Kind = "endpoint"
	Gateway   Kind = "gateway"
	Auxiliary Kind = "auxiliary"
	Host      Kind = "host"
)

// Holding is one address and who holds it. What the store did not say is empty.
type Holding struct {
	Address netip.Addr
	Kind    Kind
	// Host is the name of the Docker host.
	Host string
	// Endpoint is a container's name, or an auxiliary address's.
	Endpoint string
	// MAC is in lower case with colons.
	MAC string
	// Note is what else was known, for people.
	Note string
}

// holdings has one holder for each address.
type holdings map[netip.Addr]Holding

func (held holdings) sorted() []Holding {
	list := make([]Holding, 0, len(held))
	for _, h := range held {
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b Holding) int { return a.Address.Compare(b.Address) })
	return list
}

func sortPools(pools []Pool) {
	slices.SortFunc(pools, func(a, b Pool) int {
		return cmp.Or(
			cmp.Compare(a.Space, b.Space),
			cmp.Compare(a.Name, b.Name),
			a.Subnet.Compare(b.Subnet))
	})
}
