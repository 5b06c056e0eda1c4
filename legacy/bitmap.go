// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"encoding/binary"
	"iter"
	"math"
	"math/bits"

	"github.com/cockroachdb/errors"
)

// bitmap is libnetwork's set of the addresses of a pool that are in use, by their
// distance from the pool's first. It is stored as big-endian numbers:
//
//	8 bytes  how many addresses the pool has
//	8 bytes  how many of them are free, as far as it counted right
//	12 bytes for each run: a block of 32 bits, the first address at the highest,
//	         and in 8 bytes how often the block repeats
//
// so a pool of any size may take a few bytes, and is walked without unfolding it.
type bitmap struct {
	size uint64
	runs []run
}

// run covers the addresses from at on: blocks of 32, of which the last may reach
// over the end of the pool.
type run struct {
	at, count uint64
	block     uint32
}

func decodeBitmap(data []byte) (bitmap, error) {
	if len(data) < 16 || (len(data)-16)%12 != 0 {
		return bitmap{}, errors.Newf("%d bytes are no whole bitmap", len(data))
	}
	b := bitmap{size: binary.BigEndian.Uint64(data)}
	covered := uint64(0)
	for data = data[16:]; len(data) > 0; data = data[12:] {
		block, count := binary.BigEndian.Uint32(data), binary.BigEndian.Uint64(data[4:])
		if count == 0 {
			continue // Docker 1.9 left these behind; Docker's own repair drops them too
		}
		left := b.size - covered
		if most := left/32 + min(left%32, 1); count > most {
			return bitmap{}, errors.Newf("its runs are longer than its %d addresses", b.size)
		}
		b.runs = append(b.runs, run{at: covered, count: count, block: block})
		if count > left/32 {
			covered = b.size
		} else {
			covered += count * 32
		}
	}
	if covered != b.size {
		return bitmap{}, errors.Newf("its runs are shorter than its %d addresses", b.size)
	}
	return b, nil
}

// held counts the bits that are set. It ends at the largest number there is.
func (b bitmap) held() uint64 {
	sum := uint64(0)
	for _, r := range b.runs {
		high, n := bits.Mul64(r.count, uint64(bits.OnesCount32(r.block)))
		if high > 0 || sum+n < sum {
			return math.MaxUint64
		}
		sum += n
	}
	return sum
}

// set yields the places of the bits that are set, in order.
func (b bitmap) set() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for _, r := range b.runs {
			if r.block == 0 {
				continue
			}
			for n := range r.count {
				for rest := r.block; rest != 0; {
					bit := bits.LeadingZeros32(rest)
					rest &^= 1 << (31 - bit)
					offset := n*32 + uint64(bit)
					if offset >= b.size-r.at || !yield(r.at+offset) {
						return
					}
				}
			}
		}
	}
}
