// SPDX-License-Identifier: Apache-2.0

package spool_test

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/spool"
)

var equate = cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.IgnoreFields(spool.Aside{}, "Since")}

func id(n int) events.ID {
	var id events.ID
	id[0], id[14], id[15] = 1, byte(n>>8), byte(n)
	return id
}

func release(n int) spool.Release {
	r := spool.Release{
		ID: id(n), At: time.Date(2026, 11, 21, 3, 12, n%60, 0, time.UTC), Store: id(1), Prefix: "/ipamlog/v1/",
		Space: events.Local, Pool: id(2), Grant: id(3), Host: "h1", Name: "web", Subnet: netip.MustParsePrefix("10.50.0.0/24"),
	}
	if n%3 > 0 {
		r.Address = netip.AddrFrom4([4]byte{10, 50, 0, byte(n)})
	}
	return r
}

type tb interface {
	Helper()
	Fatal(args ...any)
}

func open(t tb, dir string) *spool.Spool {
	t.Helper()
	s, err := spool.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ok(t tb, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestSpool: what was accepted stays until it is done or set aside, over any number of
// restarts.
func TestSpool(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	ok(t, s.Trouble())
	for n := range 5 {
		ok(t, s.Accept(release(n)))
	}
	ok(t, s.Resolve(id(1), id(77)))
	ok(t, s.Resolve(id(99), id(77))) // nobody knows it
	ok(t, s.Done(id(0)))
	ok(t, s.Done(id(0))) // again
	ok(t, s.SetAside(id(3), "fenced out"))
	resolved := release(1)
	resolved.Allocation = id(77)
	waiting := []spool.Release{resolved, release(2), release(4)}
	aside := []spool.Aside{{Release: release(3), Why: "fenced out"}}
	for range 3 {
		if diff := cmp.Diff(waiting, s.Waiting(), equate); diff != "" {
			t.Errorf("waiting (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(aside, s.Aside(), equate); diff != "" || s.Aside()[0].Since.IsZero() {
			t.Errorf("aside (-want +got):\n%s", diff)
		}
		ok(t, s.Close())
		if err := s.Accept(release(9)); !errors.Is(err, spool.ErrClosed) {
			t.Errorf("accepted after its end: %v", err)
		}
		s = open(t, dir)
	}
	ok(t, s.Close())
	info, err := os.Stat(filepath.Join(dir, "releases"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

// TestSpool_powerCut: wherever the file is torn, every release before the tear is
// there, and nothing of the torn one.
func TestSpool_powerCut(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for n := range 3 {
		ok(t, s.Accept(release(n)))
	}
	ok(t, s.Done(id(1)))
	ok(t, s.Close())
	whole, err := os.ReadFile(filepath.Join(dir, "releases"))
	ok(t, err)
	after := [][]spool.Release{nil, {release(0)}, {release(0), release(1)}, {release(0), release(1), release(2)}, {release(0), release(2)}}
	for cut := range len(whole) + 1 {
		ok(t, os.WriteFile(filepath.Join(dir, "releases"), whole[:cut], 0o600))
		s := open(t, dir)
		if diff := cmp.Diff(after[bytes.Count(whole[:cut], []byte("\n"))], s.Waiting(), equate); diff != "" || s.Damaged() != 0 {
			t.Fatalf("cut at %d, %d damaged (-want +got):\n%s", cut, s.Damaged(), diff)
		}
		ok(t, s.Accept(release(4))) // and it goes on
		ok(t, s.Close())
		s = open(t, dir)
		if list := s.Waiting(); len(list) == 0 || list[len(list)-1].ID != id(4) {
			t.Fatalf("cut at %d: what came after is not there: %v", cut, list)
		}
		ok(t, s.Close())
	}
}

// TestSpool_damage: a line that cannot be read takes no other with it, and is kept.
func TestSpool_damage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for n := range 3 {
		ok(t, s.Accept(release(n)))
	}
	ok(t, s.Close())
	path := filepath.Join(dir, "releases")
	whole, err := os.ReadFile(path)
	ok(t, err)
	lines := bytes.SplitAfter(whole, []byte("\n"))
	lines[1][20] ^= 1
	ok(t, os.WriteFile(path, bytes.Join(lines, nil), 0o600))
	s = open(t, dir)
	if diff := cmp.Diff([]spool.Release{release(0), release(2)}, s.Waiting(), equate); diff != "" || s.Damaged() != 1 {
		t.Errorf("%d damaged (-want +got):\n%s", s.Damaged(), diff)
	}
	ok(t, s.Close())
	kept, err := os.ReadFile(filepath.Join(dir, "damaged"))
	if err != nil || !bytes.Equal(kept, lines[1]) {
		t.Errorf("%q %v", kept, err)
	}
	if s = open(t, dir); s.Damaged() != 0 {
		t.Errorf("it is found damaged again")
	}
	ok(t, s.Close())
}

// TestSpool_lock: two daemons never share a spool.
func TestSpool_lock(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if other, err := spool.Open(dir); !errors.Is(err, spool.ErrInUse) {
		t.Fatalf("%v %v", other, err)
	}
	ok(t, s.Accept(release(1)))
	ok(t, s.Close())
	s = open(t, dir)
	if len(s.Waiting()) != 1 {
		t.Error("what was accepted is gone")
	}
	ok(t, s.Close())
}

// TestSpool_full: what could not be written was not accepted, and the next one can be.
func TestSpool_full(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	ok(t, s.Accept(release(0)))
	s.Break()
	if err := s.Accept(release(1)); err == nil {
		t.Fatal("accepted, and not written")
	}
	ok(t, s.Accept(release(2)))
	ok(t, s.Close())
	s = open(t, dir)
	if diff := cmp.Diff([]spool.Release{release(0), release(2)}, s.Waiting(), equate); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	ok(t, s.Close())
}

// TestSpool_grows: what is done leaves the file, whatever waits meanwhile.
func TestSpool_grows(t *testing.T) {
	t.Parallel()
	for name, waits := range map[string]int{"nothing waits": 0, "some wait": 5} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := open(t, dir)
			for n := range waits {
				ok(t, s.Accept(release(n)))
			}
			for n := range 900 {
				ok(t, s.Accept(release(waits+n)))
				ok(t, s.Done(id(waits+n)))
			}
			info, err := os.Stat(filepath.Join(dir, "releases"))
			if err != nil || info.Size() > 300<<10 {
				t.Errorf("%v %v", info, err)
			}
			if n := len(s.Waiting()); n != waits {
				t.Errorf("%d wait", n)
			}
			ok(t, s.Close())
		})
	}
}

// TestSpool_forgets: what was set aside is listed for a while, and not without bound;
// what is dropped is told once.
func TestSpool_forgets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	for n := range 1003 {
		ok(t, s.Accept(release(n)))
		ok(t, s.SetAside(id(n), "why"))
	}
	if list := s.Aside(); len(list) != 1000 || list[0].ID != id(3) || list[999].ID != id(1002) {
		t.Errorf("%d are listed", len(list))
	}
	if list := s.Forgotten(); len(list) != 3 || list[0].ID != id(0) || len(s.Forgotten()) != 0 {
		t.Errorf("dropped: %+v", list)
	}
	ok(t, s.Close())

	spool.Aged(t, dir, id(3), time.Now().Add(-31*24*time.Hour))
	s = open(t, dir)
	if list := s.Aside(); len(list) != 999 || list[0].ID != id(4) {
		t.Errorf("%d are listed", len(list))
	}
	if list := s.Forgotten(); len(list) != 1 || list[0].ID != id(3) || list[0].Why != "why" {
		t.Errorf("dropped: %+v", list)
	}
	ok(t, s.Close())
	s = open(t, dir)
	if list := s.Forgotten(); len(list) != 0 || len(s.Aside()) != 999 {
		t.Errorf("dropped again: %+v", list)
	}
	ok(t, s.Close())
}

// TestSpool_noRoomToCompact: a file that cannot be written anew is written on.
func TestSpool_noRoomToCompact(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	ok(t, os.Mkdir(filepath.Join(dir, "releases.new"), 0o700)) // in its way
	failed := 0
	for n := range 800 {
		ok(t, s.Accept(release(n)))
		if s.Done(id(n)) != nil {
			failed++
		}
	}
	if failed == 0 {
		t.Error("it never tried")
	}
	ok(t, s.Close())
	ok(t, os.Remove(filepath.Join(dir, "releases.new")))
	s = open(t, dir)
	if n := len(s.Waiting()); n != 0 {
		t.Errorf("%d wait", n)
	}
	ok(t, s.Close())
}

// TestSpool_model: any sequence of calls and restarts leaves what a list would.
func TestSpool_model(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		ok(r, err)
		s := open(r, dir)
		var waiting []spool.Release
		next := 0
		pick := func() events.ID { return id(rapid.IntRange(0, next).Draw(r, "which")) }
		without := func(gone events.ID) {
			waiting = slices.DeleteFunc(waiting, func(x spool.Release) bool { return x.ID == gone })
		}
		for range rapid.IntRange(1, 25).Draw(r, "steps") {
			switch rapid.IntRange(0, 5).Draw(r, "step") {
			case 0, 1:
				ok(r, s.Accept(release(next)))
				waiting = append(waiting, release(next))
				next++
			case 2:
				gone := pick()
				ok(r, s.Done(gone))
				without(gone)
			case 3:
				gone := pick()
				ok(r, s.SetAside(gone, "why"))
				without(gone)
			case 4:
				which := pick()
				ok(r, s.Resolve(which, id(500)))
				for i := range waiting {
					if waiting[i].ID == which {
						waiting[i].Allocation = id(500)
					}
				}
			default:
				ok(r, s.Close())
				s = open(r, dir)
			}
			if diff := cmp.Diff(waiting, s.Waiting(), equate); diff != "" {
				r.Fatalf("(-want +got):\n%s", diff)
			}
		}
		ok(r, s.Close())
	})
}

// FuzzOpen: whatever stands in the file, the spool opens, takes a release in, and has
// it when it is opened again.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("\n\n"))
	f.Add([]byte("00000000 {}\n"))
	f.Add([]byte("deadbeef {\"accept\":null}\nxx"))
	dir := f.TempDir()
	s := open(f, dir)
	ok(f, s.Accept(release(1)))
	ok(f, s.SetAside(id(1), "why"))
	ok(f, s.Close())
	whole, err := os.ReadFile(filepath.Join(dir, "releases"))
	ok(f, err)
	f.Add(whole)
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		ok(t, os.WriteFile(filepath.Join(dir, "releases"), content, 0o600))
		s := open(t, dir)
		ok(t, s.Accept(release(2)))
		before := s.Waiting()
		ok(t, s.Close())
		s = open(t, dir)
		if diff := cmp.Diff(before, s.Waiting(), equate); diff != "" || s.Damaged() != 0 {
			t.Errorf("%d damaged (-before +after):\n%s", s.Damaged(), diff)
		}
		ok(t, s.Close())
	})
}
