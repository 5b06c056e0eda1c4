// SPDX-License-Identifier: Apache-2.0

package etcdlog_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
)

// follower is a projection that follows a pool.
type follower struct {
	tb  testing.TB
	log *etcdlog.Log

	mu        sync.Mutex
	state     *projection.Pool
	snapshots int
	records   int
	troubles  []error
}

// follow begins to follow the bed's pool through a client, until the test ends.
func (b *bed) follow(client *clientv3.Client) *follower {
	b.tb.Helper()
	f := &follower{tb: b.tb, log: etcdlog.New(client, etcdlog.DefaultPrefix)}
	f.log.SetReading(500 * time.Millisecond)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := f.log.Follow(ctx, events.Local, b.pool, f.update, f.trouble)
		if !errors.Is(err, context.Canceled) {
			b.tb.Errorf("the following ended: %v", err)
		}
	}()
	b.tb.Cleanup(func() { stop(); <-ended })
	return f
}

func (f *follower) update(u etcdlog.Update) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != nil && u.Revision < f.state.Revision() {
		f.tb.Errorf("told of revision %d after %d", u.Revision, f.state.Revision())
	}
	if u.Guards != nil {
		f.snapshots++
		f.state = projection.FromGuards(*u.Guards, u.Revision)
	}
	for _, r := range u.Records {
		if f.state == nil || r.Revision <= f.state.Revision() {
			f.tb.Errorf("record %d was told of twice, or before the guards", r.Revision)
			return nil
		}
		f.records++
		if err := f.state.Apply(r); err != nil {
			return err
		}
	}
	f.state.Reached(u.Revision)
	return nil
}

func (f *follower) trouble(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.troubles = append(f.troubles, err)
}

func (f *follower) revision() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state == nil {
		return 0
	}
	return f.state.Revision()
}

func (f *follower) told() (snapshots, records int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.snapshots, f.records
}

// catchesUp waits until the follower is where the guards are, and compares.
func (f *follower) catchesUp(b *bed) {
	b.tb.Helper()
	g, _ := b.guards()
	newest := newestOf(g)
	eventually(b.tb, "the follower at the last change", func() bool { return f.revision() >= newest })
	f.mu.Lock()
	defer f.mu.Unlock()
	if diff := cmp.Diff(g, f.state.Guards(), equate); diff != "" {
		b.tb.Errorf("(-guards +followed):\n%s", diff)
	}
}

// newestOf is the revision that a follower must have reached at least.
func newestOf(g events.Guards) int64 {
	newest := g.Pool.Revision
	for _, v := range g.Held {
		newest = max(newest, v.Revision)
	}
	for _, v := range g.Grants {
		newest = max(newest, v.Revision)
	}
	return newest
}

func (b *bed) compact() {
	b.tb.Helper()
	_, revision := b.guards()
	if _, err := b.client.Compact(within(b.tb, 20*time.Second), revision); err != nil {
		b.tb.Fatal(err)
	}
}

func TestFollowTellsTheGuardsAndThenTheRecords(t *testing.T) {
	b := startBed(t)
	b.append(b.allocate(1), b.allocate(2))
	f := b.follow(b.client)
	eventually(t, "the guards", func() bool { n, _ := f.told(); return n == 1 })
	for n := range 20 {
		a := b.allocate(10 + n)
		b.append(a)
		if n%2 == 0 {
			b.append(release(a, events.Released))
		}
	}
	f.catchesUp(b)
	if snapshots, records := f.told(); snapshots != 1 || records != 30 {
		t.Errorf("told of %d snapshots and %d records", snapshots, records)
	}
	if len(f.troubles) > 0 {
		t.Errorf("trouble: %v", f.troubles)
	}
}

// A pool that nothing happens in is followed too: elsewhere things happen.
func TestCatchUp(t *testing.T) {
	b := startBed(t)
	f := b.follow(b.client)
	eventually(t, "the guards", func() bool { return f.revision() > 0 })
	elsewhere, err := b.client.Put(t.Context(), etcdlog.DefaultPrefix+"log/elsewhere", "x")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the follower past a revision of another pool", func() bool {
		if err := f.log.CatchUp(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		return f.revision() >= elsewhere.Header.Revision
	})
	b.append(b.allocate(1))
	f.catchesUp(b)
}

func TestFollowSurvives(t *testing.T) {
	for name, tc := range map[string]struct {
		trouble   func(b *bed, s *etcdtest.Server, p *proxy)
		snapshots int
	}{
		"a cut connection": {func(b *bed, _ *etcdtest.Server, p *proxy) {
			for n := range 5 {
				p.cut()
				b.append(b.allocate(100 + n))
			}
		}, 1},
		"an absence": {func(b *bed, _ *etcdtest.Server, p *proxy) {
			p.shutOut()
			b.append(b.allocate(100))
			b.append(b.allocate(101))
			p.letIn()
		}, 1},
		"an absence that was compacted": {func(b *bed, _ *etcdtest.Server, p *proxy) {
			p.shutOut()
			a := b.allocate(100)
			b.append(a)
			b.append(release(a, events.Released), b.allocate(101))
			b.compact()
			b.append(b.allocate(102))
			p.letIn()
		}, 2},
		"a restart of etcd": {func(b *bed, s *etcdtest.Server, _ *proxy) {
			s.Restart()
			b.append(b.allocate(100))
		}, 1},
		"a restart and a compaction": {func(b *bed, s *etcdtest.Server, p *proxy) {
			p.shutOut()
			b.append(b.allocate(100))
			b.append(b.allocate(102))
			b.compact()
			s.Restart()
			b.append(b.allocate(101))
			p.letIn()
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := etcdtest.Start(t)
			b := newBed(t, s.Client())
			b.append(b.allocate(1))
			p := newProxy(t, s.Endpoint())
			f := b.follow(etcdtest.Dial(t, p.endpoint()))
			eventually(t, "the guards", func() bool { return f.revision() > 0 })
			b.append(b.allocate(2))
			f.catchesUp(b)
			tc.trouble(b, s, p)
			b.append(b.allocate(3))
			f.catchesUp(b)
			if snapshots, _ := f.told(); snapshots != tc.snapshots {
				t.Errorf("told of %d snapshots, want %d", snapshots, tc.snapshots)
			}
		})
	}
}

// TestFollowBeforeThePoolIs is what a host does that was told of a pool early,
// or of one that is gone.
func TestFollowBeforeThePoolIs(t *testing.T) {
	b := startBed(t)
	b.pool, b.grant = b.log.Clock.NewID(), b.log.Clock.NewID()
	f := b.follow(b.client)
	eventually(t, "no guards", func() bool { return f.revision() > 0 })
	b.append(events.PoolCreated{Space: events.Local, Name: "later", Subnet: subnet, Policy: events.DefaultPolicy()}, events.GrantOpened{Grant: b.grant})
	b.append(b.allocate(1))
	f.catchesUp(b)
}

func TestFollowReturnsWhatItsHandlerReturns(t *testing.T) {
	b := startBed(t)
	enough := errors.New("enough")
	err := b.log.Follow(within(t, 20*time.Second), events.Local, b.pool, func(etcdlog.Update) error { return enough }, nil)
	if !errors.Is(err, enough) {
		t.Errorf("at the guards: %v", err)
	}
	err = b.log.Follow(within(t, 20*time.Second), events.Local, b.pool, func(u etcdlog.Update) error {
		if u.Guards != nil {
			b.append(b.allocate(1))
			return nil
		}
		return enough
	}, nil)
	if !errors.Is(err, enough) {
		t.Errorf("at a record: %v", err)
	}
}

// Nothing may be decided past a record that cannot be read.
func TestFollowStopsAtWhatItCannotRead(t *testing.T) {
	for name, tc := range map[string]struct {
		value string
		want  error
	}{
		"garbage":              {"garbage", events.ErrMalformed},
		"a newer format":       {`{"v":2,"time":"2030-01-01T00:00:00Z","host":"h9","writer":"9.0"}`, events.ErrNewer},
		"an event we know not": {`{"v":1,"time":"2030-01-01T00:00:00Z","host":"h9","writer":"9.0","events":[{"type":"pool.split"}]}`, events.ErrUnknownEvent},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBed(t)
			var state *projection.Pool
			err := b.log.Follow(within(t, 20*time.Second), events.Local, b.pool, func(u etcdlog.Update) error {
				if u.Guards != nil {
					state = projection.FromGuards(*u.Guards, u.Revision)
					_, err := b.client.Put(t.Context(), etcdlog.DefaultPrefix+"log/"+b.pool.String()+"/"+b.log.Clock.NewID().String(), tc.value)
					return err
				}
				for _, r := range u.Records {
					if err := state.Apply(r); err != nil {
						return err
					}
				}
				return nil
			}, nil)
			if !errors.Is(err, tc.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestFollowWaitsOutAStoreThatIsAway(t *testing.T) {
	s := etcdtest.Start(t)
	b := newBed(t, s.Client())
	p := newProxy(t, s.Endpoint())
	p.shutOut()
	f := b.follow(etcdtest.Dial(t, p.endpoint()))
	s.Stop()
	p.letIn()
	eventually(t, "trouble", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.troubles) > 0 })
	s.Restart()
	b.append(b.allocate(1))
	f.catchesUp(b)
}

// TestTail has everything of every stream from a revision on, once and in order.
func TestTail(t *testing.T) {
	b := startBed(t)
	from := b.append(b.allocate(1)).Revision
	want := []events.Record{b.append(b.allocate(2)), b.append(b.allocate(3))}
	var got []events.Record
	enough := errors.New("enough")
	err := b.log.Tail(within(t, 20*time.Second), "", from, func(u etcdlog.Update) error {
		if got = append(got, u.Records...); len(got) >= len(want) {
			return enough
		}
		return nil
	})
	if diff := cmp.Diff(want, got, equate); diff != "" || !errors.Is(err, enough) {
		t.Errorf("%v %s", err, diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.log.Tail(ctx, events.Catalogue, from, func(etcdlog.Update) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
