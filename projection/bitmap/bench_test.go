// SPDX-License-Identifier: Apache-2.0

package bitmap_test

import (
	"math/rand/v2"
	"testing"

	"github.com/ipamlog/ipamlog/projection/bitmap"
)

// BenchmarkTake finds a free offset, takes it and frees it again. The set of 63
// host bits cannot be filled; its fill is that of its lowest 2^20 offsets.
func BenchmarkTake(b *testing.B) {
	for _, pool := range []struct {
		name         string
		size, window uint64
	}{
		{"v4-16", 1 << 16, 1 << 16},
		{"v4-8", 1 << 24, 1 << 24},
		{"v6-63-host-bits", 1 << 63, 1 << 20},
	} {
		for _, fill := range []struct {
			name string
			fill func(s *bitmap.Set, window uint64)
		}{
			{"empty", func(*bitmap.Set, uint64) {}},
			{"half-random", func(s *bitmap.Set, n uint64) { fillRandom(s, n, n/2) }},
			{"9999-random", func(s *bitmap.Set, n uint64) { fillRandom(s, n, n-n/10000) }},
			{"9999-packed", func(s *bitmap.Set, n uint64) { fillLow(s, n-n/10000) }},
		} {
			s := bitmap.New(pool.size)
			fill.fill(s, pool.window)
			b.Run(pool.name+"/"+fill.name+"/first", func(b *testing.B) {
				for b.Loop() {
					i, ok := s.NextFree(0, pool.window-1)
					if !ok || !s.Add(i) || !s.Remove(i) {
						b.Fatal("no free offset")
					}
				}
			})
			b.Run(pool.name+"/"+fill.name+"/cursor", func(b *testing.B) {
				cursor := uint64(0)
				for b.Loop() {
					i, ok := s.NextFree(cursor, pool.window-1)
					if !ok {
						i, ok = s.NextFree(0, pool.window-1)
					}
					if !ok || !s.Add(i) || !s.Remove(i) {
						b.Fatal("no free offset")
					}
					cursor = i + 1
				}
			})
		}
	}
}

func fillLow(s *bitmap.Set, n uint64) {
	for i := range n {
		s.Add(i)
	}
}

// fillRandom takes n of the lowest window offsets, by freeing the others when
// they are fewer, so that a nearly full set does not take for ever.
func fillRandom(s *bitmap.Set, window, n uint64) {
	random := rand.New(rand.NewPCG(1, 2))
	if n > window/2 {
		fillLow(s, window)
		for s.Count() > n {
			s.Remove(random.Uint64N(window))
		}
		return
	}
	for s.Count() < n {
		s.Add(random.Uint64N(window))
	}
}
