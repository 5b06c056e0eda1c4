// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"context"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// ErrNotThere is returned for a file that a place does not have, or a directory that does
// not exist.
var ErrNotThere = errors.New("the archive does not have it")

// Source is where segments are read. Safe for concurrent use.
type Source interface {
	// Get opens a file. It returns [ErrNotThere].
	Get(ctx context.Context, name string) (io.ReadCloser, error)
	// List lists the names of all files, sorted. It returns [ErrNotThere] for a directory
	// that does not exist.
	List(ctx context.Context) ([]string, error)
	// String is the place as [OpenPlace] takes it.
	String() string
}

// Place is where segments are kept: a directory, or a bucket of an object store. Safe
// for concurrent use.
type Place interface {
	Source
	// Put keeps a file whole, and so that it survives a power cut. One of this name is
	// replaced. It returns [ErrNotThere] if somebody has cleared the file away while it was
	// being written.
	Put(ctx context.Context, name string, content []byte) error
	// Delete deletes a file. That it is not there is no error.
	Delete(ctx context.Context, name string) error
}

// OpenPlace returns the place of a name: an absolute directory, or s3://BUCKET/PREFIX.
// Nothing is looked at yet.
func OpenPlace(name string) (Place, error) {
	switch {
	case strings.HasPrefix(name, bucketScheme):
		return openBucket(name)
	case strings.Contains(name, "://"):
		return nil, errors.Newf("%q is no place for segments: give a directory, or s3://BUCKET/PREFIX", name)
	case !strings.HasPrefix(name, "/"):
		return nil, errors.Newf("%q is no absolute directory: give its whole path, because other programs look for segments there", name)
	}
	return directory(filepath.Clean(name)), nil
}

// together are several places as one.
type together []Source

// Together is the places where segments are, as one; with a name: the one place of that
// name, wherever they were put. There are no files where there are no segments.
func Together(segments []etcdlog.Segment, instead string) (Source, error) {
	var names []string
	for _, s := range segments {
		if !slices.Contains(names, s.Place) {
			names = append(names, s.Place)
		}
	}
	if instead != "" {
		names = []string{instead}
	}
	var all together
	for _, name := range names {
		place, err := OpenPlace(name)
		if err != nil {
			return nil, err
		}
		all = append(all, place)
	}
	return all, nil
}

func (t together) String() string {
	names := make([]string, 0, len(t))
	for _, p := range t {
		names = append(names, p.String())
	}
	return strings.Join(names, " and ")
}

// Get implements [Source].
func (t together) Get(ctx context.Context, name string) (f io.ReadCloser, err error) {
	err = errors.Wrapf(ErrNotThere, "look for %s", name)
	for _, p := range t {
		if f, err = p.Get(ctx, name); !errors.Is(err, ErrNotThere) {
			break
		}
	}
	return f, err
}

// List implements [Source].
func (t together) List(ctx context.Context) ([]string, error) {
	var all []string
	for _, p := range t {
		names, err := p.List(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, names...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// readAll reads a file of a place.
func readAll(ctx context.Context, p Source, name string) ([]byte, error) {
	f, err := p.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(f)
	return content, errors.CombineErrors(errors.Wrapf(err, "read %s in %s", name, p), f.Close())
}
