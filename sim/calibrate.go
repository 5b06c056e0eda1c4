// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/api/v3/version"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/bench/bulk"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/sim/model"
)

const (
	hosts     = 16 // that act together
	active    = 4  // of them, where some only listen
	crowd     = 64 // asks at once on one host, which share commits
	manyPools = 200
	joins     = 10     // daemons that start and end, each time
	rounds    = 4      // in which what is compared takes turns
	held      = 5_000  // addresses
	told      = 20_000 // events of a story
)

// storyPrefix is where a log is that nobody joins.
const storyPrefix = "/sim/story/"

// measured is what a calibration found.
type measured struct {
	When  string      `json:"when"`
	CPUs  int         `json:"cpus"` // that etcd and all daemons shared
	Etcd  string      `json:"etcd"`
	Costs model.Costs `json:"costs"`
	Real  truth       `json:"real"`
}

// truth is what 16 hosts on one pool did, with daemons and etcd on one machine.
type truth struct {
	Rate float64       `json:"rate"` // commits a second
	P50  time.Duration `json:"p50"`
	P99  time.Duration `json:"p99"`
	CPU  time.Duration `json:"cpu"`  // of etcd and the daemons, for each commit
	Busy float64       `json:"busy"` // the part of the machine's cores that etcd and daemons had
}

// calibrate measures what things cost.
func calibrate(ctx context.Context, stretch time.Duration, progress func(string)) (m measured, err error) {
	dir, err := os.MkdirTemp("", "ipamlog-sim")
	if err != nil {
		return m, errors.Wrap(err, "make a directory")
	}
	defer func() { _ = os.RemoveAll(dir) }()
	server, err := startEtcd(dir, "--"+flagServe)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.CombineErrors(err, server.stop()) }()
	client, err := dial(server.endpoint)
	if err != nil {
		return m, err
	}
	defer func() { _ = client.Close() }()
	m = measured{When: time.Now().UTC().Format(time.DateOnly), CPUs: runtime.NumCPU(), Etcd: version.Version}
	b := &bed{etcd: server, client: client, stretch: stretch, costs: &m.Costs}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"an idle etcd", b.measureIdle},
		{"commits, and telling of them", func(ctx context.Context) (err error) {
			m.Real, err = b.measureCommits(ctx)
			return err
		}},
		{"leases", b.measureLeases},
		{"daemons that start", b.measureJoins},
		{"bytes", b.measureBytes},
		{"the index of the past", b.measureIndex},
	} {
		progress(step.what)
		if err := step.do(ctx); err != nil {
			return m, errors.Wrapf(err, "measure %s", step.what)
		}
	}
	return m, nil
}

// bed is an etcd under measurement.
type bed struct {
	etcd    *etcd
	client  *clientv3.Client
	stretch time.Duration
	costs   *model.Costs

	idle float64 // CPU seconds a second of an etcd that is asked nothing
}

// span is what was done meanwhile.
type span struct {
	etcd, own time.Duration // CPU time: of etcd, without what it does anyway, and of this process
	lasted    time.Duration
	commits   float64
	flushes   float64
	flushing  time.Duration
	grown     float64 // bytes in use
}

// each is what one of n had of it.
func (s span) each(d time.Duration, n float64) time.Duration {
	return time.Duration(float64(d) / max(1, n))
}

// during measures what goes on while something is done.
func (b *bed) during(do func() error) (span, error) {
	before, err := b.etcd.read()
	if err != nil {
		return span{}, err
	}
	own, err := ownCPU()
	if err != nil {
		return span{}, err
	}
	begun := time.Now()
	if err := do(); err != nil {
		return span{}, err
	}
	s := span{lasted: time.Since(begun)}
	ownAfter, err := ownCPU()
	if err != nil {
		return span{}, err
	}
	after, err := b.etcd.read()
	if err != nil {
		return span{}, err
	}
	s.own = ownAfter - own
	s.etcd = after.CPU - before.CPU - time.Duration(b.idle*float64(s.lasted))
	s.commits, s.flushes = float64(after.Revision-before.Revision), float64(after.Flushes-before.Flushes)
	s.flushing = after.Flushing - before.Flushing
	s.grown = float64(after.InUse - before.InUse)
	return s, nil
}

func (b *bed) measureIdle(ctx context.Context) error {
	s, err := b.during(func() error {
		select {
		case <-time.After(b.stretch):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	b.idle = s.etcd.Seconds() / s.lasted.Seconds()
	return err
}

func own(i int) (string, netip.Prefix) {
	return "", netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
}

func shared(int) (string, netip.Prefix) { return "", netip.MustParsePrefix("10.200.0.0/16") }

// act is what some hosts do, again and again.
type act struct {
	fleet  fleet
	atOnce int
	span
	times []time.Duration
}

// play has it done for a while more.
func (b *bed) play(ctx context.Context, a *act, d time.Duration) error {
	s, err := b.during(func() error {
		times, err := a.fleet.churn(ctx, d, a.atOnce)
		a.times = append(a.times, times...)
		return err
	})
	a.etcd += s.etcd
	a.own += s.own
	a.lasted += s.lasted
	a.commits += s.commits
	a.flushes += s.flushes
	a.flushing += s.flushing
	return err
}

// quantile is of the times that commits took.
func (a *act) quantile(q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(a.times))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// measureCommits has the same done by one host alone, by some that have nothing to do with
// each other, by some that many others listen to, and by one that has much to do at once.
// What differs is what tells the costs apart.
func (b *bed) measureCommits(ctx context.Context) (did truth, err error) {
	apart, err := joinAll(ctx, b.etcd.endpoint, "apart", hosts, own)
	if err != nil {
		return did, err
	}
	together, err := joinAll(ctx, b.etcd.endpoint, "together", hosts, shared)
	if err != nil {
		return did, errors.CombineErrors(err, apart.leave())
	}
	defer func() { err = errors.CombineErrors(err, errors.CombineErrors(apart.leave(), together.leave())) }()

	acts := []*act{
		{fleet: apart[:1], atOnce: 1},
		{fleet: apart[:active], atOnce: 1},
		{fleet: together[:active], atOnce: 1},
		{fleet: apart[:1], atOnce: crowd},
		{fleet: together, atOnce: 1},
		{fleet: apart, atOnce: 1},
	}
	for round := range rounds + 1 {
		for _, a := range acts {
			if err := b.play(ctx, a, b.stretch/rounds); err != nil {
				return did, err
			}
			if round == 0 { // the first time is always slower
				a.span, a.times = span{}, nil
			}
		}
	}
	alone, some, heard, busy, all, many := *acts[0], *acts[1], *acts[2], *acts[3], *acts[4], *acts[5]
	did = truth{
		Rate: all.commits / all.lasted.Seconds(), P50: all.quantile(0.5), P99: all.quantile(0.99),
		CPU:  all.each(all.etcd+all.own, all.commits),
		Busy: (all.etcd + all.own).Seconds() / all.lasted.Seconds() / float64(runtime.NumCPU()),
	}

	c := b.costs
	const others = hosts - 1
	c.Delivery = max(0, heard.each(heard.etcd, heard.commits)-some.each(some.etcd, some.commits)) / others
	c.Followed = max(0, heard.each(heard.own, heard.commits)-some.each(some.own, some.commits)) / others
	// A commit's flush is its own where it is alone, and shared where many hosts are at it.
	// The two are taken that are furthest apart: between few and some, more than the flush
	// is shared, and less would be left for the commit than any number of hosts brings it to.
	first, shared := alone.each(alone.etcd, alone.commits), many.each(many.etcd, many.commits)
	if part := many.flushes/many.commits - alone.flushes/alone.commits; part < -0.05 {
		c.Flush = max(0, time.Duration(float64(shared-first)/part))
	}
	c.Commit = max(0, shared-c.Delivery-time.Duration(float64(c.Flush)*many.flushes/many.commits))
	if inCommit := float64(len(busy.times)) / busy.commits; inCommit > 1 {
		whole := busy.each(busy.etcd, busy.commits) - c.Commit - c.Delivery - time.Duration(float64(c.Flush)*busy.flushes/busy.commits)
		c.Event = max(0, time.Duration(float64(whole)/(inCommit-1)))
	}
	c.Disk = alone.each(alone.flushing, alone.flushes)
	c.Decided = max(0, some.each(some.own, some.commits)-c.Followed)
	c.Away = max(0, alone.quantile(0.5)-c.Commit-c.Flush-c.Disk-c.Decided)
	return did, nil
}

func (b *bed) measureLeases(ctx context.Context) error {
	lease, err := b.client.Grant(ctx, 600)
	if err != nil {
		return errors.Wrap(err, "grant a lease")
	}
	n := 0.0
	s, err := b.during(func() error {
		for begun := time.Now(); time.Since(begun) < b.stretch; n++ {
			if _, err := b.client.KeepAliveOnce(ctx, lease.ID); err != nil {
				return errors.Wrap(err, "extend a lease")
			}
		}
		return nil
	})
	b.costs.KeepAlive = s.each(s.etcd, n)
	return err
}

// measureJoins has daemons start and end, where there are few pools and where there are many.
func (b *bed) measureJoins(ctx context.Context) error {
	some := func(stem string) (time.Duration, error) {
		s, err := b.during(func() error {
			for i := range joins {
				h, err := join(ctx, b.etcd.endpoint, fmt.Sprintf("%s-%d", stem, i))
				if err != nil {
					return err
				}
				if err := h.leave(); err != nil {
					return err
				}
			}
			return nil
		})
		return s.each(s.etcd, joins), err
	}
	few, err := some("few")
	if err != nil {
		return err
	}
	if err := b.openMany(ctx, "owner"); err != nil {
		return err
	}
	lots, err := some("many")
	b.costs.JoinPool = max(0, lots-few) / manyPools
	b.costs.Join = max(0, few-(hosts+1)*b.costs.JoinPool)
	return err
}

// openMany has a host open a grant in each of many pools, which are made the first time.
func (b *bed) openMany(ctx context.Context, host string) error {
	owner, err := join(ctx, b.etcd.endpoint, host)
	if err != nil {
		return err
	}
	for i := range manyPools {
		if err := owner.open(ctx, fmt.Sprintf("pool-%d", i), netip.MustParsePrefix("172.16.0.0/24")); err != nil {
			return errors.CombineErrors(err, owner.leave())
		}
	}
	return owner.leave()
}

// measureIndex reads logs as a daemon does that keeps an index: all of one, one to which
// nothing has come, and one that has got a commit in each of many streams.
func (b *bed) measureIndex(ctx context.Context) error {
	whole := etcdlog.New(b.client, storyPrefix)
	if _, err := whole.Store(ctx); err != nil {
		return err
	}
	var long etcdlog.Frontier
	much, err := b.during(func() error {
		_, err := whole.ReadOn(ctx, &long, nil)
		return err
	})
	if err != nil {
		return err
	}
	c := b.costs
	c.IndexCommit = much.each(much.etcd, float64(long.Commits()))

	log := etcdlog.New(b.client, etcdlog.DefaultPrefix)
	if _, err := log.Store(ctx); err != nil {
		return err
	}
	var f etcdlog.Frontier
	if _, err := log.ReadOn(ctx, &f, nil); err != nil {
		return err
	}
	readOn := func(times int) (time.Duration, error) {
		s, err := b.during(func() error {
			for range times {
				if _, err := log.ReadOn(ctx, &f, nil); err != nil {
					return err
				}
			}
			return nil
		})
		return s.each(s.etcd, float64(times)), err
	}
	const quiet, news = 20, 3
	nothing, err := readOn(quiet)
	if err != nil {
		return err
	}
	c.IndexStream = nothing / time.Duration(len(f.Streams))
	var some time.Duration
	for range news {
		if err := b.openMany(ctx, "news"); err != nil {
			return err
		}
		took, err := readOn(1)
		if err != nil {
			return err
		}
		some += took
	}
	// In the last minute, which is read again, a stream got as many commits as there were
	// rounds before.
	c.IndexBehind = max(0, (some-news*nothing)/(news*manyPools)-c.IndexCommit*(news+1)/2)
	return nil
}

// measureBytes looks what a log leaves in etcd's database, and what is held.
func (b *bed) measureBytes(ctx context.Context) error {
	if err := b.etcd.tidy(ctx, b.client); err != nil {
		return err
	}
	events := 0
	s, err := b.during(func() error {
		story := bulk.Story{Events: told, Held: 64}
		for c := range story.Commits() {
			events += len(c.Events)
		}
		if err := bulk.Write(ctx, b.client, storyPrefix, story.Commits(), nil); err != nil {
			return err
		}
		return b.etcd.tidy(ctx, b.client)
	})
	if err != nil {
		return err
	}
	b.costs.BytesEvent = s.grown / float64(events)

	h, err := join(ctx, b.etcd.endpoint, "holder")
	if err != nil {
		return err
	}
	defer func() { _ = h.leave() }()
	if err := h.open(ctx, "held", netip.MustParsePrefix("172.18.0.0/16")); err != nil {
		return err
	}
	var addresses []netip.Addr
	taken, err := b.during(func() (err error) {
		if addresses, err = h.take(ctx, held, crowd); err != nil {
			return err
		}
		return b.etcd.tidy(ctx, b.client)
	})
	if err != nil {
		return err
	}
	given, err := b.during(func() error {
		if err := h.giveBack(ctx, addresses, crowd); err != nil {
			return err
		}
		return b.etcd.tidy(ctx, b.client)
	})
	// Taking leaves entries in the log and guards; giving back about as many entries, and
	// takes the guards away.
	b.costs.BytesHeld = (taken.grown - given.grown) / 2 / held
	return err
}
