// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/reconcile"
)

// restored is a host in whose store anything may be missing.
type restored struct {
	*actor.Host
	all bool
}

func (r restored) Unlooked() actor.Unlooked { return actor.Unlooked{All: r.all} }

// TestRestored: in a store that lacks what the engine uses, all of it is allocated by
// the end of the first look; in any other it is looked at twice.
func TestRestored(t *testing.T) {
	b := newBed(t, reconcile.Report)
	used := []netip.Addr{netip.MustParseAddr("10.1.0.7"), netip.MustParseAddr("10.1.0.8")}
	b.engine.change(func() { b.engine.networks = []engine.Network{network("n", used[0].String(), used[1].String())} })
	for _, all := range []bool{false, true} {
		b.run(restored{Host: b.host, all: all}, time.Hour, func(r *reconcile.Reconciler) { <-r.Looked() })
		for _, a := range used {
			if held := b.held(a); (len(held) == 1) != all {
				t.Errorf("a restored store: %t; after the look %s is held by %+v", all, a, held)
			}
		}
	}
}

// TestUnreached: while no engine answers, or another than the one that asks, an address
// on a network that was lost is refused, and it is said why; also by the next daemon.
func TestUnreached(t *testing.T) {
	b := newBed(t, reconcile.Fix)
	b.engine.change(func() { b.engine.silent = errors.New("there is no Docker at unix:///none.sock") })
	later := actor.Ref{
		Space: events.Local, Pool: b.log.Clock.NewID(), Grant: b.log.Clock.NewID(), Host: "h1", Subnet: netip.MustParsePrefix("10.2.0.0/24"),
	}
	says := func(words string) {
		t.Helper()
		var err error
		eventually(t, words, func() bool {
			_, err = b.host.RequestAddress(t.Context(), later, actor.AddressRequest{Asking: actor.AskEndpoint, MAC: events.MAC{2, 0, 0, 0, 0, 9}})
			if err == nil || !errors.Is(err, actor.ErrUnlooked) {
				t.Fatalf("instead of %q: %v", words, err)
			}
			return strings.Contains(err.Error(), words)
		})
	}
	says("there is no Docker at unix:///none.sock")
	b.engine.change(func() { b.engine.silent = nil }) // it has another network only
	says("another engine than the one that asks")
	b.engine.lookedAt(t, 3)
	says("another engine than the one that asks")

	b.engine.change(func() { b.engine.silent = errors.New("nobody is in") })
	left := b.host.Unlooked()
	b.stop()
	b.left = left.Grants
	b.start()
	says("nobody is in")
	n := network("later", "10.2.0.2")
	n.IPAM.Pools[0].Subnet = later.Subnet
	b.engine.change(func() { b.engine.silent, b.engine.networks = nil, append(b.engine.networks, n) })
	eventually(t, "an address", func() bool {
		a, err := b.host.RequestAddress(t.Context(), later, actor.AddressRequest{Asking: actor.AskEndpoint, MAC: events.MAC{2, 0, 0, 0, 0, 9}})
		return err == nil && a.Address.String() != "10.2.0.2"
	})
}
