// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/legacy"
	"github.com/ipamlog/ipamlog/operator"
)

func site() legacy.Dump {
	return legacy.Dump{Source: legacy.OAM, Warnings: []string{"a key was odd"}, Pools: []legacy.Pool{
		{
			Space: "local", Subnet: prefix("10.0.0.0/24"), Router: addr("10.0.0.1"),
			Ranges:     []netipx.IPRange{netipx.MustParseIPRange("10.0.0.100-10.0.0.120")},
			HostRanges: []netipx.IPRange{netipx.MustParseIPRange("10.0.0.4-10.0.0.6")},
			Held: []legacy.Holding{
				{Address: addr("10.0.0.1"), Kind: legacy.Auxiliary},
				{Address: addr("10.0.0.4"), Kind: legacy.Host, Host: "h1"},
				{Address: addr("10.0.0.5"), Kind: legacy.Host},
				{Address: addr("10.0.0.100"), Kind: legacy.Endpoint, Host: "h1", Endpoint: "c1", MAC: "02:42:0a:00:00:64", Note: "by hand"},
				{Address: addr("10.0.0.200"), Kind: legacy.Gateway},
			},
		},
		{Name: "web", Space: "local", Subnet: prefix("10.0.0.0/24"), Held: []legacy.Holding{{Address: addr("10.0.0.9"), Kind: legacy.Endpoint}}},
	}}
}

func (b *bed) imports(dump legacy.Dump) *operator.Import {
	b.tb.Helper()
	plan, err := b.at("h1").PlanImport(b.ctx(), dump)
	if err != nil {
		b.tb.Fatal(err)
	}
	if err := plan.Run(b.ctx(), nil); err != nil {
		b.tb.Fatal(err)
	}
	return plan
}

// poolIDs are the pools by name, or subnet.
func (b *bed) poolIDs() map[string]events.ID {
	b.tb.Helper()
	entries, _, err := b.log.Pools(b.ctx())
	if err != nil {
		b.tb.Fatal(err)
	}
	ids := map[string]events.ID{}
	for _, e := range entries {
		ids[e.Value.Name] = e.ID
	}
	return ids
}

func TestImport(t *testing.T) {
	b := newBed(t)
	before := b.keys()
	plan, err := b.at("h1").PlanImport(b.ctx(), site())
	if err != nil {
		t.Fatal(err)
	}
	want := &operator.Import{Source: "oam-docker-ipam", Warnings: []string{"a key was odd"}, Pools: []operator.Imported{
		{Pool: "10.0.0.0/24", Made: true, Reserved: 2, Hosts: 2, There: 1},
		{Pool: "web (10.0.0.0/24)", Made: true, Reserved: 1},
	}}
	if diff := cmp.Diff(want, plan, cmpopts.IgnoreUnexported(operator.Import{})); diff != "" || plan.Total() != 5 {
		t.Errorf("%d %s", plan.Total(), diff)
	}
	if diff := cmp.Diff(before, b.keys()); diff != "" {
		t.Errorf("a plan has written: %s", diff)
	}
	var told []int
	if err := plan.Run(b.ctx(), func(n int) { told = append(told, n) }); err != nil || !cmp.Equal([]int{4, 5}, told) {
		t.Errorf("%v, %v", told, err)
	}
	ids := b.poolIDs()
	if got := b.layout(ids[""]) + ", " + b.layout(ids["web"]); got != "10.0.0.100-10.0.0.120 host:10.0.0.4-10.0.0.6 router:10.0.0.1, not kept" {
		t.Error(got)
	}
	if diff := cmp.Diff(map[string]string{
		"10.0.0.4": "host h1", "10.0.0.5": "host",
		"10.0.0.100": "reserved imported from oam-docker-ipam: container c1 on host h1, 02:42:0a:00:00:64, by hand",
		"10.0.0.200": "reserved imported from oam-docker-ipam: gateway",
	}, b.held(ids[""])); diff != "" {
		t.Error(diff)
	}

	// Again, after the container has come over: nothing is left to do.
	r, err := operator.ParseStretch("10.0.0.100")
	if err != nil {
		t.Fatal(err)
	}
	done(t)(b.at("h1").Unreserve(b.ctx(), "10.0.0.0/24", r))
	grant := b.log.Clock.NewID()
	b.write(ids[""], events.GrantOpened{Grant: grant, Host: "h1"})
	b.hold(ids[""], grant, events.Endpoint, "10.0.0.100", "h1", "c1", 0)
	before = b.keys()
	if again := b.imports(site()); again.Total() != 0 || again.Pools[0].Made || again.Pools[0].There != 5 {
		t.Errorf("%+v", again)
	}
	if diff := cmp.Diff(before, b.keys()); diff != "" {
		t.Error(diff)
	}
	b.agree()
}

// An import that ended half way goes on where it was.
func TestImport_large(t *testing.T) {
	b := newBed(t)
	dump := legacy.Dump{Source: legacy.KVIPAM, Pools: []legacy.Pool{{Space: "global", Subnet: prefix("10.0.0.0/16")}}}
	for i := range 2500 {
		a := netip.AddrFrom4([4]byte{10, 0, byte(1 + i>>8), byte(i)})
		dump.Pools[0].Held = append(dump.Pools[0].Held, legacy.Holding{Address: a, Kind: legacy.Endpoint})
	}
	half := dump
	half.Pools = []legacy.Pool{dump.Pools[0]}
	half.Pools[0].Held = dump.Pools[0].Held[:1234]
	b.imports(half)
	if plan := b.imports(dump); plan.Pools[0].There != 1234 || plan.Pools[0].Reserved != 2500-1234 {
		t.Errorf("%+v", plan.Pools)
	}
	entries, _, err := b.log.Pools(b.ctx())
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	g, _, err := b.log.Guards(b.ctx(), events.Global, entries[0].ID)
	if err != nil || len(g.Held) != 2500 || g.Pool.Value.Kept {
		t.Errorf("%d held, %v", len(g.Held), err)
	}
}

func TestImport_refused(t *testing.T) {
	b := newBed(t)
	b.imports(site())
	ids := b.poolIDs()
	grant := b.log.Clock.NewID()
	b.write(ids[""], events.GrantOpened{Grant: grant, Host: "h2"})
	b.hold(ids[""], grant, events.Endpoint, "10.0.0.101", "h2", "c2", 0)
	for want, change := range map[string]func(*legacy.Dump){
		"10.0.0.101 is held by container c9 on host h1 in the dump, and by endpoint c2 on host h2 in pool 10.0.0.0/24: release it there, or leave the pool out with --leave-out local/10.0.0.0/24": func(d *legacy.Dump) {
			d.Pools[0].Held = append(d.Pools[0].Held, legacy.Holding{Address: addr("10.0.0.101"), Kind: legacy.Endpoint, Host: "h1", Endpoint: "c9"})
		},
		"10.0.0.4 is held by host h3 in the dump, and by host h1": func(d *legacy.Dump) { d.Pools[0].Held[1].Host = "h3" },
		"its ranges are 10.0.0.100-10.0.0.120, not 10.0.0.100-10.0.0.121 as in the dump": func(d *legacy.Dump) {
			d.Pools[0].Ranges = []netipx.IPRange{netipx.MustParseIPRange("10.0.0.100-10.0.0.121")}
		},
		"it keeps for hosts 10.0.0.4-10.0.0.6, not 10.0.0.4 as": func(d *legacy.Dump) {
			d.Pools[0].HostRanges = []netipx.IPRange{netipx.MustParseIPRange("10.0.0.4-10.0.0.4")}
		},
		"its router is 10.0.0.1, not 10.0.0.2":                          func(d *legacy.Dump) { d.Pools[0].Router = addr("10.0.0.2") },
		"its router is none, not 10.0.0.2":                              func(d *legacy.Dump) { d.Pools[1].Router = addr("10.0.0.2") },
		"its subnet is 10.0.0.0/24, not":                                func(d *legacy.Dump) { d.Pools[1].Subnet = prefix("10.0.0.0/25") },
		"or leave the dump's out with --leave-out local/10.0.0.0/23":    func(d *legacy.Dump) { d.Pools[0].Subnet = prefix("10.0.0.0/23") },
		"two holders; leave one out with --leave-out local/10.0.0.0/24": func(d *legacy.Dump) { d.Pools[1].Name = "" },
	} {
		t.Run(want, func(t *testing.T) {
			b := *b
			b.tb = t
			before := b.keys()
			dump := site()
			// Something new too, that must not be written either.
			dump.Pools = append(dump.Pools, legacy.Pool{Space: "local", Subnet: prefix("10.9.0.0/24")})
			change(&dump)
			_, err := b.at("h1").PlanImport(b.ctx(), dump)
			b.refused(before, err, nil, want)
		})
	}
}

// A pool without ranges stands by what is held in it, ends with the last of that,
// and is not made where there is nothing to hold.
func TestImport_notKept(t *testing.T) {
	b := newBed(t)
	dump := legacy.Dump{Source: legacy.Docker, Pools: []legacy.Pool{
		{Space: "local", Subnet: prefix("10.0.0.0/24"), Held: []legacy.Holding{
			{Address: addr("10.0.0.2"), Kind: legacy.Endpoint}, {Address: addr("10.0.0.3"), Kind: legacy.Endpoint, Host: "h1"},
		}},
		{Space: "local", Subnet: prefix("10.9.0.0/24")},
	}}
	plan := b.imports(dump)
	want := []string{"pool 10.9.0.0/24 of the dump has neither ranges nor addresses, and is not made: its network makes it when it is created"}
	if diff := cmp.Diff(want, plan.Warnings); diff != "" || len(plan.Pools) != 1 {
		t.Errorf("%+v %s", plan.Pools, diff)
	}
	ids := b.poolIDs()
	if diff := cmp.Diff(map[string]string{
		"10.0.0.2": "reserved imported from docker: a container's", "10.0.0.3": "reserved imported from docker: a container's on host h1",
	}, b.held(ids[""])); diff != "" || len(ids) != 1 {
		t.Errorf("%v %s", ids, diff)
	}
	r, err := operator.ParseStretch("10.0.0.1-10.0.0.254")
	if err != nil {
		t.Fatal(err)
	}
	done(t)(b.at("h1").Unreserve(b.ctx(), "", r))
	if got := b.layout(ids[""]); got != "gone" {
		t.Errorf("the pool stands for ever: %s", got)
	}
	b.agree()
}
