// SPDX-License-Identifier: Apache-2.0

package archive_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/archive"
	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/replay/index"
)

// amidKV does something else before one of the requests that are made of it. However long
// that takes, nobody's patience ends over it.
type amidKV struct {
	clientv3.KV
	before func()
}

func (k amidKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	k.before()
	return k.KV.Get(context.WithoutCancel(ctx), key, opts...)
}

func (k amidKV) Txn(ctx context.Context) clientv3.Txn {
	k.before()
	return k.KV.Txn(context.WithoutCancel(ctx))
}

// amid does a task of the bed, in which something else happens before the n-th request. It
// says whether there were so many.
func (b *bed) amid(n int64, task, other func()) (happened bool) {
	kv := b.client.KV
	defer func() { b.client.KV = kv }()
	var asked atomic.Int64
	var done atomic.Bool
	b.client.KV = amidKV{kv, func() {
		if asked.Add(1) == n {
			other()
			done.Store(true)
		}
	}}
	task()
	return done.Load()
}

// beside is the same bed, with a connection of its own.
func (b *bed) beside(t *testing.T) *bed {
	t.Helper()
	other := *b
	other.client = etcdtest.Dial(t, b.client.Endpoints()[0])
	other.log = etcdlog.New(other.client, prefix)
	other.log.Archive = &archive.Shelf{}
	return &other
}

// A snapshot has every commit, or the segment that has it, whenever somebody archives.
func TestSnapshot_archivedMeanwhile(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1_500)
	other := b.beside(t)
	for n := int64(1); ; n += 3 {
		var snapshot *etcdlog.Snapshot
		happened := b.amid(n, func() {
			var err error
			if snapshot, err = b.log.Snapshot(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}, func() {
			a := other.archiver(t)
			a.Commits = 60
			if err := a.Run(t.Context(), b.all[min(int(30*n), len(b.all)-100)].Time, nil); err != nil {
				t.Error(err)
			}
		})
		has := map[events.ID]bool{}
		for _, c := range snapshot.Commits {
			has[c.ID] = true
		}
		for _, g := range snapshot.Guards {
			var s etcdlog.Segment
			if !strings.HasPrefix(g.Key, "segments/") {
				continue
			}
			if err := json.Unmarshal(g.Value, &s); err != nil {
				t.Fatal(err)
			}
			if s.State == etcdlog.Sealed {
				continue // whoever reads it reads the store
			}
			err := (&archive.Shelf{}).Read(t.Context(), s, func(c etcdlog.RawCommit) error { has[c.ID] = true; return nil })
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, r := range b.all {
			if !has[r.ID] {
				t.Fatalf("archived before request %d: the commit at revision %d is nowhere", n, r.Revision)
			}
		}
		if !happened {
			t.Logf("fewer than %d requests", n)
			if n < 10 {
				t.Error("it asks for almost nothing")
			}
			return
		}
	}
}

// Who verifies the log while somebody forgets a part of it finds nothing wrong.
func TestForget_whileVerified(t *testing.T) {
	t.Parallel()
	b := newBed(t, 2_500)
	a := b.archiver(t)
	a.Commits = 100
	if err := a.Run(t.Context(), b.all[len(b.all)-100].Time, nil); err != nil {
		t.Fatal(err)
	}
	other := b.beside(t)
	round := 0
	for n := int64(1); ; n *= 2 {
		happened := b.amid(n, func() {
			if diff := gocmp.Diff(b.wrong, b.findings(t)); diff != "" {
				t.Errorf("forgotten before request %d: the log does not keep its rules as before:\n%.2000s", n, diff)
			}
		}, func() {
			round++
			if border := other.forget(t, 150*round); border.Last == 0 {
				t.Error("nothing was forgotten")
			}
		})
		if !happened {
			break
		}
	}
	if round < 4 {
		t.Errorf("only %d times", round)
	}
}

// forgetful is an archive of which something is forgotten when it is first read.
type forgetful struct {
	*archive.Shelf
	forget func()
	done   *atomic.Bool
}

func (f forgetful) Read(ctx context.Context, s etcdlog.Segment, take func(etcdlog.RawCommit) error) error {
	if f.done.CompareAndSwap(false, true) {
		f.forget()
	}
	return f.Shelf.Read(ctx, s, take)
}

// An index that is made while somebody forgets begins anew.
func TestForget_whileIndexed(t *testing.T) {
	t.Parallel()
	b := newBed(t, 2_500)
	b.run(t, len(b.all)-100)
	other := b.beside(t)
	var border etcdlog.Border
	b.log.Archive = forgetful{&archive.Shelf{}, func() { border = other.forget(t, 1500) }, &atomic.Bool{}}
	h, err := index.Open(b.log, b.store, prefix, t.TempDir()).History(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if border.Last == 0 || h.Border != border {
		t.Errorf("it knows of the border %+v, which is %+v", h.Border, border)
	}
}

// No store is put into a format that cannot read segments while one is removed.
func TestLower_removedMeanwhile(t *testing.T) {
	t.Parallel()
	for n := int64(1); ; n++ {
		b := newBed(t, 400)
		f := &fuse{}
		f.left.Store(2) // the claim and the sealing
		kv := b.client.KV
		b.client.KV = cutKV{kv, f}
		_ = b.archiver(t).Run(t.Context(), b.all[300].Time, nil)
		b.client.KV = kv
		other := b.beside(t)
		segments, err := other.log.Segments(t.Context())
		if err != nil || len(segments) != 1 || segments[0].State != etcdlog.Sealed {
			t.Fatalf("%+v %v", segments, err)
		}
		if _, err := other.log.Store(t.Context()); err != nil { // which knows the format
			t.Fatal(err)
		}
		if _, err := b.log.Store(t.Context()); err != nil {
			t.Fatal(err)
		}
		happened := b.amid(n, func() { _ = b.log.Lower(t.Context(), etcdlog.OldestFormat) }, func() {
			_, _ = other.log.BeginRemoval(t.Context(), segments[0])
		})
		if !happened {
			if n < 3 {
				t.Error("it asks for almost nothing")
			}
			return
		}
		store, err := other.log.Store(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if segments, err = other.log.Segments(t.Context()); err != nil {
			t.Fatal(err)
		}
		if segments[0].State != etcdlog.Sealed && store.Format < etcdlog.Format {
			t.Errorf("before request %d: the store is in format %d, and a segment is %s", n, store.Format, segments[0].State)
		}
	}
}

// A checkpoint that somebody kept, and whose segment was not sealed after all, is held
// against the one that was sealed in its place.
func TestVerify_keptOfWithdrawn(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1_500)
	f := &fuse{}
	f.left.Store(1) // the claim
	kv := b.client.KV
	b.client.KV = cutKV{kv, f}
	a := b.archiver(t)
	a.Commits = 300
	if err := a.Run(t.Context(), b.all[1200].Time, nil); err == nil {
		t.Fatal("it was not cut")
	}
	b.client.KV = kv
	checkpoints, err := filepath.Glob(filepath.Join(b.dir, "*.checkpoint"))
	if err != nil || len(checkpoints) != 1 {
		t.Fatalf("%q %v", checkpoints, err)
	}
	kept, err := archive.ReadCheckpoint(b.read(t, filepath.Base(checkpoints[0])), b.keys(t))
	if err != nil {
		t.Fatal(err)
	}
	b.run(t, 1200)
	if report := b.offline(t, kept); len(report.Findings) > 0 {
		t.Errorf("%+v", report.Findings)
	}
	kept.Root[0] ^= 1
	if report := b.offline(t, kept); len(report.Findings) == 0 {
		t.Error("another tree than the one that was kept is taken for it")
	}
}
