// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/errors"
	"golang.org/x/sys/unix"

	"github.com/ipamlog/ipamlog/events"
)

const (
	fileName    = "releases"
	damagedName = "damaged"
	lockName    = "lock"
	// roomy is how large the file may be, in bytes, before it is written anew for what
	// is done in it; then that is done once wasteful times as many lines of it say
	// nothing any more as do.
	roomy    = 256 << 10
	wasteful = 3
	// asideFor is how long a release that was set aside is listed, and asideMost how
	// many are.
	asideFor  = 30 * 24 * time.Hour
	asideMost = 1000
)

// Release is what Docker gave back: an address of a grant, or the grant itself with
// all that is held through it.
type Release struct {
	ID events.ID `json:"id"`
	// At is the moment Docker released, by this machine's clock.
	At time.Time `json:"at"`
	// Store and Prefix say whose log is meant. Store is zero where none was known
	// yet: it is the one this machine remembers.
	Store  events.ID `json:"store,omitzero"`
	Prefix string    `json:"prefix"`
	// Grant and what follows are what the PoolID tells: see actor.Ref.
	Space  events.Space `json:"space"`
	Pool   events.ID    `json:"pool"`
	Grant  events.ID    `json:"grant"`
	Host   string       `json:"host,omitempty"`
	Name   string       `json:"name,omitempty"`
	Subnet netip.Prefix `json:"subnet"`
	Range  netip.Prefix `json:"range,omitzero"`
	// Address is what was released; zero: the whole grant.
	Address netip.Addr `json:"address,omitzero"`
	// Allocation is what was held of it; zero: not known yet.
	Allocation events.ID `json:"allocation,omitzero"`
}

// Aside is a release that will not be made: what it speaks of is not this host's to
// give back any more, or belongs to another store.
type Aside struct {
	Release
	Since time.Time `json:"since"`
	Why   string    `json:"why"`
}

// ErrInUse is returned by [Open] while another process has the spool.
var ErrInUse = errors.New("the release spool is in use")

// ErrClosed is returned by what is asked of a spool after [Spool.Close].
var ErrClosed = errors.New("the release spool is closed")

// Spool keeps releases until the log has them. Safe for concurrent use.
type Spool struct {
	dir  string
	lock *os.File // held as long as the spool is open

	mu      sync.Mutex
	file    *os.File
	size    int64
	written int       // lines in the file
	waiting []Release // in the order they were accepted
	aside   []Aside
	// forgotten were set aside, and are not listed any more.
	forgotten []Aside
	damaged   int
	trouble   error // with writing, when it was opened
	failed    bool  // what the file ends with is not known
	closed    bool
}

// Open reads the spool in a directory, and makes one where there is none. It returns
// [ErrInUse] while another process has it open.
func Open(dir string) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, errors.Newf("the directory of the release spool cannot be made, see what is in its place: %v", err)
	}
	s := &Spool{dir: dir}
	var err error
	if s.lock, err = os.OpenFile(s.path(lockName), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, errors.Wrap(err, "lock the release spool")
	}
	if err = unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		err = errors.Mark(errors.Newf("another daemon uses %s: stop it, or choose another --data-dir", dir), ErrInUse)
	} else {
		err = s.load()
	}
	if err != nil {
		return nil, errors.CombineErrors(err, s.lock.Close())
	}
	return s, nil
}

// Close closes the file. What waits in it waits for the next daemon. More than once is
// harmless.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.lock.Close()
	if s.file != nil {
		err = errors.CombineErrors(err, s.file.Close())
	}
	return errors.Wrap(err, "close the release spool")
}

// Accept takes a release in. When it returns nil, the release is on the disk.
func (s *Spool) Accept(r Release) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.append(line{Accept: &r}); err != nil {
		return errors.Wrap(err, "write a release to the spool")
	}
	s.waiting = append(s.waiting, r)
	return nil
}

// Resolve notes which allocation a waiting release means. When it returns nil, that
// is on the disk.
func (s *Spool) Resolve(release, allocation events.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.find(release)
	if i < 0 || s.waiting[i].Allocation == allocation {
		return nil
	}
	if err := s.append(line{Resolve: &resolved{release, allocation}}); err != nil {
		return errors.Wrap(err, "note what a spooled release means")
	}
	s.waiting[i].Allocation = allocation
	return nil
}

// Done takes a release out, which the log has or needs no more. One that is not
// there is no error.
func (s *Spool) Done(release events.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.find(release)
	if i < 0 {
		return nil
	}
	if err := s.append(line{Done: release}); err != nil {
		return errors.Wrap(err, "take a release out of the spool")
	}
	s.waiting = slices.Delete(s.waiting, i, i+1)
	return s.compact()
}

// SetAside takes a release out that will not be made, and lists it with the reason: for
// 30 days, and among the newest 1,000.
func (s *Spool) SetAside(release events.ID, why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.find(release)
	if i < 0 {
		return nil
	}
	a := Aside{Release: s.waiting[i], Since: time.Now().UTC(), Why: why}
	if err := s.append(line{Aside: &a}); err != nil {
		return errors.Wrap(err, "set a release aside")
	}
	s.waiting = slices.Delete(s.waiting, i, i+1)
	s.aside = append(s.aside, a)
	s.forget()
	return s.compact()
}

// compact writes the file anew when little of it says anything any more.
func (s *Spool) compact() error {
	if living := len(s.waiting) + len(s.aside); s.size <= roomy || s.written-living <= wasteful*living {
		return nil
	}
	return s.rewrite()
}

// forget drops what was set aside long ago, and the oldest of too many. The file loses
// them when it is written anew.
func (s *Spool) forget() {
	n, old := max(0, len(s.aside)-asideMost), time.Now().Add(-asideFor)
	for n < len(s.aside) && s.aside[n].Since.Before(old) {
		n++
	}
	s.forgotten = append(s.forgotten, s.aside[:n]...)
	s.aside = slices.Clone(s.aside[n:])
}

// Waiting lists the releases that the log does not have yet, oldest first.
func (s *Spool) Waiting() []Release {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.waiting)
}

// Aside lists the releases that were set aside, oldest first.
func (s *Spool) Aside() []Aside {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.aside)
}

// Forgotten lists the releases that were set aside and are listed no more since it was
// called last.
func (s *Spool) Forgotten() []Aside {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.forgotten
	s.forgotten = nil
	return list
}

// Trouble is why nothing could be written when the spool was opened; nil if it could.
// Until it can, nothing is accepted.
func (s *Spool) Trouble() error { return s.trouble }

// Damaged is how many lines could not be read when the spool was opened. They are
// in a file beside it.
func (s *Spool) Damaged() int { return s.damaged }

func (s *Spool) find(release events.ID) int {
	return slices.IndexFunc(s.waiting, func(r Release) bool { return r.ID == release })
}

func (s *Spool) path(name string) string { return filepath.Join(s.dir, name) }
