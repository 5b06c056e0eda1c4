// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/durable"
)

// directory is a place on this machine. What is in it tells who held which address, so
// that its owner alone can read it.
type directory string

func (d directory) String() string { return string(d) }

func (d directory) path(name string) string { return filepath.Join(string(d), name) }

// Put implements [Place].
func (d directory) Put(_ context.Context, name string, content []byte) error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return errors.Wrap(err, "make the archive's directory")
	}
	err := durable.WriteFile(d.path(name), content, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.Mark(err, ErrNotThere)
	}
	return err
}

// Get implements [Place].
func (d directory) Get(_ context.Context, name string) (io.ReadCloser, error) {
	f, err := os.Open(d.path(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.Mark(errors.Newf("there is no %s", d.path(name)), ErrNotThere)
	case err != nil:
		return nil, errors.Wrap(err, "open a file of the archive")
	}
	return f, nil
}

// Delete implements [Place].
func (d directory) Delete(_ context.Context, name string) error {
	err := os.Remove(d.path(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return errors.Wrap(err, "delete a file of the archive")
	}
	return durable.SyncDir(string(d))
}

// List implements [Place].
func (d directory) List(context.Context) ([]string, error) {
	entries, err := os.ReadDir(string(d)) // sorted
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.Mark(errors.Newf("there is no archive in %s", d), ErrNotThere)
	case err != nil:
		return nil, errors.Newf("the archive cannot be read: %v", err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
