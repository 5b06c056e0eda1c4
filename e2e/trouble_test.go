// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/lab"
)

// TestEtcdInTrouble has a cluster of three lose its leader under load, be away for
// longer than a lease, and be away while the daemon starts, with one engine that goes
// on using it. Nobody sees to the daemon meanwhile.
func TestEtcdInTrouble(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	cluster := l.StartCluster(3)
	a := startSite(t, l, "a", "--cluster-store", strings.Join(cluster.Endpoints(), ","))
	a.create(t, "web", "--subnet", "10.50.0.0/24")
	for _, name := range []string{"c1", "c2", "stays"} {
		a.run(t, name, "web")
	}
	everyContainer(t, a)
	killAll := func() {
		t.Helper()
		for _, m := range cluster.Members {
			if err := m.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	n := 0
	refusal := func() string {
		t.Helper()
		n++
		begun := time.Now()
		out, err := a.Docker("run", "-d", "--name", fmt.Sprintf("refused%d", n), "--network", "web", lab.Image)
		if err == nil {
			t.Fatalf("without etcd a container was started: %s", out)
		}
		// Docker gives up on a driver after 15 s and more.
		if took := time.Since(begun); took > 14*time.Second {
			t.Errorf("the refusal took %v", took)
		}
		return err.Error()
	}

	t.Log("its leader dies, twice")
	a.leaderDies(t, cluster)

	t.Log("it is away for longer than a lease")
	killAll()
	a.MustDocker(t, "rm", "-f", "c1")
	if said := refusal(); !strings.Contains(said, "The store d") || !strings.Contains(said, ": check that etcd is up and has a leader, then try again") {
		t.Errorf("Docker says: %s", said)
	}
	await(t, "the end of the lease", func() (bool, error) {
		return strings.Contains(refusal(), "the lease of this daemon has ended"), nil
	})
	if err := cluster.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "the release", func() (bool, error) { return gaveBack(t, a, "c1"), nil })
	a.runs(t, "after")
	if log, err := os.ReadFile(a.logFile("ipamlog")); err != nil || bytes.Count(log, []byte(`"message":"serving"`)) != 1 {
		t.Errorf("the daemon did not go on by itself: %v", err)
	}

	t.Log("it is away while the daemon starts")
	killAll()
	a.kill(t)
	before := a.logSize(t, "ipamlog")
	started := make(chan error, 1)
	go func() { started <- a.daemon.Start() }()
	a.saidInLog(t, "ipamlog", "the store does not answer, trying again", before)
	if said := refusal(); !strings.Contains(said, "Ipamlog is starting and waits for its store: check that etcd is up, and ipamlog's log") {
		t.Errorf("Docker says: %s", said)
	}
	a.MustDocker(t, "rm", "-f", "c2")
	if err := cluster.Start(); err != nil {
		t.Fatal(err)
	}
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	a.runs(t, "last")
	await(t, "the release", func() (bool, error) { return gaveBack(t, a, "c2"), nil })
	sound(t, a)
	agree(t, a)
}

// gaveBack says whether what a container held is given back.
func gaveBack(t *testing.T, s *site, container string) bool {
	t.Helper()
	o := s.ipamlog(t, "history", "host:"+s.Name(), "-o", "json")
	if o.status != 0 {
		return false // the store is not quite back
	}
	for _, a := range decode[[]attributed](t, o.stdout) {
		if a.Container != nil && deref(a.Container.Name) == container {
			return a.To != nil
		}
	}
	return false
}

// runs starts a container, as a person would who tries again.
func (s *site) runs(t *testing.T, name string) {
	t.Helper()
	await(t, "container "+name, func() (bool, error) {
		_, err := s.Docker("run", "-d", "--name", name, "--network", "web", lab.Image)
		if err != nil {
			t.Log(err)
			_, _ = s.Docker("rm", "-f", name)
		}
		return err == nil, nil
	})
}

// leaderDies kills the leader while many ask, and the next one.
func (s *site) leaderDies(t *testing.T, cluster *lab.Cluster) {
	t.Helper()
	pool, err := s.plugin(t).call(t.Context(), "RequestPool", object{
		"AddressSpace": "ipamlog-local", "Pool": "10.48.0.0/20", "Options": object{"pool": direct, "quarantine": "0", "pick": "lowest"},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var users sync.WaitGroup
	defer users.Wait()
	defer stop()
	var callers []*caller
	var answered atomic.Int64
	for i := range 4 {
		who := &caller{plugin: s.plugin(t), poolID: pool.PoolID, held: map[netip.Addr]string{}, back: map[string]bool{}}
		callers = append(callers, who)
		random := rand.New(rand.NewPCG(*seedFlag, uint64(i)))
		users.Go(func() {
			for ctx.Err() == nil {
				var err error
				if random.IntN(16) >= len(who.held) {
					err = who.request(context.WithoutCancel(ctx), random)
				} else {
					err = who.release(context.WithoutCancel(ctx))
				}
				switch {
				case err == nil:
					answered.Add(1)
				case !errors.Is(err, errRefused) || !strings.Contains(err.Error(), "check that etcd is up and has a leader, then try again"):
					t.Error(err)
					return
				default:
					who.cut++
				}
			}
		})
	}
	for range 2 {
		enough := answered.Load() + 50
		await(t, "load", func() (bool, error) { return answered.Load() >= enough, nil })
		leader, err := cluster.Leader()
		if err != nil {
			t.Fatal(err)
		}
		if err := leader.Kill(); err != nil {
			t.Fatal(err)
		}
		if _, err := cluster.Leader(); err != nil {
			t.Fatal(err)
		}
		if err := leader.Start(); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	users.Wait()
	refused := 0
	for _, who := range callers {
		refused += who.cut
	}
	t.Logf("%d requests were answered, and %d refused", answered.Load(), refused)
	// What was refused without its fate being known is settled by then: its address is
	// nobody's.
	held := func() []fact {
		return only(factsOf(ask[[]holding](t, s, "holders", "10.48.0.0/20")), func(f fact) bool { return f.Pool == direct })
	}
	want := 0
	for _, who := range callers {
		want += len(who.held)
	}
	await(t, "the callers' addresses to be all", func() (bool, error) { return len(held()) == want, nil })
	check(t, callers, held())
	if _, err := s.plugin(t).call(t.Context(), "ReleasePool", object{"PoolID": pool.PoolID}); err != nil {
		t.Error(err)
	}
}
