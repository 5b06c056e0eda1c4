// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// Backup is a file that was found to be whole. It is for one goroutine.
type Backup struct {
	Summary
	file *os.File
}

// Open reads a backup to its end, to know that it is good before anything is made for
// it. It returns [ErrNoBackup], [ErrDamaged] or [ErrNewer]. The caller closes it.
func Open(ctx context.Context, path string) (*Backup, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	summary, err := Read(f, func(Line) error { return ctx.Err() })
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &Backup{summary, f}, nil
}

// Close closes the file.
func (b *Backup) Close() error { return errors.Wrap(b.file.Close(), "close the backup") }

// Restore makes a log of the backup, below the prefix of log, where there must be
// nothing, or what an unfinished restore has left. now is what the store will say that
// it was restored at. progress, if not nil, is told how many of how many keys are there.
//
// It returns etcdlog's ErrNotEmpty or ErrNested, or [ErrDamaged] for a file that holds
// what no log can, or has changed meanwhile.
func (b *Backup) Restore(ctx context.Context, log *etcdlog.Log, now time.Time, progress func(done, of int)) (etcdlog.Store, error) {
	if _, err := b.file.Seek(0, io.SeekStart); err != nil {
		return etcdlog.Store{}, errors.Wrap(err, "read the backup again")
	}
	r, err := log.Restore(ctx, etcdlog.Origin{Store: b.Store.ID, Revision: b.Revision, Time: now.UTC().Truncate(time.Second)})
	if err != nil {
		return etcdlog.Store{}, err
	}
	done, of := 0, b.Commits+b.Heads+b.Guards
	written, err := Read(b.file, func(l Line) error {
		done++
		if progress != nil {
			progress(done, of)
		}
		return put(ctx, r, l)
	})
	if err == nil && written != b.Summary {
		err = errors.Wrap(ErrDamaged, "the file changed while it was read")
	}
	if errors.Is(err, events.ErrMalformed) {
		err = errors.Mark(errors.Newf("the backup holds what no log can: %v", err), ErrDamaged)
	}
	if err != nil {
		return etcdlog.Store{}, err
	}
	return r.Finish(ctx, b.Store)
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
