// SPDX-License-Identifier: Apache-2.0

package etcdlog_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// A commit that rests on what the daemons say of themselves is refused when one came or
// said something else, and not when one went.
func TestAppend_aliveAt(t *testing.T) {
	client := etcdtest.Start(t).Client()
	log := etcdlog.New(client, etcdlog.DefaultPrefix)
	first := lease(t, client)
	w, err := log.Join(within(t, 20*time.Second), "h1", etcdlog.Presence{Machine: "m1"}, first, dead)
	if err != nil {
		t.Fatal(err)
	}
	at := func() int64 {
		t.Helper()
		_, revision, err := log.Pools(within(t, 20*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		return revision
	}
	write := func(since int64) error {
		_, err := w.Append(within(t, 20*time.Second), etcdlog.Proposal{
			ID: log.Clock.NewID(), Stream: events.PoolStream(log.Clock.NewID()), Seen: events.NewGuards(), AliveAt: since,
			Events: []events.Event{events.AddressAttributed{
				Allocation: log.Clock.NewID(), Address: netip.MustParseAddr("10.0.0.2"), Attribution: events.Attribution{ContainerID: "c"},
			}},
		})
		return err
	}
	since := at()
	if err := write(since); err != nil {
		t.Fatal(err)
	}
	if err := w.Describe(within(t, 20*time.Second), etcdlog.Presence{Machine: "m1", Swarm: "active"}, first); err != nil {
		t.Fatal(err)
	}
	if err := write(since); !errors.Is(err, etcdlog.ErrConflict) {
		t.Errorf("after one said something else: %v", err)
	}
	since = at()
	second := lease(t, client)
	if _, err := log.Join(within(t, 20*time.Second), "h2", etcdlog.Presence{Machine: "m2"}, second, dead); err != nil {
		t.Fatal(err)
	}
	if err := write(since); !errors.Is(err, etcdlog.ErrConflict) {
		t.Errorf("after one came: %v", err)
	}
	since = at()
	if _, err := client.Revoke(within(t, 20*time.Second), second); err != nil {
		t.Fatal(err)
	}
	if err := write(since); err != nil {
		t.Errorf("after one went: %v", err)
	}
}
