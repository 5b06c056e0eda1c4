// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events"
)

// Residue is what is left of the beginning of a log that was forgotten: a file with what
// the state at the border rests on, and nothing else.
type Residue struct {
	Last    int64     `json:"last"`    // the revision up to which the log was forgotten
	Running time.Time `json:"running"` // of the log then
	Commits int64     `json:"commits"` // that are left, without some of their events
	Place   string    `json:"place"`
	File    string    `json:"file"`
	SHA256  string    `json:"sha256"`
}

// Border is up to where a log was forgotten; the zero value: it was not.
type Border struct {
	Last    int64     `json:"last"`    // its last revision
	Running time.Time `json:"running"` // of the log then
}

// Readable lists what is read in the place of segments: one with the residue stands for
// all that were forgotten.
func Readable(segments []Segment) []Segment {
	if len(segments) == 0 || segments[0].Residue == nil {
		return segments
	}
	r := segments[0].Residue
	n, _ := slices.BinarySearchFunc(segments, r.Last+1, func(s Segment, first int64) int { return cmp.Compare(s.First, first) })
	left := segments[0]
	left.Last, left.Commits, left.Running, left.After = r.Last, r.Commits, r.Running, segments[n-1].After
	left.Place, left.File, left.SHA256 = r.Place, r.File, r.SHA256
	for _, s := range segments[1:n] {
		if s.LowestID.Compare(left.LowestID) < 0 {
			left.LowestID = s.LowestID
		}
		if s.HighestID.Compare(left.HighestID) > 0 {
			left.HighestID = s.HighestID
		}
		if s.From.Before(left.From) {
			left.From = s.From
		}
		if s.To.After(left.To) {
			left.To = s.To
		}
	}
	return append([]Segment{left}, segments[n:]...)
}

// Forget makes everybody read a residue in the place of segments, which are all up to its
// border and were removed from the store, or forgotten before. The residue's file must be
// there for good. It returns [ErrOvertaken] when somebody else has claimed the archive
// since, or forgotten something.
func (l *Log) Forget(ctx context.Context, claim Claim, segments []Segment, r Residue) error {
	for _, s := range segments {
		if s.State != Forgotten && s.State != Removed {
			return errors.AssertionFailedf("the segment at revision %d is %s", s.First, s.State)
		}
	}
	// The first record says it for all of them: see settle. However many there are, it is
	// one step.
	first := segments[0]
	only := []clientv3.Cmp{clientv3.Compare(clientv3.Value(l.keys.archiving()), "=", claim.id), l.unchanged(first)}
	first.State, first.Residue = Forgotten, &r
	_, err := l.writeSegment(ctx, first, only)
	return errors.Wrap(err, "write down what was forgotten")
}

// settle gives the segments, in their order, that a residue stands for their state.
func settle(segments []Segment) {
	if len(segments) == 0 || segments[0].Residue == nil {
		return
	}
	for i := range segments {
		if segments[i].Last <= segments[0].Residue.Last {
			segments[i].State = Forgotten
		}
	}
}

// Forgotten says up to where the log was forgotten, and what is not left of each stream:
// how many commits, and the revision of the last one up to the border. It returns
// [ErrArchive].
func (l *Log) Forgotten(ctx context.Context) (Border, map[events.Stream]Head, error) {
	for {
		border, missing, err := l.forgotten(ctx)
		if !errors.Is(err, rpctypes.ErrCompacted) {
			return border, missing, err
		}
	}
}

func (l *Log) forgotten(ctx context.Context) (Border, map[events.Stream]Head, error) {
	segments, err := l.Segments(ctx)
	if err != nil || borderOf(segments) == (Border{}) {
		return Border{}, nil, err
	}
	left := Readable(segments)[0]
	if l.Archive == nil {
		return Border{}, nil, unread(left)
	}
	missing, err := l.Archive.Missing(ctx, left)
	if err != nil {
		return Border{}, nil, l.since(ctx, segments, err)
	}
	return borderOf(segments), missing, nil
}

// borderOf is the border that segments tell of.
func borderOf(segments []Segment) Border {
	if len(segments) == 0 || segments[0].Residue == nil {
		return Border{}
	}
	return Border{Last: segments[0].Residue.Last, Running: segments[0].Residue.Running.UTC()}
}

// unread is the error where no archive is read at all.
func unread(s Segment) error {
	return errors.Mark(errors.Newf("the log from revision %d to %d is in the archive %s, which this program was not told to read", s.First, s.Last, s.Place), ErrArchive)
}

// since looks whether a segment cannot be read because it was forgotten meanwhile: then
// the store has moved on from what was asked for, and etcd's ErrCompacted is returned,
// upon which all readers begin anew.
func (l *Log) since(ctx context.Context, segments []Segment, err error) error {
	if !errors.Is(err, ErrArchive) || ctx.Err() != nil || len(segments) == 0 {
		return err
	}
	now, failed := l.Segments(ctx)
	if failed == nil && len(now) > 0 && now[0].modified != segments[0].modified {
		return rpctypes.ErrCompacted
	}
	return err
}
