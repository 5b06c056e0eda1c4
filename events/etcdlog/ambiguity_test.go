// SPDX-License-Identifier: Apache-2.0

package etcdlog_test

import (
	"context"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"

	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// behindProxy is a pool whose writer speaks through a proxy, while the bed
// itself speaks to etcd.
func behindProxy(t *testing.T) (direct, through *bed, p *proxy) {
	t.Helper()
	s := etcdtest.Start(t)
	direct = newBed(t, s.Client())
	p = newProxy(t, s.Endpoint())
	log := etcdlog.New(etcdtest.Dial(t, p.endpoint()), etcdlog.DefaultPrefix)
	// A request says how long its sender waits, and etcd drops one that arrives
	// later: stragglers need patience.
	log.SetAttempt(time.Minute)
	return direct, direct.by(join(t, log, "h2")), p
}

// untilKept is the patience of a writer who gives up once its request is under
// way.
func untilKept(t *testing.T, p *proxy) context.Context {
	ctx, giveUp := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(giveUp)
	go func() {
		select {
		case <-p.struck:
			giveUp()
		case <-ctx.Done():
		}
	}()
	return ctx
}

// commitsOf counts what stands under an ID.
func (b *bed) commitsOf(id events.ID) (n int, last events.Record) {
	for _, r := range b.records() {
		if r.ID == id {
			n, last = n+1, r
		}
	}
	return n, last
}

func TestAnswerLost(t *testing.T) {
	for name, r := range map[string]rule{"the connection is cut": loseAnswer, "the connection falls silent": swallowAll} {
		t.Run(name, func(t *testing.T) {
			direct, through, p := behindProxy(t)
			proposal := direct.propose(through.allocate(5))
			p.set(r, proposal.ID.String())
			go func() {
				<-p.struck
				p.set(pass, "")
				if r == swallowAll {
					// The client will wait in vain; a fresh connection answers.
					eventually(t, "the commit", func() bool { n, _ := direct.commitsOf(proposal.ID); return n > 0 })
					p.cut()
				}
			}()
			record, err := through.w.Append(within(t, 20*time.Second), proposal)
			if err != nil {
				t.Fatal(err)
			}
			n, stored := direct.commitsOf(proposal.ID)
			if diff := cmp.Diff(stored, record, equate); n != 1 || diff != "" {
				t.Errorf("%d commits (-stored +returned):\n%s", n, diff)
			}
			direct.agree()
		})
	}
}

// TestNoAnswerAtAll: what is unknown stays unknown until it is closed, and
// closing finds what did commit.
func TestNoAnswerAtAll(t *testing.T) {
	direct, through, p := behindProxy(t)
	proposal := direct.propose(through.allocate(5))
	p.set(swallowAll, proposal.ID.String())
	record, err := through.w.Append(within(t, time.Second), proposal)
	if !errors.Is(err, etcdlog.ErrUnknown) || errors.IsAny(err, etcdlog.ErrConflict, etcdlog.ErrVoided, etcdlog.ErrRejected) {
		t.Fatalf("%+v %v", record, err)
	}
	if _, err := through.w.Close(within(t, 300*time.Millisecond), proposal.Stream, proposal.ID); !errors.Is(err, etcdlog.ErrUnknown) {
		t.Errorf("closed without an answer: %v", err)
	}
	p.set(pass, "")
	p.cut()
	closed, err := through.w.Close(within(t, 20*time.Second), proposal.Stream, proposal.ID)
	if err != nil || closed.Void() {
		t.Fatalf("it had committed: %+v %v", closed, err)
	}
	if n, stored := direct.commitsOf(proposal.ID); n != 1 || !cmp.Equal(stored, closed, equate) {
		t.Errorf("%d commits", n)
	}
	direct.agree()
}

// TestStragglerAfterTheVoid: the request is on its way for as long as it takes
// to give up, close its ID and give the address to another. Then it arrives.
func TestStragglerAfterTheVoid(t *testing.T) {
	direct, through, p := behindProxy(t)
	proposal := direct.propose(through.allocate(5))
	p.set(keepAll, proposal.ID.String())
	if _, err := through.w.Append(untilKept(t, p), proposal); !errors.Is(err, etcdlog.ErrUnknown) {
		t.Fatal(err)
	}
	void, err := direct.w.Close(within(t, 20*time.Second), proposal.Stream, proposal.ID)
	if err != nil || !void.Void() {
		t.Fatalf("%+v %v", void, err)
	}
	before, _ := direct.guards()
	p.deliver()
	if n, stored := direct.commitsOf(proposal.ID); n != 1 || !stored.Void() {
		t.Errorf("%d commits under the closed ID: %+v", n, stored)
	}
	after, _ := direct.guards()
	if diff := cmp.Diff(before, after, equate); diff != "" {
		t.Errorf("the straggler changed guards: %s", diff)
	}
	direct.agree()
}

// TestStragglerWithoutTheVoid shows that the proxy does what the test before
// rests on: not closed, the request commits whenever it arrives.
func TestStragglerWithoutTheVoid(t *testing.T) {
	direct, through, p := behindProxy(t)
	proposal := direct.propose(through.allocate(5))
	p.set(keepAll, proposal.ID.String())
	if _, err := through.w.Append(untilKept(t, p), proposal); !errors.Is(err, etcdlog.ErrUnknown) {
		t.Fatal(err)
	}
	if n, _ := direct.commitsOf(proposal.ID); n != 0 {
		t.Fatal("the request was not kept")
	}
	p.deliver()
	if n, stored := direct.commitsOf(proposal.ID); n != 1 || stored.Void() {
		t.Errorf("%d commits: %+v", n, stored)
	}
	direct.agree()
}

// TestConflictAfterAnAmbiguousSend: the first send is under way when the second
// loses the race. The refusal is final only because the ID is closed: the
// address is free again when the first arrives.
func TestConflictAfterAnAmbiguousSend(t *testing.T) {
	direct, through, p := behindProxy(t)
	proposal := direct.propose(through.allocate(5))
	p.set(keepOneAndCut, proposal.ID.String())
	rival := direct.allocate(5)
	go func() {
		<-p.struck
		p.shutOut()
		direct.append(rival)
		p.letIn()
	}()
	record, err := through.w.Append(within(t, 20*time.Second), proposal)
	var conflict *etcdlog.ConflictError
	if !errors.As(err, &conflict) || conflict.Now.Held[address(5)].Value.Index(rival.Allocation) != 0 {
		t.Fatalf("%+v %v", record, err)
	}
	if n, stored := direct.commitsOf(proposal.ID); n != 1 || !stored.Void() {
		t.Errorf("the ID was left open: %d commits", n)
	}
	direct.append(release(rival, events.Released))
	p.deliver()
	if n, stored := direct.commitsOf(proposal.ID); n != 1 || !stored.Void() {
		t.Errorf("the straggler committed: %+v", stored)
	}
	if g, _ := direct.guards(); g.Held[address(5)].Present() {
		t.Error("the straggler holds the address")
	}
	direct.agree()
}

// TestLostAnswersUnderLoad cuts connections at random moments under many
// writers: what each was told is what the log says.
func TestLostAnswersUnderLoad(t *testing.T) {
	direct, through, p := behindProxy(t)
	ctx, stop := context.WithCancel(t.Context())
	cutter, answered := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(cutter)
		for ctx.Err() == nil {
			p.set(loseAnswer, "address.allocated")
			for _, next := range []chan struct{}{p.struck, answered} { // or nobody would get through
				select {
				case <-next:
				case <-ctx.Done():
				}
			}
		}
	}()
	type told struct {
		id  events.ID
		rec events.Record
		err error
	}
	const writers, each = 8, 10
	results := make(chan told)
	seen, _ := direct.guards()
	for w := range writers {
		go func() {
			for i := range each {
				// Neighbours want the same addresses.
				proposal := etcdlog.Proposal{
					ID: through.log.Clock.NewID(), Stream: events.PoolStream(direct.pool), Seen: seen,
					Events: []events.Event{through.allocate((w/2)*each + i)},
				}
				patience, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				rec, err := through.w.Append(patience, proposal)
				cancel()
				select {
				case answered <- struct{}{}:
				default:
				}
				results <- told{proposal.ID, rec, err}
			}
		}()
	}
	won := 0
	var all []told
	for range writers * each {
		all = append(all, <-results)
	}
	stop()
	<-cutter
	for _, r := range all {
		n, stored := direct.commitsOf(r.id)
		switch {
		case r.err == nil:
			won++
			if n != 1 || !cmp.Equal(stored, r.rec, equate) {
				t.Errorf("told %d, but there are %d: %+v", r.rec.Revision, n, stored)
			}
		case errors.Is(r.err, etcdlog.ErrConflict):
			if n > 0 && !stored.Void() {
				t.Errorf("told of a conflict, but it committed at %d", stored.Revision)
			}
		default:
			t.Error(r.err)
		}
	}
	if won != writers/2*each {
		t.Errorf("%d won, of %d addresses", won, writers/2*each)
	}
	direct.agree()
}
