// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"cmp"
	"context"
	"slices"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/ipamlog/ipamlog/events"
)

// Archive reads segments. Safe for concurrent use.
type Archive interface {
	// Read goes over the commits of a segment in the order of their revisions, and stops
	// with the first error that take returns. It fails where the segment's file cannot be
	// read, or is not the one that was sealed.
	Read(ctx context.Context, s Segment, take func(RawCommit) error) error
	// Missing is what is not left of each stream in a residue, which a segment of
	// [Readable] stands for: how many commits, and where the last one was that the stream
	// had up to the border.
	Missing(ctx context.Context, s Segment) (map[events.Stream]Head, error)
}

// ErrArchive is returned by reading questions for which a segment is needed that cannot
// be read here.
var ErrArchive = errors.New("a part of the log is in an archive that cannot be read here")

// record is a commit as it is read from the log.
func (c RawCommit) record() (events.Record, error) {
	commit, err := events.Decode(c.Value)
	if err != nil {
		return events.Record{}, errors.Wrapf(err, "read commit %s of stream %s (revision %d)", c.ID, c.Stream, c.Revision)
	}
	commit.Stream, commit.ID = c.Stream, c.ID
	return events.Record{Commit: commit, Revision: c.Revision}, nil
}

// has says whether a commit is in a stretch.
func (s stretch) has(c RawCommit) bool {
	return s.stream == c.Stream && c.ID.Compare(s.from) >= 0 && (s.to.IsZero() || c.ID.Compare(s.to) < 0)
}

// meets says whether a segment may hold commits of a stretch.
func (s stretch) meets(segment Segment) bool {
	return segment.HighestID.Compare(s.from) >= 0 && (s.to.IsZero() || segment.LowestID.Compare(s.to) < 0)
}

// readSealed reads what is in segments of some stretches, and up to which revision the
// segments reach that it must be read from.
func (l *Log) readSealed(ctx context.Context, segments []Segment, stretches []stretch, progress func(int)) (records []events.Record, until int64, err error) {
	byStream := make(map[events.Stream]stretch, len(stretches))
	for _, s := range stretches {
		if !stays(s.stream) {
			byStream[s.stream] = s
		}
	}
	for _, segment := range Readable(segments) {
		if !segment.gone() {
			break
		}
		until = segment.Last
		if !slices.ContainsFunc(stretches, func(s stretch) bool { return !stays(s.stream) && s.meets(segment) }) {
			continue
		}
		err := l.readSegment(ctx, segment, func(c RawCommit) error {
			if s, wanted := byStream[c.Stream]; !wanted || !s.has(c) {
				return nil
			}
			record, err := c.record()
			records = append(records, record)
			return err
		})
		if err != nil {
			return nil, 0, l.since(ctx, segments, err)
		}
		if progress != nil {
			progress(len(records))
		}
	}
	return records, until, nil
}

func (l *Log) readSegment(ctx context.Context, s Segment, take func(RawCommit) error) error {
	if l.Archive == nil {
		return unread(s)
	}
	return l.Archive.Read(ctx, s, take)
}

// sealedCommits reads single commits from segments, by their IDs.
func (l *Log) sealedCommits(ctx context.Context, stream events.Stream, ids []events.ID, found map[events.ID]events.Record) error {
	for {
		err := l.sealedCommitsOnce(ctx, stream, ids, found)
		if !errors.Is(err, rpctypes.ErrCompacted) {
			return err
		}
	}
}

func (l *Log) sealedCommitsOnce(ctx context.Context, stream events.Stream, ids []events.ID, found map[events.ID]events.Record) error {
	missing := slices.DeleteFunc(slices.Clone(ids), func(id events.ID) bool { _, there := found[id]; return there })
	if len(missing) == 0 {
		return nil
	}
	segments, err := l.Segments(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(missing, events.ID.Compare)
	for _, segment := range Readable(segments) {
		first, _ := slices.BinarySearchFunc(missing, segment.LowestID, events.ID.Compare)
		if !segment.gone() || first == len(missing) || missing[first].Compare(segment.HighestID) > 0 {
			continue
		}
		err := l.readSegment(ctx, segment, func(c RawCommit) error {
			if _, wanted := slices.BinarySearchFunc(missing, c.ID, events.ID.Compare); !wanted || c.Stream != stream {
				return nil
			}
			record, err := c.record()
			found[c.ID] = record
			return err
		})
		if err != nil {
			return l.since(ctx, segments, err)
		}
	}
	return nil
}

// sealedAt is the segment that has a revision; nil if none has.
func sealedAt(segments []Segment, revision int64) *Segment {
	n, _ := slices.BinarySearchFunc(segments, revision, func(s Segment, revision int64) int { return cmp.Compare(s.Last, revision) })
	if n == len(segments) || segments[n].First > revision {
		return nil
	}
	return &segments[n]
}
