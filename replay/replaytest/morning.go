// SPDX-License-Identifier: Apache-2.0

package replaytest

import (
	"net/netip"
	"strings"
	"time"

	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/events"
)

// The containers, networks and images of [Teller.Morning], by their ids.
var (
	Web1    = hash("4f2a91c0aa31")
	Evil    = hash("4f2a77de02b9")
	Web1Two = hash("b0b5c8a1d2e3")
	NetShop = hash("7e57ab1e0001")
	Nginx   = "sha256:" + hash("c0ffee127000")
	NginxL  = "sha256:" + hash("c0ffee999000")
)

// EvilName is what an attacker calls a container.
const EvilName = "=HYPERLINK(\"http://x\")\x1b[2J\u202e"

// hash is a whole id that begins so.
func hash(beginning string) string { return beginning + strings.Repeat("0", 64-len(beginning)) }

// Attributed tells whose the nth allocation is.
func Attributed(n byte, address string, a events.Attribution) events.AddressAttributed {
	return events.AddressAttributed{Allocation: Allocation(n), Address: netip.MustParseAddr(address), Attribution: a}
}

// Morning goes on after [Teller.Night], and tells of what is behind the addresses:
//
//	4:10  c3 on .2 is the container web-1, c1 that had it before an evil one, and
//	      c4 on .4 a container of an image without a tag
//	4:15  web-1 has been called web-old since 4:14
//	4:20  h3, whose clock is a quarter of an hour behind, gives .20 to c20, and
//	      takes it back at 4:30
//	4:35  another web-1 has .2 in the pool blue
//	4:40  the unnamed pool is there again, with c7 on fd00:1::2
//	4:45  an operator reserves .100, lays out the pool, and has second thoughts
//	4:50  web-old gives up .2: c9 has it, and a minute later c10
//	4:55  nothing is free in blue, whose grant closes and is opened again; h2 is
//	      another machine
func (t *Teller) Morning() {
	t.t.Helper()
	web, blue, old := events.PoolStream(Web), events.PoolStream(Blue), events.PoolStream(ID('P', 4))
	shop := map[string]string{"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}
	web1 := events.Attribution{
		ContainerID: Web1, ContainerName: "web-1", Image: "nginx:1.27", ImageID: Nginx, Labels: shop,
		NetworkID: NetShop, NetworkName: "shop_default", EndpointID: hash("e9d0"),
	}
	t.Commit(web, "h1", Clock(70, 0), Attributed(6, "10.50.0.2", web1), Attributed(1, "10.50.0.1", events.Attribution{NetworkID: NetShop, NetworkName: "shop_default"}))
	t.Commit(web, "h1", Clock(70, 1), Attributed(2, "10.50.0.2", events.Attribution{
		ContainerID: Evil, ContainerName: EvilName, Image: "nginx", ImageID: NginxL,
		Labels: map[string]string{"com.docker.compose.project": "evil\x1b[31m"}, NetworkID: NetShop, NetworkName: "shop_default",
	}))
	t.Commit(web, "h2", Clock(70, 2), Attributed(5, "10.50.0.4", events.Attribution{ContainerID: hash("ca4e"), ContainerName: "c4", Image: "registry.example:5000/team/db"}))
	renamed := web1
	renamed.ContainerName = "web-old"
	later := Attributed(6, "10.50.0.2", renamed)
	later.Since = Clock(74, 0)
	t.Commit(web, "h1", Clock(75, 0), later)

	grant3, blue2, old2 := ID('G', 5), ID('G', 6), ID('G', 7)
	t.Commit(web, "h1", Clock(80, 0), events.GrantOpened{Grant: grant3, Host: "h3"})
	t.Commit(web, "h3", Clock(65, 0), Allocated(20, "10.50.0.20", "h3", grant3, "c20"))
	t.Commit(web, "h3", Clock(75, 1), Released(20, "10.50.0.20"))
	t.Commit(web, "h1", Clock(90, 0), Allocated(21, "10.50.0.21", "h1", GrantH1, "c21"))

	t.Commit(blue, "h1", Clock(95, 0), events.GrantOpened{Grant: blue2, Host: "h1"}, Allocated(22, "10.50.0.2", "h1", blue2, "web-1"))
	t.Commit(blue, "h1", Clock(95, 1), Attributed(22, "10.50.0.2", events.Attribution{ContainerID: Web1Two, ContainerName: "web-1", Image: "docker.io/library/nginx:1.27", ImageID: Nginx}))
	t.Commit(old, "h1", Clock(100, 0),
		events.PoolCreated{Space: events.Local, Subnet: netip.MustParsePrefix("fd00:1::/64"), Policy: events.DefaultPolicy()},
		events.GrantOpened{Grant: old2, Host: "h1"}, Allocated(23, "fd00:1::2", "h1", old2, "c7"))
	t.Commit(web, "h1", Clock(105, 0), events.AddressReserved{Allocation: Allocation(24), Address: netip.MustParseAddr("10.50.0.100"), Why: "=cmd the printer\x1b[31m"})
	t.Commit(web, "h1", Clock(105, 1), events.PoolChanged{Space: events.Local, Kept: true, Layout: events.Layout{
		Ranges:     []netipx.IPRange{netipx.MustParseIPRange("10.50.0.2-10.50.0.199")},
		HostRanges: []netipx.IPRange{netipx.MustParseIPRange("10.50.0.240-10.50.0.250")}, Router: netip.MustParseAddr("10.50.0.254"),
	}})
	t.Commit(web, "h1", Clock(106, 0), events.AddressUnreserved{Allocation: Allocation(24), Address: netip.MustParseAddr("10.50.0.100")})
	t.Commit(web, "h1", Clock(110, 0), Released(6, "10.50.0.2"))
	t.Commit(web, "h1", Clock(110, 1), Allocated(25, "10.50.0.2", "h1", GrantH1, "c9"))
	t.Commit(web, "h1", Clock(111, 0), Released(25, "10.50.0.2"))
	t.Commit(web, "h1", Clock(111, 1), Allocated(26, "10.50.0.2", "h1", GrantH1, "c10"))
	t.Commit(blue, "h1", Clock(115, 0), events.PoolExhausted{Grant: GrantBlue, Range: netip.MustParsePrefix("10.50.0.8/30")})
	t.Commit(blue, "h1", Clock(115, 1), events.GrantClosing{Grant: blue2})
	t.Commit(blue, "h1", Clock(116, 0), events.GrantReopened{Grant: blue2, Host: "h1"})
	t.Commit(events.Catalogue, "h1", Clock(117, 0), events.HostAdopted{Host: "h2", Machine: "m9", Incarnation: 2})
	// The store had a day without events, and the clocks agree.
	t.Commit(web, "h1", Clock(117, 0).Add(24*time.Hour), Released(21, "10.50.0.21"))
}
