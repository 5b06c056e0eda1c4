// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/operator"
	"github.com/ipamlog/ipamlog/reconcile"
)

// TestTakenOver_inUse: what a host's containers go on using over a take-over is theirs
// again before anything is given out on their network, however long the grace.
func TestTakenOver_inUse(t *testing.T) {
	for name, alone := range map[string]bool{"the pool is gone": true, "the pool is there": false} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, reconcile.Report)
			used := []netip.Addr{b.ask(1), b.ask(2)}
			b.engine.change(func() { b.engine.networks = []engine.Network{network("n", used[0].String(), used[1].String())} })
			b.stop()
			if !alone {
				other := b.join("h2", "m2", nil)
				granted, err := other.RequestPool(t.Context(), actor.PoolRequest{Space: events.Local, Subnet: subnet})
				if err != nil {
					t.Fatal(err)
				}
				defer b.closes(other)
				if granted.Pool != b.ref.Pool {
					t.Fatal("another pool")
				}
			}
			o, err := operator.New(t.Context(), etcdlog.New(b.client, etcdlog.DefaultPrefix), operator.Options{Host: "h2", Version: "test", Machine: "m2"})
			if err != nil {
				t.Fatal(err)
			}
			if out, err := o.TakeOver(t.Context(), "h1"); err != nil || out.Released != 2 {
				t.Fatalf("%+v %v", out, err)
			}

			r := b.reconciler(reconcile.Fix, time.Hour, time.Hour)
			host := b.join("h1", "m1", r)
			defer b.closes(host)
			ctx, stop := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() { r.Run(ctx, host) })
			<-r.Looked()
			for n := range 4 {
				ask := actor.AddressRequest{Asking: actor.AskEndpoint, MAC: events.MAC{2, 7, 0, 0, 0, byte(n)}}
				a, err := host.RequestAddress(t.Context(), b.ref, ask)
				for ; errors.Is(err, actor.ErrUnlooked); time.Sleep(5 * time.Millisecond) {
					a, err = host.RequestAddress(t.Context(), b.ref, ask)
				}
				if err != nil {
					t.Fatal(err)
				}
				if slices.Contains(used, a.Address) {
					t.Errorf("a new container was given %s, which another one uses", a.Address)
				}
			}
			stop()
			running.Wait()
		})
	}
}

// closes ends a host that nobody runs.
func (b *bed) closes(host *actor.Host) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	cancel()
	_ = host.Run(ctx)
}
