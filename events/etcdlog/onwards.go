// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"context"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/ipamlog/ipamlog/events"
)

// ReadSealedOn is [Log.ReadOn] for what is in segments alone: it returns the records
// after a frontier of some whole segments, in the order of their revisions, and moves the
// frontier to the end of the last one; at least so many commits, if there are. There are
// none where the frontier is past all segments that are in the store no more. So who
// begins with a log that is longer than memory can take it piece by piece. It returns
// [ErrArchive], or [ErrAstray] where more was forgotten since; on an error the frontier stays.
func (l *Log) ReadSealedOn(ctx context.Context, f *Frontier, commits int, progress func(int)) ([]events.Record, error) {
	for {
		records, err := l.readSealedOn(ctx, f, commits, progress)
		if !errors.Is(err, rpctypes.ErrCompacted) {
			return records, err
		}
	}
}

func (l *Log) readSealedOn(ctx context.Context, f *Frontier, commits int, progress func(int)) ([]events.Record, error) {
	segments, err := l.Segments(ctx)
	if err != nil {
		return nil, err
	}
	border := borderOf(segments)
	if err := f.keeps(border); err != nil {
		return nil, err
	}
	moved := f.Clone()
	if moved.Streams == nil {
		moved.Streams = map[events.Stream]Reached{}
	}
	var records []events.Record
	for _, s := range Readable(segments) {
		if !s.gone() || len(records) >= commits {
			break
		}
		if s.Last <= f.Revision {
			continue
		}
		err := l.readSegment(ctx, s, func(c RawCommit) error {
			if c.Revision <= f.Revision {
				return nil
			}
			record, err := c.record()
			if err == nil {
				records = append(records, record)
				moved.over(record)
			}
			return err
		})
		if err != nil {
			return nil, l.since(ctx, segments, err)
		}
		if s.State == Forgotten {
			missing, err := l.Archive.Missing(ctx, s)
			if err != nil {
				return nil, l.since(ctx, segments, err)
			}
			moved.lack(missing)
			moved.Forgotten = border
		}
		moved.Revision = s.Last
		if progress != nil {
			progress(len(records))
		}
	}
	*f = *moved
	return records, nil
}

// lack moves the frontier over what is missing in a residue.
func (f *Frontier) lack(missing map[events.Stream]Head) {
	for stream, gone := range missing {
		s := f.Streams[stream]
		s.Commits += gone.Commits
		s.Revision = max(s.Revision, gone.Revision)
		f.Streams[stream] = s
	}
}

// over moves the frontier of a stream over its next record.
func (f *Frontier) over(r events.Record) {
	s := f.Streams[r.Stream]
	s.Commits++
	s.Revision = r.Revision
	if r.ID.Compare(s.Latest) > 0 {
		s.Latest = r.ID
	}
	f.Streams[r.Stream] = s
}
