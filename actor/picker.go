// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/projection/bitmap"
)

// picker chooses the next address. Its bitmap is the projection's with more
// taken: what is pending, and what rests after a release. The pool tells it of
// every change of one address; it decides nothing about who may have one.
type picker struct {
	subnet projection.Subnet
	layout events.Layout
	policy events.Policy
	busy   *bitmap.Set
	// spans are what a range gives out by the layout, worked out once.
	spans map[netip.Prefix]projection.Spans
	// last is where the last pick in a range was; the next one follows it.
	last map[netip.Prefix]uint64
	// place spreads the hosts of a pool: 0 for the first, see start.
	place int

	resting map[uint64]time.Time // until when
	queue   []rest               // in the order of release, the longest rested first; may name what rests no more
}

type rest struct {
	offset uint64
	until  time.Time
}

func newPicker(p *projection.Pool) *picker {
	pool := p.Pool().Value
	return &picker{
		subnet: p.Subnet(), layout: pool.Layout, policy: pool.Policy, busy: p.Taken(),
		spans: map[netip.Prefix]projection.Spans{}, last: map[netip.Prefix]uint64{}, resting: map[uint64]time.Time{},
	}
}

// lay gives the picker another layout.
func (k *picker) lay(l events.Layout) {
	k.layout = l
	clear(k.spans)
}

// of is what a grant's range gives out on its own.
func (k *picker) of(within netip.Prefix) projection.Spans {
	spans, known := k.spans[within]
	if !known {
		spans = k.subnet.Assignable(k.layout, within)
		k.spans[within] = spans
	}
	return spans
}

// set says of an address whether it is taken, by a holding or by one pending.
func (k *picker) set(a netip.Addr, taken bool) {
	offset, ok := k.subnet.Offset(a)
	if !ok {
		return // never picked
	}
	if taken {
		delete(k.resting, offset)
		k.busy.Add(offset)
	} else if _, rests := k.resting[offset]; !rests && !k.subnet.Reserved(a) {
		k.busy.Remove(offset)
	}
}

// rest keeps a released address out of the picks for a while.
func (k *picker) rest(a netip.Addr, until time.Time) {
	if offset, ok := k.subnet.Offset(a); ok && k.policy.Quarantine > 0 {
		k.resting[offset] = until
		k.forgetStale()
		k.queue = append(k.queue, rest{offset, until})
		k.busy.Add(offset)
	}
}

func (k *picker) isResting(a netip.Addr) bool {
	offset, ok := k.subnet.Offset(a)
	_, resting := k.resting[offset]
	return ok && resting
}

// wake ends the rests that are over.
func (k *picker) wake(now time.Time) {
	for len(k.queue) > 0 && !k.queue[0].until.After(now) {
		k.drop(k.queue[0])
		k.queue = k.queue[1:]
	}
}

// drop ends one rest, unless it is a stale one.
func (k *picker) drop(r rest) bool {
	if !k.rests(r) {
		return false
	}
	delete(k.resting, r.offset)
	k.busy.Remove(r.offset)
	return true
}

// moved notes that an address was picked in a range, by this host. One outside
// was asked for by name.
func (k *picker) moved(within netip.Prefix, a netip.Addr) {
	if offset, known := k.subnet.Offset(a); known && k.of(within).Contains(offset) {
		k.last[within] = offset
	}
}

// next picks a free address of a range by the pool's policy; false when there is
// none. The pick is not marked: the caller does.
func (k *picker) next(within netip.Prefix, now time.Time) (netip.Addr, bool) {
	spans := k.of(within)
	if spans.Total() == 0 {
		return netip.Addr{}, false
	}
	k.wake(now)
	var from uint64
	switch k.policy.Pick {
	case events.PickLowest:
	case events.PickRandom:
		from = spans.At(rand.Uint64N(spans.Total()))
	case events.PickSerial:
		if at, known := k.last[within]; known {
			from = at + 1
		} else {
			from = spans.At(k.start(spans.Total() - 1))
		}
	}
	offset, ok := spans.Next(from, k.busy.NextFree)
	if !ok && from > 0 {
		offset, ok = spans.Next(0, k.busy.NextFree)
	}
	if !ok {
		offset, ok = k.longestRested(spans)
	}
	if !ok {
		return netip.Addr{}, false
	}
	k.last[within] = offset
	return k.subnet.Addr(offset), true
}

// gateway picks what a gateway gets that nobody named: the first free address,
// resting or not, of those kept for the hosts' bridges, or else of a range.
func (k *picker) gateway(within netip.Prefix) (netip.Addr, bool) {
	if addr, ok := k.lowest(k.subnet.HostSpans(k.layout)); ok {
		return addr, true
	}
	return k.lowest(k.of(within))
}

func (k *picker) lowest(spans projection.Spans) (netip.Addr, bool) {
	best, ok := spans.Next(0, k.busy.NextFree)
	for offset := range k.resting {
		if spans.Contains(offset) && (!ok || offset < best) {
			best, ok = offset, true
		}
	}
	return k.subnet.Addr(best), ok
}

// gives says whether an address is one that a range gives out on its own.
func (k *picker) gives(within netip.Prefix, a netip.Addr) bool {
	offset, ok := k.subnet.Offset(a)
	return ok && k.of(within).Contains(offset)
}

// longestRested ends the oldest rest in a range before its time: resting is a
// preference, and nothing else is free.
func (k *picker) longestRested(spans projection.Spans) (uint64, bool) {
	k.forgetStale()
	for _, r := range k.queue {
		if spans.Contains(r.offset) && k.drop(r) {
			return r.offset, true // and stale from now on
		}
	}
	return 0, false
}

// forgetStale takes from the queue what rests no more: at once where it stands
// first, and all of it when it has come to be the greater part.
func (k *picker) forgetStale() {
	for len(k.queue) > 0 && !k.rests(k.queue[0]) {
		k.queue = k.queue[1:]
	}
	if len(k.queue) > 2*len(k.resting) {
		k.queue = slices.DeleteFunc(k.queue, func(r rest) bool { return !k.rests(r) })
	}
}

// rests says whether a rest is still the address's, not one that has ended: the
// address was given out since, or released anew.
func (k *picker) rests(r rest) bool {
	until, ok := k.resting[r.offset]
	return ok && until.Equal(r.until)
}

// start is where in a range of length span a host's picks begin. The first host
// of a pool begins at its start, the second in the middle, the next at a quarter
// and three quarters, and so on (the van der Corput sequence), so that hosts
// picking at once do not meet.
func (k *picker) start(span uint64) uint64 {
	if k.place == 0 || span == 0 {
		return 0
	}
	fraction := bits.Reverse64(uint64(k.place))
	hi, _ := bits.Mul64(fraction, span)
	return hi
}
