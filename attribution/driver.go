// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"net/netip"
	"slices"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/engine"
)

// Driver is what the engine calls us, as the IPAM driver of its networks. Empty:
// whatever is not Docker's own is ours.
type Driver string

// Ours says whether a network's addresses are ours to give.
func (d Driver) Ours(n engine.Network) bool {
	if n.ConfigOnly {
		return false // nothing is asked for it
	}
	if d != "" {
		return n.IPAM.Driver == string(d)
	}
	return !slices.Contains([]string{"", "default", "null", "none", "windows"}, n.IPAM.Driver)
}

// Fits says whether a network can be of a holding's pool.
func (d Driver) Fits(n engine.Network, h actor.Holding) bool {
	if !d.Ours(n) || h.Pool.Node == "" && n.IPAM.Options["pool"] != h.Pool.Name {
		return false // a mirror has no name, whatever its network's options are
	}
	return slices.ContainsFunc(n.IPAM.Pools, func(p engine.Pool) bool { return is(p.Subnet, h.Pool.Subnet) })
}

// is says whether a network's subnet, as the engine tells it, can be a pool's. Engines
// from 29 on that were asked for any subnet of a length tell that, and not the one they
// got.
func is(told, subnet netip.Prefix) bool {
	anyOf := told.Addr().IsUnspecified() && told.Bits() == subnet.Bits() && told.Addr().Is4() == subnet.Addr().Is4()
	return told.Masked() == subnet || anyOf
}

// Granted says whether a network can be that of a holding's grant.
func (d Driver) Granted(n engine.Network, h actor.Holding) bool {
	return d.Fits(n, h) && slices.ContainsFunc(n.IPAM.Pools, func(p engine.Pool) bool {
		return is(p.Subnet, h.Pool.Subnet) && (h.Pool.Node != "" || p.Range.Masked() == h.Range.Masked())
	})
}
