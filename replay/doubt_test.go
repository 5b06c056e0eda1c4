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
				"2025-03-01 03:04": "", "2025-03-01 03:05": "5-30", "2025-03-01 03:29": "5-30", "2025-03-01 03:30": "",
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
