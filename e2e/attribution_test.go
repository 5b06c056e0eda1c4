// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/ipamlog/ipamlog/lab"
)

// attributed is a holding as ipamlog prints it, with whose it is.
type attributed struct {
	holding
	Container *struct {
		ID      string
		Name    *string
		Names   []string
		Image   *string
		ImageID *string `json:"image_id"`
		Labels  map[string]string
	}
	Network *struct {
		ID   string
		Name *string
	}
}

// owner is whose a holding is, in one line.
func (a attributed) owner() string {
	if a.Container == nil {
		return "nobody's"
	}
	return deref(a.Container.Name) + " " + a.Container.ID
}

// heldBy are the holdings of a container that had this name last, ended or not.
func heldBy(t *testing.T, s *site, container string) []attributed {
	t.Helper()
	all := ask[[]attributed](t, s, "history", "host:"+s.Name())
	return slices.DeleteFunc(all, func(a attributed) bool { return a.Container == nil || deref(a.Container.Name) != container })
}

// whoHolds is who holds an address now, once that is known.
func whoHolds(t *testing.T, s *site, address netip.Addr, known func(attributed) bool) attributed {
	t.Helper()
	var now []attributed
	await(t, "the attribution of "+address.String(), func() (bool, error) {
		now = ask[struct{ Holdings []attributed }](t, s, "who", address.String()).Holdings
		return len(now) == 1 && known(now[0]), nil
	})
	return now[0]
}

func contained(a attributed) bool { return a.Container != nil }

// everyContainer makes sure that the log names, for each address that a container
// of the engine has, that container, by all that the engine tells of it.
func everyContainer(t *testing.T, s *site) {
	t.Helper()
	containers, err := s.Containers()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range containers {
		if !c.State.Running {
			continue
		}
		for name, e := range c.NetworkSettings.Networks {
			for _, address := range []netip.Addr{e.IPAddress, e.GlobalIPv6Address} {
				if !address.IsValid() {
					continue
				}
				n++
				got := whoHolds(t, s, address, contained)
				if got.Container.ID != c.ID || "/"+deref(got.Container.Name) != c.Name || got.Network == nil || got.Network.ID != e.NetworkID || deref(got.Network.Name) != name {
					t.Errorf("%v on %s is of container %s %s, and the log says of %s, network %+v", address, name, c.Name, c.ID, got.owner(), got.Network)
				}
				if deref(got.Container.Image) != lab.Image || !strings.HasPrefix(deref(got.Container.ImageID), "sha256:") {
					t.Errorf("%v: image %s, id %s", address, deref(got.Container.Image), deref(got.Container.ImageID))
				}
			}
		}
	}
	if n == 0 {
		t.Error("no container has an address: nothing was compared")
	}
}

// TestAttribution asks the log whose the addresses are, after everything that
// happens to containers, engine and daemon.
func TestAttribution(t *testing.T) {
	t.Parallel()
	a := startSite(t, lab.New(t), "a")
	a.create(t, "n", "--subnet", "10.50.0.0/24", "--aux-address", "printer=10.50.0.200")
	a.create(t, "web", "--ipv6", "--subnet", "10.53.0.0/24", "--subnet", "fd00:53::/64", "--ipam-opt", "pool=web")
	a.create(t, "empty", "--ipv6", "--subnet", "10.54.0.0/24", "--subnet", "fd00:54::/64")

	t.Run("start", func(t *testing.T) {
		a.run(t, "c1", "n", "--label", "com.docker.compose.project=shop", "--label", "secret=x")
		a.run(t, "c2", "web")
		a.MustDocker(t, "network", "connect", "web", "c1")
		everyContainer(t, a)
		v4, _ := a.addresses(t, "c1", "n")
		got := whoHolds(t, a, v4, contained)
		if d := gocmp.Diff(map[string]string{"com.docker.compose.project": "shop"}, got.Container.Labels); d != "" {
			t.Errorf("labels (-want +got):\n%s", d)
		}
	})
	t.Run("a second start", func(t *testing.T) {
		a.MustDocker(t, "stop", "c1")
		a.MustDocker(t, "start", "c1")
		everyContainer(t, a)
	})
	t.Run("a network's own", func(t *testing.T) {
		for address, network := range map[string]string{"10.50.0.1": "n", "10.50.0.200": "n", "10.53.0.1": "web", "fd00:53::1": "web", "10.54.0.1": "empty", "fd00:54::1": "empty"} {
			n, err := a.Network(network)
			if err != nil {
				t.Fatal(err)
			}
			got := whoHolds(t, a, parse(t, address), func(a attributed) bool { return a.Network != nil })
			if got.Network.ID != n.ID || deref(got.Network.Name) != network || got.Container != nil {
				t.Errorf("%s: network %+v, of %s", address, got.Network, got.owner())
			}
		}
	})
	t.Run("rename", func(t *testing.T) {
		a.MustDocker(t, "rename", "c2", "other")
		v4, _ := a.addresses(t, "other", "web")
		got := whoHolds(t, a, v4, func(a attributed) bool { return contained(a) && deref(a.Container.Name) == "other" })
		if !slices.Equal(got.Container.Names, []string{"c2", "other"}) {
			t.Errorf("its names are %q", got.Container.Names)
		}
		everyContainer(t, a)
	})
	t.Run("a container that ends at once", func(t *testing.T) {
		a.MustDocker(t, "run", "--name", "brief", "--network", "n", lab.Image, "true")
		a.MustDocker(t, "run", "--rm", "--name", "briefer", "--network", "n", lab.Image, "sleep", "0.2")
		for _, name := range []string{"brief", "briefer"} {
			var all []attributed
			await(t, "the attribution of "+name, func() (bool, error) {
				all = heldBy(t, a, name)
				return len(all) > 0, nil
			})
			if len(all) != 1 || all[0].To == nil || deref(all[0].Container.Image) != lab.Image {
				t.Errorf("%s: %+v", name, all)
			}
		}
	})
	t.Run("many at once", func(t *testing.T) {
		var running sync.WaitGroup
		for i := range 20 {
			running.Go(func() {
				if _, err := a.Docker("run", "-d", "--name", fmt.Sprintf("many%d", i), "--network", "n", lab.Image); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
		everyContainer(t, a)
	})
	t.Run("the daemon killed", func(t *testing.T) {
		a.kill(t)
		a.MustDocker(t, "rename", "other", "another")
		a.start(t)
		a.run(t, "after", "n")
		v4, _ := a.addresses(t, "another", "web")
		whoHolds(t, a, v4, func(a attributed) bool { return contained(a) && deref(a.Container.Name) == "another" })
		everyContainer(t, a)
		// On n it had two addresses, on web two of each family.
		if told := a.told(t, "c1"); told != 2+2*2 {
			t.Errorf("c1 has had 6 addresses, and was attributed %d times", told)
		}
	})
	t.Run("the daemon killed while one starts", func(t *testing.T) {
		a.kill(t)
		from := a.logSize(t, "dockerd")
		var running sync.WaitGroup
		running.Go(func() {
			if _, err := a.Docker("run", "-d", "--name", "during", "--network", "n", lab.Image); err != nil {
				t.Error(err)
			}
		})
		a.saidInLog(t, "dockerd", "Unable to connect to plugin", from)
		a.start(t)
		running.Wait()
		everyContainer(t, a)
	})
	t.Run("the engine killed", func(t *testing.T) {
		if err := a.KillEngine(); err != nil {
			t.Fatal(err)
		}
		if err := a.StartEngine(); err != nil {
			t.Fatal(err)
		}
		a.MustDocker(t, "start", "c1", "another")
		everyContainer(t, a)
	})
	t.Run("the engine killed, its containers live on", func(t *testing.T) {
		for range 2 {
			if err := a.KillEngine(); err != nil {
				t.Fatal(err)
			}
			if err := a.StartEngine("--live-restore"); err != nil {
				t.Fatal(err)
			}
		}
		a.MustDocker(t, "rename", "another", "last")
		v4, _ := a.addresses(t, "last", "web")
		whoHolds(t, a, v4, func(a attributed) bool { return contained(a) && deref(a.Container.Name) == "last" })
		a.run(t, "new", "n")
		everyContainer(t, a)
	})
}

// told counts how often the addresses of a container were attributed to it, under
// whatever name.
func (s *site) told(t *testing.T, name string) int {
	t.Helper()
	c, err := s.Container(name)
	if err != nil {
		t.Fatal(err)
	}
	o := s.ipamlog(t, "tail", "-o", "jsonl")
	n := 0
	for line := range strings.Lines(o.stdout) {
		if strings.Contains(line, `"address.attributed"`) && strings.Contains(line, c.ID) {
			n++
		}
	}
	return n
}

// sighting is what the engine said of a container at a moment at which it ran.
type sighting struct {
	container string
	address   netip.Addr
	at        time.Time
}

// TestAttribution_crowd has containers come and go on the same few addresses, while
// the daemon is killed, and then asks whose each address was when it was seen.
func TestAttribution_crowd(t *testing.T) {
	t.Parallel()
	a := startSite(t, lab.New(t), "a")
	a.create(t, "n", "--subnet", "10.50.0.0/24", "--ipam-opt", "quarantine=0", "--ipam-opt", "pick=lowest")
	const users, each = 3, 10
	var mu sync.Mutex
	var seen []sighting
	var running sync.WaitGroup
	half := make(chan struct{}, users*each)
	for u := range users {
		running.Go(func() {
			for i := range each {
				name := fmt.Sprintf("u%d-%d", u, i)
				if _, err := a.Docker("run", "-d", "--name", name, "--network", "n", lab.Image); err != nil {
					t.Log(err) // the daemon is killed once
					continue
				}
				c, err := a.Container(name)
				at := time.Now()
				if _, err := a.Docker("rm", "-f", name); err != nil {
					t.Error(err)
				}
				if err != nil {
					t.Error(err)
					continue
				}
				mu.Lock()
				seen = append(seen, sighting{c.ID, c.NetworkSettings.Networks["n"].IPAddress, at})
				mu.Unlock()
				half <- struct{}{}
			}
		})
	}
	for range users * each / 2 {
		<-half
	}
	a.kill(t)
	a.start(t)
	running.Wait()

	unknown, addresses := 0, map[netip.Addr]bool{}
	for _, s := range seen {
		addresses[s.address] = true
		await(t, "whose "+s.address.String()+" was", func() (bool, error) {
			o := a.ipamlog(t, "who", s.address.String(), "--at", stamp(s.at), "-o", "json")
			then := decode[struct{ Holdings []attributed }](t, o.stdout).Holdings
			if len(then) != 1 {
				t.Fatalf("%v was held by %d at %v", s.address, len(then), s.at)
			}
			if then[0].Container == nil {
				if then[0].To == nil {
					return false, nil // it may still be found out
				}
				unknown++
			} else if then[0].Container.ID != s.container {
				t.Errorf("%v was container %s's at %v, and the log says %s", s.address, s.container, s.at, then[0].owner())
			}
			return true, nil
		})
	}
	t.Logf("%d containers on %d addresses; of %d nobody knows", len(seen), len(addresses), unknown)
	// Only those may be unknown that the killed daemon did not come to tell of, and those
	// that were there when the next one first looked, and soon were not any more.
	if unknown > 2*users || len(seen) < users*each/2 {
		t.Errorf("of %d containers %d are unknown", len(seen), unknown)
	}
}

// TestAttribution_swarm asks whose the addresses of a service's tasks are: the node
// knows, in its mirror of the network.
func TestAttribution_swarm(t *testing.T) {
	t.Parallel()
	a := newManaged(t, lab.New(t), "a")
	a.enable(t)
	w := formSwarm(t, a)
	w.createOverlay(t)
	w.serve(t, overlay, 2)
	containers, err := a.Containers()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range containers {
		e, is := c.NetworkSettings.Networks[overlay.name]
		if !is || !c.State.Running {
			continue
		}
		n++
		await(t, "whose "+e.IPAddress.String()+" is", func() (bool, error) {
			for _, h := range ask[struct{ Holdings []attributed }](t, a, "who", e.IPAddress.String()).Holdings {
				switch {
				case h.Container == nil:
				case h.Space != "local" || h.Container.ID != c.ID || h.Network.ID != e.NetworkID:
					t.Errorf("%v is %s's, and the log says of %s", e.IPAddress, c.ID, h.owner())
					return true, nil
				default:
					if h.Container.Labels["com.docker.swarm.service.name"] == "" {
						t.Errorf("%v: labels %v", e.IPAddress, h.Container.Labels)
					}
					return true, nil
				}
			}
			return false, nil
		})
	}
	if n != 2 {
		t.Errorf("%d tasks were looked at", n)
	}
	w.remove(t, overlay)
	w.noPools(t, overlay)
}
