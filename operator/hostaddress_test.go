// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/operator"
)

func take(tb testing.TB, b *bed, host, pool, wish string) operator.HostAddress {
	tb.Helper()
	a, err := b.at(host).HostAddresses().Take(b.ctx(), pool, addr(wish))
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

func TestHostAddresses(t *testing.T) {
	b := newBed(t)
	pool := b.hosts("", "10.0.0.98/24", "10.0.0.102/24", "10.0.0.100").ID
	b.reserve("", "10.0.0.98")
	looked, err := b.at("h1").HostAddresses().Look(b.ctx(), "", netip.Addr{})
	if err != nil || !looked.Fresh || looked.Address != addr("10.0.0.99") || len(b.held(pool)) != 1 {
		t.Errorf("%+v, %v", looked, err)
	}
	first := take(t, b, "h1", "", "")
	if first.Prefix() != prefix("10.0.0.99/24") && first.Prefix().String() != "10.0.0.99/24" || first.Router != addr("10.0.0.100") || first.PoolName != "" || !first.Fresh {
		t.Errorf("%+v", first)
	}
	for _, wish := range []string{"", "10.0.0.99"} {
		if again := take(t, b, "h1", "10.0.0.0/24", wish); again.Fresh || again.Address != first.Address {
			t.Errorf("%+v", again)
		}
	}
	if next := take(t, b, "h2", "", ""); next.Address != addr("10.0.0.101") { // by number, past the router
		t.Errorf("%+v", next)
	}
	last := take(t, b, "h3", pool.String(), "10.0.0.102")
	before := b.keys()
	for name, c := range map[string]struct {
		host, pool, wish string
		mark             error
		want             string
	}{
		"all are held":   {"h4", "", "", nil, "all addresses that pool 10.0.0.0/24 keeps for hosts are held"},
		"held":           {"h4", "", "10.0.0.99", nil, "10.0.0.99 is held by host h1"},
		"reserved":       {"h4", "", "10.0.0.98", nil, "10.0.0.98 is held by a reservation (test)"},
		"the router":     {"h4", "", "10.0.0.100", nil, "10.0.0.100 is not kept for hosts in pool 10.0.0.0/24"},
		"not kept":       {"h4", "", "10.0.0.5", nil, "choose one of 10.0.0.98-10.0.0.102"},
		"another":        {"h1", "", "10.0.0.102", nil, "host h1 has 10.0.0.99 in pool 10.0.0.0/24 already: leave out --ip"},
		"no pool has it": {"h4", "", "10.1.0.5", operator.ErrNotFound, "no pool keeps 10.1.0.5 for hosts"},
		"no such pool":   {"h4", "web", "", operator.ErrNotFound, "there is no pool web"},
	} {
		t.Run(name, func(t *testing.T) {
			b := *b
			b.tb = t
			for _, ask := range []func(context.Context, string, netip.Addr) (operator.HostAddress, error){
				b.at(c.host).HostAddresses().Look, b.at(c.host).HostAddresses().Take,
			} {
				_, err := ask(b.ctx(), c.pool, addr(c.wish))
				b.refused(before, err, c.mark, c.want)
			}
		})
	}
	for range 2 { // the second has nothing left to do
		if err := b.at("h3").HostAddresses().GiveBack(b.ctx(), last); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(map[string]string{"10.0.0.98": "reserved test", "10.0.0.99": "host h1", "10.0.0.101": "host h2"}, b.held(pool)); diff != "" {
		t.Error(diff)
	}
	b.agree()
}

// Where several pools keep addresses for hosts, one is named.
func TestHostAddresses_pools(t *testing.T) {
	b := newBed(t)
	before := b.keys()
	_, err := b.at("h1").HostAddresses().Take(b.ctx(), "", netip.Addr{})
	b.refused(before, err, operator.ErrNotFound, "make a range with ipamlog host-range first")
	b.hosts("one", "10.0.0.4/24", "10.0.0.9/24", "10.0.0.1")
	b.hosts("two", "10.0.1.4/24", "10.0.1.9/24", "10.0.1.1")
	b.pool("three", "10.0.2.0/24", "h1")
	before = b.keys()
	_, err = b.at("h1").HostAddresses().Take(b.ctx(), "", netip.Addr{})
	b.refused(before, err, operator.ErrAmbiguous, "2 pools are meant by the addresses for hosts: one (")
	_, err = b.at("h1").HostAddresses().Take(b.ctx(), "three", netip.Addr{})
	b.refused(before, err, nil, "pool three keeps no addresses for hosts")
	for wish, pool := range map[string]string{"10.0.1.5": "", "10.0.0.4": "one"} {
		if a := take(t, b, "h1", pool, wish); a.Address != addr(wish) || !a.Fresh || a.PoolName == "" {
			t.Errorf("%+v", a)
		}
	}
	b.agree()
}

// What an import left without an owner is taken over by who names it, and by
// nobody else.
func TestHostAddresses_takeOver(t *testing.T) {
	b := newBed(t)
	pool := b.hosts("", "10.0.0.4/24", "10.0.0.5/24", "10.0.0.1").ID
	b.hold(pool, events.ID{}, events.Host, "10.0.0.4", "", "", 0)
	if a := take(t, b, "h1", "", ""); a.Address != addr("10.0.0.5") {
		t.Errorf("%+v", a)
	}
	if a := take(t, b, "h2", "", "10.0.0.4"); !a.Fresh {
		t.Errorf("%+v", a)
	}
	if diff := cmp.Diff(map[string]string{"10.0.0.4": "host h2", "10.0.0.5": "host h1"}, b.held(pool)); diff != "" {
		t.Error(diff)
	}
	b.agree()
}

// However many hosts ask at once, each has one address, and no two the same.
func TestHostAddresses_manyAtOnce(t *testing.T) {
	b := newBed(t)
	hosts := map[string]*operator.Operator{}
	for i := range 6 {
		name := fmt.Sprintf("h%d", i+1)
		hosts[name] = b.at(name)
	}
	round := 0
	rapid.Check(t, func(r *rapid.T) {
		round++
		name := fmt.Sprintf("p%d", round)
		size := rapid.IntRange(1, 12).Draw(r, "size")
		askers := rapid.SliceOfN(rapid.SampledFrom([]string{"h1", "h2", "h3", "h4", "h5", "h6"}), 1, 10).Draw(r, "askers")
		pool := done(t)(hosts["h1"].AddHostRange(b.ctx(), name, span(t, "10.0.0.10/24", fmt.Sprintf("10.0.0.%d/24", 9+size)), addr("10.0.0.1"))).ID
		var wg sync.WaitGroup
		var mu sync.Mutex
		given := map[string]map[netip.Addr]bool{}
		for _, host := range askers {
			wg.Go(func() {
				a, err := hosts[host].HostAddresses().Take(b.ctx(), name, netip.Addr{})
				mu.Lock()
				defer mu.Unlock()
				if given[host] == nil {
					given[host] = map[netip.Addr]bool{}
				}
				if err == nil {
					given[host][a.Address] = true
				} else if size >= len(askers) {
					r.Errorf("%s: %v", host, err)
				}
			})
		}
		wg.Wait()
		want, owner := map[string]string{}, map[netip.Addr]string{}
		for host, addresses := range given {
			if len(addresses) > 1 {
				r.Errorf("%s was told %v", host, addresses)
			}
			for a := range addresses {
				if other, twice := owner[a]; twice {
					r.Errorf("%s was told to %s and %s", a, host, other)
				}
				owner[a], want[a.String()] = host, "host "+host
			}
		}
		if diff := cmp.Diff(want, b.held(pool)); diff != "" {
			r.Error(diff)
		}
	})
	b.agree()
}
