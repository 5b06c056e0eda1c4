// SPDX-License-Identifier: Apache-2.0

package replay_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/replaytest"
	"github.com/ipamlog/ipamlog/replay/timespec"
)

var nextYear = replaytest.Night.AddDate(1, 0, 0)

func at(t *testing.T, h *replay.Journal, text string) replay.Moment {
	t.Helper()
	spec, err := timespec.Parse(text, nextYear, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	m, err := h.Moment(spec, nextYear)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// commit is a record of the pool web.
func commit(revision int64, minutes int, list ...events.Event) events.Record {
	return events.Record{Revision: revision, Commit: events.Commit{
		ID: replaytest.ID('C', byte(revision)), Stream: events.PoolStream(replaytest.Web), Time: replaytest.Clock(minutes, 0),
		Host: "h1", Incarnation: 1, Writer: "v1", Events: list,
	}}
}

func created(name string) events.Event {
	return events.PoolCreated{Space: events.Local, Name: name, Subnet: netip.MustParsePrefix("10.50.0.0/24"), Policy: events.DefaultPolicy()}
}

func allocated(n byte) events.Event {
	return replaytest.Allocated(n, fmt.Sprintf("10.50.0.%d", n), "h1", replaytest.GrantH1, fmt.Sprintf("c%d", n))
}

func released(n byte) events.AddressReleased {
	return replaytest.Released(n, fmt.Sprintf("10.50.0.%d", n))
}

func TestHistory_Moment(t *testing.T) {
	suspect := commit(30, 999_999)
	suspect.ClockSuspect = true
	h := load(t, memory{commit(10, 10, created("web")), commit(20, 5), suspect, commit(40, 20)})
	for text, want := range map[string]int64{
		"2025-03-01 03:09": 0, "2025-03-01 03:10": 30, "2025-03-01 03:19": 30, "2025-03-01 03:20": 40, "2026-01-01": 40,
		"@1": 1, "@10": 10, "@35": 35, "@45": 45,
	} {
		if got := at(t, h, text).Revision; got != want {
			t.Errorf("%s: @%d, want @%d", text, got, want)
		}
	}
	if got := at(t, h, "@35").Time; !got.Equal(replaytest.Clock(10, 0)) {
		t.Errorf("the time at @35 is %s", got)
	}
	for _, spec := range []timespec.Spec{{Revision: 46}, {Time: nextYear.Add(time.Second)}} {
		if _, err := h.Moment(spec, nextYear); !errors.Is(err, replay.ErrNotYet) {
			t.Errorf("%s: %v", spec, err)
		}
	}
	for text, want := range map[string]int64{"2025-03-01 03:10": 0, "2025-03-01 03:20": 30, "@40": 39} {
		spec, err := timespec.Parse(text, nextYear, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := h.Before(spec, nextYear); err != nil || m.Revision != want {
			t.Errorf("before %s: @%d, %v, want @%d", text, m.Revision, err, want)
		}
	}
}

func TestHistory_Who(t *testing.T) {
	late := released(3)
	late.At = replaytest.Clock(30, 0)
	h := load(t, memory{
		commit(1, 0, created("web")),
		commit(2, 10, allocated(2), allocated(3)), commit(3, 20, released(2)),
		commit(4, 40, late), commit(5, 50, events.AddressAllocated{Allocation: replaytest.Allocation(9), Address: netip.MustParseAddr("10.50.0.2"), Kind: events.Endpoint, Host: "h1"}),
	})
	for _, c := range []struct{ address, at, want string }{
		{"10.50.0.2", "2025-03-01 03:09", "after 2"},
		{"10.50.0.2", "2025-03-01 03:10", "held 2"},
		{"10.50.0.2", "2025-03-01 03:19", "held 2"},
		{"10.50.0.2", "2025-03-01 03:20", "before 2 after 9"},
		{"10.50.0.2", "2025-03-01 03:50", "held 9"},
		{"::ffff:10.50.0.2", "2025-03-01 03:50", "held 9"},
		{"10.50.0.3", "2025-03-01 03:29", "held 3"},
		{"10.50.0.3", "2025-03-01 03:30", "before 3"}, // Docker had released it
		{"10.50.0.3", "@3", "held 3"},                 // the log had not
		{"10.50.0.3", "@4", "before 3"},
		{"10.50.0.4", "@4", ""},
	} {
		who := h.Who(netip.MustParseAddr(c.address), nil, at(t, h, c.at))
		got := ""
		add := func(word string, x replay.Holding) { got += fmt.Sprintf(" %s %d", word, x.Allocation[15]) }
		if who.Before != nil {
			add("before", *who.Before)
		}
		for _, x := range who.Holdings {
			add("held", x)
		}
		if who.After != nil {
			add("after", *who.After)
		}
		if got != "" {
			got = got[1:]
		}
		if got != c.want {
			t.Errorf("%s at %s: %q, want %q", c.address, c.at, got, c.want)
		}
	}
}

// An own field never hides where the event stands, nor gets lost behind it.
func TestEvent_MarshalJSON(t *testing.T) {
	unknown := `{"type":"host.renamed","host":"h7","time":"long ago","stream":"` + events.PoolStream(replaytest.Web) + `","we\"ird":[1, {"a":null}],"revision":1}`
	r := commit(7, 0, events.Unknown{Name: "host.renamed", Raw: json.RawMessage(unknown)}, events.GrantOpened{Grant: replaytest.GrantH1, Host: "h1"})
	r.ClockSuspect = true
	h := load(t, memory{commit(1, 0, created("web")), r})
	var got []string
	for e := range h.Events(nil, replay.Span{From: at(t, h, "@1"), To: at(t, h, "@7")}) {
		raw, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(raw))
	}
	want := []string{
		`{"revision":7,"index":0,"time":"2025-03-01T03:00:00.000000Z","host":"h1","stream":"01JN7W9S40A000000000000001","commit":"01JN7W9S408C00000000000007","type":"host.renamed","clock_suspect":true,"event_host":"h7","event_time":"long ago","we\"ird":[1,{"a":null}],"event_revision":1}`,
		`{"revision":7,"index":1,"time":"2025-03-01T03:00:00.000000Z","host":"h1","stream":"01JN7W9S40A000000000000001","commit":"01JN7W9S408C00000000000007","type":"grant.opened","clock_suspect":true,"grant":"01JN7W9S408W00000000000001"}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What an allocator would stop at stops the rebuilding, at its place and not
// before.
func TestHistory_Rebuild_strict(t *testing.T) {
	h := load(t, memory{
		commit(1, 0, created("web")), commit(2, 1, allocated(2)),
		commit(3, 2, events.Unknown{Name: "address.blessed", Raw: json.RawMessage(`{"type":"address.blessed"}`)}),
	})
	if held, err := h.Replay(at(t, h, "@2")); err != nil || len(held) != 1 {
		t.Errorf("at @2: %d holdings, %v", len(held), err)
	}
	if _, err := h.Replay(at(t, h, "@3")); !errors.Is(err, events.ErrUnknownEvent) {
		t.Errorf("at @3: %v", err)
	}
	steps := 0
	for _, err := range h.Steps(replay.Span{To: at(t, h, "@3")}) {
		if steps++; (err != nil) != (steps == 3) {
			t.Errorf("step %d: %v", steps, err)
		}
	}
	if steps != 3 {
		t.Errorf("%d steps", steps)
	}
}

// Whatever the log holds: the allocator's state and the timeline tell the same
// of every revision, and of every time.
func TestHistory_agrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := memory{commit(1, 0, created("web"))}
		held := map[byte]bool{}
		n := rapid.IntRange(0, 40).Draw(t, "commits")
		allocations := byte(0)
		open := map[byte]byte{} // address → allocation
		for i := range n {
			clock := rapid.IntRange(0, 60).Draw(t, "clock")
			var list []events.Event
			for range rapid.IntRange(0, 3).Draw(t, "events") {
				a := byte(rapid.IntRange(2, 6).Draw(t, "address"))
				address := netip.AddrFrom4([4]byte{10, 50, 0, a})
				if held[a] {
					e := events.AddressReleased{Allocation: replaytest.Allocation(open[a]), Address: address, Reason: events.Released}
					if rapid.Bool().Draw(t, "spooled") {
						e.At = replaytest.Clock(rapid.IntRange(0, 60).Draw(t, "at"), 0)
					}
					list = append(list, e)
				} else {
					allocations++
					open[a] = allocations
					list = append(list, events.AddressAllocated{Allocation: replaytest.Allocation(allocations), Address: address, Kind: events.Endpoint, Host: "h1"})
				}
				held[a] = !held[a]
			}
			r := commit(int64(2+2*i), clock, list...)
			r.ClockSuspect = rapid.Bool().Draw(t, "suspect")
			log = append(log, r)
		}
		h := load(t, log)
		var specs []timespec.Spec
		for r := int64(1); r <= h.Revision(); r++ {
			specs = append(specs, timespec.Spec{Revision: r})
		}
		for m := range 62 {
			specs = append(specs, timespec.Spec{Time: replaytest.Clock(m-1, 0)})
		}
		for _, spec := range specs {
			m, err := h.Moment(spec, nextYear)
			if err != nil {
				t.Fatal(err)
			}
			rebuilt, err := h.Replay(m)
			if err != nil {
				t.Fatal(err)
			}
			told := h.Holders(nil, m)
			asJSON := func(list []replay.Holding) string {
				raw, err := json.MarshalIndent(list, "", " ")
				if err != nil {
					t.Fatal(err)
				}
				return string(raw)
			}
			if diff := cmp.Diff(asJSON(rebuilt), asJSON(told)); diff != "" {
				t.Fatalf("%s (-replay +holders):\n%s", spec, diff)
			}
			for _, x := range told {
				if who := h.Who(x.Address, nil, m); len(who.Holdings) != 1 || who.Holdings[0].Allocation != x.Allocation {
					t.Fatalf("%s: %s is held by %s, and who says %v", spec, x.Address, x.Allocation, who.Holdings)
				}
			}
		}
	})
}

// What is told later may say less, and hides nothing of what was known.
func TestWho_toldLess(t *testing.T) {
	told := func(a events.Attribution) events.Event {
		a.ContainerID, a.ContainerName = "0123456789abcdef", "a"
		return events.AddressAttributed{Allocation: replaytest.Allocation(2), Address: netip.MustParseAddr("10.50.0.2"), Attribution: a}
	}
	h := load(t, memory{
		commit(1, 0, created("web")), commit(2, 10, allocated(2)),
		commit(3, 11, told(events.Attribution{Image: "nginx", Labels: map[string]string{"a": "b"}})),
		commit(4, 20, told(events.Attribution{ImageID: "sha256:1"})), commit(5, 21, told(events.Attribution{})),
	})
	got := h.Who(netip.MustParseAddr("10.50.0.2"), nil, at(t, h, "@5")).Holdings[0].Container
	name, image, id := "a", "nginx", "sha256:1"
	want := &replay.Container{ID: "0123456789abcdef", Name: &name, Image: &image, ImageID: &id, Labels: map[string]string{"a": "b"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
