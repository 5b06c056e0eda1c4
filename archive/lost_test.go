// SPDX-License-Identifier: Apache-2.0

package archive_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/archive"
	"github.com/ipamlog/ipamlog/backup"
	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// pieces archives what is of before the n-th commit, in segments of so many.
func (b *bed) pieces(t *testing.T, n, commits int) []etcdlog.Segment {
	t.Helper()
	a := b.archiver(t)
	a.Commits = commits
	if err := a.Run(t.Context(), b.all[n].Time, nil); err != nil {
		t.Fatal(err)
	}
	segments, err := b.log.Segments(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return segments
}

// records are the segments' records as they stand in the store.
func (b *bed) records(t *testing.T) map[string]string {
	t.Helper()
	resp, err := b.client.Get(t.Context(), prefix+"segments/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	records := map[string]string{}
	for _, kv := range resp.Kvs {
		records[string(kv.Key)] = string(kv.Value)
	}
	return records
}

func (b *bed) put(t *testing.T, key, value string) {
	t.Helper()
	if _, err := b.client.Put(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}

// A segment whose record somebody has deleted from the store is not taken for left over:
// it has the only copy of its commits.
func TestRun_recordDeleted(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]bool{"the last": true, "one in the middle": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, 1_500)
			segments := b.pieces(t, 900, 200)
			victim := segments[len(segments)/2]
			if last {
				victim = segments[len(segments)-1]
			}
			for key, value := range b.records(t) {
				if !strings.Contains(value, victim.File) {
					continue
				}
				if _, err := b.client.Delete(t.Context(), key); err != nil {
					t.Fatal(err)
				}
				defer func() { // and all is as it was
					b.put(t, key, value)
					b.run(t, 1200)
					b.same(t)
					b.sound(t)
				}()
			}
			err := b.archiver(t).Run(t.Context(), b.all[1200].Time, nil)
			if err == nil || !strings.Contains(err.Error(), victim.File) {
				t.Errorf("it says %v", err)
			}
			b.read(t, victim.File) // fails if it was deleted
			b.read(t, strings.TrimSuffix(victim.File, ".jsonl.zst")+".checkpoint")
		})
	}
}

// What another store than this one has put there, from which this one was restored, is not
// touched: it may be the only copy that the other one has.
func TestRun_leftByAnotherStore(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1_500)
	b.run(t, 500)
	other := b.archiver(t)
	other.Store = b.log.Clock.NewID()
	f := &fuse{}
	f.left.Store(1) // the segment, without its checkpoint
	other.Place = cutPlace{other.Place, f}
	if err := other.Run(t.Context(), b.all[800].Time, nil); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	// As if it had claimed long after us.
	names := b.names(t)
	left := names[len(names)-1]
	parts := strings.Split(left, "-")
	parts[3] = "999999999"
	if err := os.Rename(filepath.Join(b.dir, left), filepath.Join(b.dir, strings.Join(parts, "-"))); err != nil {
		t.Fatal(err)
	}
	left = strings.Join(parts, "-")
	err := b.archiver(t).Run(t.Context(), b.all[1200].Time, nil)
	if err == nil || !strings.Contains(err.Error(), left) || !strings.Contains(err.Error(), other.Store.String()) {
		t.Errorf("it says %v", err)
	}
	b.read(t, left)
	b.same(t)
	b.write(t, left, nil)
	b.run(t, 1200)
	b.same(t)
	b.sound(t)
}

// What a killed process has left of a file that it was writing is cleared away.
func TestRun_unfinished(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1_500)
	b.run(t, 300)
	const late = ".segment-0000000000000001-0000000000000009-999999999-aabbccdd.jsonl.zst.77"
	unfinished := []string{
		".segment-0000000000000001-0000000000000009-2-aabbccdd.jsonl.zst.77",
		".segment-0000000000000001-0000000000000009-2-aabbccdd.checkpoint.78",
		".residue-0000000000000009-2-aabbccdd.jsonl.zst.79",
		late,
	}
	leave := func() {
		for _, name := range unfinished {
			if err := os.WriteFile(filepath.Join(b.dir, name), []byte("who held what"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	only := func(by string) {
		t.Helper()
		for _, name := range unfinished {
			if slices.Contains(b.names(t), name) != (name == late) {
				t.Errorf("%s: %s is there: %v", by, name, name != late)
			}
		}
	}
	leave()
	b.run(t, 1200)
	only("archived")
	leave()
	b.forget(t, 1000)
	only("forgotten")
}

// A store that was restored elsewhere begins to count its claims anew: what the old one has
// forgotten since is forgotten there as well, by who runs it again.
func TestForget_restoredElsewhere(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1_500)
	b.run(t, len(b.all)-100)
	snapshot, err := b.log.Snapshot(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "log.zst")
	if _, err := backup.Save(t.Context(), path, false, snapshot, backup.Header{Time: time.Now()}); err != nil {
		t.Fatal(err)
	}
	for n := range 3_000 { // the old one goes on
		b.put(t, "something", fmt.Sprint(n))
	}
	want := b.forget(t, len(b.all)-150)

	from, err := backup.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	restored := *b
	restored.client = etcdtest.Start(t).Client()
	restored.log = etcdlog.New(restored.client, prefix)
	restored.log.Archive = &archive.Shelf{}
	store, err := from.Restore(t.Context(), restored.log, time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restored.store = store.ID
	if _, _, err := restored.log.Read(t.Context(), 0, nil); !errors.Is(err, etcdlog.ErrArchive) {
		t.Errorf("what was forgotten is read: %v", err)
	}
	if got := restored.forget(t, 1); got.Last != want.Last {
		t.Fatalf("it was forgotten up to %v, and is up to %v", want, got)
	}
	restored.behind(t, want)
	// And it goes on, with one residue.
	further := restored.forget(t, len(b.all)-110)
	residues := 0
	for _, name := range restored.names(t) {
		if strings.HasPrefix(name, "residue-") && strings.HasSuffix(name, ".zst") {
			residues++
		}
	}
	if further.Last < want.Last || residues != 1 {
		t.Errorf("forgotten up to %v, with %d residues", further, residues)
	}
	restored.nowhere(t, restored.ended(t, want))
}

// A place that is not there, or is empty because nothing is mounted there, is not taken for
// one whose segments were forgotten; and no residue is deleted meanwhile.
func TestForget_unmounted(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1_500)
	b.run(t, 500)
	before := b.records(t)
	second := *b
	second.dir = filepath.Join(t.TempDir(), "second")
	second.run(t, 1300)
	after := b.records(t)
	want := b.forget(t, 600)
	if want.Last == 0 {
		t.Fatal("nothing was forgotten")
	}
	for key, value := range after {
		if before[key] != "" {
			value = before[key]
		}
		b.put(t, key, value) // as if restored from a backup of before
	}
	unmount := func(empty bool) (mount func()) {
		t.Helper()
		aside := second.dir + "-aside"
		if err := os.Rename(second.dir, aside); err != nil {
			t.Fatal(err)
		}
		if empty {
			if err := os.Mkdir(second.dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		return func() {
			if err := os.RemoveAll(second.dir); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(aside, second.dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, empty := range []bool{true, false} {
		mount := unmount(empty)
		_ = b.forgetter(t).Run(t.Context(), b.all[1].Time, nil)
		mount()
		segments, err := b.log.Segments(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range segments {
			if s.Place == second.dir {
				second.read(t, s.File) // fails if it was deleted
			}
		}
	}
	if got := b.forget(t, 1); got != want {
		t.Fatalf("it was forgotten up to %v, and is up to %v", want, got)
	}
	b.behind(t, want)
	b.nowhere(t, b.ended(t, want))
}

// A residue that was put into an archive, and came to nothing, is not taken for what is
// left of segments in another.
func TestForget_twoPlaces(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1_500)
	b.run(t, 500)
	second := *b
	second.dir = filepath.Join(t.TempDir(), "second")
	second.run(t, 1300)
	kv := b.client.KV
	f := &fuse{}
	f.left.Store(1) // the claim
	b.client.KV = cutKV{kv, f}
	err := b.forgetter(t).Run(t.Context(), b.all[1250].Time, nil)
	b.client.KV = kv
	if !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	if border := b.forget(t, 1); border.Last != 0 {
		// Half of the requests that are cut are done all the same.
		t.Fatalf("forgotten up to %+v", border)
	}
	b.same(t)
	for _, name := range second.names(t) {
		if strings.HasPrefix(name, "residue-") {
			t.Errorf("%s is there still", name)
		}
	}
}

// A few commits that are old enough wait for more, but not for long.
func TestRun_patience(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1_500)
	last := func() (n int) {
		segments, err := b.log.Segments(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(segments) > 0 {
			n = slices.IndexFunc(b.all, func(r events.Record) bool { return r.Revision == segments[len(segments)-1].Last })
		}
		return n
	}
	const far = 24 * time.Hour
	for _, tt := range []struct {
		before   int
		patience time.Duration
		reaches  int
	}{
		{300, far, 0},   // too few
		{700, far, 699}, // enough
		{900, far, 699},
		{900, b.all[900].Time.Sub(b.all[800].Time), 899}, // one has waited too long, and all go
		{950, b.all[900].Time.Sub(b.all[800].Time), 899},
	} {
		a := b.archiver(t)
		a.Commits, a.Smallest, a.Patience = 0, 500, tt.patience
		if err := a.Run(t.Context(), b.all[tt.before].Time, nil); err != nil {
			t.Fatal(err)
		}
		// Several commits have one millisecond.
		if n := last(); n > tt.reaches || n < tt.reaches-20 {
			t.Errorf("before %d, patient for %s: archived up to %d, not %d", tt.before, tt.patience, n, tt.reaches)
		}
		b.same(t)
	}
	b.sound(t)
}

// Nobody knows at first how large commits are: no small segment comes of that.
func TestRun_size(t *testing.T) {
	t.Parallel()
	b := newBed(t, 4_000)
	if segments := b.pieces(t, 3_500, 0); len(segments) != 1 || segments[0].Commits < 3_000 {
		t.Errorf("%d segments, the first of %d commits", len(segments), segments[0].Commits)
	}
}

// A key that is lost is not replaced over its public part; that is made anew where it is
// lost.
func TestLoadKey_lost(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "archive.key")
	key, err := archive.LoadKey(path, "ipamlog/x")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path + ".pub"); err != nil {
		t.Fatal(err)
	}
	again, err := archive.LoadKey(path, "ipamlog/x")
	if err != nil || again.Public != key.Public {
		t.Errorf("%q, and it was %q: %v", again.Public, key.Public, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := archive.LoadKey(path, "ipamlog/x"); err == nil {
		t.Error("another key is made beside the public part of the one that is lost")
	}
	if text, err := os.ReadFile(path + ".pub"); err != nil || strings.TrimSpace(string(text)) != key.Public {
		t.Errorf("the public part is %q: %v", text, err)
	}
}
