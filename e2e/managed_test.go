// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/lab"
)

// managed is the driver's name where it is a managed plugin. Engines know it by
// its full name with the tag, and by nothing less.
const managed = "ipamlog/ipamlog:latest"

// buildPlugin builds the plugin's folder, as its users do.
var buildPlugin = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("make", "-C", "..", "plugin").CombinedOutput()
	return "../dist/plugin", errors.Wrapf(err, "make plugin: %s", out)
})

// newManaged adds a host to the lab whose engine runs and has the plugin, not
// enabled yet.
func newManaged(t *testing.T, l *lab.Lab, name string, store ...string) *site {
	t.Helper()
	dir, err := buildPlugin()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{Host: l.Host(name), store: store}
	s.MustExec(t, "mkdir", "-p", s.dataDir(), "/etc/ipamlog")
	lab.StartEngines(t, s.Host)
	s.MustDocker(t, "plugin", "create", managed, dir)
	s.set(t, "state.source="+s.dataDir())
	return s
}

// set gives settings to the plugin while it is disabled.
func (s *site) set(t *testing.T, settings ...string) {
	t.Helper()
	s.MustDocker(t, slices.Concat([]string{"plugin", "set", managed}, settings)...)
}

// enable starts the plugin. The engine gives it a cgroup beside those of the
// lab, and takes that away when the plugin is disabled.
func (s *site) enable(t *testing.T) {
	t.Helper()
	s.MustDocker(t, "plugin", "enable", managed)
	t.Cleanup(func() {
		if _, err := s.Docker("plugin", "disable", "--force", managed); err != nil {
			t.Log(err)
		}
	})
}

// managedPID is the plugin's process, among those of the host.
func (s *site) managedPID(t *testing.T) string {
	t.Helper()
	return s.MustExec(t, "pgrep", "-x", "ipamlog")
}

// settles does something again and again until it finds nothing wrong, and fails
// the test with what it found last when that takes too long.
func settles(t *testing.T, limit time.Duration, look func() error) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := look()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("after %v still: %v", limit, err)
		}
	}
}

// TestManaged takes one host whose daemon is a managed plugin through what its
// engine does to such a one.
func TestManaged(t *testing.T) {
	t.Parallel()
	a := newManaged(t, lab.New(t), "a")
	holds := func(t *testing.T, want ...string) {
		t.Helper()
		if d := diff(want, a.holds(t)); d != "" {
			t.Errorf("what is held (-want +log):\n%s", d)
		}
	}

	t.Run("a state directory that is not there is named", func(t *testing.T) {
		a.set(t, "state.source="+a.dataDir()+"/none")
		a.refused(t, []string{a.dataDir() + "/none", "no such file or directory"}, "plugin", "enable", managed)
		a.set(t, "state.source="+a.dataDir())
	})
	t.Run("what must not be set cannot be", func(t *testing.T) {
		a.refused(t, []string{"IPAMLOG_MANAGED", "not settable"}, "plugin", "set", managed, "IPAMLOG_MANAGED=false")
	})
	a.enable(t)
	t.Run("it knows the host and the machine", func(t *testing.T) {
		o := a.ipamlog(t, "tail", "-o", "jsonl")
		first, _, _ := strings.Cut(o.stdout, "\n")
		joined := decode[struct{ Type, Host, Machine string }](t, first)
		if joined.Type != "host.joined" || joined.Host != a.Name() || joined.Machine != a.MustExec(t, "cat", "/etc/machine-id") {
			t.Errorf("it joined as %+v", joined)
		}
	})
	t.Run("its full name is needed", func(t *testing.T) {
		short, _, _ := strings.Cut(managed, ":")
		a.refused(t, []string{"invalid ipam driver"}, "network", "create", "--ipam-driver", short, "n")
	})

	a.MustDocker(t, "network", "create", "--ipam-driver", managed, "--subnet", "10.50.0.0/24", "--ipam-opt", "pick=lowest", "--ipam-opt", "quarantine=0", "n")
	a.run(t, "c1", "n")
	holds(t, "gateway 10.50.0.1 a", "endpoint 10.50.0.2 a")
	t.Run("it is in use", func(t *testing.T) {
		a.refused(t, []string{"in use"}, "plugin", "disable", managed)
		a.refused(t, []string{"disable plugin before setting"}, "plugin", "set", managed, "IPAMLOG_DEBUG=true")
	})
	t.Run("killed", func(t *testing.T) {
		a.MustExec(t, "kill", "-KILL", a.managedPID(t)) // the engine starts another
		a.run(t, "c2", "n")
		holds(t, "gateway 10.50.0.1 a", "endpoint 10.50.0.2 a", "endpoint 10.50.0.3 a")
	})
	for name, end := range map[string]func() error{"stopped": a.StopEngine, "killed": a.KillEngine} {
		t.Run("its engine was "+name, func(t *testing.T) {
			if err := end(); err != nil {
				t.Fatal(err)
			}
			lab.StartEngines(t, a.Host)
			holds(t, "gateway 10.50.0.1 a")
			a.MustDocker(t, "start", "c1", "c2")
			holds(t, "gateway 10.50.0.1 a", "endpoint 10.50.0.2 a", "endpoint 10.50.0.3 a")
		})
	}
	t.Run("it outlives an engine with live-restore", func(t *testing.T) {
		restart := func() {
			if err := a.KillEngine(); err != nil {
				t.Fatal(err)
			}
			if err := a.StartEngine("--live-restore"); err != nil {
				t.Fatal(err)
			}
		}
		restart()
		a.MustDocker(t, "start", "c1", "c2")
		before := a.managedPID(t)
		restart()
		if after := a.managedPID(t); after != before {
			t.Errorf("it was process %s, and is %s", before, after)
		}
		holds(t, "gateway 10.50.0.1 a", "endpoint 10.50.0.2 a", "endpoint 10.50.0.3 a")
		a.run(t, "c3", "n")
		holds(t, "gateway 10.50.0.1 a", "endpoint 10.50.0.2 a", "endpoint 10.50.0.3 a", "endpoint 10.50.0.4 a")
	})
	t.Run("all is given back", func(t *testing.T) {
		a.removeAll(t)
		a.MustDocker(t, "network", "rm", "n")
		holds(t)
	})
	t.Run("disabled, set and enabled", func(t *testing.T) {
		a.MustDocker(t, "plugin", "disable", managed)
		a.set(t, "IPAMLOG_HOST=renamed")
		a.MustDocker(t, "plugin", "enable", managed)
		a.MustDocker(t, "network", "create", "--ipam-driver", managed, "--subnet", "10.50.0.0/24", "n")
		holds(t, "gateway 10.50.0.1 renamed")
	})
}

// holds lists what the store holds, as kind, address and host.
func (s *site) holds(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, h := range ask[[]holding](t, s, "replay") {
		list = append(list, fmt.Sprintf("%s %v %s", h.Kind, h.Address, deref(h.Host)))
	}
	return list
}
