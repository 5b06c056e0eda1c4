// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// Forgetter deletes the beginning of an archive, segment by segment, so that what is left
// still reads and proves itself. In the place of what it deletes it puts a residue: of
// each commit the events that the state at the border rests on, and no others. Not safe
// for concurrent use; several, and archivers beside them, do each other no harm.
type Forgetter struct {
	Log   *etcdlog.Log
	Store events.ID
	Key   Key
	// Shelf is where segments are read; with its Instead, where they are deleted, too.
	Shelf *Shelf
}

// Plan lists the segments that would be forgotten: those of which everything happened
// before a moment, by the log's running time, and that are not in the store any more.
func (f *Forgetter) Plan(ctx context.Context, before time.Time) ([]etcdlog.Segment, error) {
	segments, err := f.Log.Segments(ctx)
	if err != nil {
		return nil, err
	}
	var list []etcdlog.Segment
	for _, s := range segments {
		if s.State == etcdlog.Removed && s.Running.Before(before) {
			list = append(list, s)
		} else if s.State != etcdlog.Forgotten {
			break
		}
	}
	return list, nil
}

// Run forgets what is of before a moment. First it ends what was begun before and not
// ended. It may be stopped at any moment, and begun again. tell, if not nil, is told of
// the segments that everybody has forgotten from then on.
func (f *Forgetter) Run(ctx context.Context, before time.Time, tell func([]etcdlog.Segment)) error {
	for {
		// Under a claim nothing is touched but what earlier claims have put there: what of
		// theirs is in no record by now never will be.
		claim, err := f.Log.ClaimArchive(ctx)
		if err != nil {
			return err
		}
		segments, err := f.Log.Segments(ctx)
		if err != nil {
			return err
		}
		found, err := f.sweep(ctx, claim, segments)
		if err != nil {
			return err
		}
		var gone []etcdlog.Segment
		if found == nil {
			if gone, err = f.next(ctx, before); err != nil || len(gone) == 0 {
				return err
			}
			found, err = f.keep(ctx, claim, segments, gone[len(gone)-1].Last)
		}
		if err == nil {
			// What became of it may be unknown: then the next one sweeps.
			err = f.Log.Forget(ctx, claim, upTo(segments, found.Last), *found)
		}
		if err != nil {
			return err
		}
		if tell != nil {
			tell(gone)
		}
	}
}

// next lists what is forgotten in one step.
func (f *Forgetter) next(ctx context.Context, before time.Time) ([]etcdlog.Segment, error) {
	plan, err := f.Plan(ctx, before)
	return plan[:min(len(plan), etcdlog.MostForgotten)], err
}

// upTo is the segments up to a revision.
func upTo(segments []etcdlog.Segment, last int64) []etcdlog.Segment {
	n, _ := slices.BinarySearchFunc(segments, last+1, func(s etcdlog.Segment, first int64) int { return cmp.Compare(s.First, first) })
	return segments[:n]
}

// keep puts a residue of the segments up to a revision into the archive, where the last
// of them is.
func (f *Forgetter) keep(ctx context.Context, claim etcdlog.Claim, segments []etcdlog.Segment, last int64) (*etcdlog.Residue, error) {
	segments = upTo(segments, last)
	border := segments[len(segments)-1]
	place, err := f.Shelf.place(border)
	if err != nil {
		return nil, err
	}
	made, err := f.make(ctx, claim, segments)
	if err != nil {
		return nil, err
	}
	signed, err := made.sign(f.Key)
	if err != nil {
		return nil, err
	}
	record := made.record(border.Place)
	if err := place.Put(ctx, record.File, made.content); err != nil {
		return nil, err
	}
	if err := place.Put(ctx, noteOf(record.File), signed); err != nil {
		return nil, err
	}
	left := border
	left.State, left.File, left.SHA256 = etcdlog.Forgotten, record.File, record.SHA256
	err = f.Shelf.Read(ctx, left, func(etcdlog.RawCommit) error { return nil })
	if errors.Is(err, ErrNotThere) {
		return nil, etcdlog.ErrOvertaken // who has claimed since took it for left over
	}
	return &record, errors.Wrapf(err, "read back %s", record.File)
}

// make reads segments, with what is left of those that were forgotten before, and makes a
// residue of them.
func (f *Forgetter) make(ctx context.Context, claim etcdlog.Claim, segments []etcdlog.Segment) (residue, error) {
	border := segments[len(segments)-1]
	rest := newRemnant()
	for _, s := range etcdlog.Readable(segments) {
		if err := f.Shelf.Read(ctx, s, rest.add); err != nil {
			return residue{}, err
		}
		if s.State != etcdlog.Forgotten {
			continue
		}
		missing, err := f.Shelf.Missing(ctx, s)
		if err != nil {
			return residue{}, err
		}
		rest.lack(missing)
	}
	commits, missing, err := rest.left()
	if err != nil {
		return residue{}, err
	}
	return packResidue(residueHead{
		Origin: Origin(f.Store, segments), Store: f.Store, Claim: claim.Number, Last: border.Last, Running: border.Running,
		Missing: missing, Size: border.After.Size, Root: border.After.Root,
	}, commits)
}

// sweep deletes the files of what was forgotten, and residues of earlier claims that are
// in no record. Checkpoints stay: they say nothing but that there was something. If a
// residue is in no record though segments before it are gone, as where the store was
// restored from a backup of before, that is returned: it is all that is left.
func (f *Forgetter) sweep(ctx context.Context, claim etcdlog.Claim, segments []etcdlog.Segment) (found *etcdlog.Residue, err error) {
	seen := map[string]bool{}
	for _, s := range segments {
		place, err := f.Shelf.place(s)
		if err != nil {
			return nil, err
		}
		if seen[place.String()] {
			continue
		}
		seen[place.String()] = true
		names, err := place.List(ctx)
		if errors.Is(err, ErrNotThere) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			needless := slices.ContainsFunc(segments, func(s etcdlog.Segment) bool { return s.State == etcdlog.Forgotten && s.File == name })
			if file, last, number, is := residueOf(name); is && number < claim.Number && (segments[0].Residue == nil || segments[0].Residue.File != file) {
				if !f.replaces(segments, last, names) {
					needless = true
				} else if name == file {
					if found, err = f.adopt(ctx, place, s.Place, file, segments, last); err != nil {
						return nil, err
					}
				}
			}
			if !needless {
				continue
			}
			if err := place.Delete(ctx, name); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// replaces says whether a residue up to a revision stands for segments that are not there.
func (f *Forgetter) replaces(segments []etcdlog.Segment, last int64, names []string) bool {
	return slices.ContainsFunc(upTo(segments, last), func(s etcdlog.Segment) bool {
		return s.State == etcdlog.Removed && !slices.Contains(names, s.File)
	})
}

// adopt returns the record of a residue that is in none, if it is one of this log.
func (f *Forgetter) adopt(ctx context.Context, place Place, where, file string, segments []etcdlog.Segment, last int64) (*etcdlog.Residue, error) {
	content, err := readAll(ctx, place, file)
	if err != nil {
		return nil, err
	}
	signed, err := readAll(ctx, place, noteOf(file))
	if err != nil {
		return nil, err
	}
	r, err := unpackResidue(content, func(etcdlog.RawCommit) error { return nil })
	if err == nil {
		var keys Keys
		if keys, err = ParseKeys(f.Key.Public); err == nil {
			err = openResidue(signed, keys, r)
		}
	}
	if err != nil {
		return nil, errors.Wrapf(err, "take over %s in %s, which stands for segments that are gone", file, place)
	}
	border := upTo(segments, last)
	if end := border[len(border)-1]; r.head.Last != end.Last || r.head.Size != end.After.Size || r.head.Root != end.After.Root {
		return nil, errors.Newf("%s in %s is not what is left of this log: put back the segments before revision %d", file, place, last)
	}
	record := r.record(where)
	return &record, nil
}
