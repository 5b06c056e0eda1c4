// SPDX-License-Identifier: Apache-2.0

package etcdlog_test

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// TestProgressOfOthers: that others are told how far their watch is says nothing to a
// follower that has just begun, and has not been told the past yet. Etcd sends the two
// by ways of their own, which meet when its goroutines have to wait for one another:
// so all run on one processor.
func TestProgressOfOthers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	b := startBed(t)
	_, before := b.guards()
	for n := range 20 {
		b.append(b.allocate(n + 2))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	// Somebody follows already, and wants to know how far that is.
	asking.Go(func() {
		_ = b.log.Follow(ctx, events.Local, b.pool, func(etcdlog.Update) error { return nil }, nil)
	})
	for range 4 {
		asking.Go(func() {
			for ctx.Err() == nil {
				_ = b.log.CatchUp(ctx, "")
			}
		})
	}
	for range 100 {
		told := errors.New("told")
		var first etcdlog.Update
		err := b.log.Tail(within(t, 20*time.Second), events.PoolStream(b.pool), before, func(u etcdlog.Update) error {
			first = u
			return told
		})
		if !errors.Is(err, told) {
			t.Fatal(err)
		}
		if len(first.Records) == 0 && first.Revision > before {
			t.Fatalf("a follower was told that it is at revision %d, before the commits after %d", first.Revision, before)
		}
	}
}
