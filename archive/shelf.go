// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sync"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// Shelf reads segments wherever they are: it is the [etcdlog.Archive] of all who read the
// log. Safe for concurrent use.
type Shelf struct {
	// Instead is where segments are read, wherever they were put; empty: there.
	Instead string

	change func(Place) Place // what places are in tests; or nil

	mu     sync.Mutex
	places map[string]Place
}

// Read implements [etcdlog.Archive].
func (s *Shelf) Read(ctx context.Context, segment etcdlog.Segment, take func(etcdlog.RawCommit) error) error {
	content, err := s.content(ctx, segment)
	if err != nil {
		return err
	}
	if segment.State == etcdlog.Forgotten {
		_, err := unpackResidue(content, take)
		return err
	}
	return unpack(content, nil, func(_ []byte, c etcdlog.RawCommit) error { return take(c) })
}

// Missing implements [etcdlog.Archive].
func (s *Shelf) Missing(ctx context.Context, segment etcdlog.Segment) (map[events.Stream]etcdlog.Head, error) {
	content, err := s.content(ctx, segment)
	if err != nil {
		return nil, err
	}
	r, err := unpackResidue(content, nil)
	return r.head.Missing, err
}

// content is a segment's file, which is the one that was sealed. It returns
// [etcdlog.ErrArchive], and [ErrNotThere] as well where there is none.
func (s *Shelf) content(ctx context.Context, segment etcdlog.Segment) ([]byte, error) {
	place, err := s.place(segment)
	if err != nil {
		return nil, err
	}
	content, err := readAll(ctx, place, segment.File)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		away := errors.Mark(errors.Newf("the log from %s to %s (revision %d to %d) is in %s of the archive %s, and cannot be read here (%v): make it readable, or name where a copy of the archive is with --archive",
			segment.From.Format("2006-01-02 15:04"), segment.To.Format("2006-01-02 15:04"), segment.First, segment.Last, segment.File, place, err), etcdlog.ErrArchive)
		if errors.Is(err, ErrNotThere) {
			away = errors.Mark(away, ErrNotThere)
		}
		return nil, away
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != segment.SHA256 {
		return nil, errors.Mark(errors.Newf("%s in %s is not what was sealed (revision %d to %d): put back the right file, and see `ipamlog verify`", segment.File, place, segment.First, segment.Last), etcdlog.ErrArchive)
	}
	return content, nil
}

func (s *Shelf) place(segment etcdlog.Segment) (Place, error) {
	name := segment.Place
	if s.Instead != "" {
		name = s.Instead
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, known := s.places[name]; known {
		return p, nil
	}
	p, err := OpenPlace(name)
	if err != nil {
		return nil, errors.Mark(err, etcdlog.ErrArchive)
	}
	if s.change != nil {
		p = s.change(p)
	}
	if s.places == nil {
		s.places = map[string]Place{}
	}
	s.places[name] = p
	return p, nil
}
