// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipamlog/ipamlog/lab"
)

// TestUnlooked restores a host's log from before a network was made, and starts daemons on
// it that are told of an engine where there is none, and at last of the right one. Before
// that no container is given an address there, which another may use, and it is told why;
// a daemon that was killed makes no difference.
func TestUnlooked(t *testing.T) {
	t.Parallel()
	a := startReconciling(t, lab.New(t), "a")
	file := filepath.Join(t.TempDir(), "log.zst")
	a.must(t, "backup", file)
	a.create(t, "later", "--subnet", "10.51.0.0/24")
	a.run(t, "c1", "later")
	used, _ := a.addresses(t, "c1", "later")
	a.stop(t)
	if err := os.RemoveAll(filepath.Join(a.dataDir(), "etcd")); err != nil {
		t.Fatal(err)
	}
	a.must(t, "restore", file)
	a.must(t, "adopt", "--store", "--yes")

	a.start(t) // and looks at once
	a.stop(t)

	const nobody = "unix:///run/nobody.sock"
	for _, round := range []string{"a daemon that cannot look", "one after a kill"} {
		a.reconciles("--engine", nobody).start(t)
		_, err := a.Docker("run", "-d", "--name", "c2", "--network", "later", lab.Image)
		if err == nil {
			t.Fatalf("%s: a container was started", round)
		}
		t.Log(err)
		for _, words := range []string{"It is not known yet which addresses this host's containers use", "there is no Docker at " + nobody, "--engine off"} {
			if !strings.Contains(err.Error(), words) {
				t.Errorf("%s: %q is not said", round, words)
			}
		}
		a.MustDocker(t, "rm", "-f", "c2")
		a.kill(t)
	}

	a.reconciles().start(t)
	await(t, "an address", func() (bool, error) {
		_, err := a.Docker("run", "-d", "--name", "c2", "--network", "later", lab.Image)
		if err != nil {
			a.MustDocker(t, "rm", "-f", "c2")
		}
		return err == nil, nil
	})
	if mine, _ := a.addresses(t, "c2", "later"); mine == used {
		t.Errorf("%s was in use, and was given to c2", mine)
	}
	heals(t, a, "the look")
}
