// SPDX-License-Identifier: Apache-2.0

package replay_test

import (
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/replaytest"
	"github.com/ipamlog/ipamlog/replay/timespec"
)

// called is what tells that the container on .2 has had a name since a minute, or
// from the beginning.
func called(name string, since ...int) events.Event {
	e := events.AddressAttributed{
		Allocation: replaytest.Allocation(2), Address: heldAddress(2), Attribution: events.Attribution{ContainerID: replaytest.Web1, ContainerName: name},
	}
	for _, minute := range since {
		e.Since = replaytest.Clock(minute, 0)
	}
	return e
}

// The engine's moment of a renaming is believed as far as the clock that tells of it.
func TestWho_names(t *testing.T) {
	const unknown = ""
	for _, c := range []struct {
		name string
		log  memory
		want map[int]string // by minutes
	}{
		{
			"a clock that is right",
			memory{commit(2, 10, allocated(2)), commit(3, 11, called("a")), commit(4, 20, called("b", 19)), commit(5, 30)},
			map[int]string{10: "a", 18: "a", 19: "b", 20: "b", 30: "b"},
		},
		{
			"a clock an hour ahead",
			memory{commit(2, 10, allocated(2)), commit(3, 11, called("a")), commit(4, 80, called("b", 79)), commit(5, 21), commit(6, 90)},
			map[int]string{11: unknown, 21: unknown, 78: unknown, 79: "b", 90: "b"},
		},
		{
			"a clock twenty minutes behind",
			memory{commit(2, 10, allocated(2)), commit(3, 11, called("a")), commit(4, 60), commit(5, 41, called("b", 40)), commit(6, 70)},
			map[int]string{11: "a", 39: "a", 40: unknown, 59: unknown, 68: unknown, 69: "b", 70: "b"},
		},
		{
			"a clock an hour behind, before the beginning",
			memory{commit(2, 70, allocated(2)), commit(3, 71, called("a")), commit(4, 119), commit(5, 61, called("b", 60)), commit(6, 130)},
			// It may as well have been those before it that were ahead.
			map[int]string{70: unknown, 72: unknown, 129: unknown, 130: "b"},
		},
		{
			"a clock that is marked",
			memory{commit(2, 10, allocated(2)), commit(3, 11, called("a")), suspect(commit(4, 6_000_000, called("b", 5_999_990))), commit(5, 40)},
			map[int]string{11: unknown, 29: unknown, 30: "b", 40: "b"},
		},
		{
			"a marked clock, and nobody has spoken since",
			memory{commit(2, 10, allocated(2)), commit(3, 11, called("a")), suspect(commit(4, 6_000_000, called("b", 5_999_999)))},
			map[int]string{10: unknown, 500: unknown},
		},
		{
			"a clock that was put back before it told",
			memory{commit(2, 10, allocated(2)), commit(3, 11, called("a")), commit(4, 20, called("b", 25)), commit(5, 30)},
			map[int]string{11: "a", 12: unknown, 19: unknown, 20: "b", 25: "b"},
		},
		{
			"no moment was seen, and the clock is behind",
			memory{commit(2, 10, allocated(2)), commit(3, 11, called("a")), commit(4, 60), commit(5, 41, called("b")), commit(6, 70)},
			map[int]string{11: "a", 12: unknown, 69: unknown, 70: "b"},
		},
		{
			"what it was called before is not known",
			memory{commit(2, 10, allocated(2)), commit(3, 20, called("b", 15)), commit(4, 30)},
			map[int]string{14: unknown, 15: "b"},
		},
		{
			"told twice, by a clock in doubt and then by one that is right",
			memory{commit(2, 10, allocated(2)), commit(3, 11, called("a")), suspect(commit(4, 6_000_000, called("b", 5_999_999))), commit(5, 40, called("c", 39))},
			map[int]string{38: unknown, 39: "c", 40: "c"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := load(t, append(memory{commit(1, 0, created("web"))}, c.log...)).History
			lookup := replay.NewLookup(h, nil, time.Time{})
			for minute, want := range c.want {
				then := replaytest.Clock(minute, 0)
				m, err := h.Moment(timespec.Spec{Time: then}, then)
				if err != nil {
					t.Fatal(err)
				}
				who := h.Who(heldAddress(2), nil, m)
				if len(who.Holdings) != 1 || orNone(who.Holdings[0].Container.Name) != want {
					t.Errorf("at minute %d: %+v, want %q", minute, who.Holdings, want)
				}
				if list := lookup.Holders(nil, lookup.Who(heldAddress(2), then)); len(list) != 1 || list[0].Container != want {
					t.Errorf("at minute %d: the lookup has %+v, want %q", minute, list, want)
				}
			}
			// By revision no clock is asked.
			m, err := h.Moment(timespec.Spec{Revision: 4}, replaytest.Clock(6_000_001, 0))
			if err != nil {
				t.Fatal(err)
			}
			if who := h.Who(heldAddress(2), nil, m); len(who.Holdings) != 1 || who.Holdings[0].Container.Name == nil {
				t.Errorf("at @4: %+v", who.Holdings)
			}
		})
	}
}
