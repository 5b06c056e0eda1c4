// SPDX-License-Identifier: Apache-2.0

package bitmap_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/projection/bitmap"
)

var sizes = []uint64{
	1, 2, 3, 63, 64, 65, 4095, 4096, 4097, 1 << 16, 1<<18 + 5,
	1 << 24, 1<<24 + 5, 1 << 40, 1<<63 - 1, 1 << 63,
}

// TestAgainstModel makes random changes and asks random questions of a Set and
// of a plain map, at sizes around the borders of words, levels and storages.
func TestAgainstModel(t *testing.T) {
	eachSize(t, sizes, func(t *testing.T, newSet func(uint64) *bitmap.Set, size uint64) {
		rapid.Check(t, func(t *rapid.T) { againstModel(t, newSet, size) })
	})
}

func againstModel(t *rapid.T, newSet func(uint64) *bitmap.Set, size uint64) {
	p := pair{set: newSet(size), model: newModel(size)}
	origin, asItWas := newSet(size), newSet(size)
	offset := offsets(size)
	// Runs as well, because single offsets would never fill a word; the longest
	// fill a word of the second level wherever they start.
	span := rapid.SampledFrom([]uint64{2, 63, 64, 65, 127, 200, 300, 2*4096 + 64})

	t.Repeat(map[string]func(*rapid.T){
		"add":    func(t *rapid.T) { p.add(t, offset.Draw(t, "i")) },
		"remove": func(t *rapid.T) { p.remove(t, offset.Draw(t, "i")) },
		"has":    func(t *rapid.T) { p.has(t, offset.Draw(t, "i")) },
		"addRun": func(t *rapid.T) {
			from := offset.Draw(t, "from")
			for i := range span.Draw(t, "n") {
				p.add(t, from+i)
			}
		},
		"removeRun": func(t *rapid.T) {
			from := offset.Draw(t, "from")
			for i := range span.Draw(t, "n") {
				p.remove(t, from+i)
			}
		},
		"nextFree": func(t *rapid.T) {
			p.nextFree(t, offset.Draw(t, "from"), offset.Draw(t, "to"))
		},
		"takeNext": func(t *rapid.T) {
			from := offset.Draw(t, "from")
			p.nextFree(t, from, math.MaxUint64)
			if i, ok := p.set.NextFree(from, math.MaxUint64); ok {
				p.add(t, i)
			}
		},
		"clone": func(t *rapid.T) {
			if !origin.Equal(asItWas) {
				t.Fatalf("a change to a clone reached its origin")
			}
			// Go on with the clone: it must work like any other set.
			origin, asItWas = p.set, p.rebuilt(newSet)
			p.set = origin.Clone()
			if !p.set.Equal(origin) {
				t.Fatalf("a clone differs from its origin")
			}
		},
		"": func(t *rapid.T) { p.counts(t) },
	})

	if !origin.Equal(asItWas) {
		t.Fatalf("a change to a clone reached its origin")
	}
	if !p.set.Equal(p.rebuilt(newSet)) {
		t.Fatalf("the same offsets by another history are not Equal")
	}
	for i := range p.model.taken {
		p.remove(t, i)
	}
	if !p.set.Equal(newSet(size)) {
		t.Fatalf("an emptied set does not equal a new one")
	}
}

// offsets draws from the two ends and from around the borders, mostly in range.
func offsets(size uint64) *rapid.Generator[uint64] {
	near := func(i uint64) *rapid.Generator[uint64] {
		lo := uint64(0)
		if i > 130 {
			lo = i - 130
		}
		return rapid.Uint64Range(lo, i+130)
	}
	return rapid.OneOf(
		rapid.Uint64Range(0, size-1),
		near(0), near(64*64), near(size/2), near(size-1),
	)
}
