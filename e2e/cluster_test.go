// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"sync"
	"testing"

	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/lab"
)

// TestTwoHosts shares one pool between two hosts on one cluster, each of which
// names the same router as its gateway.
func TestTwoHosts(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	store := []string{"--cluster-store", etcdtest.Start(t).Endpoint()}
	sites := []*site{newSite(t, l, "a", store...), newSite(t, l, "b", store...)}
	var hosts []*lab.Host
	for _, s := range sites {
		s.start(t)
		hosts = append(hosts, s.Host)
	}
	lab.StartEngines(t, hosts...)

	sites[0].create(t, "web", "--subnet", "10.50.0.0/24", "--gateway", "10.50.0.1", "--ipam-opt", "pool=web")
	sites[1].create(t, "web", "--gateway", "10.50.0.1", "--subnet", "10.50.0.0/24", "--ipam-opt", "pool=web")
	agree(t, sites...)

	const each = 20
	var running sync.WaitGroup
	for _, s := range sites {
		for i := range each {
			running.Go(func() {
				if _, err := s.Docker("run", "-d", "--name", fmt.Sprintf("c%d", i), "--network", "web", lab.Image); err != nil {
					t.Error(err)
				}
			})
		}
	}
	running.Wait()
	sound(t, sites...)
	used := agree(t, sites...)
	if want := len(sites) * (each + 1); len(used) != want {
		t.Errorf("%d addresses are in use, want %d", len(used), want)
	}

	t.Run("what one has the other cannot", func(t *testing.T) {
		address, _ := sites[0].addresses(t, "c0", "web")
		sites[1].refused(t, []string{"already in use", address.String(), "host a"},
			"run", "-d", "--name", "greedy", "--network", "web", "--ip", address.String(), lab.Image)
	})
	t.Run("one leaves", func(t *testing.T) {
		sites[1].removeAll(t)
		sites[1].MustDocker(t, "network", "rm", "web")
		agree(t, sites...)
	})
	t.Run("joining by the name alone", func(t *testing.T) {
		sites[1].create(t, "web", "--ipam-opt", "pool=web")
		sites[1].run(t, "again", "web")
		agree(t, sites...)
	})
	t.Run("both leave", func(t *testing.T) {
		for _, s := range sites {
			s.removeAll(t)
			s.MustDocker(t, "network", "rm", "web")
		}
		if left := agree(t, sites...); len(left) > 0 {
			t.Errorf("all is removed, and still in use are %+v", left)
		}
	})
}
