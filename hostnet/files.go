// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
)

// writeFile writes a configuration file, so that it is there as it was or as it
// is to be, never in between.
type writeFile struct {
	Path    string
	Content string
	Before  string // what it held
	New     bool   // it was not there
	what    string // as a line of the plan, where there is more to say
}

func (s *writeFile) String() string {
	if s.what != "" {
		return s.what
	}
	return "write " + s.Path
}

func (s *writeFile) do(_ context.Context, m *Machine) error { return m.write(s.Path, s.Content) }

func (s *writeFile) undo(_ context.Context, m *Machine) error {
	if !s.New {
		return m.write(s.Path, s.Before)
	}
	err := m.change("remove " + s.Path)
	if err == nil {
		err = os.Remove(filepath.Join(m.root, s.Path))
	}
	return errors.Wrap(err, "remove "+s.Path)
}

// write replaces a file in one go. It keeps the owner and mode of what was there.
func (m *Machine) write(path, content string) (err error) {
	what := "write " + path
	if err := m.change(what); err != nil {
		return errors.Wrap(err, what)
	}
	path = filepath.Join(m.root, path)
	mode := fs.FileMode(0o644)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	// A name that neither network scripts nor networkd take for one of theirs.
	f, err := os.CreateTemp(filepath.Dir(path), ".ipamlog-*")
	if err != nil {
		return errors.Wrap(err, what)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // a trace of what failed
		}
	}()
	_, err = f.WriteString(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return errors.Wrap(err, what)
}

// wantFile has a file hold a text, unless it is there. One that is there stays as
// somebody may have changed it since, if only these lines are in it.
func (p *planner) wantFile(path, content string, needed ...string) {
	have, ok := p.facts.Files[path]
	if !ok {
		p.add(&writeFile{Path: path, Content: content, New: true})
		return
	}
	for _, line := range needed {
		if !slices.Contains(strings.Fields(have), line) {
			p.refuse("%s exists and lacks %s: remove it, or choose --persist none", path, line)
			return
		}
	}
	if !slices.Equal(strings.Fields(have), strings.Fields(content)) {
		p.warn("%s is left as it is, and says something else than this would write", path)
	}
}

func (p *planner) persist() {
	switch p.wishes.Persist {
	case PersistIfcfg:
		p.persistIfcfg()
	case PersistNetworkd:
		p.persistNetworkd()
	case PersistNone, PersistAuto:
	default:
		p.refuse("%q is no way to persist: choose --persist ifcfg, networkd or none", string(p.wishes.Persist))
	}
}
