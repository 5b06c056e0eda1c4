// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/lab"
)

// startReconciling adds a host whose daemon reconciles.
func startReconciling(t *testing.T, l *lab.Lab, name string, store ...string) *site {
	t.Helper()
	s := newSite(t, l, name, store...).reconciles()
	s.start(t)
	lab.StartEngines(t, s.Host)
	return s
}

// heals waits until the log says again what the engine uses.
func heals(t *testing.T, s *site, what string) {
	t.Helper()
	await(t, "the healing after "+what, func() (bool, error) {
		used, networks := s.dockerSays(t)
		pools := ask[[]pool](t, s, "pools")
		var held []holding
		for _, p := range pools {
			o := s.ipamlog(t, "holders", p.ID, "-o", "json")
			if o.status != 0 {
				return false, nil // it has retired meanwhile
			}
			for _, h := range decode[[]holding](t, o.stdout) {
				if deref(h.Host) == s.Name() {
					held = append(held, h)
				}
			}
		}
		return diff(used, factsOf(held)) == "" && len(pools) == len(networks), nil
	})
	sound(t, s)
}

// ends tells why each ended holding of an address ended.
func ends(t *testing.T, s *site, address netip.Addr) string {
	t.Helper()
	var list []string
	for _, h := range ask[[]holding](t, s, "history", address.String()) {
		if h.End == nil {
			list = append(list, "held")
		} else {
			list = append(list, *h.End)
		}
	}
	return strings.Join(list, " ")
}

// event is one of the log, as far as these tests look at it.
type event struct {
	Type, Stream, Grant, Address, Host string
	Container                          string `json:"container_name"`
}

func (s *site) events(t *testing.T) []event {
	t.Helper()
	o := s.ipamlog(t, "tail", "-o", "json")
	if o.status != 0 {
		t.Fatal(o.stderr)
	}
	return decode[[]event](t, o.stdout)
}

// TestLeaks makes engines lose what they do lose, and sees it healed.
func TestLeaks(t *testing.T) {
	t.Parallel()
	a := startReconciling(t, lab.New(t), "a")
	a.create(t, "n", "--subnet", "10.50.0.0/24", "--ipam-opt", "pick=lowest")
	a.run(t, "stays", "n")
	kept, _ := a.addresses(t, "stays", "n")

	t.Run("released while the daemon was down", func(t *testing.T) {
		a.create(t, "gone", "--subnet", "10.51.0.0/24")
		a.run(t, "c1", "n")
		lost, _ := a.addresses(t, "c1", "n")
		a.kill(t)
		var removals sync.WaitGroup // each waits for the driver, 15 s
		removals.Go(func() { a.MustDocker(t, "rm", "-f", "c1") })
		removals.Go(func() { a.MustDocker(t, "network", "rm", "gone") })
		removals.Wait()
		a.start(t)
		heals(t, a, "releases that nobody heard")
		if got := ends(t, a, lost); got != "reclaimed" {
			t.Errorf("%s: %s", lost, got)
		}
	})
	t.Run("an answer that Docker never got", func(t *testing.T) {
		// As when an engine dies within a request: the address is allocated through the
		// network's own grant, and no endpoint ever has it.
		var id string
		for _, e := range a.events(t) {
			if id == "" && e.Type == "grant.opened" {
				id = fmt.Sprintf("ipamlog:local/%s/%s?host=a&subnet=10.50.0.0%%2F24", e.Stream, e.Grant)
			}
		}
		answer, err := a.plugin(t).call(t.Context(), "RequestAddress", object{
			"PoolID": id, "Options": object{"com.docker.network.endpoint.macaddress": "02:42:00:00:00:99"},
		})
		if err != nil {
			t.Fatal(err)
		}
		heals(t, a, "an answer that went astray")
		if got := ends(t, a, netip.MustParsePrefix(answer.Address).Addr()); !strings.HasSuffix(got, "reclaimed") {
			t.Errorf("%s: %s", answer.Address, got)
		}
	})
	t.Run("a network that was never made", func(t *testing.T) {
		if _, err := a.plugin(t).call(t.Context(), "RequestPool", object{"AddressSpace": "ipamlog-local", "Pool": "10.52.0.0/24"}); err != nil {
			t.Fatal(err)
		}
		heals(t, a, "a grant without a network")
	})
	t.Run("dual stack whose second half fails", func(t *testing.T) {
		a.create(t, "both", "--ipv6", "--subnet", "10.53.0.0/24", "--subnet", "fd00:53::/126")
		a.run(t, "b1", "both")
		a.run(t, "b2", "both")
		if out, err := a.Docker("run", "-d", "--name", "b3", "--network", "both", lab.Image); err == nil {
			t.Fatalf("a third one started: %s", out)
		}
		heals(t, a, "an IPv4 address without its IPv6 one")
		a.MustDocker(t, "rm", "-f", "b1", "b2", "b3")
		a.MustDocker(t, "network", "rm", "both")
	})
	t.Run("a network that cannot be made", func(t *testing.T) {
		out, err := a.Docker("network", "create", "--ipam-driver", "ipamlog", "--subnet", "10.55.0.0/24", "--gateway", "10.55.0.1", "--aux-address", "x=10.55.0.7",
			"-o", "com.docker.network.bridge.name=a-name-that-no-bridge-may-have", "never")
		if err == nil {
			t.Fatalf("it was made: %s", out)
		}
		heals(t, a, "a network that the engine gave up")
		if got := ends(t, a, netip.MustParseAddr("10.55.0.7")); got != "grant-closed" && got != "released" {
			t.Errorf("its auxiliary address: %s", got)
		}
	})
	t.Run("releases that come again, after the network was made anew", func(t *testing.T) {
		a.create(t, "again", "--subnet", "10.56.0.0/24")
		var old string
		for _, e := range a.events(t) {
			if e.Type == "grant.opened" { // the last one
				old = fmt.Sprintf("ipamlog:local/%s/%s?host=a&subnet=10.56.0.0%%2F24", e.Stream, e.Grant)
			}
		}
		a.MustDocker(t, "network", "rm", "again")
		a.create(t, "again", "--subnet", "10.56.0.0/24")
		a.run(t, "g1", "again")
		address, _ := a.addresses(t, "g1", "again")
		for range 2 {
			if _, err := a.plugin(t).call(t.Context(), "ReleaseAddress", object{"PoolID": old, "Address": address.String()}); err != nil {
				t.Error(err)
			}
			if _, err := a.plugin(t).call(t.Context(), "ReleasePool", object{"PoolID": old}); err != nil {
				t.Error(err)
			}
		}
		heals(t, a, "releases of a network that is gone")
		if got := ends(t, a, address); got != "held" {
			t.Errorf("%s, which a container has: %s", address, got)
		}
		a.MustDocker(t, "rm", "-f", "g1")
		a.MustDocker(t, "network", "rm", "again")
	})
	t.Run("the engine loses its networks", func(t *testing.T) {
		a.create(t, "lost", "--subnet", "10.54.0.0/24")
		a.run(t, "l1", "lost")
		if err := a.KillEngine(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(filepath.Dir(a.Dir()), "docker", "network", "files", "local-kv.db")); err != nil {
			t.Fatal(err)
		}
		if err := a.StartEngine(); err != nil {
			t.Fatal(err)
		}
		heals(t, a, "the loss of all networks")
		if n := len(ask[[]pool](t, a, "pools")); n != 0 {
			t.Errorf("%d pools are left", n)
		}
		if got := ends(t, a, kept); !strings.HasSuffix(got, "reclaimed") && !strings.HasSuffix(got, "grant-closed") {
			t.Errorf("%s: %s", kept, got)
		}
	})
}

// TestUsedAndNotHeld: what containers use comes back into the log, or is told as a
// conflict.
func TestUsedAndNotHeld(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	store := []string{"--cluster-store", strings.Join(l.StartCluster(1).Endpoints(), ",")}
	a := startReconciling(t, l, "a", store...)
	a.create(t, "n", "--subnet", "10.50.0.0/24", "--gateway", "10.50.0.1", "--ipam-opt", "pool=web")
	a.run(t, "c1", "n", "--ip", "10.50.0.9")
	a.succeeds(t, "release-ip", "--ip", "10.50.0.9", "--force")
	heals(t, a, "a release by force")

	b := startReconciling(t, l, "b", store...)
	b.create(t, "n", "--subnet", "10.50.0.0/24", "--gateway", "10.50.0.1", "--ipam-opt", "pool=web")
	if err := a.daemon.Stop(); err != nil { // so that b is faster
		t.Fatal(err)
	}
	a.succeeds(t, "release-ip", "--ip", "10.50.0.9", "--force")
	b.run(t, "c2", "n", "--ip", "10.50.0.9")
	a.start(t)
	await(t, "the conflict", func() (bool, error) {
		for _, e := range a.events(t) {
			if e.Type == "address.conflicted" && e.Address == "10.50.0.9" && e.Host == "a" && e.Container == "c1" {
				return true, nil
			}
		}
		return false, nil
	})
	a.MustDocker(t, "rm", "-f", "c1")
	agree(t, a, b)
}

// TestStartsDuringReconciliation: a container that starts while everything is compared
// again and again, with hardly any grace, keeps its address.
func TestStartsDuringReconciliation(t *testing.T) {
	t.Parallel()
	a := newSite(t, lab.New(t), "a").reconciles("--reconcile-every", "1ms", "--reconcile-grace", "5s")
	a.start(t)
	lab.StartEngines(t, a.Host)
	a.create(t, "n", "--subnet", "10.50.0.0/24", "--ipam-opt", "quarantine=0", "--ipam-opt", "pick=lowest")
	began := time.Now()
	for round := range 3 {
		var starting sync.WaitGroup
		for i := range 8 {
			starting.Go(func() {
				name := fmt.Sprintf("c%d-%d", round, i)
				a.run(t, name, "n")
				if i%2 == 0 {
					a.MustDocker(t, "restart", "-t", "0", name)
				}
			})
		}
		starting.Wait()
		heals(t, a, "starts")
		a.removeAll(t)
	}
	for _, e := range a.events(t) {
		if e.Type == "address.reclaimed" || e.Type == "address.conflicted" {
			t.Errorf("%+v", e)
		}
	}
	t.Logf("%v of looks", time.Since(began))
}
