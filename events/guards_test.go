// SPDX-License-Identifier: Apache-2.0

package events_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/events"
)

var (
	pool = events.PoolCreated{Space: events.Local, Name: "web", Subnet: netip.MustParsePrefix("10.0.0.0/24"), Policy: events.DefaultPolicy()}
	addr = netip.MustParseAddr("10.0.0.7")
	open = events.GrantOpened{Grant: grantID, Host: "h1"}
)

func allocated(n byte, shared bool) events.AddressAllocated {
	return events.AddressAllocated{Allocation: events.ID{15: n}, Address: addr, Kind: events.Gateway, Shared: shared, Host: "h1", Grant: grantID}
}

func reserved(n byte) events.AddressReserved {
	return events.AddressReserved{Allocation: events.ID{15: n}, Address: addr, Why: "the printer"}
}

func unreserved(n byte) events.AddressUnreserved {
	return events.AddressUnreserved{Allocation: events.ID{15: n}, Address: addr}
}

// divided is a change of the layout: of one that gives out a range alone.
func divided(kept bool, from, to string) events.PoolChanged {
	return events.PoolChanged{Space: events.Local, Kept: kept, Layout: events.Layout{
		Ranges: []netipx.IPRange{netipx.IPRangeFrom(netip.MustParseAddr(from), netip.MustParseAddr(to))},
	}}
}

func released(n byte) events.AddressReleased {
	return events.AddressReleased{Allocation: events.ID{15: n}, Address: addr, Reason: events.Released}
}

// fold applies each event as a record of its own, at revisions 10, 20, 30...
func fold(list ...events.Event) (events.Guards, error) {
	g := events.NewGuards()
	for i, e := range list {
		c := commitOf(e)
		c.ID = events.ID{0: 1, 15: byte(i)}
		if err := g.Apply(events.Record{Commit: c, Revision: int64(10 * (i + 1))}); err != nil {
			return g, err
		}
	}
	return g, nil
}

func TestGuardsFold(t *testing.T) {
	allocation := func(n, commit byte, shared bool) events.Allocation {
		return events.Allocation{ID: events.ID{15: n}, Kind: events.Gateway, Shared: shared, Host: "h1", Grant: grantID, Commit: events.ID{0: 1, 15: commit}}
	}
	extra := events.Extra{"x": raw("1")}
	for name, tc := range map[string]struct {
		list []events.Event
		want func(*events.Guards)
	}{
		"nothing": {nil, func(*events.Guards) {}},
		"a pool": {[]events.Event{pool}, func(g *events.Guards) {
			g.Pool = events.Guarded[events.Pool]{Value: events.Pool{Space: pool.Space, Name: pool.Name, Subnet: pool.Subnet, Policy: pool.Policy}, Revision: 10}
		}},
		"a retired pool": {[]events.Event{pool, events.PoolRetired{Space: events.Local}}, func(*events.Guards) {}},
		"a grant": {[]events.Event{open}, func(g *events.Guards) {
			g.Grants[grantID] = events.Guarded[events.Grant]{Value: events.Grant{Host: "h1", State: events.StateOpen}, Revision: 10}
		}},
		"a closing grant": {[]events.Event{events.GrantOpened{Grant: grantID, Host: "h1", Extra: extra}, events.GrantClosing{Grant: grantID}}, func(g *events.Guards) {
			g.Grants[grantID] = events.Guarded[events.Grant]{Value: events.Grant{Host: "h1", State: events.StateClosing, Extra: extra}, Revision: 20}
		}},
		"a closed grant": {[]events.Event{open, events.GrantClosing{Grant: grantID}, events.GrantClosed{Grant: grantID}}, func(*events.Guards) {}},
		"reopened while closing": {[]events.Event{open, events.GrantClosing{Grant: grantID}, events.GrantReopened{Grant: grantID, Host: "h1"}}, func(g *events.Guards) {
			g.Grants[grantID] = events.Guarded[events.Grant]{Value: events.Grant{Host: "h1", State: events.StateOpen}, Revision: 30}
		}},
		"reopened after all": {[]events.Event{events.GrantReopened{Grant: grantID, Host: "h1"}}, func(g *events.Guards) {
			g.Grants[grantID] = events.Guarded[events.Grant]{Value: events.Grant{Host: "h1", State: events.StateOpen}, Revision: 10}
		}},
		"one holding": {[]events.Event{allocated(1, false)}, func(g *events.Guards) {
			g.Held[addr] = events.Guarded[events.Held]{Value: events.Held{allocation(1, 0, false)}, Revision: 10}
		}},
		"three shared, the middle one gone": {[]events.Event{allocated(1, true), allocated(2, true), allocated(3, true), released(2)}, func(g *events.Guards) {
			g.Held[addr] = events.Guarded[events.Held]{Value: events.Held{allocation(1, 0, true), allocation(3, 2, true)}, Revision: 40}
		}},
		"all gone": {[]events.Event{allocated(1, true), allocated(2, true), released(1), released(2)}, func(*events.Guards) {}},
		"again": {[]events.Event{allocated(1, false), released(1), allocated(1, false)}, func(g *events.Guards) {
			g.Held[addr] = events.Guarded[events.Held]{Value: events.Held{allocation(1, 2, false)}, Revision: 30}
		}},
		"a pool laid out": {[]events.Event{pool, divided(true, "10.0.0.5", "10.0.0.9"), events.PoolChanged{Space: events.Local, Layout: events.Layout{Router: addr}}}, func(g *events.Guards) {
			g.Pool = events.Guarded[events.Pool]{Value: events.Pool{Space: pool.Space, Name: pool.Name, Subnet: pool.Subnet, Policy: pool.Policy, Layout: events.Layout{Router: addr}}, Revision: 30}
		}},
		"a change keeps what is not its own": {[]events.Event{events.PoolCreated{Space: events.Local, Subnet: pool.Subnet, Policy: pool.Policy, Node: "h2", Extra: extra}, divided(true, "10.0.0.5", "10.0.0.9")}, func(g *events.Guards) {
			g.Pool = events.Guarded[events.Pool]{Value: events.Pool{
				Space: pool.Space, Subnet: pool.Subnet, Policy: pool.Policy, Node: "h2", Kept: true, Extra: extra, Layout: divided(true, "10.0.0.5", "10.0.0.9").Layout,
			}, Revision: 20}
		}},
		"kept, and no more, and gone": {[]events.Event{pool, divided(true, "10.0.0.5", "10.0.0.9"), divided(false, "10.0.0.5", "10.0.0.9"), events.PoolRetired{Space: events.Local}}, func(*events.Guards) {}},
		"a reservation": {[]events.Event{reserved(1)}, func(g *events.Guards) {
			g.Held[addr] = events.Guarded[events.Held]{Value: events.Held{{ID: events.ID{15: 1}, Kind: events.Reserved, Why: "the printer", Commit: events.ID{0: 1}}}, Revision: 10}
		}},
		"a reservation given back": {[]events.Event{reserved(1), unreserved(1)}, func(*events.Guards) {}},
		"exhausted":                {[]events.Event{events.PoolExhausted{Grant: grantID}}, func(*events.Guards) {}},
		"a host, started twice, replaced": {[]events.Event{
			events.HostJoined{Host: "h1", Machine: "a", Incarnation: 1},
			events.HostJoined{Host: "h1", Machine: "a", Incarnation: 2},
			events.HostAdopted{Host: "h1", Machine: "b", Incarnation: 3},
		}, func(g *events.Guards) {
			g.Hosts["h1"] = events.Guarded[events.HostGuard]{Value: events.HostGuard{Machine: "b", Incarnation: 3}, Revision: 30}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := fold(tc.list...)
			if err != nil {
				t.Fatal(err)
			}
			want := events.NewGuards()
			tc.want(&want)
			if diff := cmp.Diff(want, got, equate); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestGuardsContradictions(t *testing.T) {
	closing, closed := events.GrantClosing{Grant: grantID}, events.GrantClosed{Grant: grantID}
	for name, list := range map[string][]events.Event{
		"a pool created twice":                   {pool, pool},
		"a pool retired that never was":          {events.PoolRetired{Space: events.Local}},
		"a pool retired twice":                   {pool, events.PoolRetired{Space: events.Local}, events.PoolRetired{Space: events.Local}},
		"a grant opened twice":                   {open, open},
		"a grant opened while closing":           {open, closing, open},
		"a grant reopened while open":            {open, events.GrantReopened{Grant: grantID}},
		"a grant closing that never was":         {closing},
		"a grant closing twice":                  {open, closing, closing},
		"a grant closed while open":              {open, closed},
		"a grant closed that never was":          {closed},
		"an address held, allocated":             {allocated(1, false), allocated(2, false)},
		"an address held alone, shared":          {allocated(1, false), allocated(2, true)},
		"an address shared, allocated alone":     {allocated(1, true), allocated(2, false)},
		"an address released that is free":       {released(1)},
		"an address released by another":         {allocated(1, false), released(2)},
		"an address released twice":              {allocated(1, false), released(1), released(1)},
		"a shared address released by a third":   {allocated(1, true), allocated(2, true), released(3)},
		"a pool changed that never was":          {divided(false, "10.0.0.5", "10.0.0.9")},
		"a pool changed after its end":           {pool, events.PoolRetired{Space: events.Local}, divided(false, "10.0.0.5", "10.0.0.9")},
		"a range outside of the subnet":          {pool, divided(false, "10.0.1.5", "10.0.1.9")},
		"a range that leaves the subnet":         {pool, divided(false, "10.0.0.5", "10.0.1.9")},
		"a range of another family":              {pool, divided(false, "fd00::5", "fd00::9")},
		"an exclusion outside of the subnet":     {pool, events.PoolChanged{Space: events.Local, Layout: events.Layout{Exclude: divided(false, "10.0.1.5", "10.0.1.9").Ranges}}},
		"host ranges outside of the subnet":      {pool, events.PoolChanged{Space: events.Local, Layout: events.Layout{HostRanges: divided(false, "10.0.1.5", "10.0.1.9").Ranges}}},
		"a router outside of the subnet":         {pool, events.PoolChanged{Space: events.Local, Layout: events.Layout{Router: netip.MustParseAddr("10.0.1.1")}}},
		"a kept pool retired":                    {pool, divided(true, "10.0.0.5", "10.0.0.9"), events.PoolRetired{Space: events.Local}},
		"a pool kept from the start, retired":    {events.PoolCreated{Space: events.Local, Subnet: pool.Subnet, Policy: pool.Policy, Kept: true}, events.PoolRetired{Space: events.Local}},
		"an address reserved that is held":       {allocated(1, false), reserved(2)},
		"an address reserved that is shared":     {allocated(1, true), reserved(2)},
		"an address reserved twice":              {reserved(1), reserved(2)},
		"a reserved address allocated":           {reserved(1), allocated(2, true)},
		"a reservation given back twice":         {reserved(1), unreserved(1), unreserved(1)},
		"a reservation that is another":          {reserved(1), unreserved(2)},
		"an address of an earlier holding freed": {allocated(1, false), released(1), allocated(2, false), released(1)},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := fold(list[:len(list)-1]...); err != nil {
				t.Fatalf("before the last: %v", err)
			}
			_, err := fold(list...)
			if !errors.Is(err, events.ErrContradiction) {
				t.Fatalf("%v", err)
			}
			last := events.Record{Revision: int64(10 * len(list))}
			if !strings.Contains(err.Error(), last.Name(0)) || !strings.Contains(err.Error(), list[len(list)-1].Type()) {
				t.Errorf("the error does not name the event: %v", err)
			}
		})
	}
}

func TestGuardsStopAtTheUnknown(t *testing.T) {
	_, err := fold(pool, events.Unknown{Name: "pool.split", Raw: raw(`{"type":"pool.split"}`)})
	if !errors.Is(err, events.ErrUnknownEvent) {
		t.Fatal(err)
	}
	for _, want := range []string{"20.0", "pool.split", "h1", "1.2.0"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
}

// A value once read stays as it was, whatever is folded after.
func TestGuardValuesAreNotRewritten(t *testing.T) {
	g, err := fold(allocated(1, true), allocated(2, true), allocated(3, true))
	if err != nil {
		t.Fatal(err)
	}
	read := g.Held[addr].Value
	before := slices.Clone(read)
	for i, e := range []events.Event{released(2), allocated(4, true), released(1), allocated(5, true)} {
		if err := g.Apply(events.Record{Commit: commitOf(e), Revision: int64(100 + i)}); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(before, read, equate); diff != "" {
		t.Errorf("changed under the reader: %s", diff)
	}
}

func TestHeldAdmits(t *testing.T) {
	alone, shared := events.Held{{Shared: false}}, events.Held{{Shared: true}, {Shared: true}}
	for _, tc := range []struct {
		held   events.Held
		shared bool
		want   bool
	}{
		{nil, false, true},
		{nil, true, true},
		{alone, false, false},
		{alone, true, false},
		{shared, false, false},
		{shared, true, true},
		{append(slices.Clone(shared), alone...), true, false},
	} {
		if got := tc.held.Admits(tc.shared); got != tc.want {
			t.Errorf("%+v admits shared=%v: %v", tc.held, tc.shared, got)
		}
	}
}
