// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"bytes"
	"context"
	"io"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/replay"
)

const (
	blockSize = 256 << 10
	// longest is how long a record may be: one that is longer goes through piece by
	// piece.
	longest = 16 << 20
	// longestPieces are more than there can be in one chunk: of the longest record,
	// what stands behind it, and what was read last.
	longestPieces = longest/chunkSize + 4
)

// blocks reads as fast as it is listened to, in a goroutine of its own, for a read
// may wait for ever.
func blocks(ctx context.Context, in io.Reader) (<-chan []byte, func() error) {
	list := make(chan []byte, 4)
	var failed error
	go func() {
		defer close(list)
		for {
			block := make([]byte, blockSize)
			n, err := in.Read(block)
			if n > 0 {
				select {
				case list <- block[:n]:
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

// read cuts a log into chunks, as they come: one that is written slowly is joined
// line by line.
func (j *joint) read(ctx context.Context, in io.Reader) error {
	list, failure := blocks(ctx, in)
	cut := &cutter{joint: j}
	for {
		var block []byte
		more := false
		select {
		case block, more = <-list:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return errors.Wrap(ctx.Err(), "join the log")
		}
		fresh := block
		cut.rest = append(cut.rest, block...)
		for more && len(cut.rest) < chunkSize {
			select {
			case block, more = <-list:
				cut.rest = append(cut.rest, block...)
				fresh = cut.rest
				continue
			default:
			}
			break
		}
		if err := cut.send(!more, fresh); err != nil {
			return err
		}
		if !more {
			return failure()
		}
	}
}

// cutter finds the whole records of a log.
type cutter struct {
	*joint
	dialect dialect // nil: not found out yet
	rest    []byte  // not sent yet
	begun   bool    // a record that is too long
}

// send sends what is whole.
func (c *cutter) send(last bool, fresh []byte) error {
	if !last && len(c.rest) < longest && bytes.IndexByte(fresh, '\n') < 0 {
		return nil // no record ends here
	}
	text := string(c.rest)
	for text != "" {
		n, err := c.next(text, last)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		text = text[n:]
	}
	c.rest = append(c.rest[:0], text...)
	return nil
}

// next sends some of a text, and says how much of it.
func (c *cutter) next(text string, last bool) (int, error) {
	switch {
	case c.begun:
		return c.long(text), nil
	case c.dialect == nil || c.dialect.headed(text):
		if n, err := c.head(text, last); err != nil || n > 0 || c.dialect == nil {
			return n, err
		}
	}
	n := c.dialect.whole(text, last)
	if n == 0 && len(text) >= longest {
		return c.long(text), nil
	}
	if n > 0 {
		part := &chunk{dialect: c.dialect, text: text[:n], done: make(chan struct{})}
		c.enter(part)
		c.work <- part
	}
	return n, nil
}

// head sends a header, which says what the dialect is.
func (c *cutter) head(text string, last bool) (int, error) {
	h, err := c.recognise(text, last)
	if err == nil && h.dialect == nil && len(text) >= longest {
		err = errors.Mark(errors.New("the log has no header, only one endless line: name its form with --input"), ErrForm)
	}
	if err != nil || h.dialect == nil {
		return 0, err
	}
	if c.lookup == nil {
		c.lookup = replay.NewLookup(c.History, c.Pools, h.answer)
		c.began = c.lookup.Began()
	}
	c.dialect = h.dialect
	if h.size > 0 {
		c.pass(text[:h.size], h.out, Summary{})
	}
	return h.size, nil
}

// long sends a piece of a record that is too long.
func (c *cutter) long(text string) int {
	n := strings.IndexByte(text, '\n') + 1
	var sum Summary
	if !c.begun {
		sum.Lines = 1
		sum.trouble(tooLong)
	}
	c.begun = n == 0
	if n == 0 {
		n = len(text)
	}
	c.pass(text[:n], []byte(text[:n]), sum)
	return n
}

// pass sends what is done already.
func (c *cutter) pass(text string, out []byte, sum Summary) {
	sum.Bytes += int64(len(text))
	sum.passed = int64(strings.Count(text, "\n"))
	part := &chunk{text: text, out: out, sum: sum, done: make(chan struct{})}
	close(part.done)
	c.enter(part)
}
