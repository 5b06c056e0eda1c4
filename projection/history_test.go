// SPDX-License-Identifier: Apache-2.0

package projection_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/events"
)

// history is a valid log of one pool, and the guards after each of its records.
type history struct {
	records []events.Record
	states  []events.Guards // states[n] is after the first n records

	guards events.Guards
	serial uint64
	all    []events.ID // grants ever opened
	subnet netip.Prefix
	addrs  []netip.Addr
}

// GoString keeps a failure readable: the draws tell the rest.
func (h *history) GoString() string { return fmt.Sprintf("%d records on %s", len(h.records), h.subnet) }

// subnets are small, so that addresses are contested, or wide.
var subnets = []string{"10.1.0.16/28", "10.1.0.0/30", "10.1.0.2/31", "10.1.0.9/32", "fd00:1::/64", "fd00:1::10/124", "fd00::/48"}

// addressesOf is a choice of a subnet's addresses: both ends and some between.
func addressesOf(subnet netip.Prefix) []netip.Addr {
	var addrs []netip.Addr
	for a := subnet.Addr(); subnet.Contains(a) && len(addrs) < 20; a = a.Next() {
		addrs = append(addrs, a)
	}
	if !subnet.Addr().Is4() && subnet.Bits() <= 64 {
		last := subnet.Addr().As16()
		for i := subnet.Bits() / 8; i < len(last); i++ {
			last[i] = 0xff
		}
		addrs = append(addrs, netip.AddrFrom16(last))
	}
	return addrs
}

// histories generates what a pool may live through: each event is drawn from
// those that the guards of the moment allow.
func histories(commits int) *rapid.Generator[*history] {
	return rapid.Custom(func(t *rapid.T) *history {
		h := &history{guards: events.NewGuards(), subnet: netip.MustParsePrefix(rapid.SampledFrom(subnets).Draw(t, "subnet"))}
		h.addrs = addressesOf(h.subnet)
		h.states = append(h.states, h.snapshot())
		revision := int64(0)
		for range rapid.IntRange(1, commits).Draw(t, "commits") {
			revision += rapid.Int64Range(1, 4).Draw(t, "gap")
			r := events.Record{Revision: revision, Commit: events.Commit{
				ID: h.id(), Stream: "pool", Host: "h1", Incarnation: 1,
				Time: time.Unix(1_800_000_000+revision, 0).UTC(),
			}}
			// None at all is a void commit.
			for range rapid.IntRange(0, 4).Draw(t, "events") {
				e := h.draw(t)
				one := r
				one.Events = []events.Event{e}
				if err := h.guards.Apply(one); err != nil {
					t.Fatalf("the model drew an event that is not allowed: %v", err)
				}
				r.Events = append(r.Events, e)
			}
			h.records = append(h.records, r)
			h.states = append(h.states, h.snapshot())
		}
		return h
	})
}

func (h *history) id() events.ID {
	h.serial++
	return events.ID{0: 1, 14: byte(h.serial >> 8), 15: byte(h.serial)}
}

func (h *history) snapshot() events.Guards {
	s := h.guards
	s.Grants, s.Held, s.Hosts = maps.Clone(s.Grants), maps.Clone(s.Held), maps.Clone(s.Hosts)
	return s
}

func (h *history) draw(t *rapid.T) events.Event {
	extra := events.Extra(nil)
	if rapid.IntRange(0, 9).Draw(t, "newer") == 0 {
		extra = events.Extra{"later": []byte(`{"a":[1]}`)}
	}
	if !h.guards.Pool.Present() {
		layout, kept := h.drawLayout(t)
		return events.PoolCreated{Space: events.Local, Name: "p", Subnet: h.subnet, Policy: events.DefaultPolicy(), Layout: layout, Kept: kept, Extra: extra}
	}
	var open, closing, closed []events.ID
	for _, id := range h.all {
		switch h.guards.Grants[id].Value.State {
		case events.StateOpen:
			open = append(open, id)
		case events.StateClosing:
			closing = append(closing, id)
		default:
			closed = append(closed, id)
		}
	}
	kinds := []string{"allocate", "allocate", "allocate", "release", "release", "open", "exhausted", "reserve", "change"}
	if len(open) > 0 {
		kinds = append(kinds, "closing")
	}
	if len(closing) > 0 {
		kinds = append(kinds, "closed", "closed", "reopen")
	}
	if len(closed) > 0 {
		kinds = append(kinds, "reopen")
	}
	unsuspected, suspected := h.endpoints()
	if len(unsuspected) > 0 {
		kinds = append(kinds, "suspect", "conflict")
	}
	if len(suspected) > 0 {
		kinds = append(kinds, "clear", "reclaim")
	}
	reserved := h.reserved()
	if len(reserved) > 0 {
		kinds = append(kinds, "unreserve", "unreserve")
	}
	if len(open)+len(closing) == 0 && len(h.guards.Held) == 0 && !h.guards.Pool.Value.Kept {
		kinds = append(kinds, "retire")
	}
	switch rapid.SampledFrom(kinds).Draw(t, "event") {
	case "allocate":
		addr := rapid.SampledFrom(h.addrs).Draw(t, "address")
		shared := rapid.Bool().Draw(t, "shared")
		if !h.guards.Held[addr].Value.Admits(shared) {
			break
		}
		e := events.AddressAllocated{
			Allocation: h.id(), Address: addr, Shared: shared, Host: "h1", Extra: extra,
			Kind: rapid.SampledFrom([]events.Kind{events.Endpoint, events.Gateway, events.Auxiliary, events.Host, events.Reserved}).Draw(t, "kind"),
			MAC:  events.MAC{5: byte(h.serial)}, Endpoint: rapid.SampledFrom([]string{"", "web"}).Draw(t, "endpoint"),
		}
		if len(open) > 0 {
			e.Grant = rapid.SampledFrom(open).Draw(t, "grant")
		}
		return e
	case "release":
		held := slices.SortedFunc(maps.Keys(h.guards.Held), netip.Addr.Compare)
		if len(held) == 0 {
			break
		}
		addr := rapid.SampledFrom(held).Draw(t, "address")
		a := rapid.SampledFrom(h.guards.Held[addr].Value).Draw(t, "allocation")
		return events.AddressReleased{Allocation: a.ID, Address: addr, Reason: events.Released}
	case "suspect":
		x := rapid.SampledFrom(unsuspected).Draw(t, "endpoint")
		return events.AddressSuspected{Allocation: x.allocation, Address: x.address}
	case "clear":
		x := rapid.SampledFrom(suspected).Draw(t, "endpoint")
		return events.AddressCleared{Allocation: x.allocation, Address: x.address}
	case "reclaim":
		x := rapid.SampledFrom(suspected).Draw(t, "endpoint")
		return events.AddressReclaimed{Allocation: x.allocation, Address: x.address}
	case "conflict":
		x := rapid.SampledFrom(unsuspected).Draw(t, "endpoint")
		return events.AddressConflicted{Holder: x.allocation, Address: x.address, Host: "h2"}
	case "reserve":
		addr := rapid.SampledFrom(h.addrs).Draw(t, "address")
		if h.guards.Held[addr].Present() {
			break
		}
		return events.AddressReserved{Allocation: h.id(), Address: addr, Why: "the printer", Extra: extra}
	case "unreserve":
		addr := rapid.SampledFrom(reserved).Draw(t, "address")
		return events.AddressUnreserved{Allocation: h.guards.Held[addr].Value[0].ID, Address: addr}
	case "change":
		layout, kept := h.drawLayout(t)
		return events.PoolChanged{Space: events.Local, Layout: layout, Kept: kept, Extra: extra}
	case "open":
		id := h.id()
		h.all = append(h.all, id)
		return events.GrantOpened{Grant: id, Host: "h1", Extra: extra}
	case "closing":
		return events.GrantClosing{Grant: rapid.SampledFrom(open).Draw(t, "grant")}
	case "closed":
		return events.GrantClosed{Grant: rapid.SampledFrom(closing).Draw(t, "grant")}
	case "reopen":
		return events.GrantReopened{Grant: rapid.SampledFrom(append(closing, closed...)).Draw(t, "grant"), Host: "h2", Range: h.subnet}
	case "retire":
		return events.PoolRetired{Space: events.Local}
	}
	return events.PoolExhausted{Range: h.subnet}
}

// held is an endpoint's holding.
type held struct {
	allocation events.ID
	address    netip.Addr
}

// endpoints are those that are not suspected, and those that are.
func (h *history) endpoints() (unsuspected, suspected []held) {
	for _, address := range slices.SortedFunc(maps.Keys(h.guards.Held), netip.Addr.Compare) {
		for _, a := range h.guards.Held[address].Value {
			switch {
			case a.Kind != events.Endpoint:
			case a.Suspected.IsZero():
				unsuspected = append(unsuspected, held{a.ID, address})
			default:
				suspected = append(suspected, held{a.ID, address})
			}
		}
	}
	return unsuspected, suspected
}

// reserved are the addresses that an operator keeps out of use.
func (h *history) reserved() []netip.Addr {
	var addrs []netip.Addr
	for a, guard := range h.guards.Held {
		if len(guard.Value) == 1 && guard.Value[0].Why != "" {
			addrs = append(addrs, a)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs
}

// drawLayout draws a division of the subnet, most often none.
func (h *history) drawLayout(t *rapid.T) (layout events.Layout, kept bool) {
	if rapid.Bool().Draw(t, "undivided") {
		return layout, rapid.Bool().Draw(t, "kept")
	}
	list := func(what string) []netipx.IPRange {
		var ranges []netipx.IPRange
		for range rapid.IntRange(0, 2).Draw(t, what) {
			a, b := rapid.SampledFrom(h.addrs).Draw(t, "end"), rapid.SampledFrom(h.addrs).Draw(t, "end")
			if b.Less(a) {
				a, b = b, a
			}
			ranges = append(ranges, netipx.IPRangeFrom(a, b))
		}
		return events.Normalize(ranges)
	}
	layout = events.Layout{Ranges: list("ranges"), Exclude: list("exclude"), HostRanges: list("host ranges")}
	if rapid.Bool().Draw(t, "router") {
		layout.Router = rapid.SampledFrom(h.addrs).Draw(t, "router")
	}
	return layout, rapid.Bool().Draw(t, "kept")
}
