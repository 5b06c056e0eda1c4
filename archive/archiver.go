// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

const (
	// MinimumAge is how old a commit is, by the log's own time, before it is sealed: no
	// transaction that was sent so long ago can still arrive.
	MinimumAge = time.Hour
	// segmentCommits and segmentBytes are how much a segment has, about: all of it is in
	// memory for a moment, in a daemon that has little.
	segmentCommits = 20_000
	segmentBytes   = 8 << 20
	// tasted is how many commits are taken at first, to see how large they are.
	tasted = 1000
	// removeTogether is how many commits are collected to be deleted.
	removeTogether = 1000
)

// Archiver moves the old part of a log into an archive. Several may be at it: the store
// says who was there first. Not safe for concurrent use.
type Archiver struct {
	Log   *etcdlog.Log
	Store events.ID
	Place Place
	Key   Key
	// Commits is how many a segment has, about; 0: as many as make a file of some megabytes.
	Commits int
	// Smallest is how many commits must be there, about, for any to be sealed; 0: one. Where
	// one has been old enough for as long as Patience, all that are go with it.
	Smallest int
	Patience time.Duration

	age    time.Duration // in the place of MinimumAge, in tests
	oldest *etcdlog.Oldest
	weight int // bytes a commit, of the last segment; 0: not known
}

// size is how many commits the next segment is to have.
func (a *Archiver) size() int {
	switch {
	case a.Commits > 0:
		return a.Commits
	case a.weight == 0:
		return tasted
	}
	return max(min(segmentBytes/a.weight, segmentCommits), 1)
}

// Progress is told of each segment when it was sealed, and again when it was removed
// from the store.
type Progress func(etcdlog.Segment)

// Run seals what is of before a moment, by the log's running time, segment by segment,
// and removes each from the store. First it ends what was begun before and not ended.
// It may be stopped at any moment, and begun again.
func (a *Archiver) Run(ctx context.Context, before time.Time, tell Progress) error {
	newest, err := a.Log.Newest(ctx)
	if err != nil {
		return err
	}
	if youngest := newest.Add(-cmp.Or(a.age, MinimumAge)); before.After(youngest) {
		before = youngest
	}
	a.oldest = a.Log.Oldest()
	for {
		segments, err := a.Log.Segments(ctx)
		if err != nil {
			return err
		}
		for i, s := range segments {
			if s.State == etcdlog.Removed || s.State == etcdlog.Forgotten {
				continue
			}
			if segments[i], err = a.remove(ctx, s, tell); err != nil {
				return err
			}
		}
		more, err := a.seal(ctx, segments, before, tell)
		if err != nil || !more {
			return err
		}
	}
}

// seal seals the next segment, and says whether there was anything to seal.
func (a *Archiver) seal(ctx context.Context, segments []etcdlog.Segment, before time.Time, tell Progress) (bool, error) {
	var last *etcdlog.Segment
	var reached etcdlog.Segment
	tree := &Tree{}
	if n := len(segments); n > 0 {
		last, reached = &segments[n-1], segments[n-1]
		var err error
		if tree, err = treeAt(last.After); err != nil {
			return false, errors.Wrapf(err, "go on behind segment %s", last.File)
		}
	}
	if worth, err := a.worth(ctx, before); err != nil || !worth {
		return false, err
	}
	tasting := a.Commits == 0 && a.weight == 0
	part, err := a.oldest.Next(ctx, reached.Last, reached.Running, before, a.size())
	if err != nil || len(part.Commits) == 0 {
		return false, err
	}
	a.weigh(part)
	if tasting {
		part, err = a.oldest.Next(ctx, reached.Last, reached.Running, before, a.size())
		if err != nil || len(part.Commits) == 0 { // another archiver was faster
			return false, err
		}
	}
	// Only who has something to seal claims: that ends what others have begun.
	claim, err := a.Log.ClaimArchive(ctx)
	if err != nil {
		return false, err
	}
	made, err := seal(Origin(a.Store, segments), a.Store, claim.Number, tree, reached.Last+1, part)
	if err != nil {
		return false, err
	}
	made.record.Place = a.Place.String()
	if err := a.clear(ctx, claim); err != nil {
		return false, err
	}
	err = a.keep(ctx, made)
	if errors.Is(err, ErrNotThere) {
		err = etcdlog.ErrOvertaken // who has claimed since took it for left over
	}
	var sealed etcdlog.Segment
	if err == nil {
		sealed, err = a.Log.Seal(ctx, claim, made.record, last)
	}
	if errors.Is(err, etcdlog.ErrOvertaken) {
		err = errors.CombineErrors(err, a.withdraw(ctx, made.record))
	}
	if err != nil {
		return false, err // if it is not known what became of it, the next archiver sees
	}
	if tell != nil {
		tell(sealed)
	}
	return true, nil
}

// worth says whether there is enough to seal.
func (a *Archiver) worth(ctx context.Context, before time.Time) (bool, error) {
	if a.Smallest == 0 {
		return true, nil
	}
	n, err := a.oldest.Count(ctx, before)
	if err != nil || n >= int64(a.Smallest) {
		return err == nil, err
	}
	n, err = a.oldest.Count(ctx, before.Add(-a.Patience))
	return n > 0, err
}

// weigh takes note of how large commits are.
func (a *Archiver) weigh(part etcdlog.Stretch) {
	a.weight = 0
	for _, c := range part.Commits {
		a.weight += len(c.Value)
	}
	a.weight = max(a.weight/len(part.Commits), 1)
}

// clear deletes what archivers have left that stopped before their segment was written
// down in the store. Under a claim it touches nothing but what earlier claims have put
// there: of that, what is not among the segments never will be. It refuses a place that
// has segments of another log, or commits of this one that are nowhere else.
func (a *Archiver) clear(ctx context.Context, claim etcdlog.Claim) error {
	segments, err := a.Log.Segments(ctx) // what earlier claims have sealed is among them now
	if err != nil {
		return err
	}
	names, err := a.Place.List(ctx)
	if err != nil && !errors.Is(err, ErrNotThere) {
		return err
	}
	for _, name := range names {
		if number, is := unfinishedOf(name); is && number < claim.Number {
			if err := a.Place.Delete(ctx, name); err != nil {
				return err
			}
		}
		left, is := segmentOf(name)
		if !is || slices.ContainsFunc(segments, func(s etcdlog.Segment) bool { return s.File == left.file }) {
			continue
		}
		if name != left.file && slices.Contains(names, left.file) {
			continue // the checkpoint goes with its segment
		}
		content, err := readAll(ctx, a.Place, name)
		if errors.Is(err, ErrNotThere) {
			continue // another archiver was faster
		}
		if err != nil {
			return err
		}
		needless, err := a.needless(ctx, name, left.claim < claim.Number, content, segments)
		if err == nil && needless {
			err = a.delete(ctx, left.file)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// needless says whether a segment, or a checkpoint without one, that is in no record can be
// deleted. earlier says that its claim was before ours, if it is one of this store.
func (a *Archiver) needless(ctx context.Context, name string, earlier bool, content []byte, segments []etcdlog.Segment) (bool, error) {
	origin, store := originOf(name, content)
	switch {
	case origin != Origin(a.Store, segments):
		return false, errors.Newf("%s in %s is not of this log: archive into another place, one for each log", name, a.Place)
	case !store.IsZero() && store != a.Store:
		return false, errors.Newf("%s in %s was put there by the store %s, from which this one was restored: delete it and its checkpoint if that store is gone for good, or archive into another place", name, a.Place, store)
	case !earlier:
		return false, nil // who has claimed since sees to it
	case strings.HasSuffix(name, checkpointSuffix):
		return true, nil
	}
	// Somebody may have deleted its record from the store, or the store was set back to what
	// it was before.
	lost, err := a.lost(ctx, content)
	switch {
	case err != nil:
		return false, errors.Wrapf(err, "look whether all of %s in %s, which is in no record, is elsewhere (or move it away)", name, a.Place)
	case lost != nil:
		return false, errors.Newf("%s in %s has commits of this log that are nowhere else, as the one at revision %d: the segment's record was deleted from the store, or the store is older than it; move the file and its checkpoint away, and keep them", name, a.Place, lost.Revision)
	}
	return true, nil
}

// lost returns a commit of a segment that neither the store nor a segment in its records
// has; nil: there is none.
func (a *Archiver) lost(ctx context.Context, content []byte) (*etcdlog.RawCommit, error) {
	commits, err := commitsOf(content)
	if err != nil {
		return nil, err
	}
	lacking, err := a.Log.Lacks(ctx, commits)
	if err != nil {
		return nil, err
	}
	segments, err := a.Log.Segments(ctx) // since what the store lacks now may have been archived just before
	for _, s := range segments {
		if err != nil || len(lacking) == 0 {
			break
		}
		lacking, err = a.besides(ctx, lacking, s)
	}
	if err != nil || len(lacking) == 0 {
		return nil, err
	}
	return &lacking[0], nil
}

// besides returns those of some commits, in their order, that a segment does not have. What
// was forgotten is missed by nobody.
func (a *Archiver) besides(ctx context.Context, commits []etcdlog.RawCommit, s etcdlog.Segment) ([]etcdlog.RawCommit, error) {
	if s.Last < commits[0].Revision || s.First > commits[len(commits)-1].Revision {
		return commits, nil
	}
	if s.State == etcdlog.Forgotten {
		return slices.DeleteFunc(commits, func(c etcdlog.RawCommit) bool { return c.Revision <= s.Last }), nil
	}
	content, err := (&Shelf{}).content(ctx, s)
	if err != nil {
		return nil, err
	}
	has, err := commitsOf(content)
	known := map[events.ID]int64{}
	for _, c := range has {
		known[c.ID] = c.Revision
	}
	return slices.DeleteFunc(commits, func(c etcdlog.RawCommit) bool { return known[c.ID] == c.Revision }), err
}

// commitsOf are the commits of a segment, in their order.
func commitsOf(content []byte) (commits []etcdlog.RawCommit, err error) {
	err = unpack(content, nil, func(_ []byte, c etcdlog.RawCommit) error {
		commits = append(commits, c)
		return nil
	})
	return commits, err
}

// originOf is the tree that a segment or a checkpoint says it is of, "" for one that cannot
// be read; and the store that made it, which a checkpoint does not say.
func originOf(name string, content []byte) (origin string, store events.ID) {
	if strings.HasSuffix(name, checkpointSuffix) {
		origin, _, _ = strings.Cut(string(content), "\n")
		return origin, events.ID{}
	}
	_ = unpack(content, func(h head) error { origin, store = h.Origin, h.Store; return errStop }, nil) // what is behind its head does not matter
	return origin, store
}

// errStop ends the reading of a segment whose head was enough.
var errStop = errors.New("its head was enough")

// withdraw deletes a segment that the store refused to write down.
func (a *Archiver) withdraw(ctx context.Context, made etcdlog.Segment) error {
	segments, err := a.Log.Segments(ctx)
	if err != nil || slices.ContainsFunc(segments, func(s etcdlog.Segment) bool { return s.File == made.File }) {
		return err
	}
	return a.delete(ctx, made.File)
}

// delete deletes a segment's file, and its checkpoint before it.
func (a *Archiver) delete(ctx context.Context, file string) error {
	if err := a.Place.Delete(ctx, checkpointOf(file)); err != nil {
		return err
	}
	return a.Place.Delete(ctx, file)
}

// keep puts a segment and its checkpoint into the archive, and reads them again.
func (a *Archiver) keep(ctx context.Context, made segment) error {
	signed, err := made.checkpoint().sign(a.Key)
	if err != nil {
		return err
	}
	if err := a.Place.Put(ctx, made.record.File, made.content); err != nil {
		return err
	}
	if err := a.Place.Put(ctx, checkpointOf(made.record.File), signed); err != nil {
		return err
	}
	_, err = a.prove(ctx, made.record)
	return err
}

// checkpointOf is the name of the checkpoint after a segment.
func checkpointOf(file string) string {
	return strings.TrimSuffix(file, segmentSuffix) + checkpointSuffix
}

// prove reads a segment in the archive as whoever verifies it will, and returns its file.
func (a *Archiver) prove(ctx context.Context, s etcdlog.Segment) ([]byte, error) {
	content, err := (&Shelf{}).content(ctx, s)
	if err != nil {
		return nil, err
	}
	h, err := prove(content, nil)
	if err != nil {
		return nil, errors.Wrapf(err, "read back %s", s.File)
	}
	if h.After.Root != s.After.Root || h.Before.Root != s.Before.Root || h.Commits != s.Commits {
		return nil, errors.AssertionFailedf("%s is not the segment that was sealed", s.File)
	}
	return content, nil
}

// remove deletes a sealed segment's commits from the store, and returns its record then.
func (a *Archiver) remove(ctx context.Context, s etcdlog.Segment, tell Progress) (etcdlog.Segment, error) {
	content, err := a.prove(ctx, s)
	if err != nil {
		return s, err
	}
	if s.State == etcdlog.Sealed {
		if s, err = a.Log.BeginRemoval(ctx, s); err != nil {
			return s, err
		}
	}
	var some []etcdlog.RawCommit
	flush := func() error {
		err := a.Log.Remove(ctx, s, some)
		some = some[:0]
		return err
	}
	err = unpack(content, nil, func(_ []byte, c etcdlog.RawCommit) error {
		if some = append(some, c); len(some) < removeTogether {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return s, err
	}
	if s, err = a.Log.EndRemoval(ctx, s); err == nil && tell != nil {
		tell(s)
	}
	return s, err
}
