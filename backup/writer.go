// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"io"
	"maps"
	"slices"

	"github.com/cockroachdb/errors"
	"github.com/klauspost/compress/zstd"

	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// Summary is what a file holds.
type Summary struct {
	Header
	End
}

// writer packs lines and sums them up.
type writer struct {
	ctx context.Context //nolint:containedctx // it lives as long as one Write
	out *zstd.Encoder
	sum hash.Hash
}

// Write writes a backup of a snapshot. The header's format, revision and store are
// filled in.
func Write(ctx context.Context, out io.Writer, s *etcdlog.Snapshot, h Header) (Summary, error) {
	packed, err := zstd.NewWriter(out)
	if err != nil {
		return Summary{}, errors.Wrap(err, "pack the backup")
	}
	h.Format, h.Revision, h.Store = Format, s.Revision, s.Store
	w := &writer{ctx, packed, sha256.New()}
	end, err := w.content(s, h)
	// Closed in any case: the encoder has goroutines.
	err = errors.CombineErrors(err, packed.Close())
	return Summary{h, end}, errors.Wrap(err, "write the backup")
}

func (w *writer) content(s *etcdlog.Snapshot, h Header) (End, error) {
	end := End{Commits: len(s.Commits), Heads: len(s.Heads), Guards: len(s.Guards)}
	if err := w.object(Line{Backup: &h}); err != nil {
		return end, err
	}
	var line []byte
	for _, c := range s.Commits {
		var err error
		if line, err = appendCommit(line[:0], c); err != nil {
			return end, err
		}
		if err := w.line(line); err != nil {
			return end, err
		}
	}
	for _, stream := range slices.Sorted(maps.Keys(s.Heads)) {
		head := s.Heads[stream]
		if err := w.object(Line{Head: stream, Commits: head.Commits, Revision: head.Revision}); err != nil {
			return end, err
		}
	}
	for _, g := range s.Guards {
		var err error
		if line, err = appendGuard(line[:0], g); err != nil {
			return end, err
		}
		if err := w.line(line); err != nil {
			return end, err
		}
	}
	end.SHA256 = hex.EncodeToString(w.sum.Sum(nil))
	return end, w.object(Line{End: &end})
}

func (w *writer) object(l Line) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return w.line(text)
}

func (w *writer) line(text []byte) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	text = append(text, '\n')
	w.sum.Write(text)
	_, err := w.out.Write(text)
	return err
}
