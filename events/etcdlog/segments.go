// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/ipamlog/ipamlog/events"
)

// ErrOvertaken is returned by [Log.Seal], [Log.BeginRemoval], [Log.Remove] and
// [Log.EndRemoval] when another archiver was there first. Nothing was changed.
var ErrOvertaken = errors.New("another archiver was there first")

// SegmentState is how far a segment has come.
type SegmentState string

// The states of a segment, in their order.
const (
	// Sealed: its file is in the archive, and its commits are in the store as well.
	Sealed SegmentState = "sealed"
	// Removing: its commits are being deleted from the store, and are read from its file.
	Removing SegmentState = "removing"
	// Removed: none of its commits is in the store.
	Removed SegmentState = "removed"
	// Forgotten: its file was deleted on purpose. What the log goes on from is in the
	// [Residue] of the first one, whose record alone says so.
	Forgotten SegmentState = "forgotten"
)

// Segment is a contiguous stretch of the log's revisions that was sealed into a file of
// an archive. Every commit that the log ever had in the stretch is in it.
type Segment struct {
	First   int64     `json:"first"` // revisions
	Last    int64     `json:"last"`
	Commits int64     `json:"commits"`
	From    time.Time `json:"from"` // the earliest and the latest time of its commits
	To      time.Time `json:"to"`
	// Running is the running time of the log after it.
	Running time.Time `json:"running"`
	// LowestID and HighestID bound the IDs of its commits.
	LowestID  events.ID `json:"lowest_id"`
	HighestID events.ID `json:"highest_id"`
	// Before and After are the Merkle tree over all commits of the log up to it, without
	// and with its own. Before has no edge.
	Before TreeHead `json:"before"`
	After  TreeHead `json:"after"`
	// Origin is the name of the tree in the checkpoints of the archive: see package archive.
	Origin string `json:"origin"`
	// Place is the archive's, File the name of its file there, and SHA256 the file's.
	Place  string       `json:"place"`
	File   string       `json:"file"`
	SHA256 string       `json:"sha256"`
	State  SegmentState `json:"state"`
	// Residue stands in the record of the first segment where that was forgotten.
	Residue *Residue `json:"residue,omitempty"`

	modified int64 // etcd's own revision of the record
}

// TreeHead is the size and root of a Merkle tree (RFC 6962), and its edge: the roots of
// the full subtrees that it consists of, the widest first, from which it can be added
// to.
type TreeHead struct {
	Size int64       `json:"size"`
	Root tlog.Hash   `json:"root"`
	Edge []tlog.Hash `json:"edge,omitempty"`
}

// gone says whether the segment's commits are read from its file.
func (s Segment) gone() bool { return s.State != Sealed }

// Segments lists all segments, in the order of their revisions.
func (l *Log) Segments(ctx context.Context) ([]Segment, error) {
	return l.segmentsAt(ctx, 0)
}

// segmentsAt lists the segments there were at a revision; 0 means now.
func (l *Log) segmentsAt(ctx context.Context, at int64) ([]Segment, error) {
	segments, _, err := l.records(ctx, at)
	return segments, err
}

// records also returns the answer that has the segments' records.
func (l *Log) records(ctx context.Context, at int64) ([]Segment, *clientv3.GetResponse, error) {
	resp, err := l.get(ctx, l.keys.segments(), clientv3.WithPrefix(), l.at(at))
	if err != nil {
		return nil, nil, errors.Wrap(err, "read which segments of the log are in an archive")
	}
	segments, err := decodeSegments(resp.Kvs)
	slices.SortFunc(segments, func(a, b Segment) int { return cmp.Compare(a.First, b.First) })
	settle(segments)
	return segments, resp, err
}

func decodeSegments(kvs []*mvccpb.KeyValue) ([]Segment, error) {
	segments := make([]Segment, 0, len(kvs))
	for _, kv := range kvs {
		s, err := decodeSegment(kv)
		if err != nil {
			return nil, err
		}
		segments = append(segments, s)
	}
	return segments, nil
}

func decodeSegment(kv *mvccpb.KeyValue) (Segment, error) {
	s := Segment{modified: kv.ModRevision}
	if err := json.Unmarshal(kv.Value, &s); err != nil {
		return s, errors.Wrapf(err, "read the segment at %s", kv.Key)
	}
	switch {
	case s.State != Sealed && s.State != Removing && s.State != Removed && s.State != Forgotten:
		return s, errors.Newf("the segment at %s is in the state %q, which this program does not know: upgrade it", kv.Key, s.State)
	case s.First < 1 || s.Last < s.First || s.Commits < 1 || s.Before.Size < 0 || s.Before.Size+s.Commits != s.After.Size:
		return s, errors.Wrapf(events.ErrMalformed, "the segment at %s contradicts itself", kv.Key)
	case s.Residue != nil && (s.State != Forgotten || s.Residue.Last < s.Last || s.Residue.Commits < 0):
		return s, errors.Wrapf(events.ErrMalformed, "what is left of the segment at %s contradicts it", kv.Key)
	}
	return s, nil
}

// Claim is who archives. Whoever claims last may seal.
type Claim struct {
	// Number grows from claim to claim: it is the log's revision of it.
	Number int64
	id     string
}

// ClaimArchive makes sure that nobody who began to archive before can still seal: what
// earlier claims have sealed by now is among the segments that are read from here on,
// and nothing else of theirs ever will be.
func (l *Log) ClaimArchive(ctx context.Context) (Claim, error) {
	claim := Claim{id: l.Clock.NewID().String()}
	ctx, cancel := context.WithTimeout(ctx, l.reading)
	defer cancel()
	resp, err := l.client.Put(ctx, l.keys.archiving(), claim.id)
	if err != nil {
		return claim, errors.Wrap(err, "claim the archive")
	}
	claim.Number = l.revision(resp.Header.Revision)
	return claim, nil
}

// Seal writes down that a segment is in an archive. after is the one before it; nil: it
// is the first. Its file must be there for good. It returns [ErrOvertaken].
func (l *Log) Seal(ctx context.Context, claim Claim, s Segment, after *Segment) (Segment, error) {
	s.State = Sealed
	only := []clientv3.Cmp{
		clientv3.Compare(clientv3.Value(l.keys.archiving()), "=", claim.id),
		clientv3.Compare(clientv3.CreateRevision(l.keys.segment(s.First)), "=", 0),
		clientv3.Compare(clientv3.CreateRevision(l.keys.segment(s.First)), "=", 0).WithRange(endOf(l.keys.segments())),
	}
	if after == nil {
		only = append(only, clientv3.Compare(clientv3.CreateRevision(l.keys.segments()), "=", 0).WithPrefix())
	} else {
		only = append(only, l.unchanged(*after))
	}
	return l.writeSegment(ctx, s, only)
}

// BeginRemoval makes everybody read a sealed segment's commits from its file, so that
// they can be deleted. It returns [ErrOvertaken], or [ErrStoreOld] while programs may
// run that cannot read segments.
func (l *Log) BeginRemoval(ctx context.Context, s Segment) (Segment, error) {
	if in := l.Format(); in < segmentsFormat {
		return s, errors.Wrapf(ErrStoreOld, "removing what was archived needs format %d, and the store is in format %d until no older ipamlog runs on any host: see `ipamlog hosts`", segmentsFormat, in)
	}
	only := append(l.isKnown(), l.unchanged(s))
	s.State = Removing
	return l.writeSegment(ctx, s, only)
}

// EndRemoval writes down that all commits of a segment are deleted. It returns
// [ErrOvertaken].
func (l *Log) EndRemoval(ctx context.Context, s Segment) (Segment, error) {
	only := l.unchanged(s)
	s.State = Removed
	return l.writeSegment(ctx, s, []clientv3.Cmp{only})
}

// removals is how many commits one transaction deletes: few enough that nobody else
// waits for it (see also maxOperations).
const removals = 100

// Remove deletes commits of a segment whose removal has begun, a few at a time. It
// returns [ErrOvertaken].
func (l *Log) Remove(ctx context.Context, s Segment, commits []RawCommit) error {
	for chunk := range slices.Chunk(commits, removals) {
		ops := make([]clientv3.Op, 0, len(chunk))
		for _, c := range chunk {
			if c.Revision < s.First || c.Revision > s.Last {
				return errors.AssertionFailedf("commit %d is not of the segment from %d to %d", c.Revision, s.First, s.Last)
			}
			if stays(c.Stream) {
				continue
			}
			ops = append(ops, clientv3.OpDelete(l.keys.commit(c.Stream, c.ID)))
		}
		if _, err := l.ifStill(ctx, []clientv3.Cmp{l.unchanged(s)}, ops...); err != nil {
			return errors.Wrap(err, "delete commits that are in the archive")
		}
	}
	return nil
}

// Lacks returns those of some commits that are not in the store as they are given.
func (l *Log) Lacks(ctx context.Context, commits []RawCommit) ([]RawCommit, error) {
	var lacking []RawCommit
	for chunk := range slices.Chunk(commits, maxOperations) {
		ops := make([]clientv3.Op, 0, len(chunk))
		for _, c := range chunk {
			ops = append(ops, clientv3.OpGet(l.keys.commit(c.Stream, c.ID)))
		}
		answers, err := l.ask(ctx, ops)
		if err != nil {
			return nil, errors.Wrap(err, "look whether commits are in the store")
		}
		for i, a := range answers {
			there := false
			for _, kv := range a.Kvs {
				c, err := l.raw(kv)
				there = err == nil && c.Revision == chunk[i].Revision && bytes.Equal(c.Value, chunk[i].Value)
			}
			if !there {
				lacking = append(lacking, chunk[i])
			}
		}
	}
	return lacking, nil
}

// stays says whether a stream's commits stay in the store when they are sealed. Every
// daemon reads the catalogue's when it starts, to know what became of its host; they are
// few.
func stays(s events.Stream) bool { return s == events.Catalogue }

// unchanged demands that a segment's record is as it was read.
func (l *Log) unchanged(s Segment) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(l.keys.segment(s.First)), "=", s.modified)
}

func (l *Log) writeSegment(ctx context.Context, s Segment, only []clientv3.Cmp) (Segment, error) {
	value, err := json.Marshal(s)
	if err != nil {
		return s, errors.Wrap(err, "write a segment's record")
	}
	if s.modified, err = l.ifStill(ctx, only, clientv3.OpPut(l.keys.segment(s.First), string(value))); err != nil {
		return s, errors.Wrap(err, "write a segment's record")
	}
	return s, nil
}

// ifStill does some operations if some conditions hold, and returns etcd's own revision
// then. An answer that never came is asked for no more: whoever goes on looks how far it
// came.
func (l *Log) ifStill(ctx context.Context, only []clientv3.Cmp, ops ...clientv3.Op) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, l.reading)
	defer cancel()
	resp, err := l.client.Txn(ctx).If(only...).Then(ops...).Commit()
	switch {
	case err != nil:
		return 0, err
	case !resp.Succeeded:
		return 0, ErrOvertaken
	}
	return resp.Header.Revision, nil
}
