// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/lab"
)

// TestReleasesWhileEtcdIsAway stops containers and removes a network while etcd does
// not answer, with the daemon running, killed, and starting: nothing of it stays held,
// and the log has each end where Docker made it.
func TestReleasesWhileEtcdIsAway(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	cluster := l.StartCluster(1)
	etcd := cluster.Members[0]
	a := startSite(t, l, "a", "--cluster-store", strings.Join(cluster.Endpoints(), ","))
	a.create(t, "n", "--subnet", "10.50.0.0/24")
	a.create(t, "gone", "--subnet", "10.51.0.0/24")
	for _, name := range []string{"c1", "c2", "c3", "stays"} {
		a.run(t, name, "n")
	}

	everyContainer(t, a)

	away := time.Now()
	if err := etcd.Pause(); err != nil {
		t.Fatal(err)
	}
	a.MustDocker(t, "rm", "-f", "c1")
	a.MustDocker(t, "network", "rm", "gone")
	a.kill(t)
	before := a.logSize(t, "ipamlog")
	started := make(chan error, 1)
	go func() { started <- a.daemon.Start() }()
	// It serves Docker, and refuses or keeps what it is asked.
	a.saidInLog(t, "ipamlog", "the store does not answer", before)
	a.MustDocker(t, "rm", "-f", "c2")
	a.saidInLog(t, "ipamlog", `"spooled":true`, before)
	if err := etcd.Continue(); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	a.MustDocker(t, "rm", "-f", "c3")
	await(t, "the releases", func() (bool, error) { return len(ask[[]holding](t, a, "holders", "10.50.0.0/24")) == 2, nil })
	sound(t, a)
	used := agree(t, a)
	if len(used) != 2 {
		t.Errorf("in use are %+v, not the gateway and one container alone", used)
	}
	// What comes less than a second late has the time of its commit.
	for _, c := range []string{"c1", "c2"} {
		for _, h := range heldBy(t, a, c) {
			if ended := h.To; ended == nil || ended.Before(away) || ended.After(back.Add(time.Second)) {
				t.Errorf("%s was removed between %s and %s, and the log says %v", c, away, back, ended)
			}
		}
	}
}
