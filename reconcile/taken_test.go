// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/reconcile"
)

// robbed is a host that a take-over has taken grants away from.
type robbed struct {
	*actor.Host
	standing []actor.Standing
	taken    []actor.Taken

	mu       sync.Mutex
	asked    int // how often it was asked what was taken
	reopened []netip.Prefix
}

func (r *robbed) Standing(context.Context) ([]actor.Standing, error) { return r.standing, nil }

func (r *robbed) TakenAway(context.Context) ([]actor.Taken, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	return slices.Clone(r.taken), nil
}

func (r *robbed) Reopen(_ context.Context, ref actor.Ref) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reopened = append(r.reopened, ref.Subnet)
	return nil
}

func (r *robbed) questions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

// grantOf is a grant of a pool of its own.
func (b *bed) grantOf(subnet string) actor.Opened {
	pool, id := events.Pool{Space: events.Local, Subnet: netip.MustParsePrefix(subnet)}, b.log.Clock.NewID()
	return actor.Opened{
		Holding: actor.Holding{ID: id, Pool: pool, Allocation: events.Allocation{Grant: b.log.Clock.NewID(), Host: "h1"}},
		Ref:     actor.Ref{Space: events.Local, Pool: id, Subnet: pool.Subnet, Host: "h1"},
	}
}

// on is a network of a subnet, as the engine tells it.
func on(subnet string, endpoints ...string) engine.Network {
	n := network(fmt.Sprint(subnet, endpoints), endpoints...)
	n.IPAM.Pools[0].Subnet = netip.MustParsePrefix(subnet)
	return n
}

// TestTakenAway: each network that is left without a grant gets back the one that was its,
// if that is clear, and no other.
func TestTakenAway(t *testing.T) {
	b := newBed(t, reconcile.Report)
	later := func(n engine.Network) engine.Network {
		n.Created = time.Now().Add(48 * time.Hour)
		return n
	}
	for name, test := range map[string]struct {
		networks    []engine.Network
		open, taken []string // subnets
		reopened    []string
	}{
		"each has its own":                    {networks: []engine.Network{on("10.3.0.0/24")}, open: []string{"10.3.0.0/24"}, taken: []string{"10.4.0.0/24"}},
		"one has none":                        {networks: []engine.Network{on("10.4.0.0/24")}, open: []string{"10.3.0.0/24"}, taken: []string{"10.4.0.0/24"}, reopened: []string{"10.4.0.0/24"}},
		"two of a subnet, and one grant":      {networks: []engine.Network{on("10.4.0.0/24"), on("10.4.0.0/24")}, open: []string{"10.4.0.0/24"}, taken: []string{"10.4.0.0/24"}, reopened: []string{"10.4.0.0/24"}},
		"made after the take-over":            {networks: []engine.Network{later(on("10.4.0.0/24"))}, taken: []string{"10.4.0.0/24"}},
		"untold, and first":                   {networks: []engine.Network{on("0.0.0.0/24"), on("10.3.0.0/24")}, open: []string{"10.3.0.0/24", "10.4.0.0/24"}, taken: []string{"10.3.0.0/24"}},
		"untold, with a container":            {networks: []engine.Network{on("0.0.0.0/24", "10.4.0.2"), on("10.3.0.0/24")}, open: []string{"10.3.0.0/24"}, taken: []string{"10.5.0.0/24", "10.4.0.0/24"}, reopened: []string{"10.4.0.0/24"}},
		"untold, empty, and it may be two's":  {networks: []engine.Network{on("0.0.0.0/24")}, taken: []string{"10.5.0.0/24", "10.4.0.0/24"}},
		"untold, empty, and it can be one's":  {networks: []engine.Network{on("0.0.0.0/24")}, taken: []string{"10.5.0.0/24", "10.4.0.0/25"}, reopened: []string{"10.5.0.0/24"}},
		"untold, its container is in no pool": {networks: []engine.Network{on("0.0.0.0/24", "10.9.0.2")}, taken: []string{"10.5.0.0/24"}},
		"two untold, told by containers": {
			networks: []engine.Network{on("0.0.0.0/24"), on("0.0.0.0/24", "10.3.0.2")}, open: []string{"10.3.0.0/24", "10.4.0.0/24"}, taken: []string{"10.3.0.0/24"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			host := &robbed{Host: b.host, standing: []actor.Standing{{}}}
			for _, s := range test.open {
				host.standing[0].Grants = append(host.standing[0].Grants, b.grantOf(s))
			}
			for _, s := range test.taken {
				host.taken = append(host.taken, actor.Taken{Opened: b.grantOf(s), At: time.Now()})
			}
			b.engine.change(func() { b.engine.networks = test.networks })
			b.run(host, time.Hour, func(r *reconcile.Reconciler) { <-r.Looked() })
			var got []string
			for _, s := range host.reopened {
				got = append(got, s.String())
			}
			if !slices.Equal(got, test.reopened) {
				t.Errorf("opened again: %v, want %v", got, test.reopened)
			}
		})
	}
}

// run runs a reconciler of its own on a host while something is done.
func (b *bed) run(host reconcile.Host, every time.Duration, do func(*reconcile.Reconciler)) {
	r := b.reconciler(reconcile.Fix, every, time.Hour)
	ctx, stop := context.WithCancel(b.t.Context())
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx, host) })
	defer running.Wait()
	defer stop()
	do(r)
}

// TestTakenAway_seldom: the log is read again and again only where something has changed.
func TestTakenAway_seldom(t *testing.T) {
	b := newBed(t, reconcile.Report)
	b.stop() // its reconciler would look at this engine, too
	b.host = b.join("h1", "m1", nil)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = b.host.Run(ctx) })
	defer running.Wait()
	defer stop()
	host := &robbed{Host: b.host}
	b.engine.change(func() { b.engine.networks = []engine.Network{on("10.4.0.0/24")} })
	b.run(host, time.Millisecond, func(*reconcile.Reconciler) {
		b.engine.lookedAt(t, 200)
		n := host.questions()
		if n == 0 || n > 20 { // the pause doubles: after the 20th it is a quarter of an hour
			t.Errorf("asked %d times what was taken away", n)
		}
		b.engine.change(func() { b.engine.networks = append(b.engine.networks, on("10.5.0.0/24")) })
		eventually(t, "a question about the second network", func() bool { return host.questions() > n })
	})
}
