// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"io"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// Restore makes a log of a backup, below the prefix of log, where there must be
// nothing, or what an unfinished restore has left. Nothing is written before the whole
// file was found to be good. now is what the store will say that it was restored at.
// progress, if not nil, is told how many of how many keys are there.
//
// It returns [ErrNoBackup], [ErrDamaged], [ErrNewer] or etcdlog's ErrNotEmpty.
func Restore(ctx context.Context, log *etcdlog.Log, path string, now time.Time, progress func(done, of int)) (etcdlog.Store, Summary, error) {
	f, err := open(path)
	if err != nil {
		return etcdlog.Store{}, Summary{}, err
	}
	defer func() { _ = f.Close() }()
	checked, err := Read(f, func(Line) error { return ctx.Err() })
	if err != nil {
		return etcdlog.Store{}, Summary{}, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return etcdlog.Store{}, Summary{}, errors.Wrap(err, "read the backup again")
	}
	r, err := log.Restore(ctx, etcdlog.Origin{Store: checked.Store.ID, Revision: checked.Revision, Time: now.UTC().Truncate(time.Second)})
	if err != nil {
		return etcdlog.Store{}, Summary{}, err
	}
	done, of := 0, checked.Commits+checked.Heads+checked.Guards
	written, err := Read(f, func(l Line) error {
		done++
		if progress != nil {
			progress(done, of)
		}
		return put(ctx, r, l)
	})
	if err == nil && written != checked {
		err = errors.Wrap(ErrDamaged, "the file changed while it was read")
	}
	if errors.Is(err, events.ErrMalformed) {
		err = errors.Mark(errors.Newf("the backup holds what no log can: %v", err), ErrDamaged)
	}
	if err != nil {
		return etcdlog.Store{}, Summary{}, err
	}
	identity, err := r.Finish(ctx, checked.Store)
	return identity, checked, err
}

func put(ctx context.Context, r *etcdlog.Restoration, l Line) error {
	switch l.kind() {
	case isCommit:
		return r.Commit(ctx, etcdlog.RawCommit{Revision: l.Revision, Stream: l.Stream, ID: l.ID, Value: l.Commit})
	case isHead:
		return r.Head(ctx, l.Head, etcdlog.Head{Commits: l.Commits, Revision: l.Revision})
	default:
		return r.Guard(ctx, etcdlog.RawGuard{Key: l.Key, Value: l.Value})
	}
}
