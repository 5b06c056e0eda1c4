// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipamlog/ipamlog/lab"
)

// must runs a command on the host's store that must succeed.
func (s *site) must(t *testing.T, args ...string) outcome {
	t.Helper()
	o := s.ipamlog(t, args...)
	if o.status != 0 {
		t.Fatalf("ipamlog %q: status %d: %s", args, o.status, o.stderr)
	}
	return o
}

// TestRestored loses a host's store, and restores a backup of it that is older than
// some of the containers.
func TestRestored(t *testing.T) {
	t.Parallel()
	a := startReconciling(t, lab.New(t), "a")
	a.create(t, "web", "--subnet", "10.50.0.0/24")
	a.run(t, "c1", "web")
	a.run(t, "c2", "web")
	a.MustDocker(t, "rm", "-f", "c2")
	file := filepath.Join(t.TempDir(), "log.zst")
	made := ask[struct{ Revision int64 }](t, a, "backup", file)
	past := func() string {
		return a.must(t, "export", "--events", "--until", fmt.Sprintf("@%d", made.Revision)).stdout
	}
	was := past()

	// What the backup does not know.
	a.run(t, "c3", "web")
	a.run(t, "c4", "web")
	a.create(t, "later", "--subnet", "10.51.0.0/24", "--ipam-opt", "pick=lowest")
	a.run(t, "c6", "later")
	a.MustDocker(t, "rm", "-f", "c1")
	used, _ := a.dockerSays(t)

	a.stop(t)
	if err := os.RemoveAll(filepath.Join(a.dataDir(), "etcd")); err != nil {
		t.Fatal(err)
	}
	a.mustRefuse(t, a.serve(t), "has no identity", "adopt --store")
	a.must(t, "restore", file)
	a.mustRefuse(t, a.serve(t), "restored from store", "adopt --store")
	a.must(t, "adopt", "--store", "--yes")
	a.start(t)
	a.run(t, "c5", "web") // at once: what c3 and c4 use is not given to it
	// The log knows nothing of this network: its addresses are looked at first.
	await(t, "an address on a network that is younger than the backup", func() (bool, error) {
		_, err := a.Docker("run", "-d", "--name", "c7", "--network", "later", lab.Image)
		if err != nil {
			a.MustDocker(t, "rm", "-f", "c7")
		}
		return err == nil, nil
	})
	heals(t, a, "a restore")
	if now := past(); now != was {
		t.Errorf("the past was\n%s\nand is\n%s", was, now)
	}
	for name, network := range map[string]string{"c5": "web", "c7": "later"} {
		mine, _ := a.addresses(t, name, network)
		for _, f := range used {
			if f.Address == mine {
				t.Errorf("%s was in use, and was given to %s", mine, name)
			}
		}
	}
	for name, network := range map[string]string{"c3": "web", "c4": "web", "c6": "later"} {
		addr, _ := a.addresses(t, name, network)
		if got := ends(t, a, addr); got != "held" {
			t.Errorf("%s of %s: %s", addr, name, got)
		}
	}
}
