// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/lab"
)

// swarmPatience is how long Swarm may take to come to rest: it counts a node as
// lost, elects a leader and gives up on a task in its own time.
const swarmPatience = 2 * time.Minute

// swarmNetwork is a network of a swarm, and where its addresses are unique.
type swarmNetwork struct {
	name, space string
	subnet      netip.Prefix
}

var (
	overlay = swarmNetwork{"ov", "global", netip.MustParsePrefix("10.60.0.0/24")}
	lan     = swarmNetwork{"lan", "local", netip.MustParsePrefix("10.70.0.0/24")}
)

// swarm is nodes that are managers all.
type swarm struct{ nodes []*site }

// formSwarm makes a swarm of hosts on which the plugin is enabled.
func formSwarm(t *testing.T, nodes ...*site) *swarm {
	t.Helper()
	first := nodes[0]
	// A short heartbeat has a lost node noticed soon.
	first.MustDocker(t, "swarm", "init", "--advertise-addr", first.Addr().String(), "--dispatcher-heartbeat", "1s")
	token := first.MustDocker(t, "swarm", "join-token", "-q", "manager")
	for _, n := range nodes[1:] {
		n.MustDocker(t, "swarm", "join", "--advertise-addr", n.Addr().String(), "--token", token, first.Addr().String()+":2377")
	}
	return &swarm{nodes}
}

// createOverlay makes the overlay network.
func (w *swarm) createOverlay(t *testing.T) {
	t.Helper()
	w.nodes[0].MustDocker(t, "network", "create", "--driver", "overlay", "--ipam-driver", managed, "--subnet", overlay.subnet.String(), overlay.name)
}

// serve makes a service of idle tasks, named as its network. The kernel of a test machine may lack
// IPVS, which virtual addresses need, so there are none.
func (w *swarm) serve(t *testing.T, n swarmNetwork, replicas int) {
	t.Helper()
	w.nodes[0].MustDocker(t, "service", "create", "--detach", "--no-resolve-image", "--name", n.name,
		"--network", n.name, "--endpoint-mode", "dnsrr", "--replicas", fmt.Sprint(replicas),
		"--restart-delay", "1s", lab.Image+":latest")
	w.settles(t, n, replicas)
}

// scale has the service of a network run so many tasks.
func (w *swarm) scale(t *testing.T, n swarmNetwork, replicas int) {
	t.Helper()
	w.nodes[0].MustDocker(t, "service", "scale", "--detach", fmt.Sprintf("%s=%d", n.name, replicas))
	w.settles(t, n, replicas)
}

// usage is what the engines of a swarm use of a network.
type usage struct {
	tasks map[netip.Addr]string // names of containers
	all   []netip.Addr          // with gateway and load balancers
}

// usage asks every engine. It is an error if two use the same address, or if
// the engines are just about to change something.
func (w *swarm) usage(of swarmNetwork) (usage, error) {
	u := usage{tasks: map[netip.Addr]string{}}
	for _, node := range w.nodes {
		n, err := node.Network(of.name)
		if err != nil {
			return u, err
		}
		for key, c := range n.Containers {
			address := c.IPv4Address.Addr()
			if slices.Contains(u.all, address) {
				return u, errors.Newf("%s on %s has %v, and so has %q", c.Name, node.Name(), address, u.tasks[address])
			}
			u.all = append(u.all, address)
			if strings.HasPrefix(key, "lb-") {
				continue
			}
			u.tasks[address] = c.Name
			shown, err := node.Container(key)
			if err != nil {
				return u, err
			}
			if got := shown.NetworkSettings.Networks[of.name].IPAddress; got != address {
				return u, errors.Newf("%s on %s has %v by itself and %v by its network", c.Name, node.Name(), got, address)
			}
		}
		if len(n.IPAM.Config) == 1 && len(n.Containers) > 0 {
			gateway, err := netip.ParseAddr(n.IPAM.Config[0].Gateway)
			if err != nil {
				return u, errors.Wrap(err, "read a gateway")
			}
			if !slices.Contains(u.all, gateway) {
				u.all = append(u.all, gateway)
			}
		}
	}
	slices.SortFunc(u.all, netip.Addr.Compare)
	return u, nil
}

// held lists the addresses that are held of a network, in order, each once.
func (w *swarm) held(t *testing.T, n swarmNetwork) []netip.Addr {
	t.Helper()
	var held []netip.Addr
	for _, h := range ask[[]holding](t, w.nodes[0], "replay") {
		if h.Space == n.space && h.Subnet == n.subnet {
			held = append(held, h.Address)
		}
	}
	slices.SortFunc(held, netip.Addr.Compare)
	return slices.Compact(held)
}

// settles waits until a network has so many tasks, and what the engines use of
// it is held, and nothing else.
func (w *swarm) settles(t *testing.T, n swarmNetwork, tasks int) usage {
	t.Helper()
	var u usage
	settles(t, swarmPatience, func() (err error) {
		if u, err = w.usage(n); err != nil {
			return err
		}
		if len(u.tasks) != tasks {
			return errors.Newf("network %s has %d tasks, want %d", n.name, len(u.tasks), tasks)
		}
		if d := diff(u.all, w.held(t, n)); d != "" {
			return errors.Newf("the engines and the log differ (-engines +log):\n%s", d)
		}
		return nil
	})
	return u
}

// noPools waits until there is no pool of a network left, of no node.
func (w *swarm) noPools(t *testing.T, n swarmNetwork) {
	t.Helper()
	settles(t, swarmPatience, func() error {
		for _, p := range ask[[]pool](t, w.nodes[0], "pools") {
			if p.Subnet == n.subnet {
				return errors.Newf("there is a pool left: %+v", p)
			}
		}
		return nil
	})
}

// remove removes a network and its service once Swarm lets it: tasks end a
// moment after their service.
func (w *swarm) remove(t *testing.T, n swarmNetwork) {
	t.Helper()
	w.nodes[0].MustDocker(t, "service", "rm", n.name)
	settles(t, swarmPatience, func() error {
		_, err := w.nodes[0].Docker("network", "rm", n.name)
		return err
	})
}

// reaches has one task of a network reach all others.
func (w *swarm) reaches(t *testing.T, n swarmNetwork) {
	t.Helper()
	u, err := w.usage(n)
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range w.nodes {
		for _, from := range u.tasks {
			if _, err := node.Container(from); err != nil {
				continue // on another node
			}
			for to := range u.tasks {
				node.ping(t, from, to)
			}
			return
		}
	}
}

// TestSwarmOfOne scales a service up and down on a single node, whose daemon
// has its etcd embedded.
func TestSwarmOfOne(t *testing.T) {
	t.Parallel()
	a := newManaged(t, lab.New(t), "a")
	a.enable(t)
	w := formSwarm(t, a)
	w.createOverlay(t)
	w.serve(t, overlay, 2)
	for _, replicas := range []int{5, 1, 3} {
		w.scale(t, overlay, replicas)
	}
	t.Run("an engine that was killed asks for the same again", func(t *testing.T) {
		if err := a.KillEngine(); err != nil {
			t.Fatal(err)
		}
		lab.StartEngines(t, a.Host)
		w.settles(t, overlay, 3)
	})
	w.remove(t, overlay)
	w.noPools(t, overlay)
}

// TestSwarm takes a swarm of three nodes through what happens to one.
func TestSwarm(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	store := strings.Join(l.StartCluster(1).Endpoints(), ",")
	var nodes []*site
	for _, name := range []string{"a", "b", "c"} {
		n := newManaged(t, l, name, "--cluster-store", store)
		n.set(t, "IPAMLOG_CLUSTER_STORE="+store)
		n.enable(t)
		nodes = append(nodes, n)
	}
	w := formSwarm(t, nodes...)
	w.createOverlay(t)
	w.serve(t, overlay, 3)
	w.reaches(t, overlay)
	for _, replicas := range []int{9, 6} {
		w.scale(t, overlay, replicas)
	}
	t.Run("macvlan", w.macvlan)

	// Tasks that were moved away from a node stay away when it is back; new ones
	// go there.
	t.Run("a node is lost", func(t *testing.T) {
		before := w.settles(t, overlay, 6)
		if err := nodes[2].Reboot(); err != nil { // its engine stays down
			t.Fatal(err)
		}
		(&swarm{nodes[:2]}).replaces(t, before, 6)
		lab.StartEngines(t, nodes[2].Host)
		w.settles(t, overlay, 6)
		w.scale(t, overlay, 9)
	})
	t.Run("the leader changes", func(t *testing.T) {
		before := w.settles(t, overlay, 9)
		if err := nodes[0].KillEngine(); err != nil { // it led from the beginning, and its tasks go on
			t.Fatal(err)
		}
		(&swarm{nodes[1:]}).replaces(t, before, 9)
		lab.StartEngines(t, nodes[0].Host)
		w.settles(t, overlay, 9)
		w.scale(t, overlay, 12)
		w.reaches(t, overlay)
	})
	w.scale(t, overlay, 2)
	w.remove(t, overlay)
	w.noPools(t, overlay)
}

// replaces waits until the living nodes run all tasks. What was in use before
// is held until the lost node has been heard of again, or the swarm has released
// it: nobody else knows whether the node still uses its addresses.
func (w *swarm) replaces(t *testing.T, before usage, tasks int) {
	t.Helper()
	settles(t, swarmPatience, func() error {
		u, err := w.usage(overlay)
		if err != nil {
			return err
		}
		if len(u.tasks) != tasks {
			return errors.Newf("%d tasks are on the living nodes, want %d", len(u.tasks), tasks)
		}
		held := w.held(t, overlay)
		for _, address := range u.all {
			if !slices.Contains(held, address) {
				return errors.Newf("%v is in use, and is not held", address)
			}
		}
		for _, address := range before.all {
			if !slices.Contains(held, address) && !w.gaveBack(t, overlay, address) {
				return errors.Newf("%v may be in use, and is not held", address)
			}
		}
		for address, task := range u.tasks {
			if was, ok := before.tasks[address]; ok && was != task && !w.gaveBack(t, overlay, address) {
				return errors.Newf("%s has %v, which may still be that of %s", task, address, was)
			}
		}
		return nil
	})
}

// gaveBack says whether the swarm itself ended the last holding of an address that
// has ended: a manager that takes a lost node's task for over releases its address,
// and the driver follows.
func (w *swarm) gaveBack(t *testing.T, n swarmNetwork, address netip.Addr) bool {
	t.Helper()
	end := ""
	for _, h := range ask[[]holding](t, w.nodes[0], "history", address.String()) {
		if h.Space == n.space && h.Subnet == n.subnet && h.End != nil {
			end = *h.End
		}
	}
	return end == "released"
}

// createLAN makes the network on the shared layer 2, of settings that each node has.
func (w *swarm) createLAN(t *testing.T) {
	t.Helper()
	for _, n := range w.nodes {
		n.MustDocker(t, "network", "create", "--config-only", "--ipam-driver", managed, "--subnet", lan.subnet.String(), "--gateway", "10.70.0.254",
			"--ipam-opt", "pool=lan", "--opt", "parent=eth0", "lan-of-node")
	}
	w.nodes[0].MustDocker(t, "network", "create", "--driver", "macvlan", "--scope", "swarm", "--config-from", "lan-of-node", lan.name)
}

// macvlan runs a service on the shared layer 2. The manager has no say in its
// addresses: each node asks its own plugin, and all share the pool.
func (w *swarm) macvlan(t *testing.T) {
	w.createLAN(t)
	w.serve(t, lan, 6)
	w.reaches(t, lan)
	w.attributed(t, lan)
	w.remove(t, lan)
	w.noPools(t, lan)
	for _, n := range w.nodes {
		settles(t, swarmPatience, func() error { // it is in use until the node has removed the other
			_, err := n.Docker("network", "rm", "lan-of-node")
			return err
		})
	}
}
