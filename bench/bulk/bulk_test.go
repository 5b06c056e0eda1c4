// SPDX-License-Identifier: Apache-2.0

package bulk_test

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/bench/bulk"
	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
)

// told is all that a log says of the pools of a story, without what is another's in
// every log: revisions, times of commits and their ids.
type told struct {
	Events   map[events.Stream][]events.Event
	Guards   map[events.Stream]events.Guards
	Holdings map[events.ID]projection.Holding
	Pools    map[events.ID]projection.PoolLife
	Misfits  int
}

func tell(t *testing.T, log *etcdlog.Log, streams []events.Stream) told {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	records, _, err := log.Read(ctx, 0, nil, streams...)
	if err != nil {
		t.Fatal(err)
	}
	got := told{map[events.Stream][]events.Event{}, map[events.Stream]events.Guards{}, map[events.ID]projection.Holding{}, map[events.ID]projection.PoolLife{}, 0}
	timeline := projection.NewTimeline()
	for _, r := range records {
		got.Events[r.Stream] = append(got.Events[r.Stream], r.Events...)
		timeline.Apply(r)
	}
	got.Misfits = len(timeline.Misfits())
	for h := range timeline.Holdings() {
		got.Holdings[h.Allocation] = *h
	}
	for _, p := range timeline.Pools() {
		got.Pools[p.ID] = *p
		guards, _, err := log.Guards(ctx, events.Local, p.ID)
		if err != nil {
			t.Fatal(err)
		}
		for address, held := range guards.Held {
			held.Value = slices.Clone(held.Value)
			for i := range held.Value {
				held.Value[i].Commit = events.ID{}
			}
			guards.Held[address] = held
		}
		got.Guards[events.PoolStream(p.ID)] = guards
	}
	return got
}

// TestWriteIsAppend: what is written in bulk is what the append path writes.
func TestWriteIsAppend(t *testing.T) {
	story := bulk.Story{Events: 2000, Held: 300}
	client := etcdtest.Start(t).Client()
	if err := bulk.Write(t.Context(), client, "/bulk/", story.Commits(), nil); err != nil {
		t.Fatal(err)
	}
	log := etcdlog.New(client, "/append/")
	if _, err := log.Found(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := join(t, client, log)
	var streams []events.Stream
	seen := map[events.Stream]*events.Guards{}
	for c := range story.Commits() {
		if seen[c.Stream] == nil {
			g := events.NewGuards()
			g.Hosts = nil
			seen[c.Stream], streams = &g, append(streams, c.Stream)
		}
		at, err := log.Revision(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r, err := w.Append(t.Context(), etcdlog.Proposal{ID: log.Clock.NewID(), Stream: c.Stream, Events: c.Events, Seen: *seen[c.Stream], CatalogueAt: at})
		if err != nil {
			t.Fatal(err)
		}
		if err := seen[c.Stream].Apply(r); err != nil {
			t.Fatal(err)
		}
	}
	appended, written := tell(t, log, streams), tell(t, etcdlog.New(client, "/bulk/"), streams)
	if diff := cmp.Diff(appended, written, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}),
		cmpopts.IgnoreTypes(projection.Mark{}), cmpopts.IgnoreFields(events.Guarded[events.Held]{}, "Revision"),
		cmpopts.IgnoreFields(events.Guarded[events.Grant]{}, "Revision"), cmpopts.IgnoreFields(events.Guarded[events.Pool]{}, "Revision")); diff != "" {
		t.Errorf("(-appended +in bulk):\n%s", diff)
	}
	if len(appended.Holdings) < 500 || len(appended.Pools) < 64 || appended.Misfits > 0 {
		t.Errorf("too little happened: %d holdings in %d pools, %d misfits", len(appended.Holdings), len(appended.Pools), appended.Misfits)
	}
}

// TestStory: it comes out as large as it was asked for, in pools that come and go.
func TestStory(t *testing.T) {
	timeline := projection.NewTimeline()
	n := int64(0)
	for c := range (bulk.Story{Events: 200_000, Held: 10_000}).Commits() {
		n++
		timeline.Apply(events.Record{Commit: c, Revision: n})
	}
	held, retired := 0, 0
	for h := range timeline.Holdings() {
		if !h.To.Reached() {
			held++
		}
	}
	for _, p := range timeline.Pools() {
		if p.Retired.Reached() {
			retired++
		}
	}
	if n < 190_000 || held < 8000 || held > 11_000 || retired < 8 || len(timeline.Misfits()) > 0 {
		t.Errorf("%d commits, %d held at the end, %d pools retired, misfits %v", n, held, retired, timeline.Misfits())
	}
}

func join(t *testing.T, client *clientv3.Client, log *etcdlog.Log) *etcdlog.Writer {
	t.Helper()
	lease, err := client.Grant(t.Context(), 600)
	if err != nil {
		t.Fatal(err)
	}
	w, err := log.Join(t.Context(), "h1", etcdlog.Presence{Machine: "m1", PID: 1, Version: "test"}, lease.ID, func(etcdlog.Presence) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	return w
}
