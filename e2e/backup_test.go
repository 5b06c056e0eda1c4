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
	heals(t, a, "a restore")
	if now := past(); now != was {
		t.Errorf("the past was\n%s\nand is\n%s", was, now)
	}
	mine, _ := a.addresses(t, "c5", "web")
	for _, f := range used {
		if f.Address == mine {
			t.Errorf("%s was in use, and was given to c5", mine)
		}
	}
	for _, name := range []string{"c3", "c4"} {
		addr, _ := a.addresses(t, name, "web")
		if got := ends(t, a, addr); got != "held" {
			t.Errorf("%s of %s: %s", addr, name, got)
		}
	}
}
