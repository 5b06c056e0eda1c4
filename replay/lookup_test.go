// SPDX-License-Identifier: Apache-2.0

package replay_test

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/replaytest"
	"github.com/ipamlog/ipamlog/replay/timespec"
)

// samePool has pools compared by who they are.
var samePool = cmp.Comparer(func(a, b *projection.PoolLife) bool { return a == b })

var sameAddress = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// A lookup says of every address and moment what the history says.
func TestLookup_isWho(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records, moments := anyLog(t)
		h := load(t, memory(records)).History
		var in []*projection.PoolLife
		if pools := h.Timeline().Pools(); rapid.Bool().Draw(t, "one pool") && len(pools) > 0 {
			in = pools[:1]
		}
		type answer struct {
			holdings []replay.Holding
			doubt    *replay.Doubt
		}
		lookup := replay.NewLookup(h, in, func(list []replay.Holding, doubt *replay.Doubt) answer {
			return answer{slices.Clone(list), doubt}
		})
		for _, moment := range moments {
			for _, off := range []time.Duration{-time.Microsecond, -1, 0, 1, 7 * time.Second} {
				moment := moment.Add(off)
				m, err := h.Moment(timespec.Spec{Time: moment}, moment)
				if err != nil {
					t.Fatal(err)
				}
				for n := range byte(4) {
					who := h.Who(heldAddress(n), in, m)
					got := lookup.Who(heldAddress(n), moment)
					if diff := cmp.Diff(clockDoubt(who), got.doubt, cmpopts.IgnoreFields(replay.Doubt{}, "Ended")); diff != "" {
						t.Fatalf("%s at %s is in doubt (-who +lookup):\n%s", heldAddress(n), moment, diff)
					}
					if diff := cmp.Diff(who.Holdings, append([]replay.Holding{}, got.holdings...), samePool, sameAddress); diff != "" {
						t.Fatalf("%s at %s (-who +lookup):\n%s", heldAddress(n), moment, diff)
					}
				}
			}
		}
	})
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
	lookup := replay.NewLookup(h.History, nil, func(list []replay.Holding, doubt *replay.Doubt) string {
		return fmt.Sprint(len(list), doubt != nil)
	})
	for minute, want := range map[int]string{4: "0 false", 5: "1 false", 6: "1 true", 29: "1 true", 30: "0 true", 39: "0 true", 40: "0 false"} {
		if got := lookup.Who(heldAddress(2), replaytest.Clock(minute, 0)); got != want {
			t.Errorf("at minute %d: %s, want %s", minute, got, want)
		}
	}
	if got := lookup.Began(); !got.Equal(replaytest.Clock(0, 0)) {
		t.Errorf("began at %s", got)
	}
}

// What is made of an answer is made once, whoever asks.
func TestLookup_once(t *testing.T) {
	h := load(t, memory{commit(1, 0, created("web")), commit(2, 10, allocated(2)), commit(3, 20, released(2)), commit(4, 30, allocated(3))})
	var mu sync.Mutex
	made := 0
	lookup := replay.NewLookup(h.History, nil, func(list []replay.Holding, _ *replay.Doubt) string {
		mu.Lock()
		defer mu.Unlock()
		made++
		return fmt.Sprint(len(list))
	})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for minute, want := range map[int]string{9: "0", 10: "1", 19: "1", 20: "0"} {
				for _, address := range []string{"10.50.0.2", "::ffff:10.50.0.2"} {
					if got := lookup.Who(netip.MustParseAddr(address), replaytest.Clock(minute, 0)); got != want {
						t.Errorf("%s at minute %d: %s held it, want %s", address, minute, got, want)
					}
				}
			}
		})
	}
	wg.Wait()
	if made != 2 {
		t.Errorf("%d answers were made, want one for nobody and one for c2", made)
	}
	// What no clock of ours can show is before or after all.
	if got := lookup.Who(heldAddress(3), time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)) + lookup.Who(heldAddress(3), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)); got != "01" {
		t.Errorf("in the year 1 and in 9999: %s", got)
	}
}
