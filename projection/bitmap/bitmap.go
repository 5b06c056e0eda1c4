// SPDX-License-Identifier: Apache-2.0

// Package bitmap remembers which address offsets of one pool are taken, and
// finds the next free one without looking at what is full.
//
// A [Set] is a tree of 64-bit words. The bottom level has a bit per offset,
// set while that offset is taken. Each level above has a bit per word of the
// level below, set while that word is full, up to a level of a single word:
// four levels cover an IPv4 /8, eleven cover 63 host bits of IPv6.
//
// A search looks at the word the start lies in, climbs while there is nothing
// free to the right, and from the first bit that promises a free offset comes
// straight down again. It reads at most two words a level, however full the
// pool is. Taking or freeing an offset touches the level above only when a word
// becomes full or stops being so.
//
// Where the size is not a multiple of 64 the last word of a level has bits that
// stand for nothing. They are set from the start and stay set, so that "full"
// means all ones everywhere and no search ends past the last offset.
package bitmap

import (
	"math/bits"
	"slices"
)

const (
	// MaxSize is the largest number of offsets a Set can have.
	MaxSize = uint64(1) << 63

	// denseMax is the largest size kept in slices: an IPv4 /8, 2.1 MB. Above
	// it, only words with a bit set take memory.
	denseMax = uint64(1) << 24

	full = ^uint64(0)
)

// Set is the set of taken offsets among 0 to Size-1. It is made by [New], and
// is not safe for concurrent use; a [Set.Clone] shares nothing with its origin.
type Set struct {
	size   uint64
	count  uint64
	levels []words
}

// New returns a Set of size offsets, all free. Up to 2^24 offsets it takes
// size/8 bytes at once; above that it takes memory as offsets are added, by
// neighbourhoods of 64. New panics if size is 0 or above [MaxSize], which only
// a mistake in the caller can ask for.
func New(size uint64) *Set {
	if size <= denseMax {
		return build(size, denseWords)
	}
	return build(size, sparseWords)
}

func build(size uint64, storage func(n uint64) words) *Set {
	if size == 0 || size > MaxSize {
		panic("bitmap: size must be between 1 and 2^63")
	}
	s := &Set{size: size}
	for n := size; ; {
		used := n % 64
		n = (n + 63) / 64
		level := storage(n)
		if used != 0 {
			level.put(n-1, full<<used)
		}
		s.levels = append(s.levels, level)
		if n == 1 {
			return s
		}
	}
}

// Size returns the number of offsets, taken or free.
func (s *Set) Size() uint64 { return s.size }

// Count returns the number of taken offsets, in constant time.
func (s *Set) Count() uint64 { return s.count }

// Has reports whether offset i is taken. An offset out of range is not.
func (s *Set) Has(i uint64) bool {
	return i < s.size && s.levels[0].get(i/64)&bit(i) != 0
}

// Add takes offset i. It returns false, and changes nothing, if i was taken
// already or is out of range.
func (s *Set) Add(i uint64) bool {
	if i >= s.size || s.Has(i) {
		return false
	}
	s.count++
	for h := range s.levels {
		word := s.levels[h].get(i/64) | bit(i)
		s.levels[h].put(i/64, word)
		if word != full {
			break
		}
		i /= 64
	}
	return true
}

// Remove frees offset i. It returns false, and changes nothing, if i was free
// already or is out of range.
func (s *Set) Remove(i uint64) bool {
	if !s.Has(i) {
		return false
	}
	s.count--
	for h := range s.levels {
		word := s.levels[h].get(i / 64)
		s.levels[h].put(i/64, word&^bit(i))
		if word != full {
			break
		}
		i /= 64
	}
	return true
}

// NextFree returns the smallest free offset in [from, to], both included, and
// false if there is none. A to past the last offset means the last offset.
func (s *Set) NextFree(from, to uint64) (uint64, bool) {
	if from >= s.size {
		return 0, false
	}
	i, wanted := from, full<<(from%64)
	for h := range s.levels {
		if free := ^s.levels[h].get(i/64) & wanted; free != 0 {
			i = i&^63 | uint64(bits.TrailingZeros64(free))
			i = s.firstFreeBelow(h, i)
			if i > to {
				return 0, false
			}
			return i, true
		}
		// The word just searched is bit i of the next level: look to its right.
		i /= 64
		wanted = (full &^ 1) << (i % 64)
	}
	return 0, false
}

// firstFreeBelow comes down from bit i of level h, which is clear, to the
// smallest free offset it stands for.
func (s *Set) firstFreeBelow(h int, i uint64) uint64 {
	for ; h > 0; h-- {
		i = i*64 + uint64(bits.TrailingZeros64(^s.levels[h-1].get(i)))
	}
	return i
}

// Clone returns an independent copy.
func (s *Set) Clone() *Set {
	c := *s
	c.levels = make([]words, len(s.levels))
	for h, level := range s.levels {
		c.levels[h] = level.clone()
	}
	return &c
}

// Equal reports whether both sets have the same size and the same offsets
// taken, whatever the order of changes that led there.
func (s *Set) Equal(o *Set) bool {
	return s.size == o.size && s.count == o.count &&
		slices.EqualFunc(s.levels, o.levels, words.equal)
}

func bit(i uint64) uint64 { return 1 << (i % 64) }
