// SPDX-License-Identifier: Apache-2.0

package index_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/oklog/ulid/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/index"
)

const prefix = etcdlog.DefaultPrefix

// bed is a log that a test writes commits into, at times of its choice.
type bed struct {
	t      *testing.T
	client *clientv3.Client
	log    *etcdlog.Log
	dir    string
	n      int
	held   map[events.ID]netip.Addr
}

func newBed(t *testing.T) *bed {
	t.Helper()
	client := etcdtest.Start(t).Client()
	b := &bed{t: t, client: client, log: etcdlog.New(client, prefix), dir: filepath.Join(t.TempDir(), "index"), held: map[events.ID]netip.Addr{}}
	return b
}

func (b *bed) open() *index.Index {
	x := index.Open(b.log, idOf('S', 1), prefix, b.dir)
	x.SaveFrom(3)
	return x
}

// commit writes events at a number of seconds after noon, under an ID of that time.
func (b *bed) commit(pool int, seconds int, list ...events.Event) events.ID {
	b.t.Helper()
	return b.commitUnder(pool, seconds, seconds, list...)
}

func (b *bed) commitUnder(pool, idSeconds, seconds int, list ...events.Event) events.ID {
	b.t.Helper()
	b.n++
	id := ulid.ULID(idOf('C', b.n))
	if err := id.SetTime(ulid.Timestamp(noon.Add(time.Duration(idSeconds) * time.Second))); err != nil {
		b.t.Fatal(err)
	}
	value, err := events.Encode(events.Commit{Time: noon.Add(time.Duration(seconds) * time.Second), Host: "h", Events: list})
	if err != nil {
		b.t.Fatal(err)
	}
	stream := ulid.ULID(idOf('P', pool))
	if err := stream.SetTime(ulid.Timestamp(noon.Add(time.Duration(pool) * time.Second))); err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.client.Txn(b.t.Context()).Then(etcdlog.PutCommit(prefix, events.Stream(stream.String()), events.ID(id), value)...).Commit(); err != nil {
		b.t.Fatal(err)
	}
	return events.ID(id)
}

func (b *bed) allocate(pool, seconds, address int) events.AddressAllocated {
	b.t.Helper()
	a := allocation(b.n, address)
	b.commit(pool, seconds, a)
	return a
}

func allocation(n, address int) events.AddressAllocated {
	return events.AddressAllocated{Allocation: idOf('A', n), Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(address)}), Kind: events.Endpoint, Host: "h", Endpoint: fmt.Sprint("c", n)}
}

// fill writes so many commits in a pool, from a time on, one a second.
func (b *bed) fill(pool, from, n int) {
	b.t.Helper()
	for i := range n {
		b.allocate(pool, from+i, i%9)
	}
}

// same fails unless an index says what the whole log says.
func (b *bed) same(x *index.Index) {
	b.t.Helper()
	j, err := replay.Load(b.t.Context(), b.log, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	h, err := x.History(b.t.Context(), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	agree(b.t, j.Timeline(), h.Timeline(), nil)
	if h.Revision() != j.Revision() || h.Err() != nil {
		b.t.Fatalf("at %d, not %d: %v", h.Revision(), j.Revision(), h.Err())
	}
	var asked *replay.History
	if err := x.Ask(b.t.Context(), nil, func(h *replay.History) error { asked = h; return nil }); err != nil {
		b.t.Fatal(err)
	}
	agree(b.t, j.Timeline(), asked.Timeline(), nil)
}

func (b *bed) save(x *index.Index) {
	b.t.Helper()
	if err := x.Save(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

// saved is an index with a file of all there is.
func (b *bed) saved() *index.Index {
	b.t.Helper()
	x := b.open()
	b.same(x)
	b.save(x)
	if x.Path() == "" {
		b.t.Fatal("no file was written")
	}
	return x
}

// warm opens an index that must find its file, and says how much it read beside it.
func (b *bed) warm() int {
	b.t.Helper()
	x := b.open()
	b.same(x)
	if x.Path() == "" {
		b.t.Fatal("the file was not used")
	}
	return x.Tail()
}

func TestIndexGoesOn(t *testing.T) {
	b := newBed(t)
	b.same(b.open()) // of nothing
	b.fill(0, 0, 20)
	b.fill(1, 20, 20)
	x := b.saved()
	if n := b.warm(); n != 0 {
		t.Errorf("%d commits were read that the file has", n)
	}
	released := allocation(0, 0)
	for _, step := range []func(){
		func() { b.fill(0, 60, 2) },
		func() { b.fill(70, 70, 2) }, // a new pool
		func() { b.fill(5, 80, 1) },  // one that is older than it looks
		func() {
			b.commit(0, 100, events.AddressReleased{Allocation: released.Allocation, Address: released.Address, Reason: events.Released})
		},
		func() {
			b.commit(0, 7200, events.AddressAttributed{Allocation: released.Allocation, Address: released.Address, Attribution: events.Attribution{ContainerID: "c"}})
		},
		func() { b.fill(1, 7300, 1) },
		func() { b.fill(0, 900_000, 1) }, // ten days on
	} {
		step()
		b.same(x) // with what it has in memory
		b.same(b.open())
	}
	if n := b.warm(); n == 0 || n > 20 {
		t.Errorf("%d commits were read beside the file", n)
	}
	b.save(x)
	if n := b.warm(); n != 0 {
		t.Errorf("%d commits were read that the new file has", n)
	}
}

// TestLateCommits: a commit may come under an ID of up to an hour ago.
func TestLateCommits(t *testing.T) {
	for name, back := range map[string]int{"seconds": 5, "under a minute": 55, "over a minute": 65, "ten minutes": 600, "nearly an hour": 3590} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.fill(0, 0, 10)
			b.fill(1, 5000, 20)
			b.fill(0, 5020, 5)
			x := b.saved()
			b.commitUnder(0, 5024-back, 5025, allocation(1000, 7))
			b.commitUnder(1, 5024-back, 5025, allocation(1001, 8))
			b.same(x)
			b.same(b.open())
			b.warm()
			b.save(x)
			b.same(b.open())
		})
	}
}

var retired = events.PoolRetired{Space: events.Local}

// TestWhateverTheClocksDid: what came is found at once, under whatever ID.
func TestWhateverTheClocksDid(t *testing.T) {
	const day = 24 * 3600
	for name, story := range map[string]struct{ before, after func(b *bed) }{
		"long ago": {
			func(b *bed) { b.fill(0, 20_000, 10) },
			func(b *bed) { b.commitUnder(0, 100, 20_010, allocation(1000, 7)) },
		},
		"another pool is nine hours ahead": {
			func(b *bed) { b.commit(1, 9*3600, allocation(1000, 7)) },
			func(b *bed) { b.commit(2, 60, allocation(1001, 8)) },
		},
		"another pool ran ahead just now": {
			func(*bed) {},
			func(b *bed) {
				b.commit(1, 9*3600, allocation(1000, 7))
				b.commit(2, 60, allocation(1001, 8))
			},
		},
		"the same pool was nine hours ahead": {
			func(b *bed) { b.commit(2, 9*3600, allocation(1000, 7)) },
			func(b *bed) { b.commit(2, 60, allocation(1001, 8)) },
		},
		"a new pool of the right time": {
			func(b *bed) { b.commit(90, 9*3600, allocation(1000, 7)) },
			func(b *bed) { b.fill(30, 60, 2) },
		},
		"much in a new pool of the right time": {
			func(b *bed) { b.commit(90, 9*3600, allocation(1000, 7)) },
			func(b *bed) { b.fill(30, 60, 2100) },
		},
		"a pool that is long retired": {
			func(b *bed) {
				b.commit(2, 50, retired)
				b.commit(1, 30*day, allocation(1000, 7))
			},
			func(b *bed) { b.commit(2, 60, allocation(1001, 8)) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.fill(1, 0, 10)
			b.fill(2, 0, 10)
			story.before(b)
			x := b.saved()
			story.after(b)
			b.same(b.open())
			b.same(x)
			b.warm()
			b.fill(2, 61, 2) // and it goes on from there
			b.same(x)
			b.save(x)
			b.warm()
		})
	}
}

// TestAnyClocks: so it is for commits of any times, in any pools.
func TestAnyClocks(t *testing.T) {
	b := newBed(t)
	rapid.Check(t, func(r *rapid.T) {
		if _, err := b.client.Delete(t.Context(), prefix, clientv3.WithPrefix()); err != nil {
			r.Fatal(err)
		}
		seconds := rapid.OneOf(rapid.IntRange(0, 200), rapid.IntRange(0, 20_000), rapid.IntRange(0, 3_000_000))
		some := func(label string) {
			for range rapid.IntRange(1, 8).Draw(r, label) {
				pool := rapid.IntRange(0, 5).Draw(r, "pool")
				var e events.Event = allocation(b.n, rapid.IntRange(0, 8).Draw(r, "address"))
				if rapid.IntRange(0, 9).Draw(r, "retire") == 0 {
					e = retired
				}
				b.commitUnder(pool, seconds.Draw(r, "id"), seconds.Draw(r, "time"), e)
			}
		}
		some("before")
		x := b.open()
		for range 4 {
			b.same(x)
			b.save(x)
			b.same(b.open())
			some("after")
		}
		b.same(x)
	})
}

// TestOtherLog: a file of another log, or of one that has lost something since, is not
// believed.
func TestOtherLog(t *testing.T) {
	b := newBed(t)
	b.fill(0, 0, 20)
	b.saved()
	other := index.Open(b.log, idOf('S', 2), prefix, b.dir)
	b.same(other)
	if other.Path() != "" {
		t.Error("it uses the file of another store")
	}
	for name, refill := range map[string]func(){
		"shorter":          func() { b.fill(0, 0, 10) },
		"as long":          func() { b.fill(0, 5, 20) },
		"longer":           func() { b.fill(0, 0, 30) },
		"without its pool": func() { b.fill(1, 0, 20) },
	} {
		t.Run(name, func(t *testing.T) {
			b.saved()
			if _, err := b.client.Delete(t.Context(), prefix, clientv3.WithPrefix()); err != nil {
				t.Fatal(err)
			}
			refill()
			b.same(b.open())
		})
	}
}

// TestFileIsOnlyAFile: it can go, or be anything, at any time.
func TestFileIsOnlyAFile(t *testing.T) {
	b := newBed(t)
	b.fill(0, 0, 600)
	x := b.saved()
	whole, err := os.ReadFile(x.Path())
	if err != nil {
		t.Fatal(err)
	}
	path := x.Path()
	put := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, spoil := range map[string]func(){
		"gone":       func() { _ = os.Remove(path) },
		"empty":      func() { put(nil) },
		"something":  func() { put([]byte("something else entirely, and long enough to have an end")) },
		"cut":        func() { put(whole[:len(whole)/2]) },
		"one byte":   func() { put(spoilt(whole, len(whole)/3)) },
		"at the end": func() { put(spoilt(whole, len(whole)-3)) },
	} {
		t.Run(name, func(t *testing.T) {
			spoil()
			fresh := b.open()
			b.same(fresh)
			b.save(fresh)
			if n := b.warm(); n != 0 {
				t.Errorf("the file was not mended: %d commits were read beside it", n)
			}
		})
	}
	// It may be spoilt after it was opened, at any place.
	for at := 20; at < len(whole); at += len(whole) / 9 {
		put(whole)
		fresh := b.open()
		if _, err := fresh.History(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		put(spoilt(whole, at))
		b.sameWho(fresh)
		put(whole[:at])
		b.sameWho(fresh)
		put(whole)
	}
}

func spoilt(b []byte, at int) []byte {
	b = slices.Clone(b)
	b[at] ^= 0x10
	return b
}

// sameWho compares who held each address, asked in a way that survives damage.
func (b *bed) sameWho(x *index.Index) {
	b.t.Helper()
	j, err := replay.Load(b.t.Context(), b.log, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	var got []string
	question := func(h *replay.History) error {
		got = nil
		for n := range 9 {
			who, err := json.Marshal(h.Who(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), nil, h.Now(noon)))
			if err != nil {
				return err
			}
			got = append(got, string(who))
		}
		return nil
	}
	if err := question(j.History); err != nil {
		b.t.Fatal(err)
	}
	want := got
	if err := x.Ask(b.t.Context(), nil, question); err != nil {
		b.t.Fatal(err)
	}
	if !slices.Equal(want, got) {
		b.t.Fatalf("%s\nnot %s", got, want)
	}
}

// TestManyAtOnce has readers and writers of one file, while the log goes on.
func TestManyAtOnce(t *testing.T) {
	b := newBed(t)
	b.fill(0, 0, 100)
	b.saved()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for range 5 {
				x := b.open()
				if _, err := x.History(t.Context(), nil); err != nil {
					t.Error(err)
				}
				if err := x.Save(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	shared := b.open()
	for range 3 {
		wg.Go(func() {
			for range 10 {
				err := shared.Ask(t.Context(), nil, func(h *replay.History) error {
					n := 0
					for range h.Timeline().Holdings() {
						n++
					}
					if n < 100 {
						return errors.Newf("%d holdings", n)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	b.fill(1, 200, 100)
	wg.Wait()
	b.same(shared)
	b.same(b.open())
	b.tidy(1)
}

// tidy checks that there are so many indexes, and nothing else but when somebody asked.
func (b *bed) tidy(indexes int) {
	b.t.Helper()
	left, err := filepath.Glob(filepath.Join(b.dir, "*"))
	if err != nil {
		b.t.Fatal(err)
	}
	hidden, err := filepath.Glob(filepath.Join(b.dir, ".*"))
	if err != nil {
		b.t.Fatal(err)
	}
	left = slices.DeleteFunc(append(left, hidden...), func(name string) bool { return strings.HasSuffix(name, ".asked") })
	if len(left) != indexes {
		b.t.Errorf("there are %q, want %d", left, indexes)
	}
}

// TestInterrupted: a build that is stopped leaves nothing, and answers stay right.
func TestInterrupted(t *testing.T) {
	b := newBed(t)
	b.fill(0, 0, 300)
	x := b.open()
	b.same(x)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := x.Save(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	b.tidy(0)
	// In the midst of writing, too.
	if err := index.Write(ctx, discard{}, timelineOf(projection.NewTimeline(), long(3000))); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	if _, err := x.History(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	b.same(x)
	b.save(x)
	b.warm()
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// TestNowhere: without a place it answers from the log; the second place is as good.
func TestNowhere(t *testing.T) {
	b := newBed(t)
	b.fill(0, 0, 50)
	none := index.Open(b.log, idOf('S', 1), prefix, filepath.Join(b.dir, "not", "there"))
	none.SaveFrom(3)
	b.same(none)
	b.save(none)
	if none.Path() != "" {
		t.Errorf("it is at %s", none.Path())
	}
	second := index.Open(b.log, idOf('S', 1), prefix, filepath.Join(b.dir, "not", "there"), b.dir)
	second.SaveFrom(3)
	b.same(second)
	b.save(second)
	if filepath.Dir(second.Path()) != b.dir {
		t.Errorf("it is at %q", second.Path())
	}
	b.warm()
}

// TestRefresh keeps the file fresh while the log goes on, which is no question.
func TestRefresh(t *testing.T) {
	b := newBed(t)
	b.fill(0, 0, 50)
	kept := b.open()
	for round := range 2 {
		if err := kept.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if asked := kept.Asked(); asked != (round > 0) {
			t.Errorf("round %d: somebody has asked: %v", round, asked)
		}
		x := b.open()
		if _, err := x.History(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		// So few are not worth another file.
		if x.Path() == "" || x.Tail() > 3 {
			t.Errorf("round %d: the file %q is not up to date: %d commits beside it", round, x.Path(), x.Tail())
		}
		b.fill(round, 100*(round+1), 30)
	}
}

// TestAsked: every kind of question counts for a month, whoever asks.
func TestAsked(t *testing.T) {
	b := newBed(t)
	b.fill(0, 0, 50)
	watching := b.open()
	for name, ask := range map[string]func(*index.Index) error{
		"the whole history": func(x *index.Index) error { _, err := x.History(t.Context(), nil); return err },
		"to go on with":     func(x *index.Index) error { _, err := x.Release(t.Context(), nil); return err },
		"one thing":         func(x *index.Index) error { return x.Ask(t.Context(), nil, func(*replay.History) error { return nil }) },
	} {
		if watching.Asked() {
			t.Errorf("%s: somebody has asked already", name)
		}
		if err := ask(b.open()); err != nil {
			t.Fatal(err)
		}
		if !watching.Asked() {
			t.Errorf("%s: nobody has asked", name)
		}
		notes, err := filepath.Glob(filepath.Join(b.dir, "*.asked"))
		if err != nil || len(notes) != 1 {
			t.Fatalf("%s: %q, %v", name, notes, err)
		}
		old := time.Now().Add(-31 * 24 * time.Hour)
		if err := os.Chtimes(notes[0], old, old); err != nil {
			t.Fatal(err)
		}
	}
	nowhere := index.Open(b.log, idOf('S', 1), prefix, filepath.Join(b.dir, "not", "there"))
	if _, err := nowhere.History(t.Context(), nil); err != nil || nowhere.Asked() {
		t.Errorf("where nothing can be written: %v, asked %v", err, nowhere.Asked())
	}
}

func TestMain(m *testing.M) {
	// Each case reads a log from an etcd many times over; -rapid.checks has more.
	if err := flag.Set("rapid.checks", "20"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}
