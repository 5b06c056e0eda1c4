// SPDX-License-Identifier: Apache-2.0

package events_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

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

func endpoint(n byte) events.AddressAllocated {
	e := allocated(n, false)
	e.Kind = events.Endpoint
	return e
}

func suspected(n byte) events.AddressSuspected {
	return events.AddressSuspected{Allocation: events.ID{15: n}, Address: addr}
}

func cleared(n byte) events.AddressCleared {
	return events.AddressCleared{Allocation: events.ID{15: n}, Address: addr}
}

func reclaimed(n byte) events.AddressReclaimed {
	return events.AddressReclaimed{Allocation: events.ID{15: n}, Address: addr}
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
	suspicious := func(commit byte, since time.Time, x events.Extra) events.Held {
		a := allocation(1, commit, false)
		a.Kind, a.Suspected, a.Extra = events.Endpoint, since, x
		return events.Held{a}
	}
	newer := endpoint(1)
	newer.Extra = extra
	h1 := events.HostJoined{Host: "h1", Machine: "a", Incarnation: 1, Extra: extra}
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
		"a suspicion": {[]events.Event{newer, suspected(1)}, func(g *events.Guards) {
			g.Held[addr] = events.Guarded[events.Held]{Value: suspicious(0, noon, extra), Revision: 20}
		}},
		"a suspicion cleared": {[]events.Event{newer, suspected(1), cleared(1)}, func(g *events.Guards) {
			g.Held[addr] = events.Guarded[events.Held]{Value: suspicious(0, time.Time{}, extra), Revision: 30}
		}},
		"suspected again": {[]events.Event{endpoint(1), suspected(1), cleared(1), suspected(1)}, func(g *events.Guards) {
			g.Held[addr] = events.Guarded[events.Held]{Value: suspicious(0, noon, nil), Revision: 40}
		}},
		"reclaimed":              {[]events.Event{endpoint(1), suspected(1), reclaimed(1)}, func(*events.Guards) {}},
		"suspected and released": {[]events.Event{endpoint(1), suspected(1), released(1)}, func(*events.Guards) {}},
		"the same endpoint anew is not suspected": {[]events.Event{endpoint(1), suspected(1), reclaimed(1), endpoint(1)}, func(g *events.Guards) {
			g.Held[addr] = events.Guarded[events.Held]{Value: suspicious(3, time.Time{}, nil), Revision: 40}
		}},
		"a conflict": {[]events.Event{events.AddressConflicted{Address: addr, Host: "h2", Holder: events.ID{15: 1}}}, func(*events.Guards) {}},
		"a host that left": {[]events.Event{h1, events.HostLeft{Host: "h1", Incarnation: 1}}, func(g *events.Guards) {
			g.Hosts["h1"] = events.Guarded[events.HostGuard]{Value: events.HostGuard{Machine: "a", Incarnation: 1, Left: noon, Extra: extra}, Revision: 20}
		}},
		"a host taken over": {[]events.Event{h1, events.HostTakenOver{Host: "h1", Incarnation: 2, By: "h2"}}, func(g *events.Guards) {
			g.Hosts["h1"] = events.Guarded[events.HostGuard]{Value: events.HostGuard{Machine: "a", Incarnation: 2, TakenOver: true, Extra: extra}, Revision: 20}
		}},
		"a host that left, taken over twice": {[]events.Event{
			h1, events.HostLeft{Host: "h1", Incarnation: 1}, events.HostTakenOver{Host: "h1", Incarnation: 2, By: "h2"}, events.HostTakenOver{Host: "h1", Incarnation: 3, By: "h3"},
		}, func(g *events.Guards) {
			g.Hosts["h1"] = events.Guarded[events.HostGuard]{Value: events.HostGuard{Machine: "a", Incarnation: 3, Left: noon, TakenOver: true, Extra: extra}, Revision: 40}
		}},
		"a host that comes back": {[]events.Event{
			h1, events.HostLeft{Host: "h1", Incarnation: 1}, events.HostTakenOver{Host: "h1", Incarnation: 2, By: "h2"}, events.HostJoined{Host: "h1", Machine: "a", Incarnation: 3},
		}, func(g *events.Guards) {
			g.Hosts["h1"] = events.Guarded[events.HostGuard]{Value: events.HostGuard{Machine: "a", Incarnation: 3}, Revision: 40}
		}},
		"a host that was taken over, adopted": {[]events.Event{
			h1, events.HostLeft{Host: "h1", Incarnation: 1}, events.HostTakenOver{Host: "h1", Incarnation: 2, By: "h2"}, events.HostAdopted{Host: "h1", Machine: "b", Incarnation: 3},
		}, func(g *events.Guards) {
			g.Hosts["h1"] = events.Guarded[events.HostGuard]{Value: events.HostGuard{Machine: "b", Incarnation: 3}, Revision: 40}
		}},
		"exhausted": {[]events.Event{events.PoolExhausted{Grant: grantID}}, func(*events.Guards) {}},
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
	joined, left := events.HostJoined{Host: "h1", Machine: "a", Incarnation: 5}, events.HostLeft{Host: "h1", Incarnation: 5}
	takenOver := events.HostTakenOver{Host: "h1", Incarnation: 6, By: "h2"}
	elsewhere := suspected(1)
	elsewhere.Address = addr.Next()
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
		"nobody suspected":                       {suspected(1)},
		"another suspected":                      {endpoint(1), suspected(2)},
		"suspected on another address":           {endpoint(1), elsewhere},
		"a gateway suspected":                    {allocated(1, true), suspected(1)},
		"a reservation suspected":                {reserved(1), suspected(1)},
		"suspected twice":                        {endpoint(1), suspected(1), suspected(1)},
		"suspected after its release":            {endpoint(1), released(1), suspected(1)},
		"cleared, and never suspected":           {endpoint(1), cleared(1)},
		"cleared twice":                          {endpoint(1), suspected(1), cleared(1), cleared(1)},
		"nobody cleared":                         {cleared(1)},
		"another cleared":                        {endpoint(1), suspected(1), cleared(2)},
		"reclaimed, and never suspected":         {endpoint(1), reclaimed(1)},
		"reclaimed, and cleared before":          {endpoint(1), suspected(1), cleared(1), reclaimed(1)},
		"reclaimed twice":                        {endpoint(1), suspected(1), reclaimed(1), reclaimed(1)},
		"nobody reclaimed":                       {reclaimed(1)},
		"another reclaimed":                      {endpoint(1), suspected(1), reclaimed(2)},
		"a host left that never joined":          {left},
		"a host left twice":                      {joined, left, left},
		"an older daemon left":                   {joined, events.HostLeft{Host: "h1", Incarnation: 4}},
		"a host left after it was taken over":    {joined, takenOver, left},
		"a host taken over that never joined":    {takenOver},
		"a host taken over that joined again":    {joined, events.HostJoined{Host: "h1", Machine: "a", Incarnation: 6}, takenOver},
		"a host taken over with a leap":          {joined, events.HostTakenOver{Host: "h1", Incarnation: 7, By: "h2"}},
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
	if g, err = fold(endpoint(1)); err != nil {
		t.Fatal(err)
	}
	read = g.Held[addr].Value
	for i, e := range []events.Event{suspected(1), cleared(1)} {
		if err := g.Apply(events.Record{Commit: commitOf(e), Revision: int64(100 + i)}); err != nil {
			t.Fatal(err)
		}
		if got, want := g.Suspected(), 1-i; got != want {
			t.Errorf("%d are suspected, not %d", got, want)
		}
		if !read[0].Suspected.IsZero() {
			t.Error("suspected under the reader")
		}
	}
}

// The writer's guards are made of the commit as it is before it is written: they must
// not know the time better than the log.
func TestGuardTimesAreTheLogs(t *testing.T) {
	c := commitOf(endpoint(1), suspected(1), events.HostJoined{Host: "h1", Machine: "a", Incarnation: 1}, events.HostLeft{Host: "h1", Incarnation: 1})
	c.Time = time.Date(2026, 11, 21, 14, 0, 0, 123456789, time.FixedZone("", 2*60*60))
	data, err := events.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	read, err := events.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	writers, readers := events.NewGuards(), events.NewGuards()
	if err := errors.Join(writers.Apply(events.Record{Commit: c, Revision: 1}), readers.Apply(events.Record{Commit: read, Revision: 1})); err != nil {
		t.Fatal(err)
	}
	if got, want := writers.Held[addr].Value[0].Suspected, noon; got != want || got != readers.Held[addr].Value[0].Suspected {
		t.Errorf("suspected since %v", got)
	}
	if got, want := writers.Hosts["h1"].Value.Left, noon; got != want || got != readers.Hosts["h1"].Value.Left {
		t.Errorf("left at %v", got)
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
