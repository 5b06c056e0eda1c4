// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"sync"
	"testing"

	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/lab"
)

// known is a host as ipamlog hosts lists it.
type known struct {
	Name      string
	Alive     bool
	Stopped   bool
	TakenOver bool `json:"taken_over"`
	Since     *string
	Engine    *string
	Pools     []string
	Held      int
}

func hostOf(t *testing.T, at *site, name string) known {
	t.Helper()
	for _, h := range ask[[]known](t, at, "hosts") {
		if h.Name == name {
			return h
		}
	}
	t.Fatalf("ipamlog hosts does not list %s", name)
	return known{}
}

// TestFrozenDaemon stops a daemon for so long that its host is taken for dead and its
// addresses are taken over and given to others, while its engine asks it for more; and
// lets it go on. It takes nothing that is another's, and says what happened.
func TestFrozenDaemon(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	store := []string{"--cluster-store", etcdtest.Start(t).Endpoint()}
	a, b := newSite(t, l, "a", store...), newSite(t, l, "b", store...)
	for _, s := range []*site{a, b} {
		s.start(t)
	}
	lab.StartEngines(t, a.Host, b.Host)
	for _, s := range []*site{a, b} {
		s.create(t, "web", "--subnet", "10.50.0.0/24", "--gateway", "10.50.0.1", "--ipam-opt", "pool=web")
	}
	a.create(t, "alone", "--subnet", "10.51.0.0/24", "--ipam-opt", "pool=alone")
	for _, name := range []string{"stops", "stays"} {
		a.run(t, name, "web")
	}
	await(t, "the engine's version", func() (bool, error) { h := hostOf(t, b, "a"); return h.Alive && h.Engine != nil, nil })
	if o := b.ipamlog(t, "reclaim", "--host", "a", "--yes"); o.status != 1 || !strings.Contains(o.stderr, "host a is alive") {
		t.Fatalf("what a living host has was taken: %+v", o)
	}

	before := a.logSize(t, "ipamlog")
	if err := a.daemon.Pause(); err != nil {
		t.Fatal(err)
	}
	first, _ := a.addresses(t, "stops", "web")
	second, _ := a.addresses(t, "stays", "web")
	// What its engine asks meanwhile waits in the socket.
	var asking sync.WaitGroup
	asking.Go(func() { a.MustDocker(t, "rm", "-f", "stops") })
	asking.Go(func() { a.MustDocker(t, "network", "rm", "alone") })
	asking.Go(func() {
		if _, err := a.Docker("run", "-d", "--name", "late", "--network", "web", lab.Image); err != nil {
			t.Log(err) // it may be refused, but not given what is another's
		}
	})
	await(t, "the end of its lease", func() (bool, error) { return !hostOf(t, b, "a").Alive, nil })
	if h := hostOf(t, b, "a"); h.Stopped || h.TakenOver || h.Since == nil || h.Held != 4 || h.Engine != nil {
		t.Errorf("a dead host is told as %+v", h)
	}
	if list := ask[[]holding](t, b, "reclaim", "--host", "a", "--dry-run"); len(list) != 4 {
		t.Errorf("would be released: %+v", list)
	}
	o := b.ipamlog(t, "reclaim", "--host", "a", "--yes")
	if o.status != 0 || !strings.Contains(o.stdout, "host a is taken over: 4 holdings were ended in 2 pools") {
		t.Fatalf("%+v", o)
	}
	if h := hostOf(t, b, "a"); !h.TakenOver || h.Held != 0 || len(h.Pools) != 0 {
		t.Errorf("a host that was taken over is told as %+v", h)
	}
	b.MustDocker(t, "run", "-d", "--name", "heir1", "--network", "web", "--ip", first.String(), lab.Image)
	b.MustDocker(t, "run", "-d", "--name", "heir2", "--network", "web", "--ip", second.String(), lab.Image)

	if err := a.daemon.Continue(); err != nil {
		t.Fatal(err)
	}
	asking.Wait()
	a.saidInLog(t, "ipamlog", "the lease of this daemon was lost", before)
	a.saidInLog(t, "ipamlog", "joined anew", before)
	a.saidInLog(t, "ipamlog", "its addresses were taken over", before)
	a.saidInLog(t, "ipamlog", `"by":"b"`, before)

	// The container that goes on with an address of another's is parted from it by
	// people; all others are as the log has them.
	a.MustDocker(t, "rm", "-f", "stays")
	a.run(t, "anew", "web")
	sound(t, a, b)
	agree(t, a, b)
	for heir, address := range map[string]string{"heir1": first.String(), "heir2": second.String()} {
		if now, _ := b.addresses(t, heir, "web"); now.String() != address {
			t.Errorf("%s has %v, and not %s", heir, now, address)
		}
		if list := heldBy(t, b, heir); len(list) != 1 || list[0].To != nil {
			t.Errorf("%s held %+v", heir, list)
		}
	}

	a.removeAll(t)
	a.stop(t)
	if h := hostOf(t, b, "a"); h.Alive || !h.Stopped || h.TakenOver || h.Since == nil {
		t.Errorf("a host whose daemon stopped is told as %+v", h)
	}
}
