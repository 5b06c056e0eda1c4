// SPDX-License-Identifier: Apache-2.0

package etcdlog_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// TestForget: however many segments there are, they are forgotten in one step, as far as
// they are out of the store, by whoever has claimed the archive last.
func TestForget(t *testing.T) {
	client := etcdtest.Start(t).Client()
	log := etcdlog.New(client, etcdlog.DefaultPrefix)
	const many, sealed = 300, 5
	for i := range int64(many) {
		s := etcdlog.Segment{
			First: 10*i + 1, Last: 10*i + 10, Commits: 10, Running: noon.Add(time.Duration(i) * time.Hour), State: etcdlog.Removed,
			Before: etcdlog.TreeHead{Size: 10 * i}, After: etcdlog.TreeHead{Size: 10*i + 10}, File: fmt.Sprint("segment-", i),
		}
		if i >= many-sealed {
			s.State = etcdlog.Sealed
		}
		value, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Put(t.Context(), fmt.Sprintf("%ssegments/%016d", etcdlog.DefaultPrefix, s.First), string(value)); err != nil {
			t.Fatal(err)
		}
	}
	segments := func() []etcdlog.Segment {
		t.Helper()
		list, err := log.Segments(t.Context())
		if err != nil || len(list) != many {
			t.Fatalf("%d segments: %v", len(list), err)
		}
		return list
	}
	claimed := func() etcdlog.Claim {
		t.Helper()
		claim, err := log.ClaimArchive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return claim
	}
	forgotten := func(n int) {
		t.Helper()
		for i, s := range segments() {
			want := etcdlog.Removed
			switch {
			case i < n:
				want = etcdlog.Forgotten
			case i >= many-sealed:
				want = etcdlog.Sealed
			}
			if s.State != want {
				t.Errorf("segment %d of %d forgotten is %s, not %s", i, n, s.State, want)
			}
		}
		if left := etcdlog.Readable(segments()); len(left) != many-max(n-1, 0) || n > 0 && left[0].File != "residue" {
			t.Errorf("%d segments are read, the first in %s", len(left), left[0].File)
		}
	}
	forget := func(claim etcdlog.Claim, n int) error {
		t.Helper()
		list := segments()[:n]
		last := list[n-1]
		return log.Forget(t.Context(), claim, list, etcdlog.Residue{Last: last.Last, Running: last.Running, File: "residue"})
	}
	forgotten(0)
	old := claimed()
	if err := forget(claimed(), 200); err != nil {
		t.Fatal(err)
	}
	forgotten(200)
	if err := forget(old, 250); !errors.Is(err, etcdlog.ErrOvertaken) {
		t.Errorf("by an earlier claim: %v", err)
	}
	if err := forget(claimed(), many); err == nil {
		t.Error("what is in the store still was forgotten")
	}
	forgotten(200)
	if err := forget(claimed(), 250); err != nil {
		t.Fatal(err)
	}
	forgotten(250)
}
