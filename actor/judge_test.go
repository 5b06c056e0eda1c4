// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// holding finds what a daemon holds of an address.
func (d *daemon) holding(a netip.Addr) actor.Holding {
	d.bed.tb.Helper()
	all, err := d.Standing(d.bed.ctx())
	if err != nil {
		d.bed.tb.Fatal(err)
	}
	for _, s := range all {
		for _, h := range s.Holdings {
			if h.Address == a {
				return h
			}
		}
	}
	d.bed.tb.Fatalf("%s is not held", a)
	return actor.Holding{}
}

func (d *daemon) judge(h actor.Holding, v actor.Verdict, look time.Time) bool {
	d.bed.tb.Helper()
	done, err := d.Judge(d.bed.ctx(), h, v, look)
	if err != nil {
		d.bed.tb.Fatal(err)
	}
	return done
}

// told lists what the log says of suspicions, in its order.
func (b *bed) told(ref actor.Ref) string {
	b.tb.Helper()
	var list []string
	for _, r := range b.records(ref) {
		for _, e := range r.Events {
			if word, ok := strings.CutPrefix(e.Type(), "address."); ok {
				list = append(list, word)
			}
		}
	}
	return strings.Join(list, " ")
}

func TestJudge(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref := d.subnet("10.1.0.0/24")
	a := d.ask(ref, endpoint(1))
	h := d.holding(a.Address)
	early := time.Now().Add(-time.Hour)
	if d.judge(h, actor.Suspect, early) {
		t.Error("suspected, though it was asked for after the look began")
	}
	if d.judge(h, actor.Clear, time.Now()) || d.judge(h, actor.Reclaim, time.Now()) {
		t.Error("cleared or reclaimed, and was not suspected")
	}
	if !d.judge(h, actor.Suspect, time.Now()) || d.judge(h, actor.Suspect, time.Now()) {
		t.Error("it is to be suspected once")
	}
	if !d.judge(h, actor.Clear, time.Now()) || !d.judge(h, actor.Suspect, time.Now()) {
		t.Error("it is not cleared and suspected again")
	}
	// Who asks again has it, and is not suspected any more.
	if again := d.ask(ref, endpoint(1)); again.Allocation != a.Allocation || !again.Repeat {
		t.Errorf("asked again: %+v", again)
	}
	if d.judge(h, actor.Suspect, early) {
		t.Error("suspected, though it was asked for again after the look began")
	}
	if !d.judge(h, actor.Suspect, time.Now()) || !d.judge(h, actor.Reclaim, time.Now()) {
		t.Error("it is not reclaimed")
	}
	if d.judge(h, actor.Reclaim, time.Now()) {
		t.Error("reclaimed twice")
	}
	if got := b.told(ref); got != "allocated suspected cleared suspected cleared suspected reclaimed" {
		t.Errorf("the log says %s", got)
	}
	d.settled(ref)
	b.agree(ref)

	// A verdict is about an allocation: the next one of the address is left alone.
	next := d.ask(ref, endpointAt(2, a.Address))
	if d.judge(h, actor.Suspect, time.Now().Add(time.Hour)) || next.Address != a.Address {
		t.Error("another's holding was suspected")
	}
	if d.judge(d.holding(d.ask(ref, gateway("10.1.0.254")).Address), actor.Suspect, time.Now()) {
		t.Error("a gateway was suspected")
	}
}

// TestJudge_fenced: a daemon after which another one joined suspects nobody.
func TestJudge_fenced(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref := d.subnet("10.1.0.0/24")
	a := d.ask(ref, endpoint(1))
	h := d.holding(a.Address)
	lease, err := b.etcd.Client().Grant(b.ctx(), 60)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.log.Join(b.ctx(), "h1", etcdlog.Presence{Machine: "machine", Version: "next"}, lease.ID, func(etcdlog.Presence) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if done, err := d.Judge(b.ctx(), h, actor.Suspect, time.Now()); done || !errors.IsAny(err, etcdlog.ErrFenced, actor.ErrStoreSilent) {
		t.Errorf("%v %v", done, err)
	}
	if got := b.told(ref); got != "allocated" {
		t.Errorf("the log says %s", got)
	}
}

func TestCloseUnused(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref := d.subnet("10.1.0.0/24")
	d.ask(ref, endpoint(1))
	if closed, err := d.CloseUnused(b.ctx(), ref, time.Now().Add(-time.Hour)); closed || err != nil {
		t.Errorf("closed, though something was asked through it: %v", err)
	}
	if closed, err := d.CloseUnused(b.ctx(), ref, time.Now()); !closed || err != nil {
		t.Errorf("closed: %v, %v", closed, err)
	}
	if closed, err := d.CloseUnused(b.ctx(), ref, time.Now()); closed || err != nil {
		t.Errorf("closed again: %v, %v", closed, err)
	}
	if g := b.guards(ref); len(g.Grants) > 0 || len(g.Held) > 0 {
		t.Errorf("left: %+v", g)
	}
	// Docker has the network after all.
	if again := d.ask(ref, endpoint(2)); !again.Address.IsValid() {
		t.Error("not opened again")
	}
	d.settled(ref)
	b.agree(ref)
}

// TestJudgeAmidst: whatever is judged while containers start and stop, none of those
// that have an address loses it.
func TestJudgeAmidst(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref := d.subnet("10.1.0.0/24")
	stop := make(chan struct{})
	judged := make(chan int, 1)
	go func() {
		n := 0
		defer func() { judged <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			look := time.Now()
			all, err := d.Standing(b.ctx())
			if err != nil {
				t.Error(err)
				return
			}
			for _, s := range all {
				for _, h := range s.Holdings {
					// The worst engine: it never knows anything.
					for _, v := range []actor.Verdict{actor.Suspect, actor.Reclaim} {
						if done, err := d.Judge(b.ctx(), h, v, look); err != nil {
							t.Error(err)
						} else if done {
							n++
						}
					}
				}
			}
		}
	}()
	for round := range 40 {
		for n := range 5 {
			begun := time.Now()
			a := d.ask(ref, endpoint(n))
			held := b.guards(ref).Held[a.Address].Value
			// It may be taken by a look that began after the answer, and by no other.
			if i := held.Index(a.Allocation); i < 0 && !b.reclaimedSince(ref, a.Allocation, begun) {
				t.Fatalf("round %d: %s is not held by %s", round, a.Address, a.Allocation)
			}
		}
	}
	close(stop)
	if n := <-judged; n == 0 {
		t.Error("nothing was judged")
	}
	d.settled(ref)
	b.agree(ref)
}

// reclaimedSince says whether the log tells of a holding's reclaiming after a time.
func (b *bed) reclaimedSince(ref actor.Ref, allocation events.ID, since time.Time) bool {
	for _, r := range b.records(ref) {
		for _, e := range r.Events {
			if e, ok := e.(events.AddressReclaimed); ok && e.Allocation == allocation {
				return !r.Time.Before(since.Truncate(time.Microsecond))
			}
		}
	}
	return false
}
