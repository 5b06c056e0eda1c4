// SPDX-License-Identifier: Apache-2.0

package replay_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/replaytest"
	"github.com/ipamlog/ipamlog/replay/timespec"
)

// A lookup says of every address and moment what the history says.
func TestLookup_isWho(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records, moments := anyLog(t)
		h := load(t, memory(records)).History
		var in []*projection.PoolLife
		if pools := h.Timeline().Pools(); rapid.Bool().Draw(t, "one pool") && len(pools) > 0 {
			in = pools[:1]
		}
		var after time.Time
		if rapid.Bool().Draw(t, "of late") {
			after = rapid.SampledFrom(moments).Draw(t, "after")
		}
		lookup := replay.NewLookup(h, in, after)
		for _, moment := range moments {
			for _, off := range []time.Duration{-time.Microsecond, -1, 0, 1, 7 * time.Second} {
				moment := moment.Add(off)
				if !after.IsZero() && !moment.After(after) {
					continue
				}
				m, err := h.Moment(timespec.Spec{Time: moment}, moment)
				if err != nil {
					t.Fatal(err)
				}
				for n := range byte(4) {
					who := h.Who(heldAddress(n), in, m)
					got := lookup.Who(heldAddress(n), moment)
					want := clockDoubt(who)
					doubt, doubted := lookup.Doubt(got)
					if doubted != (want != nil) || doubted != got.Doubted() || doubted && (!doubt.From.Equal(want.From) || !doubt.To.Equal(want.To)) {
						t.Fatalf("%s at %s: the doubt is %v, want %v", heldAddress(n), moment, doubt, want)
					}
					if diff := cmp.Diff(holders(who), lookup.Holders(nil, got)); diff != "" || got.Held() != (len(who.Holdings) > 0) {
						t.Fatalf("%s at %s (-who +lookup):\n%s", heldAddress(n), moment, diff)
					}
				}
			}
		}
	})
}

// holders are those of an answer, as far as a lookup tells of them.
func holders(who replay.Who) []replay.Holder {
	var list []replay.Holder
	for _, x := range who.Holdings {
		holder := replay.Holder{
			Allocation: x.Allocation, Host: x.Host, Pool: x.Pool.Name, Endpoint: x.Endpoint, Kind: x.Kind, MAC: x.MAC,
			From: x.From.Time, To: x.To.Time, ClockSuspect: x.ClockSuspect(),
		}
		if c := x.Container; c != nil {
			holder.ContainerID = c.ID
			holder.Container, holder.Image = orNone(c.Name), orNone(c.Image)
		}
		if x.Network != nil {
			holder.Network = orNone(x.Network.Name)
		}
		list = append(list, holder)
	}
	return list
}

func orNone(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

// clockDoubt is from the earliest of the doubts to the latest.
func clockDoubt(who replay.Who) *replay.Doubt {
	if len(who.Doubts) == 0 {
		return nil
	}
	all := *who.Doubts[0].Doubt
	for _, x := range who.Doubts {
		if x.Doubt.From.Before(all.From) {
			all.From = x.Doubt.From
		}
		if x.Doubt.To.IsZero() || !all.To.IsZero() && x.Doubt.To.After(all.To) {
			all.To = x.Doubt.To
		}
	}
	return &all
}

func heldAddress(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 50, 0, n}) }

// anyLog draws a log of two pools with few addresses, clocks that go wrong, late
// releases, and containers that get other names; and all the moments it names.
func anyLog(t *rapid.T) (records []events.Record, moments []time.Time) {
	type held struct {
		pool    events.ID
		id      events.ID
		address netip.Addr
	}
	pools := []events.ID{replaytest.Web, replaytest.Blue}
	minute := rapid.IntRange(-5, 60)
	at := func(what string) time.Time {
		moment := replaytest.Clock(minute.Draw(t, what), 0)
		moments = append(moments, moment)
		return moment
	}
	var all []held
	clock := 0
	write := func(pool events.ID, list ...events.Event) {
		clock += rapid.IntRange(0, 3).Draw(t, "minutes on")
		r := commit(int64(3*len(records)+5), clock, list...)
		r.Stream = events.PoolStream(pool)
		if rapid.IntRange(0, 4).Draw(t, "wrong clock") == 0 {
			r.ClockSuspect = rapid.Bool().Draw(t, "suspect")
			r.Time = at("its time")
		}
		records, moments = append(records, r), append(moments, r.Time)
	}
	for i := range rapid.IntRange(1, 25).Draw(t, "commits") {
		if len(all) == 0 || rapid.Bool().Draw(t, "allocate") {
			pool := rapid.SampledFrom(pools).Draw(t, "pool")
			x := held{pool, replaytest.Allocation(byte(i)), heldAddress(byte(rapid.IntRange(0, 2).Draw(t, "address")))}
			all = append(all, x)
			write(pool, events.AddressAllocated{Allocation: x.id, Address: x.address, Kind: events.Endpoint, Host: "h1", Endpoint: fmt.Sprint("c", i)})
			continue
		}
		x := rapid.SampledFrom(all).Draw(t, "of")
		if rapid.Bool().Draw(t, "release") {
			released := events.AddressReleased{Allocation: x.id, Address: x.address, Reason: events.Released}
			if rapid.Bool().Draw(t, "late") {
				released.At = at("released")
			}
			write(x.pool, released)
			continue
		}
		told := events.AddressAttributed{Allocation: x.id, Address: x.address, Attribution: events.Attribution{
			ContainerID: x.id.String(), ContainerName: rapid.SampledFrom([]string{"a", "b", ""}).Draw(t, "name"),
		}}
		if rapid.Bool().Draw(t, "since known") {
			told.Since = at("since")
		}
		write(x.pool, told)
	}
	return records, append(moments, replaytest.Clock(-10_000_000, 0), replaytest.Clock(500, 0))
}

// Where the clocks leave open who held an address, the answer says so, whether it
// names somebody or not.
func TestLookup_doubt(t *testing.T) {
	h := load(t, memory{commit(1, 0, created("web")), commit(2, 5, allocated(2)), commit(3, 30), commit(4, 6, released(2)), commit(5, 40)})
	lookup := replay.NewLookup(h.History, nil, time.Time{})
	for minute, want := range map[int]string{4: "free", 5: "held", 6: "held?", 29: "held?", 30: "free?", 39: "free?", 40: "free"} {
		a := lookup.Who(heldAddress(2), replaytest.Clock(minute, 0))
		got := map[bool]string{false: "free", true: "held"}[a.Held()] + map[bool]string{true: "?"}[a.Doubted()]
		if got != want {
			t.Errorf("at minute %d: %s, want %s", minute, got, want)
		}
	}
	if got := lookup.Began(); !got.Equal(replaytest.Clock(0, 0)) {
		t.Errorf("began at %s", got)
	}
}

// The same answer has the same number, so that what is made of it can be kept.
func TestLookup_same(t *testing.T) {
	h := load(t, memory{commit(1, 0, created("web")), commit(2, 10, allocated(2)), commit(3, 20, released(2)), commit(4, 30, allocated(3))})
	lookup := replay.NewLookup(h.History, nil, time.Time{})
	held := lookup.Who(heldAddress(2), replaytest.Clock(15, 0))
	for minute, want := range map[int]replay.Answer{9: replay.Nobody, 10: held, 19: held, 20: replay.Nobody} {
		for _, address := range []string{"10.50.0.2", "::ffff:10.50.0.2", "::ffff:10.50.0.2%eth0"} {
			if got := lookup.Who(netip.MustParseAddr(address), replaytest.Clock(minute, 0)); got != want {
				t.Errorf("%s at minute %d: answer %d, want %d", address, minute, got, want)
			}
		}
	}
	if got := lookup.Holders(nil, held); len(got) != 1 || got[0].Endpoint != "c2" {
		t.Errorf("%+v", got)
	}
	// What no clock of ours can show is before or after all.
	if a, b := lookup.Who(heldAddress(3), time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)), lookup.Who(heldAddress(3), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)); a.Held() || !b.Held() {
		t.Errorf("in the year 1 and in 9999: %d, %d", a, b)
	}
}
