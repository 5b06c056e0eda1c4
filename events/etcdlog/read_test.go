// SPDX-License-Identifier: Apache-2.0

package etcdlog_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// place is where a commit was put, and when.
type place struct {
	Stream   events.Stream
	ID       events.ID
	Revision int64
}

func idAt(t time.Time, n int) events.ID {
	id := ulid.ULID{12: byte(n >> 24), 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)}
	if err := id.SetTime(ulid.Timestamp(t)); err != nil {
		panic(err)
	}
	return events.ID(id)
}

// write puts void commits under the given names, many at once, and returns them
// in the order of their revisions.
func write(tb testing.TB, client *clientv3.Client, names []place) []place {
	tb.Helper()
	value, err := events.Encode(events.Commit{Time: noon, Host: "h1"})
	if err != nil {
		tb.Fatal(err)
	}
	written := slices.Clone(names)
	var wg sync.WaitGroup
	const workers = 32
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(written); i += workers {
				p := &written[i]
				resp, err := client.Txn(tb.Context()).Then(etcdlog.PutCommit(etcdlog.DefaultPrefix, p.Stream, p.ID, value)...).Commit()
				if err != nil {
					tb.Error(err)
					return
				}
				p.Revision = resp.Header.Revision
			}
		})
	}
	wg.Wait()
	sortPlaces(written)
	return written
}

func sortPlaces(list []place) {
	slices.SortFunc(list, func(a, b place) int { return int(a.Revision - b.Revision) })
}

func placesOf(records []events.Record) []place {
	var list []place
	for _, r := range records {
		list = append(list, place{r.Stream, r.ID, r.Revision})
	}
	return list
}

func streamNo(n int) events.Stream { return events.PoolStream(idAt(noon, n)) }

// difference says how two lists of places differ, and costs little if they do not.
func difference(want, got []place) string {
	if slices.Equal(want, got) {
		return ""
	}
	return cmp.Diff(want, got)
}

// TestReadFindsEveryCommit has streams whose ULIDs lie every way they can.
func TestReadFindsEveryCommit(t *testing.T) {
	shapes := map[string][]place{}
	for i := range 300 {
		shapes["years apart"] = append(shapes["years apart"], place{Stream: "gaps", ID: idAt(noon.AddDate(2*i, 0, 0), i)})
		shapes["all at once"] = append(shapes["all at once"], place{Stream: streamNo(i), ID: idAt(noon, i)})
		shapes["a stream each, at any time"] = append(shapes["a stream each, at any time"], place{Stream: streamNo(i), ID: idAt(noon.Add(time.Duration(rand.Int64N(1e18))), i)})
	}
	for i := range 3000 {
		shapes["thousands in a millisecond"] = append(shapes["thousands in a millisecond"], place{Stream: "dense", ID: idAt(noon, i)})
		shapes["backwards"] = append(shapes["backwards"], place{Stream: "back", ID: idAt(noon.Add(-time.Duration(i)*time.Minute), i)})
	}
	edges := []place{{Stream: "edges", ID: idAt(time.UnixMilli(0), 0)}, {Stream: "edges", ID: idAt(time.UnixMilli(0), 1)}, {Stream: "edges", ID: events.ID{}}}
	for _, ms := range []uint64{1, 3_599_999, 3_600_000, 3_600_001, ulid.MaxTime() - 1, ulid.MaxTime()} {
		var id ulid.ULID
		if err := id.SetTime(ms); err != nil {
			t.Fatal(err)
		}
		edges = append(edges, place{Stream: "edges", ID: events.ID(id)})
		id[15] = 1
		edges = append(edges, place{Stream: "edges", ID: events.ID(id)})
	}
	shapes["both ends of what a ULID can say"] = slices.DeleteFunc(edges, func(p place) bool { return p.ID.IsZero() })
	// Sparse years make the window wide; then it must narrow down a thousandfold.
	crowd := []place{}
	for i := range 40 {
		crowd = append(crowd, place{Stream: "crowd", ID: idAt(noon.AddDate(i-50, 0, 0), i)})
	}
	for i := range 12_000 {
		crowd = append(crowd, place{Stream: "crowd", ID: idAt(noon.Add(time.Duration(i%7000)*time.Millisecond), i)})
	}
	shapes["a crowd after years of quiet"] = crowd

	for name, names := range shapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := etcdtest.Start(t).Client()
			rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
			want := write(t, client, names)
			log := etcdlog.New(client, etcdlog.DefaultPrefix)
			last := 0
			records, revision, err := log.Read(within(t, 60*time.Second), 0, func(n int) {
				if n < last {
					t.Errorf("progress goes back from %d to %d", last, n)
				}
				last = n
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := difference(want, placesOf(records)); diff != "" {
				t.Errorf("(-written +read):\n%s", diff)
			}
			if last != len(records) || revision != want[len(want)-1].Revision {
				t.Errorf("%d told of, at revision %d", last, revision)
			}

			middle := want[len(want)/2].Revision
			records, revision, err = log.Read(within(t, 60*time.Second), middle, nil)
			if diff := difference(want[:len(want)/2+1], placesOf(records)); diff != "" || err != nil || revision != middle {
				t.Errorf("at revision %d: %d %v %s", middle, revision, err, diff)
			}

			ends := map[events.Stream]etcdlog.Head{}
			for _, p := range want {
				ends[p.Stream] = etcdlog.Head{Commits: ends[p.Stream].Commits + 1, Revision: p.Revision}
			}
			heads, _, err := log.Heads(within(t, 60*time.Second))
			if diff := cmp.Diff(ends, heads); diff != "" || err != nil {
				t.Errorf("heads: %v %s", err, diff)
			}

			for range 5 {
				from := rand.IntN(len(want))
				to := from + rand.IntN(len(want)-from)
				since := want[rand.IntN(len(want))].ID.Time() // wherever they are looked for first
				records, err := log.ReadBetween(within(t, 60*time.Second), want[from].Revision-1, want[to].Revision, since, to-from+1, nil)
				if diff := difference(want[from:to+1], placesOf(records)); diff != "" || err != nil {
					t.Errorf("from %d to %d, looked for since %s: %v %s", from, to, since, err, diff)
				}
			}

			stream := names[0].Stream
			records, _, err = log.Read(within(t, 60*time.Second), 0, nil, stream)
			alone := slices.DeleteFunc(slices.Clone(want), func(p place) bool { return p.Stream != stream })
			if diff := difference(alone, placesOf(records)); diff != "" || err != nil {
				t.Errorf("one stream alone: %v %s", err, diff)
			}

			from := names[0].ID.Time()
			records, err = log.Since(within(t, 60*time.Second), stream, from)
			tail := slices.DeleteFunc(alone, func(p place) bool { return p.ID.Time().Before(from) })
			if diff := difference(tail, placesOf(records)); diff != "" || err != nil {
				t.Errorf("since %s: %v %s", from, err, diff)
			}
		})
	}
}

func TestReadOfNothing(t *testing.T) {
	log := etcdlog.New(etcdtest.Start(t).Client(), etcdlog.DefaultPrefix)
	records, _, err := log.Read(within(t, 20*time.Second), 0, nil)
	if len(records) > 0 || err != nil {
		t.Errorf("%v %v", records, err)
	}
	if records, _, err = log.Read(within(t, 20*time.Second), 0, nil, "nothing"); len(records) > 0 || err != nil {
		t.Errorf("%v %v", records, err)
	}
	if heads, _, err := log.Heads(within(t, 20*time.Second)); len(heads) > 0 || err != nil {
		t.Errorf("%v %v", heads, err)
	}
}

// TestReadWhileCompactedAndWritten: whatever revision a read answers for, it has
// every commit up to there, of streams that began meanwhile too.
func TestReadWhileCompactedAndWritten(t *testing.T) {
	client := etcdtest.Start(t).Client()
	var names []place
	for i := range 3000 {
		names = append(names, place{Stream: streamNo(i % 10), ID: idAt(noon.Add(time.Duration(i)*time.Hour), i)})
	}
	want := write(t, client, names)
	log := etcdlog.New(client, etcdlog.DefaultPrefix)

	stop := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	wg.Go(func() {
		for n := 1; n < 300; n++ {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			// New streams come before those that are known, where a list that
			// is being made has been already.
			one := write(t, client, []place{{Stream: events.PoolStream(idAt(noon.Add(-time.Duration(n)*time.Hour), 0)), ID: idAt(noon, n)}})
			mu.Lock()
			want = append(want, one...)
			mu.Unlock()
			if n%4 == 0 && n < 100 { // and leave the reader in peace some day
				if _, err := client.Compact(t.Context(), one[0].Revision); err != nil {
					t.Error(err)
				}
			}
		}
	})
	type reading struct {
		revision int64
		places   []place
	}
	var readings []reading
	for range 5 {
		records, revision, err := log.Read(within(t, 60*time.Second), 0, nil)
		if err != nil {
			t.Error(err)
			break
		}
		readings = append(readings, reading{revision, placesOf(records)})
	}
	close(stop)
	wg.Wait()
	sortPlaces(want)
	for _, r := range readings {
		upTo := slices.DeleteFunc(slices.Clone(want), func(p place) bool { return p.Revision > r.revision })
		if diff := cmp.Diff(upTo, r.places); diff != "" {
			t.Errorf("at revision %d (-written +read):\n%s", r.revision, diff)
		}
	}
}

// TestGuardsAreReadAtOneRevision reads more guards than one page, while they
// change and are compacted away.
func TestGuardsAreReadAtOneRevision(t *testing.T) {
	b := startBed(t)
	const held = 25_000
	value, err := events.EncodeGuard(events.Held{{ID: b.pool, Kind: events.Endpoint, Commit: b.pool}})
	if err != nil {
		t.Fatal(err)
	}
	for chunk := range slices.Chunk(slices.Collect(addresses(held)), 100) {
		var puts []clientv3.Op
		for _, a := range chunk {
			puts = append(puts, clientv3.OpPut(fmt.Sprintf("%sheld/%s/%s", etcdlog.DefaultPrefix, b.pool, a), string(value)))
		}
		if _, err := b.client.Txn(t.Context()).Then(puts...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	// Two addresses, first and last in the order of keys, are rewritten together:
	// whoever reads them at one revision sees the same one.
	first, last := address(0), address(97<<8|99)
	rewrite := func() int64 {
		resp, err := b.client.Txn(t.Context()).Then(
			clientv3.OpPut(fmt.Sprintf("%sheld/%s/%s", etcdlog.DefaultPrefix, b.pool, first), string(value)),
			clientv3.OpPut(fmt.Sprintf("%sheld/%s/%s", etcdlog.DefaultPrefix, b.pool, last), string(value)),
		).Commit()
		if err != nil {
			t.Error(err)
			return 0
		}
		return resp.Header.Revision
	}
	rewrite()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := range 100 {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			if revision := rewrite(); n%10 == 0 {
				if _, err := b.client.Compact(t.Context(), revision); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for range 3 {
		g, revision := b.guards()
		if len(g.Held) != held || !g.Pool.Present() || !g.Grants[b.grant].Present() {
			t.Errorf("%d held", len(g.Held))
		}
		one, other := g.Held[first].Revision, g.Held[last].Revision
		if one > revision || one != other {
			t.Errorf("one at %d, the other at %d, read at %d", one, other, revision)
		}
	}
	close(stop)
	wg.Wait()
}
