// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"bufio"
	"bytes"
	"io"

	"github.com/cockroachdb/errors"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Unpack returns what a log says, whether it is packed with gzip or zstd or not at
// all. Close the reader to give back what it holds; the log stays open.
func Unpack(log io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(log, blockSize)
	begin, err := buffered.Peek(4)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, errors.Wrap(err, "read the log")
	case bytes.HasPrefix(begin, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(buffered)
		return z, errors.Wrap(err, "unpack the log with gzip")
	case bytes.Equal(begin, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(buffered, zstd.WithDecoderMaxMemory(1<<30))
		if err != nil {
			return nil, errors.Wrap(err, "unpack the log with zstd")
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(buffered), nil
}
