// SPDX-License-Identifier: Apache-2.0

package archive_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	gocmp "github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/archive"
	"github.com/ipamlog/ipamlog/bench/bulk"
	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/replay"
)

const prefix = "/ipamlog/v1/"

// bed is a log with a long story in it, and an archive for it.
type bed struct {
	client *clientv3.Client
	log    *etcdlog.Log
	store  events.ID
	origin string
	all    []events.Record // the log before anything was archived
	wrong  []string        // what is wrong with it: nobody else writes guards as the story's writer does
	home   string          // the key's
	dir    string
}

func newBed(t *testing.T, story int) *bed {
	t.Helper()
	b := &bed{client: etcdtest.Start(t).Client(), home: t.TempDir()}
	b.dir = filepath.Join(b.home, "archive")
	if err := bulk.Write(t.Context(), b.client, prefix, bulk.Story{Events: story, Held: 200}.Commits(), nil); err != nil {
		t.Fatal(err)
	}
	b.log = etcdlog.New(b.client, prefix)
	b.log.Archive = &archive.Shelf{}
	identity, err := b.log.Store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.store, b.origin = identity.ID, archive.Origin(identity.ID, nil)
	b.all, _, err = b.log.Read(t.Context(), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.wrong = b.findings(t)
	return b
}

func (b *bed) key(t *testing.T) archive.Key {
	t.Helper()
	key, err := archive.LoadKey(filepath.Join(b.home, "archive.key"), b.origin)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (b *bed) keys(t *testing.T) archive.Keys {
	t.Helper()
	keys, err := archive.ParseKeys(b.key(t).Public)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func (b *bed) place(t *testing.T) archive.Place {
	t.Helper()
	place, err := archive.OpenPlace(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	return place
}

func (b *bed) archiver(t *testing.T) *archive.Archiver {
	t.Helper()
	a := &archive.Archiver{Log: b.log, Store: b.store, Place: b.place(t), Key: b.key(t), Commits: 1000}
	a.Young()
	return a
}

// run archives what is of before the n-th commit.
func (b *bed) run(t *testing.T, n int) {
	t.Helper()
	if err := b.archiver(t).Run(t.Context(), b.all[n].Time, nil); err != nil {
		t.Fatal(err)
	}
}

// same fails unless the log is what it was before anything was archived.
func (b *bed) same(t *testing.T) {
	t.Helper()
	now, _, err := b.log.Read(t.Context(), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "the log", b.all, now)
}

// equal fails unless the records are the same.
func equal(t *testing.T, what string, want, got []events.Record) {
	t.Helper()
	n := 0
	for n < min(len(want), len(got)) && text(t, want[n]) == text(t, got[n]) {
		n++
	}
	switch {
	case n < len(want) && n < len(got):
		t.Fatalf("%s: the %d-th commit is %s, and was %s", what, n, text(t, got[n]), text(t, want[n]))
	case n < len(want) || n < len(got):
		t.Fatalf("%s: it has %d commits, and had %d", what, len(got), len(want))
	}
}

func text(t *testing.T, r events.Record) string {
	t.Helper()
	value, err := events.Encode(r.Commit)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("@%d %s %s %s", r.Revision, r.Stream, r.ID, value)
}

// join has a host join the log, and leave it.
func (b *bed) join(t *testing.T) {
	t.Helper()
	lease, err := b.client.Grant(t.Context(), 600)
	if err != nil {
		t.Fatal(err)
	}
	w, err := b.log.Join(t.Context(), "h9", etcdlog.Presence{Machine: "m9", PID: 1}, lease.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.client.Revoke(t.Context(), lease.ID); err != nil {
		t.Fatal(err)
	}
}

// stored counts the commits that are in the store.
func (b *bed) stored(t *testing.T) int {
	t.Helper()
	resp, err := b.client.Get(t.Context(), prefix+"log/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		t.Fatal(err)
	}
	return int(resp.Count)
}

// sound fails unless the log keeps its rules and the archive proves itself.
func (b *bed) sound(t *testing.T) *archive.Report {
	t.Helper()
	if diff := gocmp.Diff(b.wrong, b.findings(t)); diff != "" {
		t.Errorf("the log does not keep its rules as before:\n%.2000s", diff)
	}
	segments, err := b.log.Segments(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return b.verify(t, segments)
}

func (b *bed) findings(t *testing.T) []string {
	t.Helper()
	report, _, err := replay.Verify(t.Context(), b.log, nil)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, f := range report.Findings {
		list = append(list, fmt.Sprintf("%s %s %s", f.Rule, f.Where, f.What))
	}
	slices.Sort(list)
	return list
}

func (b *bed) verify(t *testing.T, expected []etcdlog.Segment) *archive.Report {
	t.Helper()
	report, err := archive.Verify(t.Context(), b.place(t), b.keys(t), nil, expected, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Findings) > 0 {
		t.Errorf("%+v", report.Findings)
	}
	return report
}

// errCut is what comes of a step that is not done any more.
var errCut = errors.New("cut")

// fuse lets so many steps happen, and none after them.
type fuse struct{ left atomic.Int64 }

func (f *fuse) burn() error {
	if f.left.Add(-1) < 0 {
		return errCut
	}
	return nil
}

// cutKV is a store whose requests are lost from some moment on: half of them are done all
// the same.
type cutKV struct {
	clientv3.KV
	fuse *fuse
}

func (k cutKV) Put(ctx context.Context, key, value string, opts ...clientv3.OpOption) (*clientv3.PutResponse, error) {
	if err := k.fuse.burn(); err != nil {
		return nil, err
	}
	return k.KV.Put(ctx, key, value, opts...)
}

func (k cutKV) Txn(ctx context.Context) clientv3.Txn {
	return &cutTxn{Txn: k.KV.Txn(ctx), fuse: k.fuse}
}

// cutTxn is a transaction; only those that write burn the fuse.
type cutTxn struct {
	clientv3.Txn
	fuse   *fuse
	writes bool
}

func (t *cutTxn) If(cs ...clientv3.Cmp) clientv3.Txn {
	t.Txn = t.Txn.If(cs...)
	return t
}

func (t *cutTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	t.Txn = t.Txn.Then(ops...)
	t.writes = slices.ContainsFunc(ops, func(op clientv3.Op) bool { return !op.IsGet() })
	return t
}

func (t *cutTxn) Commit() (*clientv3.TxnResponse, error) {
	if !t.writes {
		return t.Txn.Commit()
	}
	if err := t.fuse.burn(); err != nil {
		if t.fuse.left.Load()%2 == 0 {
			_, _ = t.Txn.Commit() // its answer is lost
		}
		return nil, err
	}
	return t.Txn.Commit()
}

// cutPlace is a place in which nothing can be changed from some moment on.
type cutPlace struct {
	archive.Place
	fuse *fuse
}

func (p cutPlace) Put(ctx context.Context, name string, content []byte) error {
	if err := p.fuse.burn(); err != nil {
		return err
	}
	return p.Place.Put(ctx, name, content)
}

func (p cutPlace) Delete(ctx context.Context, name string) error {
	if err := p.fuse.burn(); err != nil {
		return err
	}
	return p.Place.Delete(ctx, name)
}

func after(r events.Record, d time.Duration) time.Time { return r.Time.Add(d) }
