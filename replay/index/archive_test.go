// SPDX-License-Identifier: Apache-2.0

package index_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/archive"
)

// archived moves what is of before a number of seconds after noon into segments of some
// twenty commits.
func (b *bed) archived(seconds int) {
	b.t.Helper()
	home := b.t.TempDir()
	place, err := archive.OpenPlace(filepath.Join(filepath.Dir(b.dir), "segments"))
	if err != nil {
		b.t.Fatal(err)
	}
	segments, err := b.log.Segments(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	store := idOf('S', 1)
	key, err := archive.LoadKey(filepath.Join(home, "key"), archive.Origin(store, segments))
	if err != nil {
		b.t.Fatal(err)
	}
	a := &archive.Archiver{Log: b.log, Store: store, Place: place, Key: key, Commits: 20}
	if err := a.Run(b.t.Context(), noon.Add(time.Duration(seconds)*time.Second), nil); err != nil {
		b.t.Fatal(err)
	}
}

// What is in an archive is taken piece by piece, with a file in between, and it makes no
// difference to what is said.
func TestArchive(t *testing.T) {
	b := newBed(t)
	b.log.Archive = &archive.Shelf{}
	const minutes = 300
	for i := range minutes {
		b.allocate(i%3, 60*i, i%9)
		if i == 75 {
			b.saved() // an index that ends where a segment will not
		}
	}
	early := b.open()
	b.same(early)
	b.archived(60 * 100)
	b.same(early)
	late := b.open()
	late.AtOnce(30)
	b.same(late)
	b.archived(60 * 200)
	b.same(early)
	b.same(late)

	b.dir = filepath.Join(t.TempDir(), "anew")
	anew := b.open()
	anew.AtOnce(30)
	b.archived(60 * 200)
	b.same(anew)
	if anew.Path() == "" || anew.Tail() > minutes-200+70 {
		t.Errorf("%d commits are in memory, and the file is %q", anew.Tail(), anew.Path())
	}
	b.allocate(1, 60*minutes, 4)
	b.same(anew)
	b.same(b.open())

	b.dir = filepath.Join(anew.Path(), "no directory") // nowhere to put one
	nowhere := b.open()
	nowhere.AtOnce(30)
	b.same(nowhere)
}
