// SPDX-License-Identifier: Apache-2.0

package replay_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

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
	endpoint := func(n byte, address string) events.Event {
		return events.AddressAttributed{Allocation: replaytest.Allocation(n), Address: netip.MustParseAddr(address), Attribution: events.Attribution{EndpointID: "e9d", NetworkID: "4e7"}}
	}
	suspected := func(n byte) events.Event {
		return events.AddressSuspected{Allocation: replaytest.Allocation(n), Address: netip.MustParseAddr("10.50.0.2")}
	}
	foreign := allocated(60, "10.50.0.60")
	foreign.Host = "h2"
	early := replaytest.Released(6, "10.50.0.2")
	early.At = replaytest.Clock(10, 0)
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
		{"reserved outside of the subnet", replay.RuleAddresses, web, "h1", after, []events.Event{events.AddressReserved{Allocation: replaytest.Allocation(60), Address: netip.MustParseAddr("10.51.0.1"), Why: "x"}}, "reserved, and lies outside of 10.50.0.0/24", 1},
		{"released before it was allocated", replay.RuleReleases, web, "h1", after, []events.Event{early}, "20m0s before it was allocated", 1},
		{"an endpoint of two hosts", replay.RuleAttribution, web, "h1", after, []events.Event{endpoint(5, "10.50.0.4"), endpoint(6, "10.50.0.2")}, `so was another address on host "h2"`, 0},
		{"an endpoint of two hosts, one after the other", "", web, "h1", after, []events.Event{endpoint(4, "10.50.0.3"), replaytest.Allocated(61, "10.50.0.61", "h1", replaytest.GrantH1, "x"), endpoint(61, "10.50.0.61")}, "", 1},
		{"told of nothing", replay.RuleAttribution, web, "h1", after, []events.Event{told(61, "10.50.0.2", "c0ffee")}, "no allocation", 0},
		{"told of two containers", replay.RuleAttribution, web, "h1", after, []events.Event{told(6, "10.50.0.2", "c0ffee"), told(6, "10.50.0.2", "decaf")}, "and later decaf", 0},
		{"an incarnation again", replay.RuleHosts, events.Catalogue, "h1", after, []events.Event{events.HostJoined{Host: "h1", Machine: "m1", Incarnation: 1}}, "had been 1 before", 1},
		{"suspected twice", replay.RuleSuspicions, web, "h1", after, []events.Event{suspected(6), suspected(6)}, "is suspected already", 1},
		{"a gateway suspected", replay.RuleSuspicions, web, "h1", after, []events.Event{events.AddressSuspected{Allocation: replaytest.Allocation(1), Address: netip.MustParseAddr("10.50.0.1")}}, "is no endpoint's", 0},
		{"cleared and not suspected", replay.RuleSuspicions, web, "h1", after, []events.Event{events.AddressCleared{Allocation: replaytest.Allocation(6), Address: netip.MustParseAddr("10.50.0.2")}}, "is not suspected", 0},
		{"reclaimed and not suspected", replay.RuleReleases, web, "h1", after, []events.Event{events.AddressReclaimed{Allocation: replaytest.Allocation(6), Address: netip.MustParseAddr("10.50.0.2")}}, "is not suspected", 0},
		{"a conflict outside of the subnet", replay.RuleAddresses, web, "h1", after, []events.Event{events.AddressConflicted{Address: netip.MustParseAddr("10.51.0.1"), Host: "h1"}}, "outside of 10.50.0.0/24", 0},
		{"an older daemon left", replay.RuleHosts, events.Catalogue, "h1", after, []events.Event{events.HostLeft{Host: "h1", Incarnation: 7}}, "host h1 is incarnation 1", 0},
		{"nobody taken over", replay.RuleHosts, events.Catalogue, "h1", after, []events.Event{events.HostTakenOver{Host: "h9", Incarnation: 1, By: "h1"}}, "host h9 never joined", 0},
		{"taken over in another order", replay.RuleHosts, events.Catalogue, "h1", after, []events.Event{events.HostTakenOver{Host: "h2", Incarnation: 1, By: "h1"}}, "host h2 is incarnation 1", 0},
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
			if c.rule == "" {
				if len(got.Findings) != c.more {
					t.Errorf("%+v", got.Findings)
				}
				return
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

// Who is ahead of several is named, and not they; who is behind several is, and not
// they.
func TestVerify_clocks(t *testing.T) {
	store := replaytest.Start(t)
	web := events.PoolStream(replaytest.Web)
	type turn struct {
		host   string
		minute int
	}
	for i, c := range []struct {
		name  string
		turns []turn
		want  []string
	}{
		{"one ahead of two", []turn{{"bad", 70}, {"h1", 11}, {"h2", 12}, {"h1", 13}, {"bad", 75}, {"h2", 14}}, []string{"the clock of host bad was ahead of 2 others': their commits after this one are up to 1h1m0s behind"}},
		{"one behind two", []turn{{"h1", 70}, {"bad", 11}, {"h2", 72}, {"bad", 12}, {"h1", 73}}, []string{"the clock of host bad contradicts the others': 2 of its commits"}},
		{"two against two", []turn{{"h1", 70}, {"h3", 11}, {"h4", 12}, {"h2", 71}, {"h3", 12}, {"h4", 13}}, []string{"host h3 contradicts", "host h4 contradicts"}},
		{"one against one", []turn{{"h1", 70}, {"h2", 11}}, []string{"host h2 contradicts"}},
		{"one against itself", []turn{{"h1", 70}, {"h1", 11}}, []string{"host h1 contradicts"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			below := fmt.Sprintf("/clocks-%d/", i)
			teller := store.Tell(t, below)
			teller.Commit(web, "h1", replaytest.Clock(10, 0), created("web"))
			for _, turn := range c.turns {
				teller.Commit(web, turn.host, replaytest.Clock(turn.minute, 0), events.PoolExhausted{})
			}
			got := verify(t, etcdlog.New(store.Client, below)).Findings
			if len(got) != len(c.want) {
				t.Fatalf("%+v", got)
			}
			for i, want := range c.want {
				if !strings.Contains(got[i].What, want) || got[i].Rule != replay.RuleClocks {
					t.Errorf("%+v, want %s", got[i], want)
				}
			}
		})
	}
}

// A commit that closes another comes when it comes, from whoever's clock.
func TestVerify_void(t *testing.T) {
	store := replaytest.Start(t)
	teller := store.Tell(t, "/void/")
	teller.Night()
	void := ulid.ULID(replaytest.ID('C', 99))
	if err := void.SetTime(ulid.Timestamp(replaytest.Clock(60, 0))); err != nil {
		t.Fatal(err)
	}
	web := events.PoolStream(replaytest.Web)
	teller.Commit(web, "h1", replaytest.Clock(300, 0), events.PoolExhausted{})
	value, err := events.Encode(events.Commit{Time: replaytest.Clock(299, 0), Host: "-"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Client.Txn(t.Context()).Then(etcdlog.PutCommit("/void/", web, events.ID(void), value)...).Commit(); err != nil {
		t.Fatal(err)
	}
	if got := verify(t, etcdlog.New(store.Client, "/void/")); len(got.Findings) > 0 {
		t.Errorf("%+v", got.Findings)
	}
}

// What was deleted, or written beside the daemons, is missed even where no guard and no
// other event tells of it.
func TestVerify_complete(t *testing.T) {
	store := replaytest.Start(t)
	web := events.PoolStream(replaytest.Web)
	for name, spoil := range map[string]func(teller *replaytest.Teller, last events.Record){
		"a commit was deleted": func(teller *replaytest.Teller, last events.Record) {
			teller.Spoil("log/"+string(web)+"/"+last.ID.String(), "")
		},
		"a commit was written by hand": func(teller *replaytest.Teller, last events.Record) {
			value, err := events.Encode(last.Commit)
			if err != nil {
				t.Fatal(err)
			}
			teller.Spoil("log/"+string(web)+"/"+replaytest.ID('C', 199).String(), string(value))
		},
	} {
		t.Run(name, func(t *testing.T) {
			prefix := "/" + strings.ReplaceAll(name, " ", "-") + "/"
			teller := store.Tell(t, prefix)
			teller.Night()
			spoil(teller, teller.Commit(web, "h1", replaytest.Clock(300, 0), events.PoolExhausted{}))
			var complete []replay.Finding
			for _, f := range verify(t, etcdlog.New(store.Client, prefix)).Findings {
				if f.Rule == replay.RuleComplete {
					complete = append(complete, f)
				}
			}
			if len(complete) != 1 || complete[0].Where != "head "+string(web) || complete[0].Pool == nil || complete[0].Pool.ID != replaytest.Web {
				t.Errorf("%+v", complete)
			}
		})
	}
}
