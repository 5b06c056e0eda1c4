// SPDX-License-Identifier: Apache-2.0

package events_test

import (
	"encoding/json"
	"net/netip"
	"time"

	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/events"
)

var (
	poolID  = id("01KAHR4M5N0000000000000001")
	grantID = id("01KAHR4M5N0000000000000002")
	allocID = id("01KAHR4M5N0000000000000003")
	noon    = time.Date(2026, 11, 21, 12, 0, 0, 123456000, time.UTC)
)

func id(s string) events.ID {
	var parsed events.ID
	if err := parsed.UnmarshalText([]byte(s)); err != nil {
		panic(err)
	}
	return parsed
}

func commitOf(list ...events.Event) events.Commit {
	return events.Commit{Time: noon, Host: "h1", Incarnation: 3, Writer: "1.2.0", Events: list}
}

func layout() events.Layout {
	parse := netipx.MustParseIPRange
	return events.Layout{
		Ranges:     []netipx.IPRange{parse("10.50.0.9-10.50.0.100"), parse("10.50.0.130-10.50.0.130")},
		Exclude:    []netipx.IPRange{parse("10.50.0.20-10.50.0.29")},
		HostRanges: []netipx.IPRange{parse("10.50.0.2-10.50.0.8")},
		Router:     netip.MustParseAddr("10.50.0.1"),
	}
}

func raw(s string) json.RawMessage { return json.RawMessage(s) }

// full has every field of every event set, one commit an event.
func full() map[string]events.Commit {
	subnet, within := netip.MustParsePrefix("10.50.0.0/24"), netip.MustParsePrefix("10.50.0.128/25")
	addr := netip.MustParseAddr("10.50.0.130")
	return map[string]events.Commit{
		"pool.created": commitOf(events.PoolCreated{
			Space: events.Local, Name: "web", Subnet: subnet,
			Policy: events.Policy{Gateway: events.GatewayAuto, Pick: events.PickLowest, Quarantine: 90},
		}),
		"pool.changed":   commitOf(events.PoolChanged{Space: events.Local, Layout: layout(), Kept: true}),
		"pool.retired":   commitOf(events.PoolRetired{Space: events.Local}),
		"pool.exhausted": commitOf(events.PoolExhausted{Grant: grantID, Range: within}),
		"grant.opened":   commitOf(events.GrantOpened{Grant: grantID, Host: "h1", Range: within}),
		"grant.closing":  commitOf(events.GrantClosing{Grant: grantID}),
		"grant.closed":   commitOf(events.GrantClosed{Grant: grantID}),
		"grant.reopened": commitOf(events.GrantReopened{Grant: grantID, Host: "h1", Range: within}),
		"address.allocated": commitOf(events.AddressAllocated{
			Allocation: allocID, Address: addr, Kind: events.Endpoint, Host: "h1", Grant: grantID,
			MAC: events.MAC{0x02, 0x42, 0x0a, 0x32, 0x00, 0x82}, Endpoint: "web-1",
		}),
		"address.attributed": commitOf(events.AddressAttributed{
			Allocation: allocID, Address: addr,
			Attribution: events.Attribution{
				ContainerID: "c0ffee", ContainerName: "web-1", Image: "nginx:1.27", ImageID: "sha256:beef",
				Labels:    map[string]string{"com.docker.compose.project": "shop", "com.docker.compose.service": "web"},
				NetworkID: "0ddba11", NetworkName: "front", EndpointID: "ba5e",
			},
			Since: noon.Add(-time.Second),
		}),
		"address.released": commitOf(events.AddressReleased{
			Allocation: allocID, Address: addr, Reason: events.Released, At: noon.Add(-time.Minute),
		}),
		"address.suspected": commitOf(events.AddressSuspected{Allocation: allocID, Address: addr}),
		"address.cleared":   commitOf(events.AddressCleared{Allocation: allocID, Address: addr}),
		"address.reclaimed": commitOf(events.AddressReclaimed{Allocation: allocID, Address: addr}),
		"address.conflicted": commitOf(events.AddressConflicted{
			Address: addr, Host: "h2", ContainerID: "c0ffee", ContainerName: "web-1", NetworkID: "0ddba11", NetworkName: "front",
			MAC: events.MAC{0x02, 0x42, 0x0a, 0x32, 0x00, 0x82}, Holder: allocID,
		}),
		"address.reserved":   commitOf(events.AddressReserved{Allocation: allocID, Address: addr, Why: "the printer"}),
		"address.unreserved": commitOf(events.AddressUnreserved{Allocation: allocID, Address: addr}),
		"host.joined":        commitOf(events.HostJoined{Host: "h1", Machine: "4c1d", Incarnation: 3, Version: "1.2.0"}),
		"host.left":          commitOf(events.HostLeft{Host: "h1", Incarnation: 3}),
		"host.adopted":       commitOf(events.HostAdopted{Host: "h1", Machine: "9f00", Incarnation: 4}),
		"host.taken-over":    commitOf(events.HostTakenOver{Host: "h2", Incarnation: 8, By: "h1"}),
	}
}

// samples is what the golden files hold: full, and the shapes beside it.
func samples() map[string]events.Commit {
	all := full()
	all["void"] = commitOf()
	suspect := commitOf(events.GrantClosing{Grant: grantID})
	suspect.ClockSuspect, suspect.Incarnation, suspect.Writer = true, 0, ""
	all["clock-suspect"] = suspect
	all["least"] = commitOf(
		events.PoolCreated{Space: events.Global, Subnet: netip.MustParsePrefix("fd00:1::/64"), Policy: events.DefaultPolicy()},
		events.GrantOpened{Grant: grantID},
		events.PoolExhausted{},
		events.AddressAllocated{Allocation: allocID, Address: netip.MustParseAddr("fd00:1::1"), Kind: events.Gateway, Shared: true},
		events.AddressReleased{Allocation: allocID, Address: netip.MustParseAddr("fd00:1::1"), Reason: events.GrantEnded},
	)
	all["pool.created.laid-out"] = commitOf(
		events.PoolCreated{
			Space: events.Local, Name: "lan", Subnet: netip.MustParsePrefix("10.50.0.0/24"),
			Policy: events.Policy{Gateway: events.GatewayShared, Pick: events.PickRandom, Sticky: events.StickyMAC},
			Layout: layout(), Kept: true,
		},
		events.PoolCreated{Space: events.Local, Subnet: netip.MustParsePrefix("10.0.1.0/24"), Policy: events.DefaultPolicy(), Node: "h2"},
	)
	kinds := commitOf()
	for i, k := range []events.Kind{events.Endpoint, events.Gateway, events.Auxiliary, events.Host, events.Reserved} {
		addr := netip.AddrFrom4([4]byte{10, 50, 0, byte(i + 1)})
		kinds.Events = append(kinds.Events, events.AddressAllocated{Allocation: allocID, Address: addr, Kind: k})
	}
	all["kinds"] = kinds
	reasons := commitOf()
	for _, r := range []events.Reason{events.Released, events.GrantEnded, events.Compensated, "of-a-newer-version"} {
		reasons.Events = append(reasons.Events, events.AddressReleased{Allocation: allocID, Address: netip.MustParseAddr("10.50.0.1"), Reason: r})
	}
	all["reasons"] = reasons
	more := commitOf()
	for _, r := range []events.Reason{events.Superseded, events.TakenOver} {
		more.Events = append(more.Events, events.AddressReleased{Allocation: allocID, Address: netip.MustParseAddr("10.50.0.1"), Reason: r})
	}
	all["reasons.more"] = more
	all["address.conflicted.least"] = commitOf(events.AddressConflicted{Address: netip.MustParseAddr("fd00:1::1"), Host: "h2"})
	extra := commitOf(
		events.GrantClosing{Grant: grantID, Extra: events.Extra{"by": raw(`{"user":"eve","why":["a","b"]}`)}},
		events.AddressReleased{Allocation: allocID, Address: netip.MustParseAddr("10.50.0.1"), Reason: events.Released, Extra: events.Extra{"urgent": raw("true"), "nothing": raw("null")}},
	)
	extra.Extra = events.Extra{"trace": raw(`"00-4bf9"`), "after": raw("[1,2.50,3e9]")}
	all["unknown-fields"] = extra
	return all
}
