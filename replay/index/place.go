// SPDX-License-Identifier: Apache-2.0

package index

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
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
	// The directory above is not ours to make.
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !os.IsExist(err) {
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
