// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/demo/engine"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/lab"
	"github.com/ipamlog/ipamlog/replay"
)

// lookEvery is how often everybody holds still and the guards are looked at.
const lookEvery = 20 * time.Second

// endPatience is how long it may take to give everything back.
const endPatience = 10 * time.Minute

// options are how chaos is asked for.
type options struct {
	duration time.Duration
	seed     uint64
	calm     time.Duration
	crowd    int
	keep     string // a directory; empty: none is kept where all is well
	terminal bool
}

// running is a run.
type running struct {
	options
	*load
	t        lab.T
	place    *place
	networks []*network
	looks    int
	late     *time.Timer        // ends the waiting for what never comes
	orphans  map[events.ID]bool // grants that nobody was told of

	mu    sync.Mutex
	wrong []string
}

// fail notes that something is wrong.
func (r *running) fail(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
	if len(r.wrong) <= shown {
		r.t.Logf("WRONG: "+format, args...)
	}
}

// run drives a place of its own until the time is over or ctx ends, and judges what
// came of it. What keeps it from doing that fails t; what it finds does not.
func run(ctx context.Context, t lab.T, o options) *result {
	t.Helper()
	t.Logf("building the programs, and starting %d daemons on three members", hosts)
	r := &running{options: o, t: t, place: build(t), orphans: map[events.ID]bool{}}
	f := &faults{place: r.place, seed: o.seed, calm: o.calm, fail: r.fail, counts: map[string]int{}}
	r.load = &load{history: newHistory(), ledger: newLedger(), faults: f, over: make(chan struct{})}
	r.networks = networks(r.place, r.load, o.seed, o.crowd)
	r.trouble(ctx)

	t.Logf("the trouble is over: looking at what is held, and giving it all back")
	// Whoever is in a hurry has the history judged all the same.
	ctx = context.WithoutCancel(ctx)
	r.look(ctx)
	r.verify(ctx, "while addresses are held")
	r.giveBack(ctx)
	r.late.Stop()
	r.empty(ctx)
	r.verify(ctx, "once all is given back")
	for _, n := range r.networks {
		n.leave()
	}
	return r.judge(ctx)
}

// trouble lets clients ask, and things break, until the time is over. All works
// again when it returns, and what runs then is left running.
func (r *running) trouble(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.duration)
	defer cancel()
	var asking, breaking sync.WaitGroup
	for _, n := range r.networks {
		asking.Go(func() { n.live(ctx) })
	}
	breaking.Go(func() { r.faults.run(ctx) })
	breaking.Go(func() { r.tellProgress(ctx) })
	for last(ctx, min(lookEvery, r.duration/2)) {
		r.look(context.WithoutCancel(ctx))
		r.faults.compact(context.WithoutCancel(ctx))
	}
	r.late = time.AfterFunc(endPatience, func() {
		r.fail("not everything could be given back within %v", endPatience)
		close(r.over)
	})
	breaking.Wait()
	asking.Wait()
}

// tellProgress says how far the run is: on a terminal in one line that changes.
func (r *running) tellProgress(ctx context.Context) {
	every, begin, end := 30*time.Second, "chaos: ", "\n"
	if r.terminal {
		every, begin, end = time.Second, "\r\x1b[Kchaos: ", ""
		defer fmt.Fprintln(os.Stderr)
	}
	for last(ctx, every) {
		fmt.Fprintf(os.Stderr, "%s%s of %s, %d operations, %d faults%s", begin,
			r.history.now().Round(time.Second), r.duration, r.history.operations(), r.faults.total(), end)
	}
}

// giveBack stops all containers and removes all networks.
func (r *running) giveBack(ctx context.Context) {
	var all sync.WaitGroup
	for _, n := range r.networks {
		all.Go(func() {
			if n.grant != "" {
				n.remove(ctx)
			}
		})
	}
	all.Wait()
}

// empty waits until nothing is held any more. Grants that nobody was told of, as the
// daemon died over its answer, it gives back: reconciliation would close them,
// and there is no engine here to compare with.
func (r *running) empty(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	for {
		held, grants, err := r.place.guards(ctx)
		if err == nil && len(held) == 0 && len(grants) == 0 {
			return
		}
		if err == nil {
			for id, g := range grants {
				r.orphans[id] = true
				r.release(id, g)
			}
		}
		if !last(ctx, 500*time.Millisecond) {
			r.fail("%d addresses are held and %d grants are open after everything was given back (%v)", len(held), len(grants), err)
			return
		}
	}
}

// release gives back a grant that nobody was told of.
func (r *running) release(id events.ID, g grantAt) {
	for _, n := range r.networks {
		c := n.clients[0]
		if c.station.host.Name() != g.host || c.pool.name != g.pool.Name {
			continue
		}
		c.call(call{Verb: shut}, func(conn *engine.Conn, _ *call) error {
			return conn.ReleasePool(fmt.Sprintf("ipamlog:local/%s/%s?host=%s&name=%s&subnet=%s", g.id, id, g.host, g.pool.Name, strings.ReplaceAll(g.pool.Subnet.String(), "/", "%2F")))
		}, func(outcome) {})
		return
	}
}

// verify checks that the log keeps its rules and agrees with the guards. That clocks
// contradict each other it must find.
func (r *running) verify(ctx context.Context, when string) {
	report, _, err := replay.Verify(ctx, r.place.log, nil)
	if err != nil {
		r.fail("the log could not be verified %s: %v", when, err)
		return
	}
	for _, f := range report.Findings {
		if f.Rule != replay.RuleClocks {
			r.fail("verify, %s: %s at %s: %s", when, f.Rule, f.Where, f.What)
		}
	}
	r.t.Logf("verified %s: %d commits, %d events, %d guards, clocks that lied: %d commits marked", when, report.Commits, report.Events, report.Guards, report.Suspect)
}

func (r *running) judge(ctx context.Context) *result {
	records, _, err := r.place.log.Read(ctx, 0, nil)
	if err != nil {
		r.t.Fatal(errors.Wrap(err, "read the log"))
	}
	r.t.Logf("judging %d calls with %d commits", len(r.history.calls), len(records))
	found := &result{running: r, verdict: judge(r.history.calls, readFates(records), r.history.now())}
	if r.history.unfair != "" {
		r.fail("a client was refused: %s", r.history.unfair)
	}
	found.wrong = slices.Concat(r.wrong, found.verdict.wrong)
	if len(found.wrong) > 0 || r.keep != "" {
		if err := found.save(); err != nil {
			r.t.Errorf("%v", err)
		}
	}
	return found
}

// save keeps the history, and charts of what could not have been.
func (f *result) save() error {
	var err error
	if f.kept = f.keep; f.kept == "" {
		if f.kept, err = os.MkdirTemp("", "chaos-history-"); err != nil {
			return errors.Wrap(err, "make a directory for the history")
		}
	} else if err := os.MkdirAll(f.kept, 0o755); err != nil {
		return errors.Wrap(err, "make a directory for the history")
	}
	if err := f.history.write(filepath.Join(f.kept, "history.jsonl")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(f.kept, "wrong.txt"), []byte(strings.Join(f.wrong, "\n")+"\n"), 0o600); err != nil {
		return errors.Wrap(err, "write what is wrong")
	}
	for _, s := range f.place.stations {
		for _, log := range []string{"before.log", "ipamlog.log"} {
			if err := copyFile(filepath.Join(f.kept, s.host.Name()+"-"+log), filepath.Join(filepath.Dir(s.host.Dir()), log)); err != nil {
				return err
			}
		}
	}
	for at, draw := range f.charts {
		if err := draw(filepath.Join(f.kept, fmt.Sprintf("%s-%s.html", at.pool, at.address))); err != nil {
			return errors.Wrap(err, "draw a history")
		}
	}
	return nil
}

// copyFile copies a file, if it is there.
func copyFile(to, from string) error {
	text, err := os.ReadFile(from)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	return errors.Wrap(err, "copy a log")
}
