// SPDX-License-Identifier: Apache-2.0

package archive_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/klauspost/compress/zstd"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/archive"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/replay/index"
)

func (b *bed) forgetter(t *testing.T) *archive.Forgetter {
	t.Helper()
	return &archive.Forgetter{Log: b.log, Store: b.store, Key: b.key(t), Shelf: &archive.Shelf{}}
}

// forget forgets what is of before the n-th commit, and returns the border.
func (b *bed) forget(t *testing.T, n int) etcdlog.Border {
	t.Helper()
	if err := b.forgetter(t).Run(t.Context(), b.all[n].Time, nil); err != nil {
		t.Fatal(err)
	}
	border, _, err := b.log.Forgotten(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return border
}

// holdings are all holdings that had not ended by a revision, and who they were.
func holdings(t *testing.T, records []events.Record, border int64) []string {
	t.Helper()
	timeline := projection.NewTimeline()
	for _, r := range records {
		timeline.Apply(r)
	}
	if m := timeline.Misfits(); len(m) > 0 {
		t.Fatalf("%d events do not fit: %v", len(m), m)
	}
	var list []string
	for h := range timeline.Holdings() {
		if !h.To.Reached() || h.To.Revision > border {
			told := slices.Clone(h.Told)
			list = append(list, fmt.Sprintf("%s %s %s %s %v %v %+v %s", h.Allocation, h.Address, h.Pool.ID, h.Pool.Name, h.From, h.To, told, h.Endpoint))
		}
	}
	slices.Sort(list)
	return list
}

// behind fails unless everything behind the border is as it was.
func (b *bed) behind(t *testing.T, border etcdlog.Border) {
	t.Helper()
	now, _, err := b.log.Read(t.Context(), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	first := func(list []events.Record) int {
		return slices.IndexFunc(list, func(r events.Record) bool { return r.Revision > border.Last })
	}
	equal(t, "the log behind the border", b.all[first(b.all):], now[first(now):])
	want, got := holdings(t, b.all, border.Last), holdings(t, now, border.Last)
	if !slices.Equal(want, got) {
		t.Fatalf("%d holdings were there at the border or came since, and now %d", len(want), len(got))
	}
	x, y := projection.NewTimeline(), projection.NewTimeline()
	for _, r := range b.all {
		x.Apply(r)
	}
	for _, r := range now {
		y.Apply(r)
	}
	for _, r := range b.all[first(b.all):] {
		if x.Running(r.Revision) != y.Running(r.Revision) || !r.Time.Before(border.Running) && x.Until(r.Time) != y.Until(r.Time) {
			t.Fatalf("the running time at revision %d is %s, and was %s; at %s it was revision %d, and is %d", r.Revision, y.Running(r.Revision), x.Running(r.Revision), r.Time, x.Until(r.Time), y.Until(r.Time))
		}
	}
	pools := func(tl *projection.Timeline) (list []string) {
		for _, p := range tl.Pools() {
			if !p.Retired.Reached() || p.Retired.Revision > border.Last {
				list = append(list, fmt.Sprintf("%+v", *p))
			}
		}
		slices.Sort(list)
		return list
	}
	if !slices.Equal(pools(x), pools(y)) {
		t.Fatal("the pools are others")
	}
}

// ended are the names of containers that had given their address back by the border.
func (b *bed) ended(t *testing.T, border etcdlog.Border) []string {
	t.Helper()
	held := map[string]bool{}
	names := map[events.ID]string{}
	for _, r := range b.all {
		for _, e := range r.Events {
			switch e := e.(type) {
			case events.AddressAllocated:
				names[e.Allocation] = e.Endpoint
				held[e.Endpoint] = true
			case events.AddressReleased:
				if r.Revision <= border.Last {
					delete(held, names[e.Allocation])
				}
			default:
			}
		}
	}
	var list []string
	for _, name := range names {
		if !held[name] {
			list = append(list, name+`"`)
		}
	}
	return list
}

// nowhere fails if one of the texts is left in the store, in the archive or in an index.
func (b *bed) nowhere(t *testing.T, texts []string) {
	t.Helper()
	var left bytes.Buffer
	resp, err := b.client.Get(t.Context(), prefix, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		left.Write(kv.Key)
		left.Write(kv.Value)
	}
	unpacker, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unpacker.Close()
	for _, name := range b.names(t) {
		content := b.read(t, name)
		if strings.HasSuffix(name, ".zst") {
			if content, err = unpacker.DecodeAll(content, nil); err != nil {
				t.Fatal(err)
			}
		}
		left.Write(content)
	}
	found := 0
	for _, text := range texts {
		if bytes.Contains(left.Bytes(), []byte(text)) {
			found++
			if found < 4 {
				t.Errorf("%s is left somewhere", text)
			}
		}
	}
}

// TestForget: what is forgotten is nowhere any more, and everything behind it is as it
// was and proves itself, also when more is forgotten later.
func TestForget(t *testing.T) {
	t.Parallel()
	b := newBed(t, 3_500)
	var early etcdlog.Frontier
	if _, err := b.log.ReadOn(t.Context(), &early, nil); err != nil {
		t.Fatal(err)
	}
	x := index.Open(b.log, b.store, prefix, t.TempDir())
	if _, err := x.History(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := x.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.run(t, len(b.all)-200)
	var last int64
	for _, n := range []int{1300, 1301, 2600, len(b.all) - 100} {
		border := b.forget(t, n)
		if border.Last < last || border.Last == 0 || border.Last >= b.all[n].Revision {
			t.Fatalf("it was forgotten up to %d, of before %d", border.Last, b.all[n].Revision)
		}
		if border.Last > last {
			if _, err := b.log.ReadOn(t.Context(), early.Clone(), nil); !errors.Is(err, etcdlog.ErrAstray) {
				t.Errorf("who has read what is forgotten reads on: %v", err)
			}
		}
		last = border.Last
		b.behind(t, border)
		report := b.sound(t)
		if report.Forgotten != border.Last {
			t.Errorf("%+v", report)
		}
		b.offline(t)
		gone := b.ended(t, border)
		if len(gone) < 100 {
			t.Fatalf("only %d containers were forgotten", len(gone))
		}
		b.nowhere(t, gone)
		h, err := x.History(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for holding := range h.Timeline().Holdings() {
			if holding.To.Reached() && holding.To.Revision <= border.Last {
				t.Fatalf("the index has %s still", holding.Endpoint)
			}
		}
	}
	// The log goes on as before.
	var late etcdlog.Frontier
	if _, err := b.log.ReadOn(t.Context(), &late, nil); err != nil {
		t.Fatal(err)
	}
	if more, err := b.log.ReadOn(t.Context(), &late, nil); err != nil || len(more) > 0 {
		t.Errorf("%d commits more: %v", len(more), err)
	}
	b.run(t, len(b.all)-20)
	border, _, err := b.log.Forgotten(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.behind(t, border)
	b.sound(t)
}

// However somebody ends who forgets, what is behind the border is there meanwhile, and
// the next one ends it.
func TestForget_cut(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1_500)
	b.run(t, len(b.all)-100)
	kv := b.client.KV
	for n := int64(0); ; n++ {
		if n > 30 {
			t.Fatal("it comes to no end")
		}
		fuse := &fuse{}
		fuse.left.Store(n)
		b.client.KV = cutKV{kv, fuse}
		f := b.forgetter(t)
		f.Shelf = archive.CutShelf(func(p archive.Place) archive.Place { return cutPlace{p, fuse} })
		err := f.Run(t.Context(), b.all[len(b.all)-150].Time, nil)
		b.client.KV = kv
		border, _, wrong := b.log.Forgotten(t.Context())
		if wrong != nil {
			t.Fatal(wrong)
		}
		b.behind(t, border)
		b.sound(t)
		if err == nil {
			b.nowhere(t, b.ended(t, border))
			return
		}
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
	}
}

// What was deleted by hand is missed, whatever was forgotten before.
func TestForget_byHand(t *testing.T) {
	t.Parallel()
	b := newBed(t, 2_000)
	b.run(t, len(b.all)-100)
	b.forget(t, 800)
	segments, err := b.log.Segments(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checkpointOf := func(file string) string { return strings.TrimSuffix(file, ".jsonl.zst") + ".checkpoint" }
	noteOf := func(file string) string { return strings.TrimSuffix(file, ".jsonl.zst") + ".note" }
	residue := segments[0].Residue.File
	first := slices.IndexFunc(segments, func(s etcdlog.Segment) bool { return s.State == etcdlog.Removed })
	for name, files := range map[string][]string{
		"a segment behind the border":     {segments[first].File},
		"with its checkpoint":             {segments[first].File, checkpointOf(segments[first].File)},
		"a checkpoint before the border":  {checkpointOf(segments[0].File)},
		"the residue":                     {residue},
		"the residue's note":              {noteOf(residue)},
		"the residue and its note":        {residue, noteOf(residue)},
		"the checkpoint at the very last": {segments[len(segments)-1].File},
	} {
		t.Run(name, func(t *testing.T) {
			var kept [][]byte
			for _, f := range files {
				kept = append(kept, b.read(t, f))
				b.write(t, f, nil)
			}
			if report := b.offline(t); len(report.Findings) == 0 {
				t.Error("nobody says so")
			} else {
				t.Log(sentences(report.Findings))
			}
			for i, f := range files {
				b.write(t, f, kept[i])
			}
		})
	}
	for _, name := range []string{residue, noteOf(residue), checkpointOf(segments[0].File)} {
		content := b.read(t, name)
		for at := 3; at < len(content); at += 1 + len(content)/15 {
			spoilt := bytes.Clone(content)
			spoilt[at] ^= 4
			b.write(t, name, spoilt)
			if report := b.offline(t); len(report.Findings) == 0 {
				t.Errorf("byte %d of %s was changed, and nobody says so", at, name)
			}
		}
		b.write(t, name, content)
	}
	b.verify(t, segments)
}

// Several at once do no harm, archivers among them.
func TestForget_many(t *testing.T) {
	t.Parallel()
	b := newBed(t, 3_000)
	b.run(t, len(b.all)/2)
	done := make(chan error, 4)
	for n := range 4 {
		f, a := b.forgetter(t), b.archiver(t)
		go func() {
			if n == 3 {
				done <- a.Run(t.Context(), b.all[len(b.all)-100].Time, nil)
				return
			}
			done <- f.Run(t.Context(), b.all[len(b.all)/2-100*n].Time, nil)
		}()
	}
	for range 4 {
		if err := <-done; err != nil && !errors.IsAny(err, etcdlog.ErrOvertaken, etcdlog.ErrArchive, archive.ErrNotThere) {
			t.Error(err)
		}
	}
	border := b.forget(t, len(b.all)/2)
	b.behind(t, border)
	b.sound(t)
	b.nowhere(t, b.ended(t, border))
}

// forgetPlace is an archive in which something else happens once, when a residue is
// about to be put there or what is needless to be looked for.
type forgetPlace struct {
	archive.Place
	look, put func()
}

func (p forgetPlace) List(ctx context.Context) ([]string, error) {
	p.look()
	return p.Place.List(ctx)
}

func (p forgetPlace) Put(ctx context.Context, name string, content []byte) error {
	p.put()
	return p.Place.Put(ctx, name, content)
}

// Somebody who forgets, was overtaken, and has not noticed yet, deletes nothing that the
// other one has put there since.
func TestForget_overtaken(t *testing.T) {
	t.Parallel()
	for name, puts := range map[string]bool{"when it looks": false, "when it puts its residue": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, 1_500)
			b.run(t, len(b.all)-100)
			slow, fast := b.forgetter(t), b.forgetter(t)
			overtake := sync.OnceFunc(func() {
				if err := fast.Run(t.Context(), b.all[len(b.all)-150].Time, nil); err != nil {
					t.Error(err)
				}
			})
			nothing := func() {}
			slow.Shelf = archive.CutShelf(func(p archive.Place) archive.Place {
				if puts {
					return forgetPlace{p, nothing, overtake}
				}
				return forgetPlace{p, overtake, nothing}
			})
			err := slow.Run(t.Context(), b.all[len(b.all)-150].Time, nil)
			if !errors.Is(err, etcdlog.ErrOvertaken) {
				t.Errorf("it was told: %v", err)
			}
			border := b.forget(t, len(b.all)-150)
			if border.Last == 0 {
				t.Fatal("nothing was forgotten")
			}
			b.behind(t, border)
			b.sound(t)
			b.offline(t)
			b.nowhere(t, b.ended(t, border))
		})
	}
}

// A store that was restored from a backup of before does not know what was forgotten
// since. Who forgets again finds the residue, and takes it.
func TestForget_restored(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1_500)
	b.run(t, len(b.all)-100)
	backup, err := b.client.Get(t.Context(), prefix+"segments/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	want := b.forget(t, len(b.all)-150)
	for _, kv := range backup.Kvs {
		if _, err := b.client.Put(t.Context(), string(kv.Key), string(kv.Value)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := b.log.Read(t.Context(), 0, nil); !errors.Is(err, etcdlog.ErrArchive) {
		t.Errorf("what was forgotten is read: %v", err)
	}
	if got := b.forget(t, 1); got != want {
		t.Fatalf("it was forgotten up to %v, and is up to %v", want, got)
	}
	b.behind(t, want)
	b.sound(t)
	b.offline(t)
}
