// SPDX-License-Identifier: Apache-2.0

package index

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/durable"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// unfinished is how long a file that is being written may take before another
// process takes it for one whose writer was killed.
const unfinished = time.Hour

// Dirs are where an index may be: in a data directory, or else in the user's own
// cache.
func Dirs(dataDir string) []string {
	dirs := []string{filepath.Join(dataDir, "index")}
	if cache, err := os.UserCacheDir(); err == nil {
		dirs = append(dirs, filepath.Join(cache, "ipamlog"))
	}
	return dirs
}

// file is the path of this log's index in a directory.
func (x *Index) file(dir string) string {
	name := x.store.String()
	if x.prefix != etcdlog.DefaultPrefix {
		sum := sha256.Sum256([]byte(x.prefix))
		name += "-" + hex.EncodeToString(sum[:8])
	}
	return filepath.Join(dir, name)
}

// asked is the path of the file whose time is when somebody asked last.
func (x *Index) asked(dir string) string { return x.file(dir) + ".asked" }

// age is how long ago a file was written; longer than anything for one that is not there.
func age(path string) time.Duration {
	info, err := os.Stat(path)
	if err != nil {
		return math.MaxInt64
	}
	return time.Since(info.ModTime())
}

// touch makes a file that has nothing in it, and is as old as this moment.
func touch(path string) error {
	if err := within(path); err != nil {
		return err
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	return os.Chtimes(path, time.Now(), time.Now())
}

// within makes the directory that a file is in. The one above that is not ours to make.
func within(path string) error {
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	return nil
}

// openFile opens an index, and says when it was written. It is closed when nobody
// reads it any more.
func openFile(path string) (*sealed, time.Time, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, errors.CombineErrors(err, f.Close())
	}
	s, err := unseal(f, info.Size())
	if err != nil {
		return nil, time.Time{}, errors.CombineErrors(err, f.Close())
	}
	return s, info.ModTime(), nil
}

// replaceFile writes a file whole, or leaves it as it was. It returns
// [durable.ErrPlace] where nothing can be written.
func replaceFile(path string, content func(io.Writer) error) error {
	if err := within(path); err != nil {
		return errors.Mark(err, durable.ErrPlace)
	}
	sweep(path)
	return durable.Replace(path, 0o600, content)
}

// sweep removes what writers that were killed have left.
func sweep(path string) {
	left, _ := filepath.Glob(durable.Unfinished(path)) // fails only for a bad pattern
	for _, name := range left {
		if info, err := os.Stat(name); err == nil && time.Since(info.ModTime()) > unfinished {
			remove(name)
		}
	}
}

// remove deletes a file; one that stays does no harm.
func remove(path string) { _ = os.Remove(path) }
