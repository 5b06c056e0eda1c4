// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"cmp"
	"context"
	"math"
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
	// Shelf is where segments are read, and deleted.
	Shelf *Shelf
}

// Plan lists the segments that would be forgotten: those of which everything happened
// before a moment, by the log's running time, and that are not in the store any more.
func (f *Forgetter) Plan(ctx context.Context, before time.Time) ([]etcdlog.Segment, error) {
	segments, err := f.Log.Segments(ctx)
	return planned(segments, before), err
}

func planned(segments []etcdlog.Segment, before time.Time) []etcdlog.Segment {
	var list []etcdlog.Segment
	for _, s := range segments {
		if s.State == etcdlog.Removed && s.Running.Before(before) {
			list = append(list, s)
		} else if s.State != etcdlog.Forgotten {
			break
		}
	}
	return list
}

// Run forgets what is of before a moment. First it ends what was begun before and not
// ended. It may be stopped at any moment, and begun again. tell, if not nil, is told of
// the segments that everybody has forgotten from then on. It returns
// [etcdlog.ErrOvertaken] when somebody else archives or forgets meanwhile.
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
		left, err := f.sweep(ctx, claim, segments)
		if err != nil {
			return err
		}
		var gone []etcdlog.Segment
		if left == nil {
			if gone = planned(segments, before); len(gone) == 0 {
				return nil
			}
			left, err = f.keep(ctx, claim, segments, gone[len(gone)-1].Last)
		}
		if err == nil {
			// What became of it may be unknown: then the next one sweeps.
			err = f.Log.Forget(ctx, claim, upTo(segments, left.Last), *left)
		}
		if err != nil {
			return err
		}
		if tell != nil {
			tell(gone)
		}
	}
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
	err = place.Put(ctx, record.File, made.content)
	if err == nil {
		err = place.Put(ctx, noteOf(record.File), signed)
	}
	if err == nil {
		left := border
		left.State, left.File, left.SHA256 = etcdlog.Forgotten, record.File, record.SHA256
		err = f.Shelf.Read(ctx, left, func(etcdlog.RawCommit) error { return nil })
	}
	if errors.Is(err, ErrNotThere) {
		return nil, etcdlog.ErrOvertaken // who has claimed since took it for left over
	}
	return &record, errors.Wrapf(err, "put %s into the archive", record.File)
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

// room is a place where segments were put, and what is there.
type room struct {
	Place
	where string // as records name it
	names []string
}

// rooms looks into the places of segments. One that is not there is left out.
func (f *Forgetter) rooms(ctx context.Context, segments []etcdlog.Segment) ([]room, error) {
	var rooms []room
	seen := map[string]bool{}
	for _, s := range segments {
		if seen[s.Place] {
			continue
		}
		seen[s.Place] = true
		place, err := f.Shelf.place(s)
		if err != nil {
			return nil, err
		}
		names, err := place.List(ctx)
		if errors.Is(err, ErrNotThere) {
			continue
		}
		if err != nil {
			return nil, err
		}
		rooms = append(rooms, room{place, s.Place, names})
	}
	return rooms, nil
}

// sweep deletes the files of what was forgotten, and residues that are in no record and
// never will be. Checkpoints stay: they say nothing but that there was something. If
// segments are gone that the store takes for there, as where it was restored from a backup
// of before, the residue that stands for them is returned: it is all that is left.
func (f *Forgetter) sweep(ctx context.Context, claim etcdlog.Claim, segments []etcdlog.Segment) (*etcdlog.Residue, error) {
	rooms, err := f.rooms(ctx, segments)
	if err != nil {
		return nil, err
	}
	// Who forgets leaves the checkpoints; a place without these is only not the right one.
	gone := int64(0) // up to which revision
	for _, r := range rooms {
		for _, s := range segments {
			if s.Place == r.where && s.State == etcdlog.Removed && !slices.Contains(r.names, s.File) && slices.Contains(r.names, checkpointOf(s.File)) {
				gone = max(gone, s.Last)
			}
		}
		if left := segments[0].Residue; left != nil && left.Place == r.where && !slices.Contains(r.names, left.File) {
			gone = max(gone, left.Last)
		}
	}
	if gone > 0 {
		return f.standIn(ctx, rooms, segments, gone)
	}
	for _, r := range rooms {
		for _, name := range r.names {
			needless, err := f.needless(ctx, r, name, claim, segments)
			if err == nil && needless {
				err = r.Delete(ctx, name)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return nil, nil
}

// needless says whether a file can be deleted, where no segment is gone that a residue might
// stand for.
func (f *Forgetter) needless(ctx context.Context, r room, name string, claim etcdlog.Claim, segments []etcdlog.Segment) (bool, error) {
	if number, is := unfinishedOf(name); is {
		return number < claim.Number, nil
	}
	file, _, number, is := residueOf(name)
	if !is {
		return slices.ContainsFunc(segments, func(s etcdlog.Segment) bool {
			return s.State == etcdlog.Forgotten && s.Place == r.where && s.File == name
		}), nil
	}
	if segments[0].Residue != nil && segments[0].Residue.File == file {
		return false, nil
	}
	content, err := readAll(ctx, r, file)
	if errors.Is(err, ErrNotThere) {
		return number < claim.Number, nil // a note without its residue
	}
	if err != nil {
		return false, err
	}
	made, err := unpackResidue(content, nil)
	if err != nil || made.head.Origin != Origin(f.Store, segments) {
		return false, nil //nolint:nilerr // nobody knows whose it is, or it is another log's
	}
	// The claims of a store that this one was restored from may have come further.
	return number < claim.Number || made.head.Store != f.Store, nil
}

// standIn finds the residue that stands for the segments up to a revision and for as
// little more as can be; nil: there is none.
func (f *Forgetter) standIn(ctx context.Context, rooms []room, segments []etcdlog.Segment, gone int64) (*etcdlog.Residue, error) {
	var in room
	var file string
	least := int64(math.MaxInt64)
	for _, r := range rooms {
		for _, name := range r.names {
			of, last, _, is := residueOf(name)
			recorded := segments[0].Residue != nil && segments[0].Residue.File == of
			if is && name == of && !recorded && last >= gone && last < least && slices.Contains(r.names, noteOf(of)) {
				in, file, least = r, of, last
			}
		}
	}
	if file == "" {
		return nil, nil
	}
	return f.adopt(ctx, in, file, segments, least)
}

// adopt returns the record of a residue that is in none, if it is one of this log.
func (f *Forgetter) adopt(ctx context.Context, in room, file string, segments []etcdlog.Segment, last int64) (*etcdlog.Residue, error) {
	content, err := readAll(ctx, in, file)
	if err != nil {
		return nil, err
	}
	signed, err := readAll(ctx, in, noteOf(file))
	if err != nil {
		return nil, err
	}
	r, err := unpackResidue(content, nil)
	if err == nil {
		var keys Keys
		if keys, err = ParseKeys(f.Key.Public); err == nil {
			err = openResidue(signed, keys, r)
		}
	}
	if err != nil {
		return nil, errors.Wrapf(err, "take over %s in %s, which stands for segments that are gone", file, in)
	}
	border := upTo(segments, last)
	if n := slices.IndexFunc(border, func(s etcdlog.Segment) bool { return s.State != etcdlog.Removed && s.State != etcdlog.Forgotten }); n >= 0 {
		return nil, errors.Newf("%s in %s stands for segments that are gone, of which %s (revision %d to %d) was not out of the store yet when this was backed up: restore a later backup", file, in, border[n].File, border[n].First, border[n].Last)
	}
	if end := border[len(border)-1]; r.head.Last != end.Last || r.head.Size != end.After.Size || r.head.Root != end.After.Root {
		return nil, errors.Newf("%s in %s is not what is left of this log: put back the segments before revision %d", file, in, last)
	}
	record := r.record(in.where)
	return &record, nil
}
