// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
)

// pickerOn returns the picker of an empty pool.
func pickerOn(subnet string, policy events.Policy, place int) *picker {
	g := events.NewGuards()
	g.Pool = events.Guarded[events.Pool]{Value: events.Pool{Space: events.Local, Subnet: netip.MustParsePrefix(subnet), Policy: policy}, Revision: 1}
	k := newPicker(projection.FromGuards(g, 1))
	k.place = place
	return k
}

func policy(pick events.Pick, quarantine events.Seconds) events.Policy {
	p := events.DefaultPolicy()
	p.Pick, p.Quarantine = pick, quarantine
	return p
}

// rangeOf reads a range; "" is none.
func rangeOf(s string) netip.Prefix {
	if s == "" {
		return netip.Prefix{}
	}
	return netip.MustParsePrefix(s)
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func TestPickerOrder(t *testing.T) {
	for _, tt := range []struct {
		name   string
		subnet string
		policy events.Policy
		place  int
		within string
		do     string // steps: "+" picks, "+g" picks a gateway, "-A" releases, "=A" takes, "15s" waits
		want   string // what the picks gave
	}{
		{name: "serial leaves a freed address behind", subnet: "10.0.0.0/29", policy: policy(events.PickSerial, 0), do: "+ + -10.0.0.1 + +", want: "1 2 3 4"},
		{name: "serial comes round", subnet: "10.0.0.0/29", policy: policy(events.PickSerial, 0), do: "+ + + + + + -10.0.0.2 -10.0.0.5 + + +", want: "1 2 3 4 5 6 2 5 none"},
		{name: "serial passes over what is taken", subnet: "10.0.0.0/29", policy: policy(events.PickSerial, 0), do: "=10.0.0.2 =10.0.0.3 + +", want: "1 4"},
		{name: "lowest takes a freed address again", subnet: "10.0.0.0/29", policy: policy(events.PickLowest, 0), do: "+ + + -10.0.0.2 + +", want: "1 2 3 2 4"},
		{name: "lowest lets it rest", subnet: "10.0.0.0/29", policy: policy(events.PickLowest, 60), do: "+ + -10.0.0.1 + 59s + 1s + +", want: "1 2 3 4 1 5"},
		{name: "rest is a preference, the longest rested goes first", subnet: "10.0.0.0/29", policy: policy(events.PickLowest, 60), do: "+ + + + + + -10.0.0.4 1s -10.0.0.2 1s -10.0.0.6 + + + +", want: "1 2 3 4 5 6 4 2 6 none"},
		{name: "who rests anew goes to the end", subnet: "10.0.0.0/30", policy: policy(events.PickLowest, 60), do: "+ + -10.0.0.1 1s -10.0.0.2 =10.0.0.1 -10.0.0.1 + +", want: "1 2 2 1"},
		{name: "asked for by name while it rests", subnet: "10.0.0.0/30", policy: policy(events.PickLowest, 60), do: "+ -10.0.0.1 =10.0.0.1 61s + +", want: "1 2 none"},
		{name: "a range", subnet: "10.0.0.0/24", policy: policy(events.PickSerial, 60), within: "10.0.0.8/30", do: "+ + + + + -10.0.0.10 +", want: "8 9 10 11 none 10"},
		{name: "a range at the start begins behind the network", subnet: "10.0.0.0/24", policy: policy(events.PickSerial, 0), within: "10.0.0.0/30", do: "+ + + +", want: "1 2 3 none"},
		{name: "what rests outside the range is not for it", subnet: "10.0.0.0/24", policy: policy(events.PickSerial, 60), within: "10.0.0.8/31", do: "=10.0.0.20 -10.0.0.20 + + +", want: "8 9 none"},
		{name: "a gateway gets the lowest", subnet: "10.0.0.0/24", policy: policy(events.PickSerial, 60), place: 1, do: "+g + +g", want: "1 127 2"},
		{name: "a gateway does not mind rest", subnet: "10.0.0.0/29", policy: policy(events.PickSerial, 60), do: "+ + -10.0.0.1 +g +", want: "1 2 1 3"},
		{name: "a gateway of a range", subnet: "10.0.0.0/24", policy: policy(events.PickSerial, 60), within: "10.0.0.64/26", do: "+g", want: "64"},
		{name: "no gateway left", subnet: "10.0.0.0/30", policy: policy(events.PickSerial, 60), do: "+g +g +g", want: "1 2 none"},
		{name: "the second host begins in the middle", subnet: "10.0.0.0/24", policy: policy(events.PickSerial, 0), place: 1, do: "+ +", want: "127 128"},
		{name: "the third at a quarter", subnet: "10.0.0.0/24", policy: policy(events.PickSerial, 0), place: 2, do: "+ +", want: "64 65"},
		{name: "the fourth at three quarters", subnet: "10.0.0.0/24", policy: policy(events.PickSerial, 0), place: 3, do: "+ +", want: "190 191"},
		{name: "from the middle round to the start", subnet: "10.0.0.0/29", policy: policy(events.PickSerial, 0), place: 1, do: "+ + + + + + +", want: "3 4 5 6 1 2 none"},
		{name: "/31", subnet: "10.0.0.0/31", policy: policy(events.PickSerial, 60), do: "+ + +", want: "0 1 none"},
		{name: "/32", subnet: "10.0.0.7/32", policy: policy(events.PickSerial, 60), do: "+ + -10.0.0.7 +", want: "7 none 7"},
		{name: "lowest on any host begins at the start", subnet: "10.0.0.0/24", policy: policy(events.PickLowest, 0), place: 5, do: "+", want: "1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := pickerOn(tt.subnet, tt.policy, tt.place)
			within, now := rangeOf(tt.within), noon
			var got string
			for step := range strings.FieldsSeq(tt.do) {
				switch {
				case step == "+" || step == "+g":
					var a netip.Addr
					var ok bool
					if step == "+" {
						a, ok = k.next(within, now)
					} else {
						a, ok = k.lowest(k.of(within))
					}
					if !ok {
						got += " none"
						continue
					}
					k.set(a, true)
					got += fmt.Sprint(" ", a.As4()[3])
				case step[0] == '-':
					a := netip.MustParseAddr(step[1:])
					k.set(a, false)
					k.rest(a, now.Add(k.policy.Quarantine.Duration()))
				case step[0] == '=':
					k.set(netip.MustParseAddr(step[1:]), true)
				default:
					d, err := time.ParseDuration(step)
					if err != nil {
						t.Fatal(err)
					}
					now = now.Add(d)
				}
			}
			if got != " "+tt.want {
				t.Errorf("picked%s, want %s", got, tt.want)
			}
		})
	}
}

// However many hosts there are, the widest gap between their starts is less than
// four times the narrowest.
func TestStartsAreSpread(t *testing.T) {
	for hosts := 1; hosts <= 64; hosts++ {
		starts := []uint64{1 << 16}
		for place := range hosts {
			starts = append(starts, pickerOn("10.0.0.0/16", policy(events.PickSerial, 0), place).start(1<<16))
		}
		slices.Sort(starts)
		narrowest, widest := uint64(1<<16), uint64(0)
		for i := range hosts {
			gap := starts[i+1] - starts[i]
			narrowest, widest = min(narrowest, gap), max(widest, gap)
		}
		if widest >= 4*narrowest {
			t.Errorf("%d hosts: gaps between %d and %d", hosts, narrowest, widest)
		}
	}
}

// At a restart the place of the next pick is taken from the log. An address that
// was asked for by name, outside the range, is no such place.
func TestPlaceOutsideTheRange(t *testing.T) {
	k := pickerOn("10.0.0.0/24", policy(events.PickSerial, 0), 0)
	within := netip.MustParsePrefix("10.0.0.128/25")
	k.moved(within, netip.MustParseAddr("10.0.0.5"))
	if a, ok := k.next(within, noon); !ok || !within.Contains(a) {
		t.Errorf("picked %s for range %s", a, within)
	}
	k.moved(within, netip.MustParseAddr("10.0.0.200"))
	if a, _ := k.next(within, noon); a != netip.MustParseAddr("10.0.0.201") {
		t.Errorf("picked %s behind 10.0.0.200", a)
	}
}

func TestPickerOnWideSubnets(t *testing.T) {
	for _, subnet := range []string{"10.0.0.0/8", "fd00::/64", "fd00::/48", "fd00::/8"} {
		for _, pick := range []events.Pick{events.PickSerial, events.PickLowest, events.PickRandom} {
			for place := range 3 {
				k := pickerOn(subnet, policy(pick, 60), place)
				seen := map[netip.Addr]bool{}
				for range 1000 {
					a, ok := k.next(netip.Prefix{}, noon)
					if !ok || seen[a] || !netip.MustParsePrefix(subnet).Contains(a) {
						t.Fatalf("%s %s: picked %s", subnet, pick, a)
					}
					seen[a] = true
					k.set(a, true)
				}
			}
		}
	}
}

// naive is what the picker should do, without any cleverness.
type naive struct {
	subnet  projection.Subnet
	policy  events.Policy
	taken   map[uint64]bool
	resting map[uint64]int // in the order of release
	until   map[uint64]time.Time
	order   int
}

func (n *naive) wake(now time.Time) {
	for o, until := range n.until {
		if !until.After(now) {
			delete(n.until, o)
			delete(n.resting, o)
		}
	}
}

// choices are the offsets that may be picked in a range: the free ones, or
// else the longest rested alone.
func (n *naive) choices(first, last uint64) []uint64 {
	var free []uint64
	longest, known := uint64(0), false
	for o := first; o <= last; o++ {
		if n.taken[o] || n.subnet.Reserved(n.subnet.Addr(o)) {
			continue
		}
		if _, rests := n.resting[o]; !rests {
			free = append(free, o)
		} else if !known || n.resting[o] < n.resting[longest] {
			longest, known = o, true
		}
	}
	if len(free) == 0 && known {
		return []uint64{longest}
	}
	return free
}

func TestPickerAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.IntRange(24, 32).Draw(t, "bits")
		subnet := netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), bits)
		p := policy(rapid.SampledFrom([]events.Pick{events.PickSerial, events.PickLowest, events.PickRandom}).Draw(t, "pick"),
			events.Seconds(rapid.SampledFrom([]int64{0, 1, 60}).Draw(t, "quarantine")))
		k := pickerOn(subnet.String(), p, rapid.IntRange(0, 9).Draw(t, "place"))
		n := &naive{subnet: projection.NewSubnet(subnet), policy: p, taken: map[uint64]bool{}, resting: map[uint64]int{}, until: map[uint64]time.Time{}}
		now := noon
		last := map[netip.Prefix]uint64{}

		draw := func(t *rapid.T) netip.Prefix {
			if rapid.Bool().Draw(t, "whole") {
				return netip.Prefix{}
			}
			length := rapid.IntRange(bits, 32).Draw(t, "length")
			at := rapid.Uint64Range(0, n.subnet.Offsets()-1).Draw(t, "at")
			return netip.PrefixFrom(n.subnet.Addr(at), length).Masked()
		}
		take := func(o uint64) {
			n.taken[o] = true
			delete(n.resting, o)
			delete(n.until, o)
			k.set(n.subnet.Addr(o), true)
		}
		t.Repeat(map[string]func(*rapid.T){
			"pick": func(t *rapid.T) {
				within := draw(t)
				first, end, _ := n.subnet.Interval(within)
				n.wake(now)
				choices := n.choices(first, end)
				a, ok := k.next(within, now)
				if ok != (len(choices) > 0) {
					t.Fatalf("picked %s (%v) of %v", a, ok, choices)
				}
				if !ok {
					return
				}
				o, _ := n.subnet.Offset(a)
				if !slices.Contains(choices, o) {
					t.Fatalf("picked %d, choices are %v", o, choices)
				}
				switch at, known := last[within]; {
				case p.Pick == events.PickLowest && o != choices[0]:
					t.Fatalf("picked %d, the lowest is %d", o, choices[0])
				case p.Pick == events.PickSerial && known:
					i, _ := slices.BinarySearch(choices, at+1)
					if want := choices[i%len(choices)]; o != want {
						t.Fatalf("picked %d behind %d, want %d of %v", o, at, want, choices)
					}
				}
				last[within] = o
				if rapid.IntRange(0, 9).Draw(t, "lost") == 0 {
					k.set(a, false) // the race for it was lost, or the requester left
					delete(n.resting, o)
					delete(n.until, o)
					return
				}
				take(o)
			},
			"gateway": func(t *rapid.T) {
				within := draw(t)
				first, end, _ := n.subnet.Interval(within)
				want, found := uint64(0), false
				for o := first; o <= end && !found; o++ {
					want, found = o, !n.taken[o] && !n.subnet.Reserved(n.subnet.Addr(o))
				}
				a, ok := k.lowest(k.of(within))
				if ok != found || ok && a != n.subnet.Addr(want) {
					t.Fatalf("gateway %s (%v), want %d (%v)", a, ok, want, found)
				}
				if ok {
					take(want)
				}
			},
			"take": func(t *rapid.T) {
				o := rapid.Uint64Range(0, n.subnet.Offsets()-1).Draw(t, "offset")
				if !n.subnet.Reserved(n.subnet.Addr(o)) {
					take(o)
				}
			},
			"release": func(t *rapid.T) {
				var held []uint64
				for o := range n.taken {
					held = append(held, o)
				}
				if len(held) == 0 {
					return
				}
				slices.Sort(held)
				o := rapid.SampledFrom(held).Draw(t, "released")
				delete(n.taken, o)
				k.set(n.subnet.Addr(o), false)
				now = now.Add(time.Nanosecond) // no two releases are at one moment
				until := now.Add(p.Quarantine.Duration())
				k.rest(n.subnet.Addr(o), until)
				if p.Quarantine > 0 {
					n.order++
					n.resting[o], n.until[o] = n.order, until
				}
			},
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 40_000).Draw(t, "ms")) * time.Millisecond)
			},
		})
	})
}
