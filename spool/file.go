// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/durable"
	"github.com/ipamlog/ipamlog/events"
)

// line is one of the file. Exactly one field is set.
type line struct {
	Accept  *Release  `json:"accept,omitempty"`
	Resolve *resolved `json:"resolve,omitempty"`
	Done    events.ID `json:"done,omitzero"`
	Aside   *Aside    `json:"aside,omitempty"`
}

type resolved struct {
	Release    events.ID `json:"release"`
	Allocation events.ID `json:"allocation"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode writes a line as it stands in the file: checksum, space, JSON, newline.
func (l line) encode() ([]byte, error) {
	body, err := json.Marshal(l)
	if err != nil {
		return nil, errors.Wrap(err, "encode a line of the spool")
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(body, castagnoli), body), nil
}

// decode reads a line without its newline; false if it is none.
func decode(raw []byte) (l line, ok bool) {
	sum, body, ok := bytes.Cut(raw, []byte(" "))
	if !ok || len(sum) != 8 {
		return l, false
	}
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if err != nil || crc32.Checksum(body, castagnoli) != uint32(want) || json.Unmarshal(body, &l) != nil {
		return l, false
	}
	set := 0
	for _, is := range []bool{l.Accept != nil, l.Resolve != nil, !l.Done.IsZero(), l.Aside != nil} {
		if is {
			set++
		}
	}
	return l, set == 1
}

// take applies a line to what is known.
func (s *Spool) take(l line) {
	switch {
	case l.Accept != nil:
		if s.find(l.Accept.ID) < 0 {
			s.waiting = append(s.waiting, *l.Accept)
		}
	case l.Resolve != nil:
		if i := s.find(l.Resolve.Release); i >= 0 {
			s.waiting[i].Allocation = l.Resolve.Allocation
		}
	case l.Aside != nil:
		s.remove(l.Aside.ID)
		s.aside = append(s.aside, *l.Aside)
	default:
		s.remove(l.Done)
	}
}

func (s *Spool) remove(release events.ID) {
	s.waiting = slices.DeleteFunc(s.waiting, func(r Release) bool { return r.ID == release })
}

// load reads the file, keeps what is damaged aside, and leaves a sound one.
func (s *Spool) load() error {
	raw, err := os.ReadFile(s.path(fileName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Wrap(err, "read the release spool")
	}
	var bad [][]byte
	for len(raw) > 0 {
		text, rest, whole := bytes.Cut(raw, []byte("\n"))
		raw = rest
		if l, ok := decode(text); ok && whole {
			s.take(l)
		} else if whole || len(rest) > 0 {
			bad = append(bad, text)
		}
		// A last line without its end was never accepted: the power went with it.
	}
	s.forget()
	if s.damaged = len(bad); s.damaged > 0 {
		s.trouble = s.keepDamaged(bad)
	}
	// A disk that is full keeps nobody from starting: what is there was read, and what
	// comes is not accepted.
	s.failed = true
	s.trouble = errors.CombineErrors(s.trouble, s.rewrite())
	return nil
}

// keepDamaged puts lines that cannot be read where somebody may look at them.
func (s *Spool) keepDamaged(bad [][]byte) error {
	f, err := os.OpenFile(s.path(damagedName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return errors.Wrap(err, "keep what is damaged of the release spool")
	}
	_, err = f.Write(append(bytes.Join(bad, []byte("\n")), '\n'))
	err = errors.CombineErrors(err, f.Sync())
	return errors.Wrap(errors.CombineErrors(err, f.Close()), "keep what is damaged of the release spool")
}

// rewrite replaces the file by one of what waits and what was set aside, and opens
// it to be appended to. Where that fails, the old one is as good as it was.
func (s *Spool) rewrite() error {
	lines := s.lines()
	var content []byte
	for _, l := range lines {
		raw, err := l.encode()
		if err != nil {
			return err
		}
		content = append(content, raw...)
	}
	f, err := os.OpenFile(s.path(fileName+".new"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return errors.Wrap(err, "write the release spool anew")
	}
	_, err = f.Write(content)
	err = errors.CombineErrors(err, f.Sync())
	if err == nil {
		s.failed = true // nobody knows which of the two a power cut leaves
		err = os.Rename(s.path(fileName+".new"), s.path(fileName))
	}
	if err == nil {
		err = durable.SyncDir(s.dir)
	}
	if err != nil {
		return errors.Wrap(errors.CombineErrors(err, f.Close()), "write the release spool anew")
	}
	if s.file != nil {
		_ = s.file.Close() // the one that was replaced: nothing of it is wanted any more
	}
	s.file, s.size, s.written, s.failed = f, int64(len(content)), len(lines), false
	return nil
}

func (s *Spool) lines() []line {
	lines := make([]line, 0, len(s.aside)+len(s.waiting))
	for i := range s.aside {
		lines = append(lines, line{Aside: &s.aside[i]})
	}
	for i := range s.waiting {
		lines = append(lines, line{Accept: &s.waiting[i]})
	}
	return lines
}

// append writes a line and waits until it is on the disk. After a failure nobody knows
// what the file ends with: it is written anew before the next line.
func (s *Spool) append(l line) error {
	if s.closed {
		return ErrClosed
	}
	if s.failed {
		if err := s.rewrite(); err != nil {
			return err
		}
	}
	raw, err := l.encode()
	if err != nil {
		return err
	}
	_, err = s.file.Write(raw)
	if err = errors.CombineErrors(err, s.file.Sync()); err != nil {
		s.failed = true
		_ = s.file.Truncate(s.size) // what was not accepted shall not be found
		return err
	}
	s.size += int64(len(raw))
	s.written++
	return nil
}
