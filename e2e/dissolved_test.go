// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/lab"
)

// TestDissolved ends swarms as people do in earnest, and sees what is left of them in the
// log, and that it can be given back.
func TestDissolved(t *testing.T) {
	t.Parallel()
	a := newManaged(t, lab.New(t), "a")
	a.MustExec(t, "sh", "-c", `printf 'reconcile-every: 200ms\nreconcile-grace: 2s\n' >/etc/ipamlog/config.yaml`)
	a.enable(t)
	w := formSwarm(t, a)
	w.createOverlay(t)
	w.serve(t, overlay, 3)
	t.Run("whose the addresses of a macvlan network are", func(t *testing.T) {
		w.createLAN(t)
		w.serve(t, lan, 2)
		w.attributed(t, lan)
	})

	t.Run("a swarm that lives keeps what it has", func(t *testing.T) {
		before := a.holds(t)
		var said string
		settles(t, patience, func() error {
			o := a.ipamlog(t, "reclaim", "--swarm", "--yes")
			if said = o.stderr; o.status != 1 {
				t.Fatalf("it was not refused: %+v", o)
			}
			if !strings.Contains(said, "the Docker of host a is in a swarm, and may use what is held") {
				return errors.Newf("it was refused with %q", said) // the engine was not asked yet
			}
			return nil
		})
		if d := diff(before, a.holds(t)); d != "" {
			t.Errorf("what is held (-before +after):\n%s", d)
		}
	})

	t.Run("it is left by its last manager", func(t *testing.T) {
		a.MustDocker(t, "swarm", "leave", "--force")
		left := a.leavesTheSwarms(t, 3)
		a.reclaimsTheSwarms(t, left)
		if d := diff([]string(nil), a.holds(t)); d != "" {
			t.Errorf("what is held (-want +log):\n%s", d)
		}
	})

	// The next one is given the same, and nothing of the last is in its way.
	w = formSwarm(t, a)
	w.createOverlay(t)
	w.serve(t, overlay, 2)
	t.Run("its state is lost with an engine that is killed", func(t *testing.T) {
		if err := a.KillEngine(); err != nil {
			t.Fatal(err)
		}
		a.MustExec(t, "rm", "-r", filepath.Join(filepath.Dir(a.Dir()), "docker", "swarm"))
		lab.StartEngines(t, a.Host)
		a.leavesTheSwarms(t, 2)
	})
	t.Run("a network of the next swarm takes it away", func(t *testing.T) {
		w := formSwarm(t, a)
		w.createOverlay(t)
		settles(t, patience, func() error {
			if o := a.ipamlog(t, "reclaim", "--swarm", "--yes"); o.status != 1 || !strings.Contains(o.stderr, "is in a swarm") {
				return errors.Newf("it was not refused: %+v", o)
			}
			return nil
		})
		a.MustDocker(t, "network", "rm", overlay.name)
		w.noPools(t, overlay)
	})
	if o := a.ipamlog(t, "verify"); o.status != 0 {
		t.Errorf("verify: %+v", o)
	}
}

// leavesTheSwarms waits until nothing is held of a dissolved swarm's overlay network but
// what the swarm itself held for so many tasks on one node.
func (s *site) leavesTheSwarms(t *testing.T, tasks int) (want []string) {
	t.Helper()
	want = []string{"gateway 10.60.0.1 "}
	for a := netip.MustParseAddr("10.60.0.2"); len(want) < 1+tasks+1; a = a.Next() { // one is the load balancer's
		want = append(want, fmt.Sprintf("endpoint %v ", a))
	}
	settles(t, patience, func() error {
		if d := diff(want, s.holds(t)); d != "" {
			return errors.Newf("what is held (-want +log):\n%s", d)
		}
		return nil
	})
	return want
}

// reclaimsTheSwarms gives back by hand what a dissolved swarm held.
func (s *site) reclaimsTheSwarms(t *testing.T, want []string) {
	t.Helper()
	settles(t, patience, func() error { // the daemon asks its engine now and then
		if o := s.ipamlog(t, "reclaim", "--swarm", "--dry-run"); o.status != 0 {
			return errors.New(o.stderr)
		}
		return nil
	})
	if got := ask[[]holding](t, s, "reclaim", "--swarm", "--dry-run"); len(got) != len(want) {
		t.Errorf("it would give back %+v", got)
	}
	if o := s.ipamlog(t, "reclaim", "--swarm"); o.status != 1 || !strings.Contains(o.stderr, "nothing was done: answer y, or use --yes") {
		t.Errorf("nobody has answered, and %+v", o)
	}
	if d := diff(want, s.holds(t)); d != "" {
		t.Errorf("what is held was changed by no word (-want +log):\n%s", d)
	}
	o := s.ipamlog(t, "reclaim", "--swarm", "--yes")
	if said := fmt.Sprintf("what the swarm left is given back: %d holdings were ended in pool %v\n", len(want), overlay.subnet); o.status != 0 || o.stdout != said {
		t.Errorf("%+v, want %q", o, said)
	}
}

// attributed makes sure that the log names, for each address of a network that its tasks
// have, the container that has it, and the network for its gateway.
func (w *swarm) attributed(t *testing.T, n swarmNetwork) {
	t.Helper()
	u, err := w.usage(n)
	if err != nil {
		t.Fatal(err)
	}
	named := func(a attributed) bool { return a.Network != nil }
	for _, address := range u.all {
		var got []attributed
		await(t, "the attribution of "+address.String(), func() (bool, error) {
			got = ask[struct{ Holdings []attributed }](t, w.nodes[0], "who", address.String()).Holdings
			for _, a := range got {
				if !named(a) {
					return false, nil
				}
			}
			return len(got) > 0, nil
		})
		for _, a := range got {
			if deref(a.Network.Name) != n.name {
				t.Errorf("%v is told of network %+v, want %s", address, a.Network, n.name)
			}
			if task := u.tasks[address]; task != "" && (a.Container == nil || deref(a.Container.Name) != task || deref(a.Container.Image) != lab.Image+":latest") {
				t.Errorf("%v is %s's, want %s's", address, a.owner(), task)
			}
		}
	}
}
