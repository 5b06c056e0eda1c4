// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
)

// ledger notices two holders of one address.
type ledger struct {
	tb   testing.TB
	mu   sync.Mutex
	held map[netip.Addr]string
}

func newLedger(tb testing.TB) *ledger {
	tb.Helper()
	return &ledger{tb: tb, held: map[netip.Addr]string{}}
}

func (l *ledger) take(a netip.Addr, who string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if other, twice := l.held[a]; twice {
		l.tb.Errorf("%s was given to %s while %s holds it", a, who, other)
	}
	l.held[a] = who
}

func (l *ledger) give(a netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, a)
}

// matches checks that the guards hold exactly what was given out.
func (l *ledger) matches(b *bed, ref actor.Ref) {
	b.tb.Helper()
	guards := b.guards(ref)
	for a, who := range l.held {
		if !guards.Held[a].Present() {
			b.tb.Errorf("%s, given to %s, is not held in the store", a, who)
		}
	}
	if len(guards.Held) != len(l.held) {
		b.tb.Errorf("the store holds %d addresses, %d were given out", len(guards.Held), len(l.held))
	}
}

func TestCrowdOnOneHost(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		workers, rounds int
		subnet          string
		policy          actor.Wish
	}{
		{workers: 64, rounds: 12, subnet: "10.1.0.0/22"},
		{workers: 256, rounds: 4, subnet: "10.1.0.0/23"},
		// Hardly enough: whatever is released is given out again at once.
		{workers: 64, rounds: 12, subnet: "10.1.0.0/26", policy: actor.Wish{Quarantine: new(events.Seconds(1))}},
		{workers: 64, rounds: 8, subnet: "10.1.0.0/25", policy: actor.Wish{Pick: new(events.PickRandom)}},
		{workers: 64, rounds: 8, subnet: "10.1.0.0/25", policy: actor.Wish{Pick: new(events.PickLowest), Quarantine: new(events.Seconds(0))}},
	} {
		t.Run(fmt.Sprintf("%d on %s", tt.workers, tt.subnet), func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			d := b.start("h1")
			ref := d.pool(actor.PoolRequest{Subnet: prefix(tt.subnet), Wish: tt.policy})
			l := newLedger(t)
			var wg sync.WaitGroup
			var dry atomic.Int64
			for w := range tt.workers {
				wg.Go(func() {
					for round := range tt.rounds {
						a, err := d.RequestAddress(b.ctx(), ref, endpoint(w*1000+round))
						if errors.Is(err, actor.ErrExhausted) {
							dry.Add(1)
							continue
						}
						if err != nil {
							t.Error(err)
							return
						}
						l.take(a.Address, fmt.Sprint(w, ".", round))
						if round == tt.rounds-1 && w%2 == 0 {
							continue // kept
						}
						l.give(a.Address)
						if _, err := d.ReleaseAddress(b.ctx(), ref, a.Address); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			l.matches(b, ref)
			b.agree(ref)
			commits, events := d.seen.committed()
			if commits*2 > events {
				t.Errorf("%d events took %d commits: they did not go together", events, commits)
			}
			t.Logf("%d events in %d commits, dry %d times", events, commits, dry.Load())
			d.closeGrant(ref)
			if left := b.guards(ref); len(left.Held) > 0 || len(left.Grants) > 0 || left.Pool.Present() {
				t.Errorf("left after the pool's end: %+v", left)
			}
		})
	}
}

// While no answer comes a lone request is on its way at once, and more go beside
// it when they are worth a commit.
func TestSeveralCommitsInFlight(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	g := newGate(t, b.etcd.Endpoint())
	d := b.startAt(g.endpoint(), "h1")
	ref := d.subnet("10.1.0.0/16")
	before := len(b.records(ref))
	commits := func() int { return len(b.records(ref)) - before }
	l := newLedger(t)
	var wg sync.WaitGroup
	ask := func(n int) {
		wg.Go(func() {
			a, err := d.RequestAddress(b.ctx(), ref, endpoint(n))
			switch {
			case err == nil:
				l.take(a.Address, fmt.Sprint(n))
			case !errors.Is(err, actor.ErrStoreSilent): // a slow machine
				t.Error(err)
			}
		})
	}
	g.shut(false, true)
	ask(0)
	eventually(t, "a lone commit", func() bool { return commits() == 1 })
	// Few enough that they fit into the connection while it hears nothing back.
	for n := range 40 {
		ask(1 + n)
	}
	eventually(t, "a second one beside it", func() bool { return commits() == 2 })
	g.open()
	wg.Wait()
	d.settled(ref)
	l.matches(b, ref)
	b.agree(ref)
}

func TestCrowdOfHosts(t *testing.T) {
	t.Parallel()
	for _, pick := range []events.Pick{events.PickSerial, events.PickLowest, events.PickRandom} {
		t.Run(string(pick), func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			const usable = 62
			l := newLedger(t)
			var hosts []*daemon
			var refs []actor.Ref
			for i := range 4 {
				hosts = append(hosts, b.start(fmt.Sprint("h", i)))
				refs = append(refs, hosts[i].pool(actor.PoolRequest{Subnet: prefix("10.1.0.0/26"), Wish: actor.Wish{Pick: &pick}}))
			}
			var wg sync.WaitGroup
			var refused atomic.Int64
			for i, d := range hosts {
				for w := range 5 {
					wg.Go(func() {
						for n := 0; ; n++ {
							a, err := d.RequestAddress(b.ctx(), refs[i], endpoint(i<<16|w<<8|n))
							if err != nil {
								refused.Add(1)
								if !errors.Is(err, actor.ErrExhausted) || !strings.Contains(err.Error(), "10.1.0.0/26") {
									t.Error(err)
								}
								return
							}
							l.take(a.Address, fmt.Sprint(i, ".", w))
						}
					})
				}
			}
			wg.Wait()
			if len(l.held) != usable || refused.Load() != 20 {
				t.Errorf("%d addresses of %d were given out, %d requests refused", len(l.held), usable, refused.Load())
			}
			l.matches(b, refs[0])

			// What one host releases, another can have.
			for a, guard := range b.guards(refs[0]).Held {
				if guard.Value[0].Host == "h0" {
					hosts[0].release(refs[0], a)
					l.give(a)
					if got := hosts[1].ask(refs[1], endpoint(999)).Address; got != a {
						t.Errorf("got %s, only %s is free", got, a)
					}
					l.take(a, "h1")
					break
				}
			}
			l.matches(b, refs[0])
			b.agree(refs[0])

			// All leave at once: the pool is gone with the last, whoever that is.
			for i, d := range hosts {
				wg.Go(func() { d.closeGrant(refs[i]) })
			}
			wg.Wait()
			eventually(t, "the pool's end", func() bool { return !b.guards(refs[0]).Pool.Present() })
			b.agree(refs[0])
		})
	}
}

// Hosts come, allocate, release and leave, all at once and at random.
func TestHostsComeAndGo(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	l := newLedger(t)
	type holding struct {
		ref actor.Ref
		a   netip.Addr
	}
	var wg sync.WaitGroup
	for i := range 4 {
		d := b.start(fmt.Sprint("h", i))
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 7))
			for n := range 12 {
				granted, err := d.RequestPool(b.ctx(), actor.PoolRequest{Space: events.Local, Name: "web", Subnet: prefix("10.1.0.0/24")})
				if err != nil {
					t.Error(err)
					return
				}
				var mine []holding
				for k := range 1 + rnd.IntN(5) {
					a, err := d.RequestAddress(b.ctx(), granted.Ref, endpoint(i<<16|n<<8|k))
					if err != nil {
						t.Error(err)
						return
					}
					l.take(a.Address, fmt.Sprint(i))
					mine = append(mine, holding{granted.Ref, a.Address})
				}
				for _, h := range mine {
					l.give(h.a)
					if rnd.IntN(2) == 0 {
						if _, err := d.ReleaseAddress(b.ctx(), h.ref, h.a); err != nil {
							t.Error(err)
						}
					}
				}
				if _, err := d.ReleasePool(b.ctx(), granted.Ref); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	eventually(t, "the pool's end", func() bool {
		pools, _, err := b.log.Pools(b.ctx())
		return err == nil && len(pools) == 0
	})
	heads, _, err := b.log.Heads(b.ctx())
	if err != nil {
		t.Fatal(err)
	}
	for s := range heads {
		records, _, err := b.log.Read(b.ctx(), 0, nil, s)
		if err != nil {
			t.Fatal(err)
		}
		folded := events.NewGuards()
		for _, r := range records {
			if err := folded.Apply(r); err != nil {
				t.Error(err)
			}
		}
		if len(folded.Held) > 0 || len(folded.Grants) > 0 || folded.Pool.Present() {
			t.Errorf("stream %s leaves %+v", s, folded)
		}
	}
}

func TestTwoWantTheSame(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h1, h2 := b.start("h1"), b.start("h2")
	hosts := []*daemon{h1, h2}
	refs := []actor.Ref{h1.subnet("10.1.0.0/24"), h2.subnet("10.1.0.0/24")}
	for n := range 20 {
		want := netip.AddrFrom4([4]byte{10, 1, 0, byte(10 + n)})
		errs := make([]error, 2)
		var wg sync.WaitGroup
		for i, d := range hosts {
			wg.Go(func() {
				ask := endpoint(100*i + n)
				ask.Address, ask.Endpoint = want, fmt.Sprintf("c%d-%d", i, n)
				_, errs[i] = d.RequestAddress(b.ctx(), refs[i], ask)
			})
		}
		wg.Wait()
		won := slices.Index(errs, nil)
		if won < 0 || errs[1-won] == nil {
			t.Fatalf("%s: %v", want, errs)
		}
		wantErr(t, errs[1-won], actor.ErrInUse)
		if words := errs[1-won].Error(); !strings.Contains(words, fmt.Sprintf("endpoint c%d-%d on host h%d", won, n, won+1)) {
			t.Errorf("the refusal does not name the holder: %s", words)
		}
	}
	b.agree(refs[0])
}

// Many networks of one host in one pool: a commit holds no more grants than the
// store compares at once.
func TestManyGrants(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	var refs []actor.Ref
	for range 60 {
		refs = append(refs, d.pool(actor.PoolRequest{Subnet: prefix("10.1.0.0/22")}))
	}
	l := newLedger(t)
	var wg sync.WaitGroup
	for n := range 300 {
		wg.Go(func() {
			a, err := d.RequestAddress(b.ctx(), refs[n%len(refs)], endpoint(n))
			if err != nil {
				t.Error(err)
				return
			}
			l.take(a.Address, fmt.Sprint(n))
		})
	}
	wg.Wait()
	l.matches(b, refs[0])
	for _, ref := range refs {
		wg.Go(func() { d.closeGrant(ref) })
	}
	wg.Wait()
	eventually(t, "the pool's end", func() bool { return !b.guards(refs[0]).Pool.Present() })
	b.agree(refs[0])
}
