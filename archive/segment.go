// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

const (
	format = "ipamlog 1"
	// block is so many commits whose hashes the head of a segment has one hash of, so
	// that what was changed can be named.
	block = 256

	segmentSuffix    = ".jsonl.zst"
	checkpointSuffix = ".checkpoint"
)

// head is the first line of a segment's file.
type head struct {
	Segment string    `json:"segment"` // the format
	Origin  string    `json:"origin"`
	Store   events.ID `json:"store"`
	First   int64     `json:"first"` // revisions
	Last    int64     `json:"last"`
	Commits int64     `json:"commits"`
	Claim   int64     `json:"claim"` // etcdlog.Claim's number
	From    time.Time `json:"from"`  // the earliest and the latest time of its commits
	To      time.Time `json:"to"`
	// Running is the running time of the log after it.
	Running time.Time `json:"running"`
	// Streams are how many commits of each stream are in it.
	Streams map[events.Stream]int64 `json:"streams"`
	// Before has the edge of the tree, so that the segment can be verified by itself.
	Before etcdlog.TreeHead `json:"before"`
	After  etcdlog.TreeHead `json:"after"`
	// Blocks are SHA-256 of the leaf hashes of so many commits after each other.
	Blocks []tlog.Hash `json:"blocks"`
}

// line is each further one: a commit, as it was appended. Its bytes are the leaf of the
// Merkle tree.
type line struct {
	Revision int64         `json:"revision"`
	Stream   events.Stream `json:"stream"`
	ID       events.ID     `json:"id"`
	// Commit is the value as it stood in the store. One that is no JSON on one line, which
	// no program of ours writes, is in Raw instead.
	Commit json.RawMessage `json:"commit,omitempty"`
	Raw    []byte          `json:"raw,omitempty"`
}

// encodeLine writes a commit. What json.Marshal makes of a value is another text (it
// escapes and compacts), so the value is put in as it is.
func encodeLine(c etcdlog.RawCommit) ([]byte, error) {
	l := line{Revision: c.Revision, Stream: c.Stream, ID: c.ID}
	plain := json.Valid(c.Value) && !bytes.ContainsAny(c.Value, "\r\n") && len(bytes.TrimSpace(c.Value)) == len(c.Value)
	if !plain {
		l.Raw = c.Value
	}
	text, err := json.Marshal(l)
	if err != nil || !plain {
		return text, errors.Wrapf(err, "write commit %s", c.ID)
	}
	text = append(text[:len(text)-1], `,"commit":`...)
	return append(append(text, c.Value...), '}'), nil
}

// decodeLine reads a commit. It returns events.ErrMalformed for what encodeLine does not
// write.
func decodeLine(text []byte) (etcdlog.RawCommit, error) {
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return etcdlog.RawCommit{}, errors.Mark(errors.Wrap(err, "read a commit of a segment"), events.ErrMalformed)
	}
	c := etcdlog.RawCommit{Revision: l.Revision, Stream: l.Stream, ID: l.ID, Value: l.Commit}
	if l.Commit == nil {
		c.Value = l.Raw
	}
	if again, err := encodeLine(c); err != nil || !bytes.Equal(again, text) {
		return c, errors.Wrapf(events.ErrMalformed, "the line of commit %s", l.ID)
	}
	return c, nil
}

// segment is one that was made, and not kept yet.
type segment struct {
	record  etcdlog.Segment
	content []byte
}

// checkpoint is what is to be signed of it.
func (s segment) checkpoint() Checkpoint {
	return Checkpoint{
		Origin: s.record.Origin, Size: s.record.After.Size, Root: s.record.After.Root,
		File: s.record.File, SHA256: sha256.Sum256(s.content),
	}
}

// seal makes a segment of a part of the log, which is added to the tree. The revisions
// from first on are its own.
func seal(origin string, store events.ID, claim int64, tree *Tree, first int64, part etcdlog.Stretch) (segment, error) {
	before, err := tree.head()
	if err != nil {
		return segment{}, err
	}
	h := head{
		Segment: format, Origin: origin, Store: store,
		First: first, Last: part.Commits[len(part.Commits)-1].Revision, Commits: int64(len(part.Commits)), Claim: claim,
		Running: part.Running, Streams: map[events.Stream]int64{}, Before: before,
	}
	h.From, h.To = span(part.Times)
	record := etcdlog.Segment{
		Origin: origin, First: h.First, Last: h.Last, Commits: h.Commits, From: h.From, To: h.To, Running: h.Running,
		LowestID: part.Commits[0].ID, HighestID: part.Commits[0].ID,
		Before: etcdlog.TreeHead{Size: before.Size, Root: before.Root},
	}
	var lines bytes.Buffer
	var leaves blocks
	for _, c := range part.Commits {
		text, err := encodeLine(c)
		if err != nil {
			return segment{}, err
		}
		leaf := tlog.RecordHash(text)
		if err := tree.add(leaf); err != nil {
			return segment{}, err
		}
		leaves.add(leaf)
		h.Streams[c.Stream]++
		if c.ID.Compare(record.LowestID) < 0 {
			record.LowestID = c.ID
		}
		if c.ID.Compare(record.HighestID) > 0 {
			record.HighestID = c.ID
		}
		lines.Write(text)
		lines.WriteByte('\n')
	}
	h.Blocks = leaves.sums()
	if record.After, err = tree.head(); err != nil {
		return segment{}, err
	}
	h.After = etcdlog.TreeHead{Size: record.After.Size, Root: record.After.Root}
	return pack(record, h, lines.Bytes())
}

func pack(record etcdlog.Segment, h head, lines []byte) (segment, error) {
	content, err := packFile(h, lines)
	if err != nil {
		return segment{}, errors.Wrap(err, "pack a segment")
	}
	sum := sha256.Sum256(content)
	record.SHA256 = hex.EncodeToString(sum[:])
	record.File = fileOf(h, sum)
	return segment{record, content}, nil
}

// packFile makes the file of a head and the lines of commits.
func packFile(head any, lines []byte) ([]byte, error) {
	first, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return w.EncodeAll(slices.Concat(first, []byte("\n"), lines), nil), w.Close()
}

// fileOf is the name of a segment's file. Who has put it there is in the name, so that of
// two who seal at once neither writes over the other's, or takes it for left over.
func fileOf(h head, sum [sha256.Size]byte) string {
	return fmt.Sprintf("segment-%016d-%016d-%d-%x%s", h.First, h.Last, h.Claim, sum[:4], segmentSuffix)
}

// segmentName is what the name of a segment's file says: the revisions, and the number of
// the claim under which it was put there.
type segmentName struct {
	file               string
	first, last, claim int64
}

// segmentOf reads the name of a segment or of its checkpoint.
func segmentOf(name string) (segmentName, bool) {
	stem, of := strings.CutSuffix(name, checkpointSuffix)
	if !of {
		stem, of = strings.CutSuffix(name, segmentSuffix)
	}
	parts := strings.Split(stem, "-")
	if !of || len(parts) != 5 || parts[0] != "segment" {
		return segmentName{}, false
	}
	n := segmentName{file: stem + segmentSuffix}
	for i, into := range []*int64{&n.first, &n.last, &n.claim} {
		var err error
		if *into, err = strconv.ParseInt(parts[i+1], 10, 64); err != nil {
			return segmentName{}, false
		}
	}
	return n, true
}

// span is the earliest and the latest time.
func span(times []time.Time) (from, to time.Time) {
	for _, t := range times {
		from, to = widened(from, to, t)
	}
	return from, to
}

// widened is a span of time that a further moment is in; a zero one is none.
func widened(from, to, t time.Time) (time.Time, time.Time) {
	switch {
	case t.IsZero():
	case from.IsZero():
		return t, t
	case t.Before(from):
		return t, to
	case t.After(to):
		return from, t
	}
	return from, to
}

// blocks hashes leaf hashes, so many together.
type blocks struct {
	open []byte
	full []tlog.Hash
}

func (b *blocks) add(leaf tlog.Hash) {
	if b.open = append(b.open, leaf[:]...); len(b.open) == block*tlog.HashSize {
		b.full = append(b.full, sha256.Sum256(b.open))
		b.open = b.open[:0]
	}
}

func (b *blocks) sums() []tlog.Hash {
	if len(b.open) == 0 {
		return b.full
	}
	return append(slices.Clip(b.full), sha256.Sum256(b.open))
}
