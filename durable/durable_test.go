// SPDX-License-Identifier: Apache-2.0

package durable_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/durable"
)

// TestReplace: a file is there whole, with its mode, or as it was, and nothing beside it.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	full := errors.New("full")
	for _, step := range []struct {
		write string
		fails error
		want  string
	}{{"one", full, ""}, {"one", nil, "one"}, {"two", full, "one"}, {"two", nil, "two"}} {
		err := durable.Replace(path, 0o640, func(w io.Writer) error {
			if _, err := io.WriteString(w, step.write); err != nil {
				return err
			}
			return step.fails
		})
		if !errors.Is(err, step.fails) {
			t.Errorf("%v, want %v", err, step.fails)
		}
		is, _ := os.ReadFile(path)
		if string(is) != step.want {
			t.Errorf("there is %q, want %q", is, step.want)
		}
		info, err := os.Stat(path)
		if step.want != "" && (err != nil || info.Mode().Perm() != 0o640) {
			t.Errorf("%v %v", info, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if err := durable.Replace(filepath.Join(dir, "none", "f"), 0o600, func(io.Writer) error { return nil }); !errors.Is(err, durable.ErrPlace) {
		t.Errorf("it was written where there is no directory: %v", err)
	}
}
