// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"encoding/json"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/ipamlog/ipamlog/events"
)

// FuzzSegment: a record that is read as a segment's is one that can be gone on from.
func FuzzSegment(f *testing.F) {
	at := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	value, err := json.Marshal(Segment{
		First: 1, Last: 9, Commits: 4, From: at, To: at, Running: at, LowestID: events.ID{1}, HighestID: events.ID{2},
		After: TreeHead{Size: 4, Root: tlog.Hash{1}, Edge: []tlog.Hash{{1}}}, Place: "/srv/archive", File: "segment.jsonl.zst", State: Removing,
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(value)
	for _, text := range []string{"", "null", "{}", `{"state":"lost"}`, `{"state":"sealed","first":9,"last":1,"commits":1}`, `{"state":"sealed","first":1,"last":1,"commits":1,"before":{"size":-1}}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		s, err := decodeSegment(&mvccpb.KeyValue{Key: []byte("/ipamlog/v1/segments/1"), Value: value, ModRevision: 3})
		if err != nil {
			return
		}
		if s.First < 1 || s.Last < s.First || s.Before.Size < 0 || s.After.Size <= s.Before.Size || s.modified != 3 {
			t.Errorf("%s is taken for %+v", value, s)
		}
	})
}
