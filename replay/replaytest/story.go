// SPDX-License-Identifier: Apache-2.0

package replaytest

import (
	"net/netip"
	"time"

	"github.com/ipamlog/ipamlog/events"
)

// The pools, grants and allocations of [Teller.Night].
var (
	Web, Blue, Old = ID('P', 1), ID('P', 2), ID('P', 3)
	GrantH1        = ID('G', 1)
	GrantH2        = ID('G', 2)
	GrantBlue      = ID('G', 3)
	GrantOld       = ID('G', 4)
)

// Night is when the story of [Teller.Night] begins.
var Night = time.Date(2025, 3, 1, 3, 0, 0, 0, time.UTC)

// Clock is a time of that night, in minutes and microseconds after three.
func Clock(minutes, microseconds int) time.Time {
	return Night.Add(time.Duration(minutes)*time.Minute + time.Duration(microseconds)*time.Microsecond)
}

// Allocation is the nth allocation of that night.
func Allocation(n byte) events.ID { return ID('A', n) }

// Allocated is an endpoint's address.
func Allocated(n byte, address, host string, grant events.ID, endpoint string) events.AddressAllocated {
	a := netip.MustParseAddr(address)
	mac := events.MAC{2, 0x42, 10, 50, 0, n}
	if endpoint == "" {
		return events.AddressAllocated{Allocation: Allocation(n), Address: a, Kind: events.Gateway, Shared: true, Host: host, Grant: grant}
	}
	return events.AddressAllocated{Allocation: Allocation(n), Address: a, Kind: events.Endpoint, Host: host, Grant: grant, MAC: mac, Endpoint: endpoint}
}

// Released ends what [Allocated] began.
func Released(n byte, address string) events.AddressReleased {
	return events.AddressReleased{Allocation: Allocation(n), Address: netip.MustParseAddr(address), Reason: events.Released}
}

// Night tells of two hosts that share the pool web from three o'clock on:
//
//	3:10  h1 creates web and starts c1 on .2; h2 joins it and starts c2 on .3
//	3:12  c1 stops
//	3:20  h2, whose clock has gone to 2038, starts c4 on .4
//	3:30  h1 gives .2 to c3
//	3:40  c2 stops while the store is away; the log learns of it at 3:50
//	3:55  the pool blue has the same subnet as web; an unnamed pool comes and
//	      goes
//	4:00  a commit whose answer never came is closed
func (t *Teller) Night() {
	t.t.Helper()
	web, blue, old := events.PoolStream(Web), events.PoolStream(Blue), events.PoolStream(Old)
	subnet := netip.MustParsePrefix("10.50.0.0/24")
	t.Commit(events.Catalogue, "h1", Clock(0, 0), events.HostJoined{Host: "h1", Machine: "m1", Incarnation: 1, Version: "v1.0.0"})
	t.Commit(events.Catalogue, "h2", Clock(0, 5_000_001), events.HostJoined{Host: "h2", Machine: "m2", Incarnation: 1, Version: "v1.0.0"})
	t.Commit(web, "h1", Clock(10, 0),
		events.PoolCreated{Space: events.Local, Name: "web", Subnet: subnet, Policy: events.DefaultPolicy()},
		events.GrantOpened{Grant: GrantH1, Host: "h1"})
	t.Commit(web, "h1", Clock(10, 1000), Allocated(1, "10.50.0.1", "h1", GrantH1, ""))
	t.Commit(web, "h1", Clock(10, 7_123_456), Allocated(2, "10.50.0.2", "h1", GrantH1, "c1"))
	t.Commit(web, "h2", Clock(11, 0),
		events.GrantOpened{Grant: GrantH2, Host: "h2", Range: netip.MustParsePrefix("10.50.0.0/28")},
		Allocated(3, "10.50.0.1", "h2", GrantH2, ""), Allocated(4, "10.50.0.3", "h2", GrantH2, "c2"))
	t.Commit(web, "h1", Clock(12, 0), Released(2, "10.50.0.2"))
	t.Write(events.Commit{
		Stream: web, Host: "h2", Incarnation: 1, Writer: "v1.0.0",
		Time: time.Date(2038, 1, 19, 3, 14, 7, 0, time.UTC), ClockSuspect: true,
		Events: []events.Event{Allocated(5, "10.50.0.4", "h2", GrantH2, "c4")},
	})
	t.Commit(web, "h1", Clock(30, 0), Allocated(6, "10.50.0.2", "h1", GrantH1, "c3"))
	late := Released(4, "10.50.0.3")
	late.At = Clock(40, 0)
	t.Commit(web, "h2", Clock(50, 0), late)
	t.Commit(blue, "h1", Clock(55, 0),
		events.PoolCreated{Space: events.Local, Name: "blue", Subnet: subnet, Policy: events.Policy{Gateway: events.GatewayAuto, Pick: events.PickLowest}},
		events.GrantOpened{Grant: GrantBlue, Host: "h1"}, Allocated(7, "10.50.0.9", "h1", GrantBlue, "web"))
	t.Commit(old, "h1", Clock(55, 1),
		events.PoolCreated{Space: events.Local, Subnet: netip.MustParsePrefix("fd00:1::/64"), Policy: events.DefaultPolicy()},
		events.GrantOpened{Grant: GrantOld, Host: "h1"}, Allocated(8, "fd00:1::2", "h1", GrantOld, "c6"))
	t.Commit(old, "h1", Clock(56, 0), events.GrantClosing{Grant: GrantOld})
	t.Commit(old, "h1", Clock(56, 1),
		events.AddressReleased{Allocation: Allocation(8), Address: netip.MustParseAddr("fd00:1::2"), Reason: events.GrantEnded},
		events.GrantClosed{Grant: GrantOld}, events.PoolRetired{Space: events.Local})
	t.Commit(web, "-", Clock(60, 0))
}
