// SPDX-License-Identifier: Apache-2.0

package projection

import "iter"

// chunk is how many things lie together in a list.
const chunk = 1 << 10

// list is one of millions of things that stay where they are: it grows without being
// copied.
type list[T any] struct {
	chunks [][]T
	n      int
}

// add appends a zero thing and returns it, to be filled where it is.
func (r *list[T]) add() *T {
	if r.n%chunk == 0 {
		r.chunks = append(r.chunks, make([]T, chunk))
	}
	r.n++
	return r.at(r.n - 1)
}

func (r *list[T]) at(n int) *T { return &r.chunks[n/chunk][n%chunk] }

func (r *list[T]) all() iter.Seq[*T] {
	return func(yield func(*T) bool) {
		left := r.n
		for _, c := range r.chunks {
			for i := range min(left, chunk) {
				if !yield(&c[i]) {
					return
				}
			}
			left -= chunk
		}
	}
}
