// SPDX-License-Identifier: Apache-2.0

package bitmap_test

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/ipamlog/ipamlog/projection/bitmap"
)

// FuzzOps reads its input as a program of four-byte steps (what, run length,
// where) and holds a Set against the model after each.
func FuzzOps(f *testing.F) {
	f.Add(uint64(65), []byte{0, 64, 0, 0, 2, 0, 0, 0, 1, 0, 64, 0, 2, 0, 63, 0})
	f.Add(uint64(4097), []byte{0, 255, 0, 0, 0, 255, 0, 1, 2, 0, 3, 0, 1, 9, 60, 0, 3, 0, 3, 0})
	f.Add(uint64(1<<63), []byte{0, 200, 255, 255, 2, 0, 200, 255, 1, 0, 255, 255})
	f.Fuzz(func(t *testing.T, size uint64, program []byte) {
		if size == 0 || size > bitmap.MaxSize {
			return
		}
		p := pair{set: bitmap.New(size), model: newModel(size)}
		for len(program) >= 4 {
			what, run, where := program[0], uint64(program[1]), binary.LittleEndian.Uint16(program[2:4])
			program = program[4:]
			at := uint64(where)
			if where >= 1<<15 { // counted back from just past the last offset
				at = size + 64 - uint64(math.MaxUint16-where)
			}
			switch what % 4 {
			case 0:
				for i := range run + 1 {
					p.add(t, at+i)
				}
			case 1:
				for i := range run + 1 {
					p.remove(t, at+i)
				}
			case 2:
				p.nextFree(t, at, math.MaxUint64)
			case 3:
				p.nextFree(t, at, at+run)
			}
			p.counts(t)
		}
		if !p.set.Equal(p.rebuilt(bitmap.New)) {
			t.Fatalf("the same offsets by another history are not Equal")
		}
	})
}
