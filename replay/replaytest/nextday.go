// SPDX-License-Identifier: Apache-2.0

package replaytest

import (
	"net/netip"

	"github.com/ipamlog/ipamlog/events"
)

// NextDay goes on after [Teller.Morning], a day later, and tells of what engines lost
// and of a host that died:
//
//	5:00  h1's engine knows neither c10 on .2, nor web-1 on .2 of blue, nor c7
//	5:05  web-1 asks again; c10 is still unknown, and its address reclaimed
//	5:06  c10's container is told of, late
//	5:10  h1's engine uses .4, which c4 on h2 holds
//	5:15  h2's daemon joins, and stops at 5:20
//	5:30  h2 is dead: an operator on h1 takes .4 over
func (t *Teller) NextDay() {
	t.t.Helper()
	web, blue, old := events.PoolStream(Web), events.PoolStream(Blue), events.PoolStream(ID('P', 4))
	const five = (24 + 2) * 60
	addr := netip.MustParseAddr
	suspect := func(n byte, address string) events.Event {
		return events.AddressSuspected{Allocation: Allocation(n), Address: addr(address)}
	}
	t.Commit(web, "h1", Clock(five, 0), suspect(26, "10.50.0.2"))
	t.Commit(blue, "h1", Clock(five, 1), suspect(22, "10.50.0.2"))
	t.Commit(old, "h1", Clock(five, 2), suspect(23, "fd00:1::2"))
	t.Commit(blue, "h1", Clock(five+5, 0), events.AddressCleared{Allocation: Allocation(22), Address: addr("10.50.0.2")})
	t.Commit(web, "h1", Clock(five+5, 1), events.AddressReclaimed{Allocation: Allocation(26), Address: addr("10.50.0.2")})
	t.Commit(web, "h1", Clock(five+6, 0), Attributed(26, "10.50.0.2", events.Attribution{ContainerID: hash("c10"), ContainerName: "c10", Image: "nginx"}))
	t.Commit(web, "h1", Clock(five+10, 0), events.AddressConflicted{
		Address: addr("10.50.0.4"), Host: "h1", ContainerID: Evil, ContainerName: EvilName,
		NetworkID: NetShop, NetworkName: "shop_default", MAC: events.MAC{2, 0x42, 10, 50, 0, 4}, Holder: Allocation(5),
	})
	t.Commit(events.Catalogue, "h2", Clock(five+15, 0), events.HostJoined{Host: "h2", Machine: "m9", Incarnation: 3, Version: "v1.0.0"})
	t.Commit(events.Catalogue, "h2", Clock(five+20, 0), events.HostLeft{Host: "h2", Incarnation: 3})
	t.Commit(events.Catalogue, "h1", Clock(five+30, 0), events.HostTakenOver{Host: "h2", Incarnation: 4, By: "h1"})
	t.Commit(web, "h1", Clock(five+30, 1), events.AddressReleased{Allocation: Allocation(5), Address: addr("10.50.0.4"), Reason: events.TakenOver})
}
