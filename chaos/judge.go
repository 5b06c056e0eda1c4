// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/ipamlog/ipamlog/events"
)

// provingPatience is how long one address's history may take to be judged.
const provingPatience = 2 * time.Minute

// verdict is what the history and the log tell of each other.
type verdict struct {
	wrong   []string
	doubles int // times that two were told at once that they have an address
	lost    int // answers that are not in the log
	leaked  int // held at the end
	unheard int // holdings that nobody was told of
	byGrant int // holdings that ended with their network
	steps   int // judged by porcupine
	spots   int
	illegal []spot                      // whose history no allocator could have answered
	charts  map[spot]func(string) error // draws one of those
}

func (v *verdict) fail(format string, args ...any) {
	v.wrong = append(v.wrong, fmt.Sprintf(format, args...))
}

// story is what one container saw.
type story struct {
	client      int
	begun       time.Duration // the first ask
	told        spot          // what it was told it has
	toldAt      time.Duration
	has         bool
	kept        []call // asks again that were answered
	giving      bool   // it has begun to give back
	givingBegun time.Duration
	given       bool // and was told that it has
	givenAt     time.Duration
}

// judge compares what clients saw with what the log tells. end is when the run was
// over.
func judge(calls []call, f *fates, end time.Duration) *verdict {
	v := &verdict{charts: map[spot]func(string) error{}}
	stories := tell(calls, v)
	v.doubles = overlaps(stories, v)
	steps := map[spot][]porcupine.Operation{}
	add := func(at spot, s *story, what step, begun, ended time.Duration) {
		steps[at] = append(steps[at], porcupine.Operation{ClientId: s.client, Input: what, Call: int64(begun), Return: int64(ended)})
	}
	never := end + time.Second // nobody knows when, or it has not been yet
	for mac, s := range stories {
		var mine *fate
		if s.has {
			if mine = f.at(mac, s.told); mine == nil {
				v.lost++
				v.fail("%s was told that it has %s of pool %s, and the log has nothing of it", mac, s.told.address, s.told.pool)
				mine = &fate{spot: s.told, allocation: stray(mac), mac: mac}
			}
			what := step{take, mine.allocation, mac}
			add(s.told, s, what, s.begun, s.toldAt)
			for _, k := range s.kept {
				what.does = keep
				if k.Address != s.told.address {
					v.fail("%s has %s of pool %s, asked again, and was told %s", mac, s.told.address, s.told.pool, k.Address)
					continue
				}
				add(s.told, s, what, k.Begun, k.Ended)
			}
			what.does = give
			switch {
			case s.given:
				add(s.told, s, what, s.givingBegun, s.givenAt)
				if !mine.ended {
					v.lost++
					v.fail("%s was told that it has given back %s of pool %s, and the log does not say so", mac, s.told.address, s.told.pool)
				}
			case s.giving && mine.ended:
				add(s.told, s, what, s.givingBegun, never)
			}
		}
		for _, one := range f.of[mac] {
			if one == mine {
				continue
			}
			v.unheard++
			add(one.spot, s, step{take, one.allocation, mac}, s.begun, never)
			if one.ended {
				add(one.spot, s, step{give, one.allocation, mac}, s.begun, never)
			}
		}
	}
	for _, one := range f.all {
		switch {
		case !one.ended:
			v.leaked++
			v.fail("%s of pool %s is still held by %s (allocation %s)", one.address, one.pool, one.mac, one.allocation)
		case one.reason == events.GrantEnded:
			v.byGrant++
		}
	}
	if f.twice > 0 {
		v.doubles += f.twice
		v.fail("in the log, %d holdings begin on addresses that are held", f.twice)
	}
	v.prove(steps)
	return v
}

// stray is an allocation that the log does not know.
func stray(mac events.MAC) (id events.ID) {
	copy(id[:], mac[:])
	return id
}

// tell puts the calls together to what each container saw.
func tell(calls []call, v *verdict) map[events.MAC]*story {
	stories := map[events.MAC]*story{}
	for _, c := range calls {
		if c.MAC == (events.MAC{}) {
			continue
		}
		s := stories[c.MAC]
		if s == nil {
			s = &story{client: c.Client, begun: c.Begun}
			stories[c.MAC] = s
		}
		switch {
		case c.Verb == take && c.Outcome == answered:
			s.has, s.told, s.toldAt = true, spot{c.Pool, c.Address}, c.Ended
		case c.Verb == keep && c.Outcome == answered:
			s.kept = append(s.kept, c)
		case c.Verb == give:
			if !s.giving {
				s.giving, s.givingBegun = true, c.Begun
			}
			switch c.Outcome {
			case answered:
				s.given, s.givenAt = true, c.Ended
			case refused:
				v.fail("%s could not give back %s of pool %s: %s", c.MAC, c.Address, c.Pool, c.Said)
			case unknown:
			}
		}
	}
	return stories
}

// overlaps counts the times that two surely had the same address: from when one was
// told until it began to give it back.
func overlaps(stories map[events.MAC]*story, v *verdict) int {
	type stretch struct {
		mac      events.MAC
		from, to time.Duration
	}
	had := map[spot][]stretch{}
	for mac, s := range stories {
		if s.has && s.giving {
			had[s.told] = append(had[s.told], stretch{mac, s.toldAt, s.givingBegun})
		} else if s.has {
			had[s.told] = append(had[s.told], stretch{mac, s.toldAt, 1<<63 - 1})
		}
	}
	n := 0
	for at, all := range had {
		slices.SortFunc(all, func(a, b stretch) int { return cmp.Compare(a.from, b.from) })
		for i := 1; i < len(all); i++ {
			if all[i].from < all[i-1].to {
				n++
				v.fail("%s of pool %s was had by %s and by %s at the same time", at.address, at.pool, all[i-1].mac, all[i].mac)
			}
		}
	}
	return n
}

// prove has porcupine find out whether one address after the other behaved as that of
// an allocator which does one thing after the other.
func (v *verdict) prove(steps map[spot][]porcupine.Operation) {
	for at, list := range steps {
		v.spots++
		v.steps += len(list)
		switch porcupine.CheckOperationsTimeout(allocator, list, provingPatience) {
		case porcupine.Ok:
			continue
		case porcupine.Illegal:
			v.fail("no allocator that does one thing after the other could have answered so for %s of pool %s", at.address, at.pool)
		case porcupine.Unknown:
			v.fail("the history of %s of pool %s could not be judged within %v", at.address, at.pool, provingPatience)
		}
		v.illegal = append(v.illegal, at)
		v.charts[at] = func(name string) error {
			_, info := porcupine.CheckOperationsVerbose(allocator, list, provingPatience)
			return porcupine.VisualizePath(allocator, info, name)
		}
	}
}
