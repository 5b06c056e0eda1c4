// SPDX-License-Identifier: Apache-2.0

package replay_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/replaytest"
)

const prefix = "/ipamlog/v1/"

// join makes the test a host's daemon.
func join(t *testing.T, log *etcdlog.Log, store *replaytest.Store, name string) *etcdlog.Writer {
	t.Helper()
	lease, err := store.Client.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	w, err := log.Join(t.Context(), name, etcdlog.Presence{Machine: "m-" + name, Version: "v1"}, lease.ID, func(etcdlog.Presence) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// busy writes what a host's daemon would, at random, until it is told to stop.
type busy struct {
	w     *etcdlog.Writer
	pool  events.ID
	grant events.ID
	rnd   *rand.Rand
	held  map[netip.Addr]events.ID
}

// begin creates a pool, or joins the one there is.
func begin(t *testing.T, w *etcdlog.Writer, pool events.ID, name string, seed uint64) *busy {
	t.Helper()
	log := w.Log()
	b := &busy{w: w, pool: pool, grant: log.Clock.NewID(), rnd: rand.New(rand.NewPCG(seed, 1)), held: map[netip.Addr]events.ID{}}
	seen, _, err := log.Guards(t.Context(), events.Local, pool)
	if err != nil {
		t.Fatal(err)
	}
	_, at, err := log.Pools(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var list []events.Event
	if !seen.Pool.Present() {
		list = append(list, events.PoolCreated{Space: events.Local, Name: name, Subnet: netip.MustParsePrefix("10.7.0.0/16"), Policy: events.DefaultPolicy()})
	}
	list = append(list, events.GrantOpened{Grant: b.grant, Host: w.Host()})
	if _, err := w.Append(t.Context(), etcdlog.Proposal{ID: log.Clock.NewID(), Stream: events.PoolStream(pool), Events: list, Seen: seen, CatalogueAt: at}); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *busy) step(ctx context.Context) error {
	log := b.w.Log()
	seen, _, err := log.Guards(ctx, events.Local, b.pool)
	if err != nil {
		return err
	}
	var list []events.Event
	touched := map[netip.Addr]bool{}
	for range 1 + b.rnd.IntN(4) {
		a := netip.AddrFrom4([4]byte{10, 7, byte(b.rnd.IntN(2)), byte(1 + b.rnd.IntN(40))})
		id, own := b.held[a]
		switch {
		case touched[a]:
			continue
		case own:
			list = append(list, events.AddressReleased{Allocation: id, Address: a, Reason: events.Released})
		case !seen.Held[a].Present():
			list = append(list, events.AddressAllocated{Allocation: log.Clock.NewID(), Address: a, Kind: events.Endpoint, Host: b.w.Host(), Grant: b.grant, MAC: events.MAC{2, byte(len(b.held))}})
		case seen.Held[a].Value.Admits(true):
			list = append(list, events.AddressAllocated{Allocation: log.Clock.NewID(), Address: a, Kind: events.Gateway, Shared: true, Host: b.w.Host(), Grant: b.grant})
		default:
			continue
		}
		touched[a] = true
	}
	if len(list) == 0 {
		return nil
	}
	_, err = b.w.Append(ctx, etcdlog.Proposal{ID: log.Clock.NewID(), Stream: events.PoolStream(b.pool), Events: list, Seen: seen})
	if errors.Is(err, etcdlog.ErrConflict) {
		return nil // another host was faster
	}
	if err != nil {
		return err
	}
	for _, e := range list {
		switch e := e.(type) {
		case events.AddressAllocated:
			b.held[e.Address] = e.Allocation
		case events.AddressReleased:
			delete(b.held, e.Address)
		default: // step makes no others
		}
	}
	return nil
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// While hosts write, and after: the log alone gives what the guards say.
func TestVerify_whole(t *testing.T) {
	store := replaytest.Start(t)
	log := etcdlog.New(store.Client, prefix)
	if _, err := log.Found(t.Context()); err != nil {
		t.Fatal(err)
	}
	pools := []events.ID{log.Clock.NewID(), log.Clock.NewID()}
	var hosts []*busy
	for i := range 4 {
		hosts = append(hosts, begin(t, join(t, log, store, fmt.Sprintf("h%d", i)), pools[i%2], fmt.Sprintf("p%d", i%2), uint64(i)))
	}
	var wg sync.WaitGroup
	failed := make(chan error, len(hosts))
	for _, b := range hosts {
		wg.Go(func() {
			for range 60 {
				if err := b.step(t.Context()); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	for range 5 {
		if c, _, err := replay.Verify(t.Context(), log, nil); err != nil || len(c.Findings) > 0 {
			t.Fatalf("while hosts write: %+v, %v", c, err)
		}
	}
	wg.Wait()
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	c, _, err := replay.Verify(t.Context(), log, nil)
	if err != nil || len(c.Findings) > 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	if c.Pools != 2 || c.Guards < 10 || c.Commits < 100 {
		t.Errorf("compared too little: %+v", c)
	}

	h := load(t, log)
	now := h.Now(time.Now())
	for _, pool := range h.Pools(now) {
		held, revision, err := replay.HoldersNow(t.Context(), log, pool)
		if err != nil {
			t.Fatal(err)
		}
		if revision != h.Revision() || len(held) == 0 {
			t.Fatalf("%d holdings at %d, the log is at %d", len(held), revision, h.Revision())
		}
		rebuilt, err := h.Replay(now, pool)
		if err != nil {
			t.Fatal(err)
		}
		for name, other := range map[string][]replay.Holding{"replay": rebuilt, "holders of the history": h.Holders(pool, now)} {
			if diff := cmp.Diff(asJSON(t, held), asJSON(t, other)); diff != "" {
				t.Errorf("%s (-guards +log):\n%s", name, diff)
			}
		}
	}
}

// Following misses nothing and doubles nothing, though the store forgets how it
// came to be.
func TestHistory_Follow(t *testing.T) {
	store := replaytest.Start(t)
	teller := store.Tell(t, prefix)
	teller.Night()
	log := etcdlog.New(store.Client, prefix)
	h := load(t, log)
	var want []string
	next := func(n byte) {
		r := teller.Commit(events.PoolStream(replaytest.Web), "h1", replaytest.Clock(100, int(n)),
			replaytest.Allocated(100+n, fmt.Sprintf("10.50.0.%d", 100+int(n)), "h1", replaytest.GrantH1, fmt.Sprintf("n%d", n)))
		want = append(want, r.Name(0))
	}
	next(1)
	next(2)
	now, err := log.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The past that the follower asks for first is gone.
	if _, err := store.Client.Compact(t.Context(), now); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	told := make(chan string)
	ended := make(chan error, 1)
	go func() {
		ended <- h.Follow(ctx, log, func(e replay.Event) error {
			if e.Pool == nil || e.Pool.Name != "web" {
				return errors.Newf("event %s is in no pool", e.Name())
			}
			select {
			case told <- e.Name():
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}, func(err error) { t.Errorf("trouble: %v", err) })
	}()
	var got []string
	for n := byte(3); n < 8; n++ {
		next(n)
	}
	for len(got) < len(want) {
		select {
		case name := <-told:
			got = append(got, name)
		case err := <-ended:
			t.Fatalf("after %v: %v", got, err)
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("told of %v, want %v", got, want)
	}
}

// What was suspected, cleared, reclaimed and taken over is told alike by the guards,
// the log and the state made of it; and all of it is in order.
func TestSuspicions(t *testing.T) {
	store := replaytest.Start(t)
	teller := store.Tell(t, prefix)
	teller.Night()
	teller.Morning()
	teller.NextDay()
	log := etcdlog.New(store.Client, prefix)
	j := load(t, log)
	now := everything(j).To
	var got []string
	for _, pool := range j.Pools(now) {
		held, _, err := replay.HoldersNow(t.Context(), log, pool)
		if err != nil {
			t.Fatal(err)
		}
		rebuilt, err := j.Replay(now, pool)
		if err != nil {
			t.Fatal(err)
		}
		suspected := map[events.ID]projection.Mark{}
		for _, x := range held {
			suspected[x.Allocation] = x.Suspected
		}
		for name, list := range map[string][]replay.Holding{"replay": rebuilt, "holders of the history": j.Holders(pool, now)} {
			if len(list) != len(held) {
				t.Errorf("%s: %d holders, not %d", name, len(list), len(held))
			}
			for _, x := range list {
				if x.Suspected != suspected[x.Allocation] {
					t.Errorf("%s: %s is suspected %+v, not %+v", name, x.Address, x.Suspected, suspected[x.Allocation])
				}
			}
		}
	}
	for x := range j.Timeline().Holdings() {
		if x.Suspected.Reached() || x.End == events.TakenOver {
			raw, err := json.Marshal(replay.Holding{Holding: *x})
			if err != nil {
				t.Fatal(err)
			}
			said := map[string]any{}
			if err := json.Unmarshal(raw, &said); err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(said["address"], " suspected ", said["suspected"], " ended ", said["end"]))
		}
	}
	states, err := replay.PoolsNow(t.Context(), log)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range states {
		got = append(got, fmt.Sprint(replay.Title(s.PoolLife), " ", s.Suspected))
	}
	want := []string{
		"10.50.0.4 suspected <nil> ended taken-over",
		"fd00:1::2 suspected 2025-03-02T05:00:00.000002Z ended <nil>",
		"10.50.0.2 suspected 2025-03-02T05:00:00.000000Z ended reclaimed",
		"blue 0", "web 0", "fd00:1::/64 1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	report, _, err := replay.Verify(t.Context(), log, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		if f.Rule != replay.RuleClocks {
			t.Errorf("%+v", f)
		}
	}
}

func TestPoolsNow(t *testing.T) {
	store := replaytest.Start(t)
	teller := store.Tell(t, prefix)
	create := func(n byte, name, subnet string, list ...events.Event) {
		teller.Commit(events.PoolStream(replaytest.ID('P', n)), "h1", replaytest.Clock(0, int(n)), append([]events.Event{
			events.PoolCreated{Space: events.Local, Name: name, Subnet: netip.MustParsePrefix(subnet), Policy: events.DefaultPolicy()},
			events.GrantOpened{Grant: replaytest.ID('G', n), Host: "h2"},
		}, list...)...)
	}
	create(1, "", "fd00::/48")
	create(2, "", "10.0.0.0/8", replaytest.Allocated(1, "10.0.0.0", "h2", replaytest.ID('G', 2), "on-the-network-address"))
	create(3, "tiny", "10.9.9.8/31", replaytest.Allocated(2, "10.9.9.8", "h2", replaytest.ID('G', 3), "a"), replaytest.Allocated(3, "10.9.9.9", "h2", replaytest.ID('G', 3), "b"))
	teller.Commit(events.PoolStream(replaytest.ID('P', 3)), "h1", replaytest.Clock(1, 0), events.GrantOpened{Grant: replaytest.ID('G', 9), Host: "h1"}, events.GrantClosing{Grant: replaytest.ID('G', 9)})
	states, err := replay.PoolsNow(t.Context(), etcdlog.New(store.Client, prefix))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range states {
		got = append(got, fmt.Sprintf("%s size %s held %d free %s hosts %v", replay.Title(s.PoolLife), s.Size, s.Held, s.Free, s.Hosts))
	}
	want := []string{
		"tiny size 2 held 2 free 0 hosts [h2]",
		"10.0.0.0/8 size 16777214 held 1 free 16777214 hosts [h2]",
		"fd00::/48 size 1208925819614629174706175 held 0 free 1208925819614629174706175 hosts [h2]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A part of the log that is read alone tells what the whole says of it.
func TestHistory_Journal(t *testing.T) {
	store := replaytest.Start(t)
	teller := store.Tell(t, prefix)
	teller.Night()
	teller.Morning()
	log := etcdlog.New(store.Client, prefix)
	whole := load(t, log)
	all := whole.Pools(everything(whole).To)
	if len(all) < 2 {
		t.Fatalf("%d pools", len(all))
	}
	var revisions []int64
	for e := range whole.Events(nil, everything(whole)) {
		revisions = append(revisions, e.Record.Revision)
	}
	names := func(j *replay.Journal, pools []*projection.PoolLife, span replay.Span) []string {
		var list []string
		for e := range j.Events(pools, span) {
			list = append(list, e.Name())
		}
		return list
	}
	for _, pools := range [][]*projection.PoolLife{nil, {}, all[:1], all[1:], all} {
		for i := 0; i < len(revisions); i += 3 {
			for _, n := range []int64{0, 1, 7, 1000} {
				span := replay.Span{From: replay.Moment{Revision: revisions[i] - 1}, To: replay.Moment{Revision: revisions[i] + n}}
				if i == 0 {
					span.From.Revision = 0
				}
				j, err := whole.Journal(t.Context(), log, pools, span, nil)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(names(whole, pools, span), names(j, pools, span)); diff != "" {
					t.Errorf("%d pools, %d to %d (-whole +part):\n%s", len(pools), span.From.Revision, span.To.Revision, diff)
				}
			}
		}
	}
}
