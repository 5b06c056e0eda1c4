// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"context"
	"io"
	"strings"

	"github.com/cockroachdb/errors"
)

const (
	// longest is how long a record may be: one that is longer goes through piece by
	// piece.
	longest = 16 << 20
	// longestPieces are more than there can be in one chunk: of the longest record,
	// what stands behind it, and what was read last.
	longestPieces = longest/chunkSize + 4
)

// read cuts a log into chunks, as they come: one that is written slowly is joined
// line by line.
func (j *joint) read(ctx context.Context, in io.Reader) error {
	list, failure := j.blocks(ctx, in)
	cut := &cutter{joint: j}
	var next *block
	for {
		b := next
		if next = nil; b == nil {
			select {
			case b = <-list:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return errors.Wrap(ctx.Err(), "join the log")
		}
		more := b != nil
		for more && next == nil { // what is there already, where it was read in small parts
			select {
			case behind, open := <-list:
				if more = open; open && !b.follow(behind) {
					next = behind
				} else if open {
					j.done(behind)
				}
				continue
			default:
			}
			break
		}
		if err := cut.send(b, !more); err != nil {
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
	of      *block  // that the text is in which is being sent; nil: in none
}

// send sends what is whole. b is nil if no more was read.
func (c *cutter) send(b *block, last bool) error {
	defer c.done(b)
	fresh := ""
	if b != nil {
		fresh = b.text()
	}
	if !last && len(c.rest)+len(fresh) < longest && strings.IndexByte(fresh, '\n') < 0 {
		c.rest = append(c.rest, fresh...)
		return nil // no record ends here
	}
	var text string
	if b != nil && b.precede(c.rest) {
		c.of, text = b, b.text()
	} else {
		c.of, text = nil, string(append(c.rest, fresh...))
	}
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
		part := c.chunk(text[:n])
		part.dialect = c.dialect
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
	if c.form == nil {
		c.form = h.form
		if err := c.begin(); err != nil {
			return 0, err
		}
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
	part := c.chunk(text)
	part.out, part.sum = out, sum
	close(part.done)
	c.enter(part)
}

// chunk is some of the text that is being sent.
func (c *cutter) chunk(text string) *chunk {
	if c.of != nil {
		c.of.users.Add(1)
	}
	return &chunk{text: text, of: c.of, done: make(chan struct{})}
}
