// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"context"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// forgotten looks at what was forgotten of the log on purpose: up to there segments may
// be missing, if their checkpoints are not. Who has signed the residue has deleted them.
func (v *verifier) forgotten(ctx context.Context, names []string, expected []etcdlog.Segment) error {
	var record *etcdlog.Residue
	if len(expected) > 0 {
		record = expected[0].Residue
	}
	for _, name := range names {
		if !isResidue(name) {
			continue
		}
		if record != nil && record.File != name {
			continue // one whose writer was stopped, or that has another in its place: the next to forget deletes it
		}
		r, err := v.residue(ctx, name, names)
		if err != nil {
			return err
		}
		if r != nil && (v.border == nil || r.head.Last > v.border.head.Last) {
			v.border = r
		}
	}
	switch {
	case record != nil && !slices.Contains(names, record.File):
		v.note(record.File, "what is left of the log up to revision %d was removed: the store knows of it", record.Last)
	case expected != nil && record == nil:
		v.border = nil // its writer was stopped before anything was forgotten
	}
	if v.border != nil {
		v.report.Forgotten = v.border.head.Last
	}
	return nil
}

// residue reads a residue; nil if it is none that anybody answers for.
func (v *verifier) residue(ctx context.Context, name string, names []string) (*residue, error) {
	content, err := readAll(ctx, v.place, name)
	if err != nil {
		return nil, err
	}
	r, err := unpackResidue(content, nil)
	switch {
	case err != nil:
		v.note(name, "%v", err)
		return nil, nil
	case name != r.file():
		v.note(name, "it has the name of another file, or a byte of it was changed")
		return nil, nil
	case v.keys.Verifiers == nil:
		return &r, nil
	case r.head.Origin != v.keys.Origin:
		v.note(name, "it is the residue of %s", r.head.Origin)
		return nil, nil
	case !slices.Contains(names, noteOf(name)):
		return nil, nil // its writer was stopped; if more than that is missing, segments are
	}
	signed, err := readAll(ctx, v.place, noteOf(name))
	if err != nil {
		return nil, err
	}
	if err := openResidue(signed, v.keys, r); err != nil {
		v.note(noteOf(name), "%v", err)
		return nil, nil
	}
	return &r, nil
}

// stated is the checkpoint of a segment that is not there; where no key is known, what
// the store says of it.
func (v *verifier) stated(signed []byte, of string, expected []etcdlog.Segment) (Checkpoint, error) {
	if v.keys.Verifiers != nil {
		return openCheckpoint(signed, v.keys)
	}
	n := slices.IndexFunc(expected, func(s etcdlog.Segment) bool { return s.File == of })
	if n < 0 {
		return Checkpoint{}, errors.Newf("the segment %s is missing, and nobody knows whether it was forgotten: verify with the archive's public key", of)
	}
	s := expected[n]
	return Checkpoint{Origin: s.Origin, Size: s.After.Size, Root: s.After.Root, File: s.File}, nil
}

// skip goes on behind a segment that only has a checkpoint. It may be one that was
// forgotten.
func (v *verifier) skip(ctx context.Context, name, of string, expected []etcdlog.Segment) error {
	if v.border == nil {
		v.note(of, "the segment was removed: its checkpoint is there")
		return nil
	}
	text, err := readAll(ctx, v.place, name)
	if err != nil {
		return err
	}
	c, wrong := v.stated(text, of, expected)
	left, is := segmentOf(of)
	if wrong == nil && !is {
		wrong = errors.New("it has a name that no segment has")
	}
	b, r := v.border.head, v.report
	switch {
	case wrong != nil:
		v.note(name, "%v", wrong)
	case c.Origin != b.Origin || c.File != of:
		v.note(name, "it is the checkpoint of %s of %s", c.File, c.Origin)
	case left.last > b.Last:
		v.note(of, "the segment was removed: its checkpoint is there, and the log was forgotten only up to revision %d", b.Last)
	case left.first != r.Last+1 || c.Size <= r.Size:
		v.note(of, "what was forgotten is not whole: it begins with revision %d, and what is before it ends with revision %d", left.first, r.Last)
	case left.last == b.Last && (c.Size != b.Size || c.Root != b.Root):
		v.note(of, "its checkpoint and the residue %s contradict each other", v.border.file())
	default:
		r.Last, r.Size, r.Root, v.before = left.last, c.Size, c.Root, of
		v.borders[c.Size] = c.Root
	}
	return nil
}
