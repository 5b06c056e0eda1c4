// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"context"
	"io"
	"sync/atomic"
	"unsafe"

	"github.com/cockroachdb/errors"
)

const (
	blockSize = 1 << 20
	// headroom is how much of a record there is room for before what was read, where
	// the block before ended within it.
	headroom = 64 << 10
)

// block is bytes as they were read. It is used again once nobody looks at it.
type block struct {
	bytes    [headroom + blockSize]byte
	from, to int
	users    atomic.Int32
}

// text is what was read, without a copy: it is true as long as the block is used.
func (b *block) text() string {
	return unsafe.String(&b.bytes[b.from], b.to-b.from) // nobody writes to a block that is used
}

// precede puts the beginning of a record before what was read; false if there is no
// room.
func (b *block) precede(rest []byte) bool {
	if len(rest) > b.from {
		return false
	}
	b.from -= copy(b.bytes[b.from-len(rest):], rest)
	return true
}

// follow adds what was read next; false if there is no room.
func (b *block) follow(next *block) bool {
	if next.to-next.from > len(b.bytes)-b.to {
		return false
	}
	b.to += copy(b.bytes[b.to:], next.bytes[next.from:next.to])
	return true
}

// block returns one that nobody uses.
func (j *joint) block() *block {
	b, ok := j.unused.Get().(*block)
	if !ok {
		b = &block{}
	}
	b.from, b.to = headroom, headroom
	b.users.Store(1)
	return b
}

// done says that somebody uses a block no more.
func (j *joint) done(b *block) {
	if b != nil && b.users.Add(-1) == 0 {
		j.unused.Put(b)
	}
}

// blocks reads as fast as it is listened to, in a goroutine of its own, for a read
// may wait for ever.
func (j *joint) blocks(ctx context.Context, in io.Reader) (<-chan *block, func() error) {
	list := make(chan *block, 2)
	var failed error
	go func() {
		defer close(list)
		for {
			b := j.block()
			n, err := in.Read(b.bytes[b.from:])
			b.to += n
			if n > 0 {
				select {
				case list <- b:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					failed = errors.Wrap(err, "read the log")
				}
				return
			}
		}
	}()
	return list, func() error { return failed } // once the list is closed
}
