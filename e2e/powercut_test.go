// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/lab"
)

var cutsFlag = flag.Int("cuts", 4, "how often the power of each host is cut")

// household is a host whose power is cut again and again, and its users, who do not
// mind: each does one thing after the other.
type household struct {
	*site
	on    sync.RWMutex // held for reading while somebody does something
	begun chan struct{}
	users sync.WaitGroup
}

// do runs a docker command, which may fail in any way.
func (h *household) do(args ...string) {
	h.on.RLock()
	defer h.on.RUnlock()
	select {
	case h.begun <- struct{}{}:
	default:
	}
	_, _ = h.Docker(args...)
}

// user has a few containers come and go until ctx ends. Some come back by themselves
// with the engine.
func (h *household) user(ctx context.Context, number int, r *rand.Rand) {
	for ctx.Err() == nil {
		name := fmt.Sprintf("u%d-%d", number, r.IntN(3))
		switch r.IntN(8) {
		case 0, 1, 2:
			h.do("rm", "-f", name)
			h.do("run", "-d", "--restart", []string{"no", "always"}[r.IntN(2)], "--name", name, "--network", "n1", lab.Image)
		case 3:
			h.do("stop", "-t", "0", name)
		case 4:
			h.do("restart", "-t", "0", name)
		case 5:
			h.do("network", "connect", "n2", name)
		case 6:
			h.do("network", "disconnect", "n2", name)
		case 7:
			network := fmt.Sprintf("own%d", number)
			h.do("network", "create", "--ipam-driver", driver, "--subnet", fmt.Sprintf("10.6%d.0.0/28", number), network)
			h.do("network", "connect", network, name)
			h.do("rm", "-f", name)
			h.do("network", "rm", network)
		}
	}
}

// TestPowerCut ends everything on a host at once, at random moments and again and
// again. Whenever it has come back, the log, the guards and the engine agree.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	t.Logf("-seed %d -cuts %d", *seedFlag, *cutsFlag)
	for name, store := range map[string]func(l *lab.Lab) []string{
		"the store is the host's own": func(*lab.Lab) []string { return nil },
		"the store lives on": func(l *lab.Lab) []string {
			return []string{"--cluster-store", strings.Join(l.StartCluster(1).Endpoints(), ",")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			h := &household{site: startReconciling(t, l, "a", store(l)...), begun: make(chan struct{})}
			h.cutAgainAndAgain(t)
		})
	}
}

func (h *household) cutAgainAndAgain(t *testing.T) {
	t.Helper()
	random := rand.New(rand.NewPCG(*seedFlag, 0))
	h.create(t, "n1", "--subnet", "10.50.0.0/27", "--ipam-opt", "quarantine=0", "--ipv6", "--subnet", "fd50::/64")
	h.create(t, "n2", "--subnet", "10.51.0.0/27", "--aux-address", "printer=10.51.0.9")
	ctx, stop := context.WithCancel(t.Context())
	defer h.users.Wait()
	defer stop()
	for i := range 3 {
		h.users.Go(func() { h.user(ctx, i, rand.New(rand.NewPCG(*seedFlag, uint64(i+1)))) })
	}
	for cut := range *cutsFlag {
		for range 1 + random.IntN(12) {
			<-h.begun
		}
		<-time.After(time.Duration(random.Int64N(int64(300 * time.Millisecond)))) // the moment, not a wait for anything
		if err := h.Reboot(); err != nil {
			t.Fatal(err)
		}
		h.on.Lock() // nobody begins anything before all is looked at
		h.start(t)
		lab.StartEngines(t, h.Host)
		heals(t, h.site, fmt.Sprintf("power cut %d", cut+1))
		if o := h.ipamlog(t, "verify"); o.status != 0 {
			t.Errorf("verify after power cut %d: %s%s", cut+1, o.stdout, o.stderr)
		}
		h.on.Unlock()
		if t.Failed() {
			return
		}
	}
	stop()
	h.users.Wait()
	h.removeAll(t)
	h.MustDocker(t, "network", "prune", "-f")
	await(t, "nothing to be held any more", func() (bool, error) {
		return len(ask[[]pool](t, h.site, "pools")) == 0, nil
	})
}
