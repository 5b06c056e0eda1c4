// SPDX-License-Identifier: Apache-2.0

package archive_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/archive"
	"github.com/ipamlog/ipamlog/backup"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// A log that was restored reads its archive as the old one did, whatever the archiver was
// doing when it was backed up, and goes on with the same tree.
func TestRestored(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string]int64{"all removed": 1000, "removing": 12, "sealed": 4} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, 1_500)
			kv := b.client.KV
			f := &fuse{}
			f.left.Store(steps)
			b.client.KV = cutKV{kv, f}
			_ = b.archiver(t).Run(t.Context(), b.all[900].Time, nil)
			b.client.KV = kv
			segments, err := b.log.Segments(t.Context())
			if err != nil || len(segments) == 0 {
				t.Fatalf("%d segments: %v", len(segments), err)
			}
			t.Logf("the segment is %s", segments[0].State)

			path := filepath.Join(t.TempDir(), "log.zst")
			snapshot, err := b.log.Snapshot(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := backup.Save(t.Context(), path, false, snapshot, backup.Header{Time: time.Now()}); err != nil {
				t.Fatal(err)
			}
			from, err := backup.Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			defer from.Close()
			restored := *b
			restored.log = etcdlog.New(b.client, "/restored/")
			restored.log.Archive = &archive.Shelf{}
			store, err := from.Restore(t.Context(), restored.log, time.Now(), nil)
			if err != nil {
				t.Fatal(err)
			}
			restored.same(t)
			if report, err := archive.Verify(t.Context(), b.place(t), b.keys(t), nil, segments, nil); err != nil || len(report.Findings) > 0 {
				t.Fatalf("%v %+v", err, report)
			}

			// What a restored store has is old as soon as somebody writes to it.
			restored.join(t)
			restored.store = store.ID
			if restored.all, _, err = restored.log.Read(t.Context(), 0, nil); err != nil {
				t.Fatal(err)
			}
			a := restored.archiver(t)
			if err := a.Run(t.Context(), b.all[1200].Time, nil); err != nil {
				t.Fatal(err)
			}
			restored.same(t)
			segments, err = restored.log.Segments(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			restored.verify(t, segments)
		})
	}
}
