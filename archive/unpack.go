// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

const (
	// longest is the size of the longest line that is read: etcd takes no value of more
	// than 1.5 MiB, and base64 makes one longer.
	longest = 8 << 20
	// widest is the most memory that a file may ask for to be unpacked.
	widest = 64 << 20
)

// unpack goes over a segment's file: its head, and each commit with its line. Who is told of
// neither passes nil.
func unpack(content []byte, begin func(head) error, take func(text []byte, c etcdlog.RawCommit) error) error {
	return unpackFile(content, func(text []byte) error {
		h, err := decodeHead(text)
		if err != nil || begin == nil {
			return err
		}
		return begin(h)
	}, take)
}

// unpackFile goes over the lines of a file: the first, and each further one with the
// commit that it is.
func unpackFile(content []byte, begin func(text []byte) error, take func(text []byte, c etcdlog.RawCommit) error) error {
	r, err := zstd.NewReader(bytes.NewReader(content), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<32), zstd.WithDecoderMaxWindow(widest))
	if err != nil {
		return errors.Wrap(err, "unpack a segment")
	}
	defer r.Close()
	lines := bufio.NewReaderSize(r, 256<<10)
	text, err := next(lines)
	if errors.Is(err, io.EOF) {
		return errors.Wrap(events.ErrMalformed, "it is empty")
	}
	if err != nil {
		return err
	}
	if err := begin(text); err != nil {
		return err
	}
	for {
		text, err := next(lines)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		c, err := decodeLine(text)
		if err != nil {
			return err
		}
		if err := take(text, c); err != nil {
			return err
		}
	}
}

// next reads a line; io.EOF after the last.
func next(r *bufio.Reader) ([]byte, error) {
	var text []byte
	for {
		part, err := r.ReadSlice('\n')
		text = append(text, part...)
		switch {
		case err == nil:
			return text[:len(text)-1], nil
		case errors.Is(err, io.EOF) && len(text) == 0:
			return nil, io.EOF
		case errors.Is(err, io.EOF):
			return nil, errors.Wrap(events.ErrMalformed, "the last line of a segment has no end")
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, errors.Mark(errors.Newf("it cannot be unpacked: %v", err), events.ErrMalformed)
		case len(text) > longest:
			return nil, errors.Wrap(events.ErrMalformed, "a line of a segment is too long")
		}
	}
}

func decodeHead(text []byte) (head, error) {
	var h head
	if err := json.Unmarshal(text, &h); err != nil {
		return h, errors.Mark(errors.Wrap(err, "read the head of a segment"), events.ErrMalformed)
	}
	if h.Segment != format {
		return h, errors.Wrapf(events.ErrMalformed, "it is a segment of format %q, and this program reads %q", h.Segment, format)
	}
	return h, nil
}

// proof is what is found out about a segment by reading its file: that its head says what
// its commits do, and that these make of the tree before it the tree after it.
type proof struct {
	head head
	tree *Tree

	last    int64
	from    time.Time // the earliest and the latest time so far
	to      time.Time
	streams map[events.Stream]int64
	commits int64
	leaves  blocks
	block   int64               // the revision that the open block begins with
	roots   map[int64]tlog.Hash // of the tree at the sizes that are asked for, as it comes by
	changed error               // the first block that is not what the head says
}

// prove reads a segment's file. It returns what its head says, as far as it was read, and
// what is wrong. Of roots, which may be nil, it fills in those of the sizes that the tree
// has in it.
func prove(content []byte, roots map[int64]tlog.Hash) (head, error) {
	p := &proof{streams: map[events.Stream]int64{}, roots: roots}
	err := unpack(content, p.begin, p.take)
	if err == nil {
		err = p.end()
	}
	switch {
	case p.changed != nil: // which names the place
		err = p.changed
	case errors.Is(err, events.ErrMalformed) && p.last > 0:
		err = errors.Wrapf(err, "behind revision %d", p.last)
	}
	return p.head, err
}

func (p *proof) begin(h head) (err error) {
	p.head = h
	if p.tree, err = treeAt(h.Before); err != nil {
		return errors.Wrap(err, "its head is wrong about the tree before it")
	}
	return nil
}

func (p *proof) take(text []byte, c etcdlog.RawCommit) error {
	if p.commits%block == 0 {
		p.block = c.Revision
	}
	switch {
	case c.Revision <= p.last || c.Revision < p.head.First || c.Revision > p.head.Last:
		return errors.Newf("commit %s at revision %d stands where it cannot, behind revision %d", c.ID, c.Revision, p.last)
	case p.commits == p.head.Commits:
		return errors.Newf("commit %s at revision %d was inserted: it has more than the %d commits that were sealed", c.ID, c.Revision, p.head.Commits)
	case p.head.Streams[c.Stream] == p.streams[c.Stream]: // so that no file makes us keep more than its head has
		return errors.Newf("commit %s at revision %d was inserted: of its stream it has more than the %d commits that were sealed", c.ID, c.Revision, p.streams[c.Stream])
	}
	p.last = c.Revision
	p.commits++
	p.streams[c.Stream]++
	at := time.Time{}
	if commit, err := events.Decode(c.Value); err == nil && !commit.ClockSuspect {
		at = commit.Time
	}
	p.from, p.to = widened(p.from, p.to, at)
	leaf := tlog.RecordHash(text)
	p.leaves.add(leaf)
	if p.commits%block == 0 {
		p.compare()
	}
	if err := p.tree.add(leaf); err != nil {
		return err
	}
	if _, asked := p.roots[p.tree.size]; asked {
		var err error
		if p.roots[p.tree.size], err = p.tree.root(); err != nil {
			return err
		}
	}
	return nil
}

// compare holds the block that has just ended against the head.
func (p *proof) compare() {
	sums := p.leaves.sums()
	n := len(sums) - 1
	if p.changed == nil && (n >= len(p.head.Blocks) || sums[n] != p.head.Blocks[n]) {
		p.changed = errors.Newf("of its commits from revision %d to %d one was changed, removed or inserted", p.block, p.last)
	}
}

func (p *proof) end() error {
	if p.commits%block != 0 {
		p.compare()
	}
	h := p.head
	after, err := p.tree.head()
	if err != nil {
		return err
	}
	switch {
	case p.commits != h.Commits:
		return errors.Newf("it has %d commits, and %d were sealed", p.commits, h.Commits)
	case after.Size != h.After.Size || after.Root != h.After.Root:
		return errors.Newf("its commits do not give the root %s of %d commits that its head names: something in it was changed, removed or inserted", h.After.Root, h.After.Size)
	case p.last != h.Last || !p.from.Equal(h.From) || !p.to.Equal(h.To) || !maps.Equal(p.streams, h.Streams) || !slices.Equal(p.leaves.sums(), h.Blocks):
		return errors.New("its head does not say what its commits are")
	}
	return nil
}
