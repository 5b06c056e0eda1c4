// SPDX-License-Identifier: Apache-2.0

package bitmap_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/ipamlog/ipamlog/projection/bitmap"
)

func TestNewPanicsOnImpossibleSize(t *testing.T) {
	for _, size := range []uint64{0, 1<<63 + 1, math.MaxUint64} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Errorf("New(%d) did not panic", size)
				}
			}()
			bitmap.New(size)
		})
	}
}

func TestOutOfRange(t *testing.T) {
	for _, size := range sizes {
		s := bitmap.New(size)
		for _, i := range []uint64{size, size + 1, size | 63 + 1, math.MaxUint64} {
			if s.Add(i) || s.Has(i) || s.Remove(i) {
				t.Errorf("size %d: offset %d is out of range, but Add, Has or Remove said true", size, i)
			}
			if got, ok := s.NextFree(i, math.MaxUint64); ok {
				t.Errorf("size %d: NextFree from %d found %d", size, i, got)
			}
		}
		if s.Count() != 0 || !s.Equal(bitmap.New(size)) {
			t.Errorf("size %d: offsets out of range changed the set", size)
		}
	}
}

// TestOneHole fills a set but for one offset, at every place near a border of a
// word or a level, and looks for it from everywhere near one.
func TestOneHole(t *testing.T) {
	sizes := []uint64{
		1, 2, 63, 64, 65, 127, 128, 129, 4095, 4096, 4097, 4160,
		1<<18 - 1, 1 << 18, 1<<18 + 1, 1<<18 + 4097,
	}
	eachSize(t, sizes, func(t *testing.T, newSet func(uint64) *bitmap.Set, size uint64) {
		oneHole(t, newSet(size))
	})
}

func oneHole(t *testing.T, s *bitmap.Set) {
	size := s.Size()
	for i := range size {
		if got, ok := s.NextFree(0, size-1); !ok || got != i {
			t.Fatalf("filled below %d: NextFree = %d, %v", i, got, ok)
		}
		s.Add(i)
	}
	if got, ok := s.NextFree(0, math.MaxUint64); ok {
		t.Fatalf("full: NextFree found %d", got)
	}
	full := s.Clone()
	places := borders(size)
	for _, hole := range places {
		if !s.Remove(hole) {
			t.Fatalf("Remove(%d) = false in a full set", hole)
		}
		for _, from := range places {
			got, ok := s.NextFree(from, math.MaxUint64)
			if ok != (from <= hole) || ok && got != hole {
				t.Fatalf("hole %d: NextFree(%d, max) = %d, %v", hole, from, got, ok)
			}
		}
		if got, ok := s.NextFree(0, hole); !ok || got != hole {
			t.Fatalf("hole %d: NextFree(0, %[1]d) = %d, %v", hole, got, ok)
		}
		if hole > 0 {
			if got, ok := s.NextFree(0, hole-1); ok {
				t.Fatalf("hole %d: NextFree(0, %d) found %d", hole, hole-1, got)
			}
		}
		s.Add(hole)
	}
	if !s.Equal(full) || s.Count() != size {
		t.Fatalf("closing every hole again did not give the full set")
	}
}

// borders are the offsets below size within one of a multiple of 64^k, for the
// first few multiples and the last.
func borders(size uint64) []uint64 {
	seen := map[uint64]bool{}
	for unit := uint64(1); unit <= size; unit *= 64 {
		for _, m := range []uint64{0, 1, 2, 63, 64, 65, size/unit - 1, size / unit} {
			for _, i := range []uint64{m*unit - 1, m * unit, m*unit + 1} {
				if i < size {
					seen[i] = true
				}
			}
		}
	}
	var list []uint64
	for i := range seen {
		list = append(list, i)
	}
	return list
}

// TestTopOfHugeSet fills the last words of sets too large to fill, where a
// search has to climb to the root and find nothing to the right.
func TestTopOfHugeSet(t *testing.T) {
	for _, size := range []uint64{1<<24 + 5, 1 << 40, 1<<63 - 1, 1 << 63} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			s := bitmap.New(size)
			first := size - 3*4096 - 7
			for i := first; i < size; i++ {
				s.Add(i)
			}
			if got, ok := s.NextFree(first, math.MaxUint64); ok {
				t.Errorf("NextFree(%d, max) found %d in the full end", first, got)
			}
			if got, ok := s.NextFree(first-1, math.MaxUint64); !ok || got != first-1 {
				t.Errorf("NextFree(%d, max) = %d, %v", first-1, got, ok)
			}
			s.Remove(size - 1)
			if got, ok := s.NextFree(first, math.MaxUint64); !ok || got != size-1 {
				t.Errorf("NextFree(%d, max) = %d, %v, want the last offset", first, got, ok)
			}
		})
	}
}

func TestNextFreeRange(t *testing.T) {
	s := bitmap.New(200)
	for i := uint64(10); i < 150; i++ {
		s.Add(i)
	}
	for _, c := range []struct {
		from, to, want uint64
		ok             bool
	}{
		{0, 0, 0, true},
		{9, 9, 9, true},
		{9, 8, 0, false},
		{10, 149, 0, false},
		{10, 150, 150, true},
		{10, 1 << 62, 150, true},
		{199, math.MaxUint64, 199, true},
		{200, math.MaxUint64, 0, false},
	} {
		if got, ok := s.NextFree(c.from, c.to); got != c.want || ok != c.ok {
			t.Errorf("NextFree(%d, %d) = %d, %v, want %d, %v", c.from, c.to, got, ok, c.want, c.ok)
		}
	}
}

func TestEqual(t *testing.T) {
	with := func(size uint64, offsets ...uint64) *bitmap.Set {
		s := bitmap.New(size)
		for _, i := range offsets {
			s.Add(i)
		}
		return s
	}
	for name, c := range map[string]struct {
		a, b *bitmap.Set
		want bool
	}{
		"both empty":        {with(100), with(100), true},
		"same":              {with(100, 1, 99), with(100, 99, 1), true},
		"same count":        {with(100, 1), with(100, 2), false},
		"subset":            {with(100, 1), with(100, 1, 2), false},
		"sizes":             {with(100), with(101), false},
		"storages":          {with(1 << 24), with(1<<24 + 1), false},
		"sparse same":       {with(1<<40, 7, 1<<39), with(1<<40, 1<<39, 7), true},
		"sparse same count": {with(1<<40, 7), with(1<<40, 1<<39), false},
	} {
		if got := c.a.Equal(c.b); got != c.want {
			t.Errorf("%s: Equal = %v, want %v", name, got, c.want)
		}
		if got := c.b.Equal(c.a); got != c.want {
			t.Errorf("%s, turned round: Equal = %v, want %v", name, got, c.want)
		}
	}
}

// TestStorage pins where memory stops being taken at once: a /8 is the largest
// pool for which a word is always there.
func TestStorage(t *testing.T) {
	for size, atOnce := range map[uint64]bool{1 << 16: true, 1 << 24: true, 1<<24 + 1: false, 1 << 63: false} {
		allocs := testing.AllocsPerRun(10, func() {
			s := bitmap.New(size)
			for i := range min(size, 1<<12) {
				s.Add(i * 16)
			}
		}) - testing.AllocsPerRun(10, func() { bitmap.New(size) })
		if (allocs == 0) != atOnce {
			t.Errorf("size %d: adding made %v allocations", size, allocs)
		}
	}
}
