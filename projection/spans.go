// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"math/big"
	"net/netip"
	"sort"

	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/events"
)

// Span is a stretch of offsets of a subnet, both ends included.
type Span struct{ First, Last uint64 }

// Spans are stretches of offsets in order and apart: what may be picked from. The
// zero Spans hold nothing. They do not change; copies share what they hold.
type Spans struct {
	list  []Span
	below []uint64 // how many offsets lie in the spans before each
	total uint64
}

// Assignable are the offsets that are given out on their own through a grant with
// a range (zero: the whole subnet): those of the pool's ranges, without what is
// excluded, the hosts' own, the router, and what is never given out. They lie
// within [Subnet.Offsets].
func (s Subnet) Assignable(l events.Layout, within netip.Prefix) Spans {
	var b netipx.IPSetBuilder
	if len(l.Ranges) == 0 {
		b.AddPrefix(s.prefix)
	}
	for _, r := range l.Ranges {
		b.AddRange(r)
	}
	for _, list := range [][]netipx.IPRange{l.Exclude, l.HostRanges} {
		for _, r := range list {
			b.RemoveRange(r)
		}
	}
	if l.Router.IsValid() {
		b.Remove(l.Router)
	}
	return s.spans(&b, within)
}

// GivenOut is how many addresses a layout gives out on its own; of an undivided
// subnet all that can be held, those included that have no offset and can only be
// asked for by name.
func (s Subnet) GivenOut(l events.Layout) *big.Int {
	if l.Undivided() {
		return s.Usable()
	}
	return new(big.Int).SetUint64(s.Assignable(l, netip.Prefix{}).Total())
}

// HostSpans are the offsets set aside for the hosts' own bridges.
func (s Subnet) HostSpans(l events.Layout) Spans {
	var b netipx.IPSetBuilder
	for _, r := range l.HostRanges {
		b.AddRange(r)
	}
	if l.Router.IsValid() {
		b.Remove(l.Router)
	}
	return s.spans(&b, netip.Prefix{})
}

func (s Subnet) spans(b *netipx.IPSetBuilder, within netip.Prefix) Spans {
	for _, a := range s.reserved() {
		b.Remove(a)
	}
	if !within.IsValid() {
		within = s.prefix
	}
	var grant netipx.IPSetBuilder
	grant.AddPrefix(within)
	set, err := grant.IPSet()
	if err != nil {
		return Spans{}
	}
	b.Intersect(set)
	if set, err = b.IPSet(); err != nil {
		return Spans{}
	}
	var out Spans
	for _, r := range set.Ranges() {
		first, ok := s.Offset(r.From())
		if !ok {
			break // past what has an offset, as is all that follows
		}
		last, ok := s.Offset(r.To())
		if !ok {
			last = s.Offsets() - 1
		}
		out.list = append(out.list, Span{first, last})
		out.below = append(out.below, out.total)
		out.total += last - first + 1
	}
	return out
}

// Total is how many offsets there are in all.
func (s Spans) Total() uint64 { return s.total }

// List are the stretches in order.
func (s Spans) List() []Span { return s.list }

// Contains says whether an offset lies in one of them.
func (s Spans) Contains(offset uint64) bool {
	i := s.from(offset)
	return i < len(s.list) && s.list[i].First <= offset
}

// At is the n-th offset, counted from 0; n must be below [Spans.Total].
func (s Spans) At(n uint64) uint64 {
	i := sort.Search(len(s.below), func(i int) bool { return s.below[i] > n }) - 1
	return s.list[i].First + (n - s.below[i])
}

// Next calls free with the stretches from an offset on, in order, each as far as
// it lies in the spans and not before the offset, until one gives an answer.
func (s Spans) Next(from uint64, free func(first, last uint64) (uint64, bool)) (uint64, bool) {
	for _, span := range s.list[s.from(from):] {
		if offset, ok := free(max(span.First, from), span.Last); ok {
			return offset, true
		}
	}
	return 0, false
}

// from is the index of the first stretch that does not end before an offset.
func (s Spans) from(offset uint64) int {
	return sort.Search(len(s.list), func(i int) bool { return s.list[i].Last >= offset })
}
