// SPDX-License-Identifier: Apache-2.0

package replay_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/replaytest"
	"github.com/ipamlog/ipamlog/replay/timespec"
)

func unmarshal(t *testing.T, raw string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(raw), into); err != nil {
		t.Fatal(err)
	}
}

// changes writes them a line each.
func changes(list []replay.Change) []string {
	lines := []string{}
	for _, c := range list {
		line := c.Address.String() + " " + c.Change
		for _, x := range []*replay.Holding{c.Before, c.After} {
			if x == nil {
				line += " -"
			} else {
				line += fmt.Sprintf(" %d", x.Allocation[15])
			}
		}
		lines = append(lines, line)
	}
	return lines
}

func TestHistory_Diff(t *testing.T) {
	gateway := func(n byte, host string) events.Event {
		return replaytest.Allocated(n, "10.50.0.1", host, replaytest.GrantH1, "")
	}
	again := func(n, address byte) events.Event {
		return replaytest.Allocated(n, fmt.Sprintf("10.50.0.%d", address), "h1", replaytest.GrantH1, "c")
	}
	release := func(n, address byte) events.Event {
		return replaytest.Released(n, fmt.Sprintf("10.50.0.%d", address))
	}
	told := func(n, address byte, id string) events.Event {
		return replaytest.Attributed(n, fmt.Sprintf("10.50.0.%d", address), events.Attribution{ContainerID: id})
	}
	h := load(t, memory{
		commit(1, 0, created("web")),
		commit(2, 10, allocated(2), allocated(3), allocated(4), gateway(20, "h1"), gateway(21, "h2")),
		commit(3, 20, release(2, 2), release(3, 3)),
		commit(4, 30, again(32, 2), again(35, 5)),
		commit(5, 40, release(32, 2), again(42, 2), release(35, 5), release(20, 1), gateway(40, "h1"), gateway(41, "h3")),
		// The container on .4 gives its address back, and has it again.
		commit(6, 50, release(4, 4)), commit(7, 51, again(54, 4)),
		commit(8, 52, told(4, 4, "abc"), told(54, 4, "abc")),
	})
	web, err := h.PoolsEver("web")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from, to string
		want     []string
	}{
		{"@1", "@1", []string{}},
		{"@1", "@2", []string{"10.50.0.1 gained - 20", "10.50.0.1 gained - 21", "10.50.0.2 gained - 2", "10.50.0.3 gained - 3", "10.50.0.4 gained - 4"}},
		{"@2", "@3", []string{"10.50.0.2 lost 2 -", "10.50.0.3 lost 3 -"}},
		// First and last hand alone count; .5 came and went.
		{"@2", "@8", []string{"10.50.0.1 changed 20 40", "10.50.0.1 gained - 41", "10.50.0.2 changed 2 42", "10.50.0.3 lost 3 -"}},
		{"2025-03-01 03:45", "2025-03-01 03:50", []string{"10.50.0.4 lost 4 -"}},
		{"2025-03-01 03:50", "2025-03-01 03:51", []string{"10.50.0.4 gained - 54"}},
		{"2025-03-01 03:49", "2025-03-01 03:51", []string{}},
	} {
		got := h.Diff(web, at(t, h, c.from), at(t, h, c.to))
		if diff := cmp.Diff(c.want, changes(got)); diff != "" {
			t.Errorf("%s to %s (-want +got):\n%s", c.from, c.to, diff)
		}
		if all := h.Diff(nil, at(t, h, c.from), at(t, h, c.to)); !cmp.Equal(changes(all), changes(got)) {
			t.Errorf("%s to %s: of all pools %v", c.from, c.to, changes(all))
		}
	}
	raw, err := json.Marshal(h.Diff(web, at(t, h, "@3"), at(t, h, "@3")))
	if err != nil || string(raw) != "[]" {
		t.Errorf("no differences: %s, %v", raw, err)
	}
	var object map[string]json.RawMessage
	unmarshal(t, asJSON(t, h.Diff(web, at(t, h, "@2"), at(t, h, "@3"))[0]), &object)
	if string(object["after"]) != "null" || string(object["change"]) != `"lost"` || string(object["address"]) != `"10.50.0.2"` || object["before"] == nil {
		t.Errorf("%s", object)
	}
}

// A pool that was made again under its name is the same pool, one of another name
// with the same addresses is not.
func TestHistory_Diff_incarnations(t *testing.T) {
	in := func(pool byte, r events.Record) events.Record {
		r.Stream = events.PoolStream(replaytest.ID('P', pool))
		return r
	}
	a := replaytest.Allocated
	h := load(t, memory{
		commit(1, 0, created("web"), a(2, "10.50.0.2", "h1", replaytest.GrantH1, "c")),
		in(9, commit(2, 1, created("blue"), a(3, "10.50.0.2", "h1", replaytest.GrantH1, "c"))),
		commit(3, 2, released(2), events.PoolRetired{Space: events.Local}),
		in(8, commit(4, 3, created("web"), a(4, "10.50.0.2", "h1", replaytest.GrantH1, "c"))),
	})
	for word, want := range map[string][]string{"web": {"10.50.0.2 changed 2 4"}, "blue": {}} {
		pools, err := h.PoolsEver(word)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, changes(h.Diff(pools, at(t, h, "@2"), at(t, h, "@4")))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", word, diff)
		}
	}
}

// What is held at the first moment, with the differences applied, is what is held
// at the second.
func TestHistory_Diff_adds_up(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := memory{commit(1, 0, created("web"))}
		open, n := map[byte]byte{}, byte(0)
		for i := range rapid.IntRange(0, 30).Draw(t, "commits") {
			a := byte(rapid.IntRange(2, 5).Draw(t, "address"))
			address := netip.AddrFrom4([4]byte{10, 50, 0, a})
			var e events.Event
			if id, held := open[a]; held {
				e = events.AddressReleased{Allocation: replaytest.Allocation(id), Address: address, Reason: events.Released}
				delete(open, a)
			} else {
				n++
				e = events.AddressAllocated{Allocation: replaytest.Allocation(n), Address: address, Kind: events.Endpoint, Host: "h1"}
				open[a] = n
			}
			log = append(log, commit(int64(2+i), i, e))
		}
		h := load(t, log)
		moment := func(name string) replay.Moment {
			m, err := h.Moment(timespec.Spec{Revision: rapid.Int64Range(1, int64(len(log))).Draw(t, name)}, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		from, to := moment("from"), moment("to")
		held := map[events.ID]bool{}
		for _, x := range h.Holders(nil, from) {
			held[x.Allocation] = true
		}
		for _, c := range h.Diff(nil, from, to) {
			if c.Before != nil {
				if !held[c.Before.Allocation] {
					t.Fatalf("%s was not held before", c.Before.Allocation)
				}
				delete(held, c.Before.Allocation)
			}
			if c.After != nil {
				held[c.After.Allocation] = true
			}
		}
		want := map[events.ID]bool{}
		for _, x := range h.Holders(nil, to) {
			want[x.Allocation] = true
		}
		if diff := cmp.Diff(want, held); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}
