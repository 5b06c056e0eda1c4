// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// Finding is something that is wrong with an archive.
type Finding struct {
	File string `json:"file"`
	What string `json:"what"` // a sentence
}

// Report is what [Verify] found.
type Report struct {
	Origin   string    `json:"origin"`
	Segments int       `json:"segments"`
	Commits  int64     `json:"commits"`
	First    int64     `json:"first"` // revisions
	Last     int64     `json:"last"`
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	// Size and Root are the Merkle tree after the last segment.
	Size int64     `json:"size"`
	Root tlog.Hash `json:"root"`
	// Forgotten is the revision up to which the log was forgotten on purpose; 0: it was
	// not.
	Forgotten int64     `json:"forgotten,omitempty"`
	Findings  []Finding `json:"findings"` // in the order of the files
}

// Verify reads a whole archive and looks whether anything in it was changed, removed or
// inserted since it was sealed. It needs no store: the public keys are enough. Without
// keys no signature is looked at, and only what the store knows can be relied on. kept are
// checkpoints that were kept elsewhere; only they can show that segments are missing at
// the end. expected, if not nil, are the segments that the store knows in this place.
// tell, if not nil, is told how many segments were read. What is wrong is in the report;
// the error says that it could not be found out.
func Verify(ctx context.Context, place Source, keys Keys, kept []Checkpoint, expected []etcdlog.Segment, tell func(int)) (*Report, error) {
	v := &verifier{place: place, keys: keys, report: &Report{Origin: keys.Origin, Findings: []Finding{}}, borders: map[int64]tlog.Hash{}, within: map[int64]tlog.Hash{}}
	v.borders[0], _ = (&Tree{}).root()
	for _, c := range kept {
		v.within[c.Size] = tlog.Hash{}
	}
	names, err := place.List(ctx)
	if err != nil {
		return nil, err
	}
	if err := v.forgotten(ctx, names, expected); err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := v.file(ctx, name, names, expected); err != nil {
			return nil, err
		}
		if tell != nil {
			tell(v.report.Segments)
		}
	}
	if b := v.border; b != nil && v.report.Last < b.head.Last {
		v.note(b.file(), "the log was forgotten up to revision %d, and the checkpoints of what was end with revision %d", b.head.Last, v.report.Last)
	}
	v.missing(names, expected)
	for _, c := range kept {
		v.remember(c)
	}
	slices.SortStableFunc(v.report.Findings, func(a, b Finding) int { return cmp.Compare(a.File, b.File) })
	return v.report, nil
}

type verifier struct {
	place   Source
	keys    Keys
	report  *Report
	borders map[int64]tlog.Hash // the roots between segments, by the trees' sizes
	within  map[int64]tlog.Hash // the roots at the sizes of kept checkpoints, where these lie within segments
	before  string              // the file of the last segment
	border  *residue            // up to where segments may be missing; nil: none may
}

func (v *verifier) note(file, format string, args ...any) {
	v.report.Findings = append(v.report.Findings, Finding{file, fmt.Sprintf(format, args...)})
}

// file looks at one file of the archive.
func (v *verifier) file(ctx context.Context, name string, names []string, expected []etcdlog.Segment) error {
	switch {
	case strings.HasPrefix(name, "."):
		return nil // one that was not put there whole
	case strings.HasSuffix(name, checkpointSuffix):
		if of := strings.TrimSuffix(name, checkpointSuffix) + segmentSuffix; !slices.Contains(names, of) {
			return v.skip(ctx, name, of, expected)
		}
		return nil
	case isResidue(name):
		return nil // see forgotten
	case strings.HasPrefix(name, residuePrefix) && strings.HasSuffix(name, noteSuffix):
		return nil // as well; without its residue it is one that is being deleted
	case !strings.HasSuffix(name, segmentSuffix):
		v.note(name, "it is no segment and no checkpoint: nobody who archives has put it there")
		return nil
	}
	content, err := readAll(ctx, v.place, name)
	if err != nil {
		return err
	}
	v.report.Segments++
	stated, signed, err := v.statement(ctx, name, names)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	h, wrong := prove(content, v.within)
	switch {
	case wrong != nil:
		v.note(name, "%v", wrong)
	case signed && stated.SHA256 != sum:
		v.note(name, "a byte of the file was changed, though its commits are what was sealed")
	case signed && (stated.Size != h.After.Size || stated.Root != h.After.Root || stated.Origin != h.Origin):
		v.note(name, "it is not the segment that its checkpoint was made for")
	case name != fileOf(h, sum):
		v.note(name, "it has the name of another file")
	}
	if expected != nil && wrong == nil {
		v.expect(name, h, expected)
	}
	v.chain(name, h, wrong == nil)
	return nil
}

// statement is the checkpoint of a segment; signed says that there is one to be held
// against.
func (v *verifier) statement(ctx context.Context, name string, names []string) (c Checkpoint, signed bool, err error) {
	file := checkpointOf(name)
	if v.keys.Verifiers == nil {
		return c, false, nil
	}
	if !slices.Contains(names, file) {
		v.note(file, "the checkpoint of %s is missing: nobody has signed that segment", name)
		return c, false, nil
	}
	text, err := readAll(ctx, v.place, file)
	if err != nil {
		return c, false, err
	}
	switch c, err = openCheckpoint(text, v.keys); {
	case err != nil:
		v.note(file, "%v", err)
	case c.Origin != v.keys.Origin || c.File != name:
		v.note(file, "it is the checkpoint of %s of %s", c.File, c.Origin)
	default:
		return c, true, nil
	}
	return c, false, nil
}

// chain holds the beginning of a segment against the end of the one before.
func (v *verifier) chain(name string, h head, whole bool) {
	if h.First == 0 {
		return // nothing of it could be read
	}
	r := v.report
	switch {
	case h.Before.Size == r.Size && h.First == r.Last+1:
		if root := v.borders[r.Size]; h.Before.Root != root {
			v.note(name, "it does not go on from %s: the tree before it is another", cmp.Or(v.before, "an empty log"))
		}
	case h.Before.Size > r.Size:
		v.note(name, "%d commits between revision %d and %d are missing before it: a segment was removed", h.Before.Size-r.Size, r.Last+1, h.First-1)
	default:
		v.note(name, "it begins with revision %d, and %s ends with revision %d: one of them was inserted", h.First, v.before, r.Last)
	}
	if !whole {
		// What follows is held against what its head says, which a checkpoint has signed.
		v.note(name, "what follows it can be verified, what is in it cannot")
	}
	if r.First == 0 {
		r.First, r.From = h.First, h.From
	}
	r.Last, r.Size, r.Root, v.before = h.Last, h.After.Size, h.After.Root, name
	r.Commits += h.Commits
	if h.To.After(r.To) {
		r.To = h.To
	}
	v.borders[r.Size] = r.Root
}

// expect holds a segment against what the store knows of it.
func (v *verifier) expect(name string, h head, expected []etcdlog.Segment) {
	n := slices.IndexFunc(expected, func(s etcdlog.Segment) bool { return s.File == name })
	switch {
	case n < 0:
		v.note(name, "the store does not know it: it was inserted, or sealed after the store was backed up")
	case expected[n].After.Root != h.After.Root || expected[n].First != h.First || expected[n].Last != h.Last:
		v.note(name, "it is not the segment that the store knows under this name")
	}
}

// missing are the segments that the store knows and the archive has not.
func (v *verifier) missing(names []string, expected []etcdlog.Segment) {
	for _, s := range expected {
		if !slices.Contains(names, s.File) && !slices.Contains(names, checkpointOf(s.File)) {
			v.note(s.File, "the segment was removed: the store knows of it (revision %d to %d)", s.First, s.Last)
		}
	}
}

// remember holds the archive against a checkpoint that somebody has kept.
func (v *verifier) remember(c Checkpoint) {
	// One that was signed and whose segment was not sealed after all may lie within a segment.
	root, border := v.borders[c.Size]
	if !border {
		root = v.within[c.Size]
	}
	switch {
	case c.Origin != v.keys.Origin:
		v.note(c.File, "the checkpoint that was kept is of %s", c.Origin)
	case c.Size > v.report.Size:
		v.note(c.File, "the checkpoint that was kept tells of %d commits, and the archive ends after %d: segments at its end were removed", c.Size, v.report.Size)
	case !border && v.border != nil && c.Size < v.border.head.Size:
		v.note(c.File, "the checkpoint that was kept, of the first %d commits, is of a segment that was forgotten, and cannot be held against anything", c.Size)
	case root != c.Root:
		v.note(c.File, "the checkpoint that was kept, of the first %d commits, contradicts this archive: they are not the same ones", c.Size)
	}
}

// ReadCheckpoint reads a checkpoint that somebody has kept.
func ReadCheckpoint(signed []byte, keys Keys) (Checkpoint, error) {
	c, err := openCheckpoint(signed, keys)
	return c, errors.Wrap(err, "read the checkpoint that was kept")
}
