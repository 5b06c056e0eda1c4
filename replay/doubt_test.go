// SPDX-License-Identifier: Apache-2.0

package replay_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
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

func suspect(r events.Record) events.Record { r.ClockSuspect = true; return r }

func TestWho_doubts(t *testing.T) {
	spooled := func(n byte, minutes int) events.AddressReleased {
		e := released(n)
		e.At = replaytest.Clock(minutes, 0)
		return e
	}
	for _, c := range []struct {
		name string
		log  memory
		// The address .2 is asked about; "at" to the stretch of doubt, in minutes.
		want map[string]string
	}{
		{
			"clocks that agree",
			memory{commit(2, 10, allocated(2)), commit(3, 20, released(2))},
			map[string]string{"2025-03-01 03:09": "", "2025-03-01 03:10": "", "2025-03-01 03:20": "", "@2": ""},
		},
		{
			"it began by a clock in 2038",
			memory{commit(2, 5), suspect(commit(3, 6_000_000, allocated(2))), commit(4, 4), commit(5, 30)},
			map[string]string{
				// The one that says 4 leaves open whether the others were right at 5.
				"2025-03-01 02:59": "", "2025-03-01 03:00": "0-30", "2025-03-01 03:29": "0-30", "2025-03-01 03:30": "",
				"@3": "", "@4": "", "@2": "",
			},
		},
		{
			"it ended by a clock in 2038, and nobody has spoken since",
			memory{commit(2, 10, allocated(2)), suspect(commit(3, 6_000_000, released(2)))},
			map[string]string{"2025-03-01 03:09": "", "2025-03-01 03:10": "10-∞ ended", "2025-12-01": "10-∞ ended"},
		},
		{
			"a clock a few seconds behind",
			memory{commit(2, 10), at30s(commit(3, 9, allocated(2)), 55), commit(4, 20)},
			map[string]string{"2025-03-01 03:09": "", "2025-03-01 03:09:55": "9.9-10", "2025-03-01 03:09:59": "9.9-10", "2025-03-01 03:10": ""},
		},
		{
			"a clock far behind",
			memory{commit(2, 10), commit(3, 4, allocated(2)), commit(4, 5, released(2)), commit(5, 20)},
			map[string]string{
				"2025-03-01 03:03": "", "2025-03-01 03:04": "4-20", "2025-03-01 03:19": "4-20", "2025-03-01 03:20": "",
			},
		},
		{
			"the very first clock is the wrong one",
			memory{suspect(commit(2, 10, allocated(2))), commit(3, 20)},
			map[string]string{"2025-03-01 03:00": "-20", "2025-03-01 03:20": ""},
		},
		{
			"Docker's own moment is known",
			memory{commit(2, 10, allocated(2)), commit(3, 40, spooled(2, 30))},
			map[string]string{"2025-03-01 03:29": "", "2025-03-01 03:30": "", "2025-03-01 03:35": ""},
		},
		{
			"Docker's own moment cannot have been",
			memory{commit(2, 10, allocated(2)), commit(3, 40, spooled(2, 5))},
			map[string]string{"2025-03-01 03:09": "", "2025-03-01 03:10": "10-40 ended", "2025-03-01 03:39": "10-40 ended", "2025-03-01 03:40": ""},
		},
		{
			"nor can it be known from a clock in 2038",
			memory{commit(2, 10, allocated(2)), suspect(commit(3, 6_000_000, spooled(2, 5_999_999))), commit(4, 50)},
			map[string]string{"2025-03-01 03:10": "10-50 ended", "2025-03-01 03:49": "10-50 ended", "2025-03-01 03:50": ""},
		},
		{
			"a clock an hour ahead, which nobody had marked",
			memory{commit(2, 9), commit(3, 70), commit(4, 71, allocated(2)), commit(5, 11), commit(6, 12, released(2)), commit(7, 80)},
			map[string]string{
				"2025-03-01 03:08": "", "2025-03-01 03:09": "9-71", "2025-03-01 03:12": "9-71", "2025-03-01 04:10": "9-71",
				"2025-03-01 04:11": "12-80 ended", "2025-03-01 04:20": "", "@4": "",
			},
		},
		{
			"a clock eight seconds ahead",
			memory{at30s(commit(2, 10, allocated(2)), 8), at30s(commit(3, 10), 1), commit(4, 20)},
			map[string]string{"2025-03-01 03:10:04": "0-10.1", "2025-03-01 03:10:08": "", "2025-03-01 03:20": ""},
		},
		{
			"clocks as they are when they are kept right",
			memory{commit(2, 10, allocated(2)), at30s(commit(3, 9), 60), commit(4, 20)},
			map[string]string{"2025-03-01 03:09": "", "2025-03-01 03:10": ""},
		},
		{
			"a clock that was years behind says nothing",
			memory{commit(2, 10, allocated(2)), commit(3, -20_000_000), commit(4, 20)},
			map[string]string{"2025-03-01 03:09": "", "2025-03-01 03:10": ""},
		},
		{
			"Docker's own moment, told by a clock an hour ahead",
			memory{commit(2, 10, allocated(2)), commit(3, 100, spooled(2, 90)), commit(4, 41)},
			map[string]string{"2025-03-01 03:09": "", "2025-03-01 03:10": "10-90 ended", "2025-03-01 04:29": "10-90 ended", "2025-03-01 04:30": ""},
		},
		{
			"Docker's own moment, told by a clock an hour behind",
			memory{commit(2, 10, allocated(2)), commit(3, 119), commit(4, 61, spooled(2, 60)), commit(5, 130)},
			map[string]string{"2025-03-01 03:10": "10-130 ended", "2025-03-01 04:30": "10-130 ended", "2025-03-01 05:09": "10-130 ended", "2025-03-01 05:10": ""},
		},
		{
			"nor can this one",
			memory{commit(2, 10, allocated(2)), commit(3, 40, spooled(2, 55)), commit(4, 50)},
			map[string]string{"2025-03-01 03:10": "10-40 ended", "2025-03-01 03:39": "10-40 ended", "2025-03-01 03:40": ""},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := load(t, append(memory{commit(1, 0, created("web"))}, c.log...))
			if c.name == "the very first clock is the wrong one" {
				h = load(t, c.log)
			}
			for text, want := range c.want {
				m := at(t, h, text)
				who := h.Who(netip.MustParseAddr("10.50.0.2"), nil, m)
				got := ""
				if len(who.Doubts) > 0 {
					got = inMinutes(*who.Doubts[0].Doubt)
				}
				if got != want {
					t.Errorf("at %s: doubt %q, want %q", text, got, want)
				}
				for _, x := range h.Holders(nil, m) {
					if x.Doubt == nil && want != "" || x.Doubt != nil && inMinutes(*x.Doubt) != want {
						t.Errorf("at %s: holders doubt %v, want %q", text, x.Doubt, want)
					}
				}
			}
		})
	}
}

// at30s moves a record on by some seconds.
func at30s(r events.Record, seconds int) events.Record {
	r.Time = r.Time.Add(time.Duration(seconds) * time.Second)
	return r
}

// inMinutes is a doubt in minutes after three.
func inMinutes(d replay.Doubt) string {
	minutes := func(t time.Time, none string) string {
		if t.IsZero() {
			return none
		}
		return fmt.Sprintf("%.4g", float64(int(t.Sub(replaytest.Night).Minutes()*10))/10)
	}
	text := minutes(d.From, "") + "-" + minutes(d.To, "∞")
	if d.Ended {
		text += " ended"
	}
	return text
}

func TestWho_MarshalJSON_doubt(t *testing.T) {
	h := load(t, memory{
		commit(1, 0, created("web")), commit(2, 10),
		suspect(commit(3, 999_999, allocated(2))), suspect(commit(4, 999_999, released(2), replaytest.Allocated(9, "10.50.0.2", "h2", replaytest.GrantH2, "c9"))), commit(5, 30),
	})
	type answer struct {
		Doubt    *struct{ From, To *string } `json:"clock_doubt"`
		Holdings []json.RawMessage
	}
	for text, want := range map[string]string{
		"2025-03-01 03:20": "2025-03-01T03:10:00.000000Z 2025-03-01T03:30:00.000000Z",
		"2025-03-01 03:31": "", "@4": "",
	} {
		var got answer
		raw := asJSON(t, h.Who(netip.MustParseAddr("10.50.0.2"), nil, at(t, h, text)))
		unmarshal(t, raw, &got)
		doubt := ""
		if got.Doubt != nil {
			doubt = *got.Doubt.From + " " + *got.Doubt.To
		}
		if doubt != want || len(got.Holdings) != 1 {
			t.Errorf("at %s: %s", text, raw)
		}
	}
}

// Hosts whose clocks are right, and some that live in the future and know it: an
// answer that is not doubted is the truth.
func TestWho_undoubtedIsTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := memory{commit(1, 0, created("web"))}
		type turn struct {
			second int
			held   bool
		}
		truth := []turn{{0, false}}
		second, n, held := 0, byte(0), false
		for i := range rapid.IntRange(0, 25).Draw(t, "commits") {
			second += rapid.IntRange(1, 20).Draw(t, "later")
			var list []events.Event
			if rapid.Bool().Draw(t, "about it") {
				if held {
					list = append(list, events.AddressReleased{Allocation: replaytest.Allocation(n), Address: netip.MustParseAddr("10.50.0.2"), Reason: events.Released})
				} else {
					n++
					list = append(list, replaytest.Allocated(n, "10.50.0.2", "h1", replaytest.GrantH1, "c"))
				}
				held = !held
			}
			truth = append(truth, turn{second, held})
			r := commit(int64(2+3*i), 0, list...)
			r.Time = replaytest.Night.Add(time.Duration(second) * time.Second)
			if rapid.Bool().Draw(t, "future") {
				r.Time, r.ClockSuspect = r.Time.AddDate(13, 0, 0), true
			}
			log = append(log, r)
		}
		h := load(t, log)
		for s := range second + 30 {
			m, err := h.Moment(timespec.Spec{Time: replaytest.Night.Add(time.Duration(s) * time.Second)}, nextYear)
			if err != nil {
				t.Fatal(err)
			}
			who := h.Who(netip.MustParseAddr("10.50.0.2"), []*projection.PoolLife(nil), m)
			is := false
			for _, turn := range truth {
				if turn.second <= s {
					is = turn.held
				}
			}
			if len(who.Doubts) == 0 && (len(who.Holdings) == 1) != is {
				t.Fatalf("second %d: %d holdings, in truth held: %t\n%s", s, len(who.Holdings), is, cmp.Diff(nil, truth))
			}
		}
	})
}

// Clocks off by any amount: an answer that is not doubted is the truth, as long as
// every clock that is wrong contradicts the others: one that is ahead is marked, or
// a later commit that is not ahead says so before another host has moved the running
// time on; one that is behind is more than ten seconds behind the running time.
func TestWho_undoubtedIsTrue_unmarked(t *testing.T) {
	told := 0
	rapid.Check(t, func(t *rapid.T) {
		log := memory{commit(1, 0, created("web"))}
		log[0].Host = "h0"
		type turn struct {
			second int
			held   bool
		}
		truth := []turn{{0, false}}
		seconds := []int{0}
		second, n, held := 0, byte(0), false
		for i := range rapid.IntRange(1, 20).Draw(t, "commits") {
			second += rapid.IntRange(1, 40).Draw(t, "later")
			var list []events.Event
			if rapid.Bool().Draw(t, "about it") {
				if held {
					list = append(list, events.AddressReleased{Allocation: replaytest.Allocation(n), Address: netip.MustParseAddr("10.50.0.2"), Reason: events.Released})
				} else {
					n++
					list = append(list, replaytest.Allocated(n, "10.50.0.2", "h1", replaytest.GrantH1, "c"))
				}
				held = !held
			}
			truth = append(truth, turn{second, held})
			r := commit(int64(2+3*i), 0, list...)
			r.Host = rapid.SampledFrom([]string{"h1", "h2", "h3"}).Draw(t, "host")
			off := 0
			switch rapid.IntRange(0, 5).Draw(t, "clock") {
			case 0:
				off = rapid.IntRange(1, 300).Draw(t, "ahead")
			case 1:
				off = -rapid.IntRange(11, 300).Draw(t, "behind")
			case 2:
				r.ClockSuspect = true
				off = rapid.IntRange(-1000, 1_000_000_000).Draw(t, "marked")
			}
			r.Time = replaytest.Night.Add(time.Duration(second+off) * time.Second)
			log, seconds = append(log, r), append(seconds, second)
		}
		if !contradicted(log, seconds) {
			return
		}
		told++
		h := load(t, log)
		for s := range second + 400 {
			m, err := h.Moment(timespec.Spec{Time: replaytest.Night.Add(time.Duration(s) * time.Second)}, nextYear)
			if err != nil {
				t.Fatal(err)
			}
			who := h.Who(netip.MustParseAddr("10.50.0.2"), nil, m)
			is := false
			for _, turn := range truth {
				if turn.second <= s {
					is = turn.held
				}
			}
			if len(who.Doubts) == 0 && (len(who.Holdings) == 1) != is {
				t.Fatalf("second %d: %d holdings, in truth held: %t\n%+v", s, len(who.Holdings), is, truth)
			}
		}
	})
	if told == 0 {
		t.Error("no log was looked at")
	}
}

// contradicted says whether every unmarked clock that is wrong contradicts another's.
func contradicted(log memory, seconds []int) bool {
	lead, running := "", time.Time{}
	var open []time.Time // what was said that is ahead of the truth, and stands
	for i, r := range log {
		right := replaytest.Night.Add(time.Duration(seconds[i]) * time.Second)
		switch {
		case r.ClockSuspect:
			continue
		case r.Time.After(running):
			if r.Host != lead && len(open) > 0 || r.Time.Before(right) {
				return false
			}
			lead, running = r.Host, r.Time
		case r.Time.After(right) || r.Time.Before(right) && running.Sub(r.Time) <= 10*time.Second:
			return false
		case running.Sub(r.Time) >= time.Second:
			open = slices.DeleteFunc(open, r.Time.Before)
		}
		if r.Time.After(right) {
			open = append(open, r.Time)
		}
	}
	return len(open) == 0
}
