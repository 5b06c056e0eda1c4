// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/reconcile"
)

// TestLookFirst: in a store that lacks what the engine uses, all of it is allocated by
// the end of the first look; in any other it is looked at twice.
func TestLookFirst(t *testing.T) {
	b := newBed(t, reconcile.Report)
	used := []netip.Addr{netip.MustParseAddr("10.1.0.7"), netip.MustParseAddr("10.1.0.8")}
	b.engine.change(func() { b.engine.networks = []engine.Network{network("n", used[0].String(), used[1].String())} })
	run := func(prepare func(*reconcile.Reconciler)) {
		r := reconcile.New(reconcile.Options{
			Engine: b.engine, Driver: "ipamlog", Mode: reconcile.Fix, Every: time.Hour, Grace: time.Hour, Logger: zerolog.New(b.said),
		})
		prepare(r)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { r.Run(ctx, b.host) })
		<-r.Looked()
		stop()
		running.Wait()
	}
	run(func(*reconcile.Reconciler) {})
	for _, a := range used {
		if held := b.held(a); len(held) != 0 {
			t.Errorf("after an ordinary look %s is held: %+v", a, held)
		}
	}
	run((*reconcile.Reconciler).LookFirst)
	for _, a := range used {
		if held := b.held(a); len(held) != 1 {
			t.Errorf("after the first look %s is held by %+v", a, held)
		}
	}
}
