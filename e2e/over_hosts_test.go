// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/ipamlog/ipamlog/lab"
)

// The router that all networks of these tests have in common, in both families.
const (
	router4 = "10.60.0.254"
	router6 = "fd60::fe"
)

// startNeighbours starts two hosts on one layer 2 with a router.
func startNeighbours(t *testing.T) []*site {
	t.Helper()
	l := lab.New(t)
	l.Router(netip.MustParsePrefix(router4+"/24"), netip.MustParsePrefix(router6+"/64"))
	store := []string{"--cluster-store", strings.Join(l.StartCluster(3).Endpoints(), ",")}
	var sites []*site
	var hosts []*lab.Host
	for _, name := range []string{"a", "b"} {
		s := newSite(t, l, name, store...)
		s.start(t)
		sites, hosts = append(sites, s), append(hosts, s.Host)
	}
	lab.StartEngines(t, hosts...)
	return sites
}

// contain starts a container, and returns its addresses in the network.
func (s *site) contain(t *testing.T, network, name string, options ...string) (v4, v6 netip.Addr) {
	t.Helper()
	s.run(t, name, network, options...)
	return s.addresses(t, name, network)
}

// emptied removes all on all hosts, after which nothing may be held.
func emptied(t *testing.T, sites []*site, networks ...string) {
	t.Helper()
	for _, s := range sites {
		s.removeAll(t)
		s.MustDocker(t, append([]string{"network", "rm"}, networks...)...)
	}
	if left := agree(t, sites...); len(left) > 0 {
		t.Errorf("all is removed, and still in use are %+v", left)
	}
}

// TestNetworksOverHosts has networks of each sort on two hosts that share a layer
// 2 and a router, as their users would make them.
func TestNetworksOverHosts(t *testing.T) {
	t.Parallel()
	sites := startNeighbours(t)
	a, b := sites[0], sites[1]
	router := netip.MustParseAddr(router4)

	t.Run("macvlan with both families behind one router", func(t *testing.T) {
		for _, s := range sites {
			s.create(t, "lan", "-d", "macvlan", "-o", "parent=eth0", "--ipv6",
				"--subnet", "10.60.0.0/24", "--gateway", router4, "--subnet", "fd60::/64", "--gateway", router6,
				"--aux-address", "printer=10.60.0.200", "--ipam-opt", "pool=lan")
		}
		a4, a6 := a.contain(t, "lan", "web")
		b4, b6 := b.contain(t, "lan", "web")
		a.ping(t, "web", b4)
		a.ping(t, "web", b6)
		a.ping(t, "web", router)
		a.ping(t, "web", netip.MustParseAddr(router6))
		b.ping(t, "web", a4)
		b.ping(t, "web", a6)
		b.ping(t, "web", router)
		b.ping(t, "web", netip.MustParseAddr(router6))
		agree(t, sites...)

		// The first to go takes nothing from the other.
		a.removeAll(t)
		a.MustDocker(t, "network", "rm", "lan")
		agree(t, sites...)
		if said, err := b.Docker("run", "--rm", "--network", "lan", "--ip", "10.60.0.200", lab.Image, "true"); err == nil || !strings.Contains(err.Error()+said, "auxiliary") {
			t.Errorf("the printer's address was given to a container, or not refused by name: %v", err)
		}
		a.create(t, "lan", "-d", "macvlan", "-o", "parent=eth0", "--subnet", "10.60.0.0/24", "--gateway", router4, "--ipam-opt", "pool=lan")
		a.run(t, "web", "lan")
		a.ping(t, "web", b4)
		a.ping(t, "web", router)
		emptied(t, sites, "lan")
	})

	t.Run("macvlan with a router that nobody names", func(t *testing.T) {
		options := []string{"-d", "macvlan", "-o", "parent=eth0", "--subnet", "10.61.0.0/24", "--ipam-opt", "gateway=shared", "--ipam-opt", "pool=shared"}
		for _, s := range sites {
			s.create(t, "shared", options...)
		}
		a4, _ := a.contain(t, "shared", "web")
		b.contain(t, "shared", "web")
		b.ping(t, "web", a4)
		for _, s := range sites { // the engine does not show a gateway that nobody named
			if routes := s.MustDocker(t, "exec", "web", "ip", "route"); !strings.Contains(routes, "default via 10.61.0.1 ") {
				t.Errorf("on host %s the gateway is another:\n%s", s.Name(), routes)
			}
		}
		gateways := 0
		for _, h := range ask[[]holding](t, a, "holders", "shared") {
			if h.Kind == "gateway" && h.Address == netip.MustParseAddr("10.61.0.1") {
				gateways++
			}
		}
		if gateways != 2 {
			t.Errorf("10.61.0.1 is held as a gateway %d times, want once for each host", gateways)
		}
		emptied(t, sites, "shared")
	})

	t.Run("macvlan with no way out", func(t *testing.T) {
		for _, s := range sites {
			s.create(t, "closed", "-d", "macvlan", "-o", "parent=eth0", "--subnet", "10.62.0.0/29", "--ipam-opt", "gateway=none")
		}
		a4, _ := a.contain(t, "closed", "web")
		b.contain(t, "closed", "web")
		b.ping(t, "web", a4)
		if routes := b.MustDocker(t, "exec", "web", "ip", "route"); strings.Contains(routes, "default via") {
			t.Errorf("there is a way out:\n%s", routes)
		}
		if held := ask[[]holding](t, a, "holders", "10.62.0.0/29"); len(held) != 2 {
			t.Errorf("something was set aside: %+v", held)
		}
		for _, s := range sites {
			s.removeAll(t)
			s.MustDocker(t, "network", "rm", "closed")
		}
	})

	t.Run("ranges of their own", func(t *testing.T) {
		a.create(t, "halves", "--subnet", "10.63.0.0/24", "--ip-range", "10.63.0.64/26")
		b.create(t, "halves", "--subnet", "10.63.0.0/24", "--ip-range", "10.63.0.128/26")
		a4, _ := a.contain(t, "halves", "one")
		b4, _ := b.contain(t, "halves", "one")
		if !netip.MustParsePrefix("10.63.0.64/26").Contains(a4) || !netip.MustParsePrefix("10.63.0.128/26").Contains(b4) {
			t.Errorf("a got %s, b %s", a4, b4)
		}
		agree(t, sites...)
		emptied(t, sites, "halves")
	})

	t.Run("ranges of the pool", func(t *testing.T) {
		options := []string{
			"--subnet", "10.64.0.0/24", "--ipam-opt", "pool=few", "--ipam-opt", "gateway=host",
			"--ipam-opt", "range=10.64.0.10-10.64.0.12,10.64.0.20", "--ipam-opt", "exclude=10.64.0.11,10.64.0.99",
		}
		for _, s := range sites {
			s.create(t, "few", options...)
		}
		one, _ := a.contain(t, "few", "one") // the gateways took two of three
		if want := netip.MustParseAddr("10.64.0.20"); one != want {
			t.Errorf("got %s, want %s", one, want)
		}
		for name, run := range map[string][]string{
			"No available addresses": {"run", "--rm", "--network", "few", lab.Image, "true"},
			"excluded from the pool": {"run", "--rm", "--network", "few", "--ip", "10.64.0.99", lab.Image, "true"},
			"gateway on host a":      {"run", "--rm", "--network", "few", "--ip", "10.64.0.10", lab.Image, "true"},
			"its ranges are 10.64.0.10-10.64.0.12,10.64.0.20, not 10.64.0.30": {"network", "create", "--ipam-driver", driver, "--ipam-opt", "pool=few", "--subnet", "10.64.0.0/24", "--ipam-opt", "range=10.64.0.30-10.64.0.40", "other"},
			"its gateway mode is host": {"network", "create", "--ipam-driver", driver, "--ipam-opt", "pool=few", "--subnet", "10.64.0.0/24", "--ipam-opt", "gateway=shared", "other"},
		} {
			if _, err := b.Docker(run...); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("docker %q: %v, want %q", run, err, name)
			}
		}
		if beside, _ := b.contain(t, "few", "beside", "--ip", "10.64.0.77"); beside != netip.MustParseAddr("10.64.0.77") {
			t.Errorf("beside the ranges b got %s", beside)
		}
		emptied(t, sites, "few")
	})

	t.Run("one subnet under two names", func(t *testing.T) {
		a.create(t, "red", "--subnet", "10.65.0.0/24", "--ipam-opt", "pool=red")
		b.create(t, "blue", "--subnet", "10.65.0.0/24", "--ipam-opt", "pool=blue")
		a4, _ := a.contain(t, "red", "one")
		b4, _ := b.contain(t, "blue", "one")
		if a4 != b4 {
			t.Errorf("they are not apart: %s and %s", a4, b4)
		}
		agree(t, sites...)
		a.removeAll(t)
		b.removeAll(t)
		a.MustDocker(t, "network", "rm", "red")
		b.MustDocker(t, "network", "rm", "blue")
	})

	// Through the protocol: this engine does not tell names.
	t.Run("an endpoint's own address", func(t *testing.T) {
		pools := map[*site]string{}
		for _, s := range sites {
			answer, err := s.plugin(t).call(t.Context(), "RequestPool", object{
				"AddressSpace": "ipamlog-local", "Pool": "10.66.0.0/24", "Options": object{"sticky": "name", "pick": "random"},
			})
			if err != nil {
				t.Fatal(err)
			}
			pools[s] = answer.PoolID
		}
		had := func(s *site, name string) netip.Prefix {
			t.Helper()
			answer, err := s.plugin(t).call(t.Context(), "RequestAddress", object{
				"PoolID": pools[s], "Options": object{"com.docker.network.endpoint.name": name},
			})
			if err != nil {
				t.Fatal(err)
			}
			return netip.MustParsePrefix(answer.Address)
		}
		gone := func(s *site, had netip.Prefix) {
			t.Helper()
			if _, err := s.plugin(t).call(t.Context(), "ReleaseAddress", object{"PoolID": pools[s], "Address": had.Addr()}); err != nil {
				t.Fatal(err)
			}
		}
		first := had(a, "moves")
		gone(a, first)
		had(a, "other")
		again := had(a, "moves")
		gone(a, again)
		a.stop(t)
		a.start(t)
		anew := had(a, "moves")
		gone(a, anew)
		if again != first || anew != first {
			t.Errorf("it had %s, then %s, and on a daemon started anew %s", first, again, anew)
		}
		// A daemon hears a moment later what another did. Asked before that it picks an
		// address, and that is the endpoint's own from then on.
		last := anew
		await(t, "an endpoint to have its own address on either host", func() (bool, error) {
			moved := had(b, "moves")
			gone(b, moved)
			back := had(a, "moves")
			gone(a, back)
			kept := moved == last && back == last
			last = back
			return kept, nil
		})
		for s, id := range pools {
			if _, err := s.plugin(t).call(t.Context(), "ReleasePool", object{"PoolID": id}); err != nil {
				t.Error(err)
			}
		}
		if left := agree(t, sites...); len(left) > 0 {
			t.Errorf("still in use are %+v", left)
		}
	})
}
