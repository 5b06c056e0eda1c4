// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/embedded"
)

func databaseBytes(t *testing.T, dir string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, "etcd", "member", "snap", "db"))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// Keys overwritten again and again leave nothing behind: their old revisions
// are compacted away without anybody's doing, and the file shrinks; but not
// while somebody writes.
func TestTheFileShrinksAfterChurn(t *testing.T) {
	var log lockedBuffer
	opts := quick(dataDir(t))
	opts.Log = zerolog.New(&log)
	opts.Retention = 200 * time.Millisecond
	opts.TidyEvery = 500 * time.Millisecond
	opts.DefragFloor = 1 << 20
	s := start(t, opts)
	value := strings.Repeat("x", 16<<10)
	first := put(t, s.Client(), "k", value)
	for range 1000 {
		put(t, s.Client(), "k", value)
	}
	peak := databaseBytes(t, opts.Dir)

	busy := time.Now().Add(4 * opts.TidyEvery)
	eventually(t, "compaction, and some looks more", func() bool {
		put(t, s.Client(), "k", "newer")
		_, err := s.Client().Get(t.Context(), "k", clientv3.WithRev(first))
		return errors.Is(err, rpctypes.ErrCompacted) && time.Now().After(busy)
	})
	if log.has("defragmented") {
		t.Error("defragmented under a writer")
	}

	eventually(t, "the file to shrink", func() bool { return log.has("defragmented") })
	if left := databaseBytes(t, opts.Dir); left > peak/4 {
		t.Errorf("the file has %d bytes, of %d at its peak", left, peak)
	}
	if got := get(t, s.Client(), "k"); got != "newer" {
		t.Errorf("read %q afterwards", got)
	}
}

// A file below the floor is let be, however empty it is.
func TestASmallFileIsLetBe(t *testing.T) {
	var log lockedBuffer
	opts := quick(dataDir(t))
	opts.Log = zerolog.New(&log)
	opts.TidyEvery = 10 * time.Millisecond
	s := start(t, opts)
	if err := fill(t, s, 100); err != nil {
		t.Fatal(err)
	}
	emptied(t, s)
	looks := time.Now().Add(20 * opts.TidyEvery)
	eventually(t, "many looks", func() bool { return time.Now().After(looks) })
	if log.has("defragmented") {
		t.Error("a small file was defragmented")
	}
}

// Old revisions stay readable for the time promised.
func TestRecentHistoryIsKept(t *testing.T) {
	opts := quick(dataDir(t))
	opts.Retention = 2 * time.Second
	s := start(t, opts)
	old := put(t, s.Client(), "k", "old")
	written := time.Now()
	eventually(t, "the old revision to be compacted", func() bool {
		put(t, s.Client(), "k", "new")
		_, err := s.Client().Get(t.Context(), "k", clientv3.WithRev(old))
		if err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
			t.Fatal(err)
		}
		return err != nil
	})
	// The tenth that etcd's own bookkeeping is coarse by is allowed for.
	if age := time.Since(written); age < opts.Retention*9/10 {
		t.Errorf("gone after %s, though promised for %s", age, opts.Retention)
	}
}

// When the quota is reached writes are refused; once space was made they are
// taken again, with nobody ending the alarm by hand.
func TestAFullStoreRecovers(t *testing.T) {
	opts := quick(dataDir(t))
	opts.Quota = 8 << 20
	opts.DefragFloor = 1 << 20
	opts.TidyEvery = 50 * time.Millisecond
	s := start(t, opts)
	if refused := fill(t, s, 10_000); !errors.Is(refused, rpctypes.ErrNoSpace) {
		t.Fatalf("the full store answered %v", refused)
	}
	emptied(t, s)
	eventually(t, "writes to be taken again", func() bool {
		_, err := s.Client().Put(t.Context(), "k", "v")
		if err != nil && !errors.Is(err, rpctypes.ErrNoSpace) {
			t.Fatal(err)
		}
		return err == nil
	})
}

// fill writes until it is refused, at most n times 16 KiB.
func fill(t *testing.T, s *embedded.Server, n int) error {
	t.Helper()
	value := strings.Repeat("x", 16<<10)
	for i := range n {
		if _, err := s.Client().Put(t.Context(), fmt.Sprintf("fill/%d", i), value); err != nil {
			return errors.Wrapf(err, "after %d writes", i)
		}
	}
	return nil
}

// emptied deletes what fill wrote, with its history.
func emptied(t *testing.T, s *embedded.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	deleted, err := s.Client().Delete(ctx, "fill/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Client().Compact(ctx, deleted.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
}

func (b *lockedBuffer) has(text string) bool { return strings.Contains(b.String(), text) }
