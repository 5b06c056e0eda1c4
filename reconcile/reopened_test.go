// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"maps"
	"net/netip"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/reconcile"
)

// TestReopened: Docker asks through a network that the store does not know, being older
// than it. Nothing is given out on it before what its containers use is allocated again.
func TestReopened(t *testing.T) {
	b := newBed(t, reconcile.Fix)
	used := netip.MustParseAddr("10.2.0.2")
	n := network("later", used.String())
	n.IPAM.Pools[0].Subnet = netip.MustParsePrefix("10.2.0.0/24")
	n.IPAM.Pools[0].Auxiliary = map[string]netip.Addr{"printer": netip.MustParseAddr("10.2.0.9")}
	b.engine.change(func() { b.engine.networks = []engine.Network{network("n"), n} })
	later := actor.Ref{Space: events.Local, Pool: b.log.Clock.NewID(), Grant: b.log.Clock.NewID(), Host: "h1", Subnet: n.IPAM.Pools[0].Subnet}

	// The one that opens the grant again asks for the very address.
	ask := actor.AddressRequest{Asking: actor.AskEndpoint, MAC: events.MAC{2, 0, 0, 0, 0, 9}, Address: used}
	if _, err := b.host.RequestAddress(t.Context(), later, ask); !errors.Is(err, actor.ErrUnlooked) {
		t.Fatalf("the first ask: %v", err)
	}
	eventually(t, "the look", func() bool {
		_, err := b.host.RequestAddress(t.Context(), later, ask)
		if errors.Is(err, actor.ErrUnlooked) {
			return false
		}
		if !errors.Is(err, actor.ErrInUse) {
			t.Errorf("after the look: %v", err)
		}
		return true
	})
	kinds := map[netip.Addr]events.Kind{}
	standing, err := b.host.Standing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range standing {
		for _, h := range s.Holdings {
			if h.Grant == later.Grant {
				kinds[h.Address] = h.Kind
			}
		}
	}
	want := map[netip.Addr]events.Kind{
		netip.MustParseAddr("10.2.0.1"): events.Gateway, used: events.Endpoint, netip.MustParseAddr("10.2.0.9"): events.Auxiliary,
	}
	if !maps.Equal(kinds, want) {
		t.Errorf("held: %v, want %v", kinds, want)
	}
	if n := b.said.count("allocated: the engine uses an address that nobody held"); n != 1 {
		t.Errorf("allocated %d addresses", n)
	}
}

// TestReopened_unlooked: where nobody looks, nobody waits.
func TestReopened_unlooked(t *testing.T) {
	b := newBed(t, reconcile.Report)
	later := actor.Ref{
		Space: events.Local, Pool: b.log.Clock.NewID(), Grant: b.log.Clock.NewID(), Host: "h1", Subnet: netip.MustParsePrefix("10.2.0.0/24"),
	}
	if _, err := b.host.RequestAddress(t.Context(), later, actor.AddressRequest{Asking: actor.AskEndpoint, MAC: events.MAC{2, 0, 0, 0, 0, 9}}); err != nil {
		t.Error(err)
	}
}
