// SPDX-License-Identifier: Apache-2.0

package bitmap

import (
	"maps"
	"slices"
)

// words is one level of the tree: a row of 64-bit words, in a slice when dense
// is set and otherwise in a map where an absent word is 0. A branch on the two
// is inlined into the loops over levels, where an interface call would not be.
type words struct {
	dense  []uint64
	sparse map[uint64]uint64
}

func denseWords(n uint64) words { return words{dense: make([]uint64, n)} }

func sparseWords(uint64) words { return words{sparse: map[uint64]uint64{}} }

func (w words) get(k uint64) uint64 {
	if w.dense != nil {
		return w.dense[k]
	}
	return w.sparse[k]
}

// put never leaves a 0 in the map: memory follows what is taken, and equal
// content is an equal map.
func (w words) put(k, word uint64) {
	switch {
	case w.dense != nil:
		w.dense[k] = word
	case word == 0:
		delete(w.sparse, k)
	default:
		w.sparse[k] = word
	}
}

func (w words) clone() words {
	return words{dense: slices.Clone(w.dense), sparse: maps.Clone(w.sparse)}
}

func (w words) equal(o words) bool {
	return slices.Equal(w.dense, o.dense) && maps.Equal(w.sparse, o.sparse)
}
