// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"bufio"
	"context"
	"io"
	"io/fs"
	"os"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/durable"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// ErrExists is returned by [Free] and [Save] for a file that is there already.
var ErrExists = errors.New("the file exists")

// Free says whether a backup may be written to a path: not over another file, unless
// that is meant, and never over something that is no file. It returns [ErrExists].
func Free(path string, replace bool) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return errors.Newf("the backup cannot be written there, name another file: %v", err)
	case !info.Mode().IsRegular():
		return errors.Mark(errors.Newf("%s is no file that could be replaced: name another", path), ErrExists)
	case !replace:
		return errors.Mark(errors.Newf("%s exists: name another file, or replace it with --force", path), ErrExists)
	}
	return nil
}

// Save writes a backup of a snapshot into a file that its owner alone can read. The
// file is on the disk, whole, when Save returns; on an error there is none, or what was
// there before.
func Save(ctx context.Context, path string, replace bool, s *etcdlog.Snapshot, h Header) (summary Summary, err error) {
	if err := Free(path, replace); err != nil {
		return Summary{}, err
	}
	err = durable.Replace(path, 0o600, func(w io.Writer) error {
		out := bufio.NewWriterSize(w, 1<<20)
		if summary, err = Write(ctx, out, s, h); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return errors.Wrap(err, "write the backup")
		}
		return Free(path, replace) // it took a while
	})
	if errors.Is(err, durable.ErrPlace) {
		return Summary{}, errors.Newf("the backup cannot be written there, name another file: %v", err)
	}
	if err != nil {
		return Summary{}, err
	}
	return summary, nil
}

// open opens a backup to be read more than once.
func open(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err == nil {
		var info fs.FileInfo
		if info, err = f.Stat(); err == nil && !info.Mode().IsRegular() {
			err = errors.Newf("%s is no file that can be read twice", path)
		}
	}
	if err != nil {
		return nil, errors.Newf("the backup cannot be read, name another file: %v", err)
	}
	return f, nil
}
