// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/lab"
)

var (
	seedFlag  = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the random moments")
	killsFlag = flag.Int("kills", 12, "how often the daemon is killed")
)

// crowd is many users at once. Each does one thing after the other; nobody
// begins anything while somebody looks.
type crowd struct {
	site    *site
	looking sync.RWMutex
	begun   chan struct{} // something was begun just now
	users   sync.WaitGroup

	mu           sync.Mutex
	done, failed int
}

// do runs a docker command. It may fail: the daemon is killed all the time.
func (c *crowd) do(ctx context.Context, t *testing.T, args ...string) {
	t.Helper()
	if ctx.Err() != nil {
		return
	}
	c.looking.RLock()
	defer c.looking.RUnlock()
	select {
	case c.begun <- struct{}{}:
	default:
	}
	_, err := c.site.Docker(args...)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done++
	if err != nil {
		c.failed++
		t.Log(err)
	}
}

// runner starts, stops and removes containers until ctx ends.
func (c *crowd) runner(ctx context.Context, t *testing.T, name, network string) {
	t.Helper()
	for i := 0; ctx.Err() == nil; i++ {
		container := fmt.Sprintf("%s-%d", name, i)
		c.do(ctx, t, "run", "-d", "--name", container, "--network", network, lab.Image)
		c.do(ctx, t, "stop", container)
		c.do(ctx, t, "start", container)
		if i%2 == 0 { // others stay, so that the pool fills
			c.do(ctx, t, "rm", "-f", container)
		}
	}
}

// mover takes one container in and out of a network until ctx ends: more asks
// and releases in less time.
func (c *crowd) mover(ctx context.Context, t *testing.T, container, network string) {
	t.Helper()
	for ctx.Err() == nil {
		c.do(ctx, t, "network", "connect", network, container)
		c.do(ctx, t, "network", "disconnect", network, container)
	}
}

// direct is the pool of those who call the daemon without an engine.
const direct = "direct"

// TestKilled kills the daemon at random moments while many use it. The engine
// is not started again, nor are its containers.
func TestKilled(t *testing.T) {
	t.Parallel()
	t.Logf("-seed %d", *seedFlag)
	random := rand.New(rand.NewPCG(*seedFlag, 0))
	a := startSite(t, lab.New(t), "a")
	a.create(t, "home", "--subnet", "10.49.0.0/24")
	a.create(t, "busy", "--subnet", "10.50.0.0/24", "--ipam-opt", "quarantine=0", "--ipam-opt", "pick=lowest")

	c := &crowd{site: a, begun: make(chan struct{})}
	ctx, stop := context.WithCancel(t.Context())
	defer c.users.Wait()
	defer stop()
	for i := range 2 {
		mover := fmt.Sprintf("m%d", i)
		a.run(t, mover, "home")
		c.users.Go(func() { c.mover(ctx, t, mover, "busy") })
		c.users.Go(func() { c.runner(ctx, t, fmt.Sprintf("r%d", i), "busy") })
	}
	pool, err := a.plugin(t).call(t.Context(), "RequestPool", object{
		"AddressSpace": "ipamlog-local", "Pool": "10.48.0.0/20", "Options": object{"pool": direct, "quarantine": "0", "pick": "lowest"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var callers []*caller
	for i := range 4 {
		who := &caller{plugin: a.plugin(t), poolID: pool.PoolID, held: map[netip.Addr]string{}, back: map[string]bool{}}
		callers = append(callers, who)
		own := rand.New(rand.NewPCG(*seedFlag, uint64(i+1)))
		c.users.Go(func() { c.callOn(ctx, t, who, own) })
	}
	lost := 0
	for range *killsFlag {
		<-c.begun
		<-time.After(time.Duration(random.Int64N(int64(400 * time.Millisecond)))) // the moment, not a wait for anything
		a.kill(t)
		a.start(t)
		c.looking.Lock()
		held := sound(t, a)
		check(t, callers, only(held, func(f fact) bool { return f.Pool == direct }))
		lost = len(only(held, func(f fact) bool { return f.Pool != direct }))
		c.looking.Unlock()
		if t.Failed() {
			t.FailNow()
		}
	}
	stop()
	c.users.Wait()
	t.Logf("%d kills, %d docker commands of which %d failed, %d addresses whose release was lost", *killsFlag, c.done, c.failed, lost)
	for _, who := range callers {
		t.Logf("a caller has given back %d addresses, has %d, and was cut off %d times", len(who.back), len(who.held), who.cut)
	}
	if c.failed*2 > c.done {
		t.Errorf("%d of %d docker commands failed", c.failed, c.done)
	}

	a.run(t, "last", "busy")
	a.removeAll(t)
	for _, network := range []string{"busy", "home"} {
		if _, err := a.Docker("network", "rm", network); err != nil {
			// An attempt that the kill cut short may leave the engine with an endpoint of
			// nobody's, which it looks for when it starts.
			t.Log(err)
			if err := a.StopEngine(); err != nil {
				t.Fatal(err)
			}
			lab.StartEngines(t, a.Host)
			a.MustDocker(t, "network", "rm", network)
		}
	}
	if _, err := a.plugin(t).call(t.Context(), "ReleasePool", object{"PoolID": pool.PoolID}); err != nil {
		t.Error(err)
	}
	if left := agree(t, a); len(left) > 0 {
		t.Errorf("all networks are removed, and still in use are %+v", left)
	}
}

// removeAll removes every container.
func (s *site) removeAll(t *testing.T) {
	t.Helper()
	containers, err := s.Containers()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"rm", "-f"}
	for _, c := range containers {
		args = append(args, c.ID)
	}
	s.MustDocker(t, args...)
}
