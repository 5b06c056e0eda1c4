// SPDX-License-Identifier: Apache-2.0

package replay_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/replaytest"
)

// Whatever is wrong with a guard is found, and nothing else is said.
func TestVerify_guards(t *testing.T) {
	store := replaytest.Start(t)
	web, stray := replaytest.Web.String(), replaytest.ID('P', 9).String()
	for i, c := range []struct{ name, key, value, where, says string }{
		{"an address is missing", "held/" + web + "/10.50.0.2", "", "held 10.50.0.2", "is missing; the log gives @"},
		{"an address is held by another", "held/" + web + "/10.50.0.2", `{"allocations":[{"allocation":"01JN7W9S408400000000000009","kind":"endpoint","commit":"01JN7W9S408C00000000000009"}]}`, "held 10.50.0.2", "and the log gives @"},
		{"an address is held that is free", "held/" + web + "/10.50.0.99", `{"allocations":[{"allocation":"01JN7W9S408400000000000009","kind":"endpoint","commit":"01JN7W9S408C00000000000009"}]}`, "held 10.50.0.99", "and the log gives none"},
		{"a grant is missing", "grants/" + web + "/" + replaytest.GrantH1.String(), "", "grant " + replaytest.GrantH1.String(), "is missing"},
		{"a grant is closing", "grants/" + web + "/" + replaytest.GrantH1.String(), `{"host":"h1","state":"closing"}`, "grant " + replaytest.GrantH1.String(), `"state":"closing"`},
		{"a pool is missing", "pools/local/" + web, "", "pool", "is missing"},
		{"a pool has another subnet", "pools/local/" + web, `{"name":"web","subnet":"10.51.0.0/24","gateway":"auto","pick":"serial","quarantine":60}`, "pool", "10.51.0.0/24"},
		{"a pool came back", "pools/local/" + replaytest.Old.String(), `{"subnet":"fd00:1::/64","gateway":"auto","pick":"serial","quarantine":60}`, "pool", "the log gives none"},
		{"a retired pool left something", "held/" + replaytest.Old.String() + "/fd00:1::2", `{"allocations":[{"allocation":"01JN7W9S408400000000000008","kind":"endpoint","commit":"01JN7W9S408C0000000000000C"}]}`, "held fd00:1::2", "the log gives none"},
		{"a guard of a pool that never was", "held/" + stray + "/10.9.0.1", `{"allocations":[{"allocation":"01JN7W9S408400000000000008","kind":"endpoint","commit":"01JN7W9S408C0000000000000C"}]}`, "held 10.9.0.1", "the log gives none"},
		{"a host is missing", "hosts/h1", "", "host h1", "is missing"},
		{"a host is another machine", "hosts/h1", `{"machine":"m9","incarnation":1}`, "host h1", `"machine":"m9"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			below := fmt.Sprintf("/spoilt-%d/", i)
			teller := store.Tell(t, below)
			teller.Night()
			log := etcdlog.New(store.Client, below)
			before := verify(t, log)
			if len(before.Findings) > 0 || before.Pools != 3 || before.Suspect != 1 {
				t.Fatalf("before: %+v", before)
			}
			teller.Spoil(c.key, c.value)
			got := verify(t, log)
			if len(got.Findings) != 1 {
				t.Fatalf("%+v", got.Findings)
			}
			f := got.Findings[0]
			if f.Rule != replay.RuleGuards || f.Where != c.where || !strings.Contains(f.What, c.says) || !f.Since.Reached() {
				t.Errorf("%+v", f)
			}
			if aboutHost := strings.HasPrefix(c.key, "hosts/"); aboutHost != (f.Pool == nil) {
				t.Errorf("of the pool %v", f.Pool)
			}
		})
	}
}

func verify(t *testing.T, log *etcdlog.Log) *replay.Report {
	t.Helper()
	report, _, err := replay.Verify(t.Context(), log, nil)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// Every rule is looked at: one event that breaks it is found where it stands, and
// the rest of the log is still read.
func TestVerify_rules(t *testing.T) {
	store := replaytest.Start(t)
	web := events.PoolStream(replaytest.Web)
	after := replaytest.Clock(70, 0)
	allocated := func(n byte, address string) events.AddressAllocated {
		return replaytest.Allocated(n, address, "h1", replaytest.GrantH1, "x")
	}
	told := func(n byte, address, container string) events.Event {
		return events.AddressAttributed{Allocation: replaytest.Allocation(n), Address: netip.MustParseAddr(address), Attribution: events.Attribution{ContainerID: container}}
	}
	foreign := allocated(60, "10.50.0.60")
	foreign.Host = "h2"
	closed := allocated(60, "10.50.0.60")
	closed.Grant = replaytest.GrantOld
	for i, c := range []struct {
		name   string
		rule   replay.Rule
		stream events.Stream
		host   string
		time   time.Time
		events []events.Event
		says   string
		more   int // findings that follow from it
	}{
		{"two holders", replay.RuleHolders, web, "h1", after, []events.Event{allocated(60, "10.50.0.2")}, "10.50.0.2 is held by allocation", 0},
		{"an allocation begins twice", replay.RuleHolders, web, "h1", after, []events.Event{allocated(60, "10.50.0.60"), allocated(60, "10.50.0.61")}, "a second time", 1},
		{"a release of what nobody holds", replay.RuleReleases, web, "h1", after, []events.Event{replaytest.Released(61, "10.50.0.61")}, "is not held by allocation", 0},
		{"a release under another address", replay.RuleReleases, web, "h1", after, []events.Event{replaytest.Released(6, "10.50.0.4")}, "is not held by allocation", 0},
		{"through a grant that is closed", replay.RuleGrants, web, "h1", after, []events.Event{closed}, "which is not open", 1},
		{"through another host's grant", replay.RuleGrants, web, "h1", after, []events.Event{foreign}, `to host "h2" through a grant of host "h1"`, 1},
		{"a grant opens twice", replay.RuleGrants, web, "h1", after, []events.Event{events.GrantOpened{Grant: replaytest.GrantH1, Host: "h1"}}, "exists", 0},
		{"a pool is made twice", replay.RulePools, web, "h1", after, []events.Event{events.PoolCreated{Space: events.Local, Name: "web", Subnet: netip.MustParsePrefix("10.50.0.0/24"), Policy: events.DefaultPolicy()}}, "the pool exists", 0},
		{"outside of the subnet", replay.RuleAddresses, web, "h1", after, []events.Event{allocated(60, "10.51.0.1")}, "outside of 10.50.0.0/24", 1},
		{"told of nothing", replay.RuleAttribution, web, "h1", after, []events.Event{told(61, "10.50.0.2", "c0ffee")}, "no allocation", 0},
		{"told of two containers", replay.RuleAttribution, web, "h1", after, []events.Event{told(6, "10.50.0.2", "c0ffee"), told(6, "10.50.0.2", "decaf")}, "and later decaf", 0},
		{"an incarnation again", replay.RuleHosts, events.Catalogue, "h1", after, []events.Event{events.HostJoined{Host: "h1", Machine: "m1", Incarnation: 1}}, "had been 1 before", 1},
		{"a clock behind", replay.RuleClocks, web, "h2", after.Add(-2 * time.Hour), []events.Event{events.PoolExhausted{}}, "host h2 contradicts", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			below := fmt.Sprintf("/broken-%d/", i)
			teller := store.Tell(t, below)
			teller.Night()
			teller.Forge(events.Commit{Stream: c.stream, Host: c.host, Incarnation: 1, Time: c.time, Events: c.events})
			got := verify(t, etcdlog.New(store.Client, below))
			var found []replay.Finding
			for _, f := range got.Findings {
				if f.Rule == c.rule {
					found = append(found, f)
				}
			}
			if len(found) != 1 || !strings.Contains(found[0].What, c.says) {
				t.Fatalf("%+v", got.Findings)
			}
			if want := fmt.Sprintf("%d.%d", found[0].Since.Revision, len(c.events)-1); found[0].Where != want {
				t.Errorf("it is found at %s, not %s", found[0].Where, want)
			}
			// The guards, which a forged commit does not touch, then differ.
			if len(got.Findings) != 1+c.more {
				t.Errorf("%d findings: %+v", len(got.Findings), got.Findings)
			}
		})
	}
}

// Overlapping pools, and an event of a newer version.
func TestVerify_newer(t *testing.T) {
	store := replaytest.Start(t)
	teller := store.Tell(t, "/newer/")
	teller.Night()
	log := etcdlog.New(store.Client, "/newer/")
	one, two := events.PoolStream(replaytest.ID('P', 7)), events.PoolStream(replaytest.ID('P', 8))
	pool := events.PoolCreated{Space: events.Local, Subnet: netip.MustParsePrefix("10.77.0.0/16"), Policy: events.DefaultPolicy()}
	teller.Commit(one, "h1", replaytest.Clock(70, 0), pool)
	pool.Subnet = netip.MustParsePrefix("10.77.7.0/24")
	teller.Commit(two, "h1", replaytest.Clock(71, 0), pool)
	teller.Raw(events.PoolStream(replaytest.Web), `{"v":1,"time":"2025-03-01T05:00:00Z","host":"h9","incarnation":1,"writer":"v9","events":[{"type":"address.blessed"}]}`)
	got := verify(t, log)
	if len(got.Findings) != 2 || got.Findings[0].Rule != replay.RulePools || got.Findings[1].Rule != replay.RuleReadable || !strings.Contains(got.Findings[1].What, "v9") {
		t.Fatalf("%+v", got.Findings)
	}
	_, journal, err := replay.Verify(t.Context(), log, nil)
	if err != nil {
		t.Fatal(err)
	}
	pools, err := journal.PoolsEver("web")
	if err != nil {
		t.Fatal(err)
	}
	if got.About(pools); len(got.Findings) != 1 || got.Findings[0].Rule != replay.RuleReadable {
		t.Errorf("about web: %+v", got.Findings)
	}
}
