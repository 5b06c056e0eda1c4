// SPDX-License-Identifier: Apache-2.0

// Package durable writes files that survive a power cut: after it there is what was there
// before, or all of what was written, and never a part.
package durable

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cockroachdb/errors"
)

// ErrPlace is returned where no file can be begun: there is no such directory, or it cannot
// be written.
var ErrPlace = errors.New("no file can be written there")

// Unfinished is a pattern for what processes that were killed have left of a file that they
// were replacing.
func Unfinished(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".*")
}

// Replace writes a file beside its place, and gives it its name once it is on the disk. On
// an error there is what was there before. It returns [ErrPlace], and what write returns.
func Replace(path string, mode fs.FileMode, write func(io.Writer) error) (err error) {
	pattern := Unfinished(path)
	f, err := os.CreateTemp(filepath.Dir(pattern), filepath.Base(pattern)) // readable by its owner alone
	if err != nil {
		return errors.Mark(errors.Wrapf(err, "write %s", path), ErrPlace)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	err = write(f)
	if err == nil {
		err = errors.Wrapf(errors.CombineErrors(f.Chmod(mode), f.Sync()), "write %s", path)
	}
	err = errors.CombineErrors(err, errors.Wrapf(f.Close(), "write %s", path))
	if err == nil {
		err = errors.Wrapf(os.Rename(f.Name(), path), "write %s", path)
	}
	if err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// WriteFile replaces a file by one with this content: see [Replace].
func WriteFile(path string, content []byte, mode fs.FileMode) error {
	return Replace(path, mode, func(w io.Writer) error {
		_, err := w.Write(content)
		return errors.Wrapf(err, "write %s", path)
	})
}

// SyncDir makes the names in a directory last: those of files that are new, renamed or
// deleted.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return errors.Wrap(err, "open a directory")
	}
	return errors.CombineErrors(errors.Wrapf(d.Sync(), "write the directory %s", dir), d.Close())
}
