// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/lab"
)

// The faults, as they are counted.
const (
	daemonKilled = "a daemon was killed (-9)"
	daemonPaused = "a daemon was paused"
	hostCut      = "a host was cut off"
	memberKilled = "a member was killed (-9)"
	memberPaused = "a member was paused"
	memberCut    = "a member was cut off"
	noMajority   = "two members were hit at once"
	answerLost   = "the store's answer to a commit was lost"
	storeReset   = "the connections to a member were reset"
	storeStalled = "a member went silent for a host"
	hungUp       = "a client hung up before its answer"
	clockJumped  = "a clock jumped"
	startedWrong = "a daemon was killed (-9), and the next started with a clock that was wrong"
	storeForgot  = "the store was compacted"
	gaveUp       = "a daemon gave up starting, as the store was away, and was started again"
)

// startTries is how often a daemon that does not start is started again.
const startTries = 20

// faults are those that happen to a place. Each kind has a goroutine and a stream of
// random numbers of its own, so that the seed alone decides what comes next in it.
type faults struct {
	place *place
	seed  uint64
	calm  time.Duration
	on    atomic.Bool // trouble is allowed
	fail  func(format string, args ...any)

	mu     sync.Mutex
	counts map[string]int
}

func (f *faults) count(what string) { f.add(what, 1) }

func (f *faults) add(what string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[what] += n
}

// total is how many there were.
func (f *faults) total() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.counts {
		n += c
	}
	return n
}

// run makes trouble until ctx ends, and then undoes what is left of it.
func (f *faults) run(ctx context.Context) {
	f.on.Store(true)
	defer f.on.Store(false)
	var all sync.WaitGroup
	for i, one := range []func(context.Context, *rand.Rand){f.daemons, f.members, f.wires, f.clocks} {
		random := rand.New(rand.NewPCG(f.seed, uint64(i+1)))
		all.Go(func() {
			for f.rest(ctx, random) {
				one(ctx, random)
			}
		})
	}
	all.Wait()
	for _, s := range f.place.stations {
		for _, r := range s.relays {
			f.add(answerLost, r.Lost())
		}
	}
}

// rest waits for the next fault of a kind; false when there is none.
func (f *faults) rest(ctx context.Context, random *rand.Rand) bool {
	return last(ctx, time.Duration(float64(f.calm)*random.ExpFloat64()))
}

// last lets a fault last so long, or until ctx ends; then it says false.
func last(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// upTo is any time up to one.
func upTo(random *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(most)))
}

// must notes what should not fail: the machinery's own steps.
func (f *faults) must(err error) {
	if err != nil {
		f.fail("the trouble could not be made or undone: %v", err)
	}
}

// daemons hits the daemon of one host.
func (f *faults) daemons(ctx context.Context, random *rand.Rand) {
	s := f.place.stations[random.IntN(len(f.place.stations))]
	s.hit.Lock()
	defer s.hit.Unlock()
	if !s.daemon.Runs() {
		f.fail("the daemon of host %s ended by itself", s.host.Name())
		f.start(s)
		return
	}
	switch what, long := random.IntN(100), random.IntN(10) == 0; {
	case what < 55:
		f.count(daemonKilled)
		f.must(s.kill())
		last(ctx, upTo(random, time.Second))
		f.start(s)
	case what < 80:
		f.count(daemonPaused)
		f.must(s.daemon.Pause())
		most := 3 * time.Second
		if long {
			most = 25 * time.Second // longer than its presence lasts
		}
		last(ctx, upTo(random, most))
		f.must(s.daemon.Continue())
	default:
		f.count(hostCut)
		f.must(s.host.Unplug())
		last(ctx, upTo(random, 4*time.Second))
		f.must(s.host.Plug())
	}
}

// start starts a daemon as systemd does: one that gives up, because the store does not
// answer yet, is started again.
func (f *faults) start(s *station) {
	for tries := range startTries {
		err := s.daemon.Start()
		if err == nil {
			return
		}
		f.count(gaveUp)
		if tries == startTries-1 {
			f.fail("the daemon of host %s does not start any more: %v", s.host.Name(), err)
		}
	}
}

// members hits one member of the cluster, often the leader, or two of the three.
func (f *faults) members(ctx context.Context, random *rand.Rand) {
	hit := []*lab.Member{f.place.cluster.Members[random.IntN(3)]}
	if random.IntN(2) == 0 {
		if leader, err := f.place.cluster.Leader(); err == nil {
			hit[0] = leader
		}
	}
	if random.IntN(8) == 0 {
		f.count(noMajority)
		for _, m := range f.place.cluster.Members {
			if m != hit[0] {
				hit = append(hit, m)
				break
			}
		}
	}
	what, long := random.IntN(3), upTo(random, 3*time.Second)
	for _, m := range hit {
		switch what {
		case 0:
			f.count(memberKilled)
			f.must(m.Kill())
		case 1:
			f.count(memberPaused)
			f.must(m.Pause())
		case 2:
			f.count(memberCut)
			f.must(m.Host.Unplug())
		}
	}
	last(ctx, long)
	for _, m := range hit {
		switch what {
		case 1:
			f.must(m.Continue())
		case 2:
			f.must(m.Host.Plug())
		}
	}
	if what == 0 {
		f.must(f.place.cluster.Start())
	}
}

// wires hits what is between a daemon and a member: most often a commit's answer.
func (f *faults) wires(ctx context.Context, random *rand.Rand) {
	s := f.place.stations[random.IntN(len(f.place.stations))]
	switch what := random.IntN(10); {
	case what < 6:
		word := etcdlog.DefaultPrefix + "log/"
		for range 1 + random.IntN(4) {
			for _, r := range s.relays { // which of them the daemon uses it alone knows
				r.LoseAnswer(word, upTo(random, 60*time.Millisecond))
			}
			last(ctx, upTo(random, 200*time.Millisecond))
		}
	case what < 8:
		f.count(storeReset)
		for _, r := range s.relays {
			r.Reset()
		}
	default:
		f.count(storeStalled)
		s.relays[random.IntN(len(s.relays))].Stall(upTo(random, 2500*time.Millisecond))
	}
}

// jumps are how far a clock is off for a while, whatever its daemon does meanwhile: one
// that starts then knows from the one before it what time it likely is.
var jumps = []time.Duration{
	-45 * time.Minute, -2 * time.Minute, -12 * time.Second, -time.Second,
	time.Second, 12 * time.Second, 2 * time.Minute, 45 * time.Minute, 3 * time.Hour, 20 * 24 * time.Hour, 10 * 365 * 24 * time.Hour,
}

// clocks puts one daemon's clock wrong, and after a while right again; and now and then
// it kills the daemon meanwhile, so that the next one starts with it.
func (f *faults) clocks(ctx context.Context, random *rand.Rand) {
	s := f.place.stations[random.IntN(len(f.place.stations))]
	by, restarts := jumps[random.IntN(len(jumps))], random.IntN(3) == 0
	f.count(clockJumped)
	f.must(s.shift(by))
	last(ctx, upTo(random, 5*time.Second))
	if restarts {
		f.restart(s)
	}
	f.must(s.shift(0))
}

// restart kills a daemon and starts it again.
func (f *faults) restart(s *station) {
	s.hit.Lock()
	defer s.hit.Unlock()
	if !s.daemon.Runs() {
		return // it ended by itself, which the next to hit it tells
	}
	f.count(startedWrong)
	f.must(s.kill())
	f.start(s)
}

// compact makes the store forget its past, as operators let it.
func (f *faults) compact(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	revision, err := f.place.log.Revision(ctx)
	if err == nil {
		_, err = f.place.etcd.Compact(ctx, revision)
	}
	if err == nil {
		f.count(storeForgot)
	} else if !strings.Contains(err.Error(), "compacted") { // its answer was lost, and it was sent again
		f.must(err)
	}
}
