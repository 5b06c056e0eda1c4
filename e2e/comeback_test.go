// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/lab"
)

// TestComesBack takes a host over whose daemon is stopped and whose containers run on. It
// comes back, and its networks and what nobody has taken meanwhile are its own again; what
// another has stays the other's, and is told as a conflict.
func TestComesBack(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	store := []string{"--cluster-store", etcdtest.Start(t).Endpoint()}
	a, b := startReconciling(t, l, "a", store...), startReconciling(t, l, "b", store...)
	for _, s := range []*site{a, b} {
		s.create(t, "web", "--subnet", "10.50.0.0/24", "--gateway", "10.50.0.1", "--ipam-opt", "pool=web")
	}
	a.create(t, "alone", "--subnet", "10.51.0.0/24") // its pool goes with it
	a.run(t, "heirless", "web")
	a.run(t, "robbed", "web")
	a.run(t, "own", "alone")
	kept, _ := a.addresses(t, "heirless", "web")
	lost, _ := a.addresses(t, "robbed", "web")
	own, _ := a.addresses(t, "own", "alone")

	if err := a.daemon.Pause(); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of its lease", func() (bool, error) { return !hostOf(t, b, "a").Alive, nil })
	if o := b.ipamlog(t, "reclaim", "--host", "a", "--yes"); o.status != 0 || !strings.Contains(o.stdout, "host a is taken over") {
		t.Fatalf("%+v", o)
	}
	b.MustDocker(t, "run", "-d", "--name", "heir", "--network", "web", "--ip", lost.String(), lab.Image)
	if err := a.daemon.Continue(); err != nil {
		t.Fatal(err)
	}

	await(t, "the conflict", func() (bool, error) {
		for _, e := range b.events(t) {
			if e.Type == "address.conflicted" && e.Address == lost.String() && e.Host == "a" && e.Container == "robbed" {
				return true, nil
			}
		}
		return false, nil
	})
	a.MustDocker(t, "rm", "-f", "robbed")
	heals(t, a, "its own take-over")
	for container, address := range map[string]netip.Addr{"heirless": kept, "own": own} {
		await(t, container+" to hold its address", func() (bool, error) {
			return slices.ContainsFunc(heldBy(t, a, container), func(x attributed) bool { return x.To == nil && x.Address == address }), nil
		})
	}
	if list := heldBy(t, b, "heir"); len(list) != 1 || list[0].To != nil {
		t.Errorf("the heir held %+v", list)
	}
	// Docker goes on with the PoolIDs that it has.
	a.run(t, "anew", "web")
	a.MustDocker(t, "rm", "-f", "own")
	a.MustDocker(t, "network", "rm", "alone")
	heals(t, a, "what followed")
	agree(t, a, b)
}
