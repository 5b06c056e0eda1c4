// SPDX-License-Identifier: Apache-2.0

package archive_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/archive"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// What was archived is read as if it were in the store still, by every way of reading.
func TestReadsAcross(t *testing.T) {
	t.Parallel()
	b := newBed(t, 3_000)
	var early etcdlog.Frontier // of somebody who has read before anything was archived
	if _, err := b.log.ReadOn(t.Context(), &early, nil); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1500, 1600, len(b.all) * 3 / 4} {
		b.run(t, n)
		b.same(t)
		if stored := b.stored(t); stored > len(b.all)-n+50 || stored < len(b.all)-n-50 {
			t.Errorf("%d of %d commits are in the store, and those before the %d-th were archived", stored, len(b.all), n)
		}
		report := b.sound(t)
		if int(report.Commits) != len(b.all)-b.stored(t) || report.First != 1 {
			t.Errorf("%+v", report)
		}
	}

	byStream := map[events.Stream][]events.Record{}
	for _, r := range b.all {
		byStream[r.Stream] = append(byStream[r.Stream], r)
	}
	for stream, want := range byStream {
		got, _, err := b.log.Read(t.Context(), 0, nil, stream)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "a stream", want, got)
		var ids []events.ID
		for _, r := range want[:min(len(want), 5)] {
			ids = append(ids, r.ID)
		}
		found, err := b.log.Commits(t.Context(), stream, ids)
		if err != nil || len(found) != len(ids) {
			t.Fatalf("%d of %d single commits: %v", len(found), len(ids), err)
		}
		since, err := b.log.Since(t.Context(), stream, want[len(want)/3].Time)
		if err != nil || len(since) < len(want)-len(want)/3-1 {
			t.Fatalf("%d commits since the %d-th of %d: %v", len(since), len(want)/3, len(want), err)
		}
		break
	}
	for _, at := range []int{1, 900, len(b.all) - 10} {
		got, _, err := b.log.Read(t.Context(), b.all[at].Revision, nil)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "as it was", b.all[:at+1], got)
	}
	from, to := 800, len(b.all)-100
	got, err := b.log.ReadBetween(t.Context(), b.all[from].Revision, b.all[to].Revision, b.all[from].Time, to-from, nil)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "between two", b.all[from+1:to+1], got)

	var late etcdlog.Frontier // of somebody who begins now
	got, err = b.log.ReadOn(t.Context(), &late, nil)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "who reads on from nothing", b.all, got)
	if more, err := b.log.ReadOn(t.Context(), &early, nil); err != nil || len(more) > 0 {
		t.Errorf("who had read everything before is told of %d commits more: %v", len(more), err)
	}
}

// Nothing is archived that is younger than an hour of the log's own time, whatever the
// machine's clock says.
func TestRun_young(t *testing.T) {
	t.Parallel()
	b := newBed(t, 500)
	a := &archive.Archiver{Log: b.log, Store: b.store, Place: b.place(t), Key: b.key(t)}
	if err := a.Run(t.Context(), time.Now().AddDate(100, 0, 0), nil); err != nil {
		t.Fatal(err)
	}
	if stored := b.stored(t); stored != len(b.all) {
		t.Errorf("%d of %d commits are in the store", stored, len(b.all))
	}
}

// However an archiver ends, nothing is lost meanwhile, and the next one goes on.
func TestRun_cut(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1_000)
	before := after(b.all[len(b.all)-1], time.Nanosecond)
	kv := b.client.KV
	cuts := 0
	for n := int64(0); ; n++ {
		f := &fuse{}
		f.left.Store(n % 23)
		b.client.KV = cutKV{kv, f}
		a := b.archiver(t)
		a.Commits, a.Place = 300, cutPlace{a.Place, f}
		err := a.Run(t.Context(), before, nil)
		b.client.KV = kv
		if err == nil {
			break
		}
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		cuts++
		b.same(t)
		if cuts > 1000 {
			t.Fatal("it comes to no end")
		}
	}
	t.Logf("%d times cut", cuts)
	b.same(t)
	report := b.sound(t)
	if stored := b.stored(t); stored > 20 || int(report.Commits)+stored != len(b.all) || cuts < 10 {
		t.Errorf("%d commits are left in the store, %+v, %d cuts", stored, report, cuts)
	}
}

// Several archivers at once are in each other's way, and do no harm.
func TestRun_many(t *testing.T) {
	t.Parallel()
	b := newBed(t, 3_000)
	for n := range 3 {
		var working sync.WaitGroup
		for range 4 {
			a := b.archiver(t)
			a.Commits = 300
			working.Go(func() {
				err := a.Run(t.Context(), b.all[700*(n+1)].Time, nil)
				if err != nil && !errors.Is(err, etcdlog.ErrOvertaken) && !errors.Is(err, etcdlog.ErrArchive) && !errors.Is(err, archive.ErrNotThere) {
					t.Errorf("%v", err)
				}
			})
		}
		working.Wait()
		b.same(t)
	}
	b.run(t, 2200)
	b.same(t)
	b.sound(t)
}

// amidstPlace does something else in the middle of an archiver's work: when it looks what
// earlier ones have left, or between a segment and its checkpoint.
type amidstPlace struct {
	archive.Place
	look, sign func()
}

func (p amidstPlace) List(ctx context.Context) ([]string, error) {
	p.look()
	return p.Place.List(ctx)
}

func (p amidstPlace) Put(ctx context.Context, name string, content []byte) error {
	if strings.HasSuffix(name, ".checkpoint") {
		p.sign()
	}
	return p.Place.Put(ctx, name, content)
}

// An archiver that was overtaken, and has not noticed yet, takes nothing away that the
// other one has sealed since, and leaves nothing behind.
func TestRun_overtaken(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ signs, fails, dies bool }{
		"by one that is done":                           {},
		"by one that stopped":                           {fails: true},
		"before its checkpoint":                         {signs: true},
		"before its checkpoint, and killed":             {signs: true, dies: true},
		"before its checkpoint, by one that stopped":    {signs: true, fails: true},
		"before its checkpoint, by one, and both ended": {signs: true, fails: true, dies: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, 1_000)
			slow, fast := b.archiver(t), b.archiver(t)
			fast.Commits = 200
			if tt.fails { // before its segment is in the store
				f := &fuse{}
				f.left.Store(2)
				fast.Place = cutPlace{fast.Place, f}
			}
			overtake := sync.OnceFunc(func() {
				if err := fast.Run(t.Context(), b.all[700].Time, nil); (err != nil) != tt.fails {
					t.Error(err)
				}
			})
			place := amidstPlace{slow.Place, overtake, func() {}}
			if tt.signs {
				place = amidstPlace{slow.Place, func() {}, overtake}
			}
			slow.Place = place
			if tt.dies { // with its checkpoint, before it can take that back
				f := &fuse{}
				f.left.Store(2)
				slow.Place = cutPlace{place, f}
			}
			if err := slow.Run(t.Context(), b.all[700].Time, nil); !errors.Is(err, etcdlog.ErrOvertaken) {
				t.Errorf("it was not told: %v", err)
			}
			b.same(t)
			b.run(t, 800)
			b.same(t)
			b.sound(t)
		})
	}
}

// A place has the segments of one log.
func TestRun_othersPlace(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1_000)
	b.run(t, 700)
	other := newBed(t, 1_000)
	other.dir = b.dir
	a := other.archiver(t)
	if err := a.Run(t.Context(), other.all[700].Time, nil); err == nil || other.stored(t) != len(other.all) {
		t.Errorf("it was archived among another log's segments: %v", err)
	}
	b.same(t)
	b.sound(t)
}

// While older programs may run, nothing leaves the store.
func TestRun_oldFormat(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1_000)
	if err := b.log.Lower(t.Context(), etcdlog.Format-1); err != nil {
		t.Fatal(err)
	}
	err := b.archiver(t).Run(t.Context(), b.all[700].Time, nil)
	if !errors.Is(err, etcdlog.ErrStoreOld) || b.stored(t) != len(b.all) {
		t.Errorf("%v, and %d of %d commits are in the store", err, b.stored(t), len(b.all))
	}
	b.same(t)
	if _, _, err := b.log.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.run(t, 700)
	b.same(t)
	b.sound(t)
}

// A segment that cannot be read is named, with the time that it is about.
func TestShelf_away(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1_000)
	b.run(t, 700)
	segments, err := b.log.Segments(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	content := b.read(t, segments[0].File)
	for _, spoilt := range [][]byte{nil, content[:len(content)-1]} {
		b.write(t, segments[0].File, spoilt)
		if _, _, err := b.log.Read(t.Context(), 0, nil); !errors.Is(err, etcdlog.ErrArchive) {
			t.Errorf("%v", err)
		}
	}
	// A copy elsewhere does as well.
	moved := *b
	moved.dir = t.TempDir()
	moved.write(t, segments[0].File, content)
	b.log.Archive = &archive.Shelf{Instead: moved.dir}
	b.same(t)
}

func (b *bed) read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := readFile(t, b.place(t), name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// write puts a file into the archive, or deletes it where it has no content.
func (b *bed) write(t *testing.T, name string, content []byte) {
	t.Helper()
	err := b.place(t).Delete(t.Context(), name)
	if content != nil {
		err = b.place(t).Put(t.Context(), name, content)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bed) names(t *testing.T) []string {
	t.Helper()
	names, err := b.place(t).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func named(findings []archive.Finding, file string) bool {
	return slices.ContainsFunc(findings, func(f archive.Finding) bool { return f.File == file })
}

func sentences(findings []archive.Finding) string { return fmt.Sprintf("%+v", findings) }

// What every daemon reads when it starts stays in the store, and needs no archive.
func TestRun_catalogue(t *testing.T) {
	t.Parallel()
	b := newBed(t, 300)
	for range 3 {
		b.join(t)
	}
	all, _, err := b.log.Read(t.Context(), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.all = all
	if err := b.archiver(t).Run(t.Context(), time.Now().Add(time.Hour), nil); err != nil {
		t.Fatal(err)
	}
	b.same(t)
	report := b.sound(t)
	if int(report.Commits) < len(all)-2 || b.stored(t) > 8 {
		t.Errorf("%d of %d commits are in the archive, and %d in the store", report.Commits, len(all), b.stored(t))
	}
	bare := etcdlog.New(b.client, prefix)
	catalogue, err := bare.Since(t.Context(), events.Catalogue, time.UnixMilli(0))
	if err != nil || len(catalogue) != 6 {
		t.Errorf("%d commits of the catalogue: %v", len(catalogue), err)
	}
	if _, _, err := bare.Read(t.Context(), 0, nil); !errors.Is(err, etcdlog.ErrArchive) {
		t.Errorf("the whole log was read without the archive: %v", err)
	}
}
