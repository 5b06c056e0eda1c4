// SPDX-License-Identifier: Apache-2.0

package bitmap_test

import (
	"fmt"
	"testing"

	"github.com/ipamlog/ipamlog/projection/bitmap"
)

// model is the set as one would write it without any thought for speed.
type model struct {
	size  uint64
	taken map[uint64]bool
}

func newModel(size uint64) *model {
	return &model{size: size, taken: map[uint64]bool{}}
}

func (m *model) add(i uint64) bool {
	if i >= m.size || m.taken[i] {
		return false
	}
	m.taken[i] = true
	return true
}

func (m *model) remove(i uint64) bool {
	had := m.taken[i]
	delete(m.taken, i)
	return had
}

func (m *model) nextFree(from, to uint64) (uint64, bool) {
	for i := from; i < m.size && i <= to; i++ {
		if !m.taken[i] {
			return i, true
		}
	}
	return 0, false
}

// pair drives a Set and a model together and fails when they differ.
type pair struct {
	set   *bitmap.Set
	model *model
}

// failer leaves out Helper on purpose: it walks the stack, which took most of
// the time of these tests.
type failer interface {
	Fatalf(format string, args ...any)
}

func (p pair) add(t failer, i uint64) {
	if got, want := p.set.Add(i), p.model.add(i); got != want {
		t.Fatalf("Add(%d) = %v, want %v", i, got, want)
	}
}

func (p pair) remove(t failer, i uint64) {
	if got, want := p.set.Remove(i), p.model.remove(i); got != want {
		t.Fatalf("Remove(%d) = %v, want %v", i, got, want)
	}
}

func (p pair) nextFree(t failer, from, to uint64) {
	got, ok := p.set.NextFree(from, to)
	want, wantOK := p.model.nextFree(from, to)
	if got != want || ok != wantOK {
		t.Fatalf("NextFree(%d, %d) = %d, %v, want %d, %v", from, to, got, ok, want, wantOK)
	}
}

func (p pair) has(t failer, i uint64) {
	if got, want := p.set.Has(i), p.model.taken[i]; got != want {
		t.Fatalf("Has(%d) = %v, want %v", i, got, want)
	}
}

func (p pair) counts(t failer) {
	if got, want := p.set.Count(), uint64(len(p.model.taken)); got != want {
		t.Fatalf("Count() = %d, want %d", got, want)
	}
	if got := p.set.Size(); got != p.model.size {
		t.Fatalf("Size() = %d, want %d", got, p.model.size)
	}
}

// rebuilt makes the set the model describes, with no history behind it.
func (p pair) rebuilt(newSet func(uint64) *bitmap.Set) *bitmap.Set {
	s := newSet(p.model.size)
	for i := range p.model.taken {
		s.Add(i)
	}
	return s
}

// eachSize runs f for every size with the storage New chooses, and those that
// get slices once more with maps.
func eachSize(t *testing.T, sizes []uint64, f func(t *testing.T, newSet func(uint64) *bitmap.Set, size uint64)) {
	t.Helper()
	for _, size := range sizes {
		t.Run(fmt.Sprint(size), func(t *testing.T) { f(t, bitmap.New, size) })
		if size <= 1<<24 {
			t.Run(fmt.Sprint(size, " sparse"), func(t *testing.T) { f(t, bitmap.NewSparse, size) })
		}
	}
}
