// SPDX-License-Identifier: Apache-2.0

package index

import (
	"bytes"
	"context"
	"io"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
)

// Write writes a file.
func Write(ctx context.Context, out io.Writer, t *projection.Timeline) error {
	return write(ctx, out, t, &etcdlog.Frontier{}, events.ID{}, "/")
}

// Read opens one.
func Read(b []byte) (projection.Sealed, error) { return unseal(bytes.NewReader(b), int64(len(b))) }

// Check looks at all its blocks.
func Check(s projection.Sealed) bool { return s.(*sealed).check() }

// SaveFrom makes logs of so many commits worth a file.
func (x *Index) SaveFrom(n int64) { x.small = n }

// AtOnce takes so many commits of an archive into memory before the file is written.
func (x *Index) AtOnce(n int) { x.atOnce = n }

// Path is where the file is, once there is one.
func (x *Index) Path() string { return x.path }

// Tail is how many commits were read beside the file.
func (x *Index) Tail() int { return len(x.tail) }

// ReadBlocks reads bytes as every kind of block.
func ReadBlocks(b []byte) {
	if h, ok := readHoldings(b); ok {
		for n := range h.rows {
			h.row(n, []*projection.PoolLife{{}})
		}
	}
	readPassages(b)
	readContents(b)
}
