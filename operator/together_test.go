// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/operator"
)

// Two people divide one subnet at once: what both said is there, in one pool.
func TestTwoOperators(t *testing.T) {
	b := newBed(t)
	const each = 8
	var wg sync.WaitGroup
	var mu sync.Mutex
	pools := map[events.ID]bool{}
	for person := range 2 {
		o := b.at(fmt.Sprintf("h%d", person))
		wg.Go(func() {
			for i := range each {
				first := 10 + 16*i + 4*person
				r, err := operator.ParseRange(fmt.Sprintf("10.0.0.%d/24", first), fmt.Sprintf("10.0.0.%d/24", first+1))
				if err != nil {
					t.Error(err)
					return
				}
				out, err := o.AddRange(b.ctx(), "", r, actor.Wish{})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				pools[out.ID] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(pools) != 1 {
		t.Fatalf("pools %v", pools)
	}
	for pool := range pools {
		g, _ := b.guards(pool)
		if got := len(g.Pool.Value.Ranges); got != 2*each {
			t.Errorf("%d ranges: %v", got, g.Pool.Value.Ranges)
		}
	}
	b.agree()
}

// While a daemon gives out addresses, ranges come and addresses are reserved. No
// address is held twice, and once the daemon has seen a change it keeps to it.
func TestOperatorAndDaemon(t *testing.T) {
	b := newBed(t)
	h := b.daemon("h2")
	request := actor.PoolRequest{Space: events.Local, Subnet: prefix("10.0.0.0/22")}
	grant, err := h.RequestPool(b.ctx(), request)
	if err != nil {
		t.Fatal(err)
	}
	type given struct {
		addr     netip.Addr
		revision int64
	}
	var (
		mu   sync.Mutex
		all  []given
		stop = make(chan struct{})
		wg   sync.WaitGroup
	)
	for worker := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				mac := events.MAC{2, byte(worker), 0, 0, byte(n >> 8), byte(n)}
				a, err := h.RequestAddress(b.ctx(), grant.Ref, actor.AddressRequest{Asking: actor.AskEndpoint, MAC: mac})
				if errors.Is(err, actor.ErrExhausted) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				all = append(all, given{a.Address, a.Revision})
				mu.Unlock()
				if n%4 == 0 {
					continue // a few stay
				}
				if _, err := h.ReleaseAddress(b.ctx(), grant.Ref, a.Address); err != nil {
					t.Error(err)
				}
			}
		})
	}
	// seen waits until the daemon knows what the log holds now.
	seen := func() int64 {
		g, err := h.RequestPool(b.ctx(), request)
		if err != nil {
			t.Error(err)
		}
		return g.Revision
	}
	o := b.at("h1")
	var hosts, containers operator.Range
	for tries := 0; ; tries++ { // until no container is in the way
		hosts = span(t, "10.0.3.100/22", "10.0.3.110/22")
		if _, err = o.AddHostRange(b.ctx(), "", hosts, addr("10.0.3.254")); err == nil || tries == 20 {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	seenHosts := seen()
	containers = span(t, "10.0.2.0/22", "10.0.2.255/22")
	done(t)(o.AddRange(b.ctx(), "", containers, actor.Wish{}))
	seenContainers := seen()
	kept := span(t, "10.0.2.40/22", "10.0.2.49/22")
	_, err = o.Reserve(b.ctx(), "", kept.IPRange, "in between")
	reserved := err == nil // else a container was there already
	seenReserved := seen()
	for {
		mu.Lock()
		enough := len(all) > 0 && slices.ContainsFunc(all, func(g given) bool { return g.revision > seenReserved+20 })
		mu.Unlock()
		if enough || t.Failed() {
			break
		}
	}
	close(stop)
	wg.Wait()
	for _, g := range all {
		switch {
		case g.revision > seenHosts && (hosts.Contains(g.addr) || g.addr == addr("10.0.3.254")):
			t.Errorf("@%d: %s was kept for hosts since @%d", g.revision, g.addr, seenHosts)
		case g.revision > seenContainers && !containers.Contains(g.addr):
			t.Errorf("@%d: %s is not in the range since @%d", g.revision, g.addr, seenContainers)
		case reserved && g.revision > seenReserved && kept.Contains(g.addr):
			t.Errorf("@%d: %s was reserved at @%d", g.revision, g.addr, seenReserved)
		}
	}
	t.Logf("%d addresses given out, reserved: %t", len(all), reserved)
	b.agree() // the log has no address twice, or it would not fold
}
