// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ipamlog/ipamlog/lab"
)

// create makes a network of ours.
func (s *site) create(t *testing.T, name string, options ...string) {
	t.Helper()
	s.MustDocker(t, slices.Concat([]string{"network", "create", "--ipam-driver", driver}, options, []string{name})...)
}

// run starts a container that does nothing.
func (s *site) run(t *testing.T, name, network string, options ...string) {
	t.Helper()
	s.MustDocker(t, slices.Concat([]string{"run", "-d", "--name", name, "--network", network}, options, []string{lab.Image})...)
}

// addresses of a container on a network.
func (s *site) addresses(t *testing.T, container, network string) (v4, v6 netip.Addr) {
	t.Helper()
	c, err := s.Container(container)
	if err != nil {
		t.Fatal(err)
	}
	n, ok := c.NetworkSettings.Networks[network]
	if !ok {
		t.Fatalf("container %s is not on network %s", container, network)
	}
	return n.IPAddress, n.GlobalIPv6Address
}

func (s *site) ping(t *testing.T, from string, to netip.Addr) {
	t.Helper()
	s.MustDocker(t, "exec", from, "ping", "-c1", "-W5", to.String())
}

// refused fails the test unless docker refuses a command, with all these words.
func (s *site) refused(t *testing.T, words []string, args ...string) {
	t.Helper()
	out, err := s.Docker(args...)
	if err == nil {
		t.Fatalf("docker %q succeeded: %s", args, out)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("docker %q does not say %q: %v", args, w, err)
		}
	}
}

// TestLife takes one host, as a user has it who changed nothing, through every
// kind of network and everything that happens to a container.
func TestLife(t *testing.T) {
	t.Parallel()
	a := startSite(t, lab.New(t), "a")
	s := &story{site: a}

	s.step(t, "networks", func() {
		a.create(t, "auto")
		a.create(t, "plain", "--subnet", "10.50.0.0/24")
		a.create(t, "ranged", "--subnet", "10.51.0.0/24", "--ip-range", "10.51.0.128/25", "--gateway", "10.51.0.254",
			"--aux-address", "router=10.51.0.5", "--aux-address", "printer=10.51.0.200")
		a.create(t, "dual", "--ipv6", "--subnet", "10.52.0.0/24", "--subnet", "fd00:52::/64")
		a.create(t, "web", "--subnet", "10.53.0.0/24", "--ipam-opt", "pool=web")
		a.create(t, "lan", "--driver", "macvlan", "--opt", "parent=eth0",
			"--subnet", "10.54.0.0/24", "--gateway", "10.54.0.1", "--subnet", "10.55.0.0/24", "--gateway", "10.55.0.1")
	})
	s.step(t, "networks that cannot be", func() {
		create := []string{"network", "create", "--ipam-driver", driver}
		a.refused(t, []string{"colour"}, append(create, "--ipam-opt", "colour=red", "--subnet", "10.60.0.0/24", "x")...)
		a.refused(t, []string{"overlap", "10.50.0.0/24"}, append(create, "--subnet", "10.50.0.0/16", "x")...)
		a.refused(t, []string{"web", "10.53.0.0/24", "10.60.0.0/24"}, append(create, "--subnet", "10.60.0.0/24", "--ipam-opt", "pool=web", "x")...)
		// What is granted for a network that the engine then refuses is given back.
		a.refused(t, nil, append(create, "--subnet", "10.60.0.0/24", "--subnet", "10.61.0.0/24", "x")...)
		a.refused(t, nil, append(create, "--subnet", "10.60.0.0/24", "--opt", "com.docker.network.bridge.name=eth0", "x")...)
	})
	s.step(t, "containers", func() {
		a.run(t, "c1", "plain")
		a.run(t, "c2", "plain")
		a.run(t, "c77", "plain", "--ip", "10.50.0.77")
		if v4, _ := a.addresses(t, "c77", "plain"); v4 != netip.MustParseAddr("10.50.0.77") {
			t.Errorf("c77 has %v, and asked for .77", v4)
		}
		c2, _ := a.addresses(t, "c2", "plain")
		a.ping(t, "c1", c2)
		a.ping(t, "c2", netip.MustParseAddr("10.50.0.77"))
	})
	s.step(t, "an address that is taken", func() {
		a.refused(t, []string{"10.50.0.77", "already in use"}, "run", "-d", "--name", "late", "--network", "plain", "--ip", "10.50.0.77", lab.Image)
		a.MustDocker(t, "rm", "late")
	})
	s.step(t, "containers on every network", func() {
		a.run(t, "auto1", "auto")
		a.run(t, "web1", "web")
		a.run(t, "lan1", "lan")
		a.run(t, "lan2", "lan", "--ip", "10.55.0.9")
		a.run(t, "ranged1", "ranged")
		a.run(t, "ranged2", "ranged")
		r1, _ := a.addresses(t, "ranged1", "ranged")
		r2, _ := a.addresses(t, "ranged2", "ranged")
		for _, address := range []netip.Addr{r1, r2} {
			if !netip.MustParsePrefix("10.51.0.128/25").Contains(address) {
				t.Errorf("%v is not of the network's --ip-range", address)
			}
		}
		a.ping(t, "ranged1", r2)
	})
	s.step(t, "both families", func() {
		a.run(t, "d1", "dual")
		a.run(t, "d2", "dual", "--ip", "10.52.0.99", "--ip6", "fd00:52::99")
		v4, v6 := a.addresses(t, "d2", "dual")
		if v4 != netip.MustParseAddr("10.52.0.99") || v6 != netip.MustParseAddr("fd00:52::99") {
			t.Errorf("d2 has %v and %v, and asked for others", v4, v6)
		}
		a.ping(t, "d1", v4)
		a.ping(t, "d1", v6)
		v4, v6 = a.addresses(t, "d1", "dual")
		a.ping(t, "d2", v4)
		a.ping(t, "d2", v6)
	})
	s.step(t, "stop", func() { a.MustDocker(t, "stop", "c1", "c77", "d1") })
	s.step(t, "start", func() {
		a.MustDocker(t, "start", "c77", "c1", "d1")
		c77, _ := a.addresses(t, "c77", "plain")
		a.ping(t, "c1", c77)
	})
	s.step(t, "restart", func() { a.MustDocker(t, "restart", "c2", "c77", "d2") })
	s.step(t, "connect", func() {
		a.MustDocker(t, "network", "connect", "web", "c1")
		a.MustDocker(t, "network", "connect", "--ip", "10.52.0.12", "dual", "c1")
		web1, _ := a.addresses(t, "web1", "web")
		a.ping(t, "c1", web1)
	})
	s.step(t, "disconnect", func() { a.MustDocker(t, "network", "disconnect", "web", "c1") })
	s.step(t, "connect while stopped", func() {
		a.MustDocker(t, "stop", "c2")
		a.MustDocker(t, "network", "connect", "web", "c2")
	})
	s.step(t, "start on two networks", func() { a.MustDocker(t, "start", "c2") })
	s.step(t, "a container that ends by itself", func() {
		a.MustDocker(t, "run", "--name", "short", "--network", "plain", lab.Image, "true")
	})
	s.step(t, "rm -f", func() { a.MustDocker(t, "rm", "-f", "c1", "c2", "c77", "web1", "auto1", "short") })
	s.step(t, "network rm", func() { a.MustDocker(t, "network", "rm", "plain", "web", "auto") })
	s.step(t, "the same network again", func() {
		a.create(t, "plain", "--subnet", "10.50.0.0/24", "--gateway", "10.50.0.9")
		a.run(t, "c1", "plain")
	})
	s.step(t, "the end", func() {
		a.MustDocker(t, "rm", "-f", "c1", "lan1", "lan2", "ranged1", "ranged2", "d1", "d2")
		a.MustDocker(t, "network", "prune", "-f")
	})
	if left := s.steps[len(s.steps)-1].used; len(left) > 0 {
		t.Errorf("all is removed, and still in use are %+v", left)
	}
	s.told(t)
	if log, err := os.ReadFile(a.logFile("dockerd")); err != nil || bytes.Contains(log, []byte("Unable to connect to plugin")) {
		t.Errorf("the engine could not reach a daemon that was never down (%v)", err)
	}
}
