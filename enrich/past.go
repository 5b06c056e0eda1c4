// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/replay"
)

const (
	// apart is how long a history is good for at least before it is read again: a log
	// that is written line by line would have it read for each.
	apart = time.Second
	// settled is how long after a moment the history is read for it: what the engine
	// tells of a container comes a little later than its address.
	settled = time.Second
	// fast is by how much the clock of a log may be before ours without its lines
	// being taken for those of a time that is still to come.
	fast = 2 * time.Second
	// patience is how long reading again may take; and, where it failed, how long
	// lines go through unchanged before it is tried again.
	patience = 5 * time.Second
)

// era is a stretch of time, and who held what in it.
type era struct {
	number int
	lookup *replay.Lookup
	until  time.Time // it is the last moment
}

// past is all of the time: one era up to the start of the run and, if the log goes on
// after that, a second one from there on, which is replaced as it goes on.
type past struct {
	first  *era
	latest atomic.Pointer[era] // nil: nobody has asked for it yet

	reading sync.Mutex // held by who makes the next one
	read    time.Time  // when the history was read last
	failed  bool       // it could not be
}

// begin begins with the history up to the start.
func (j *joint) begin() error {
	j.past.first = &era{lookup: replay.NewLookup(j.History, j.Pools, time.Time{}), until: j.Clock.Now}
	j.past.read = time.Now()
	if j.History.Err() != nil {
		return errors.New("the index was spoilt while it was read: do it again")
	}
	j.History = nil // numbers are enough
	return nil
}

// era is that of a moment; nil if nothing is known of it.
func (j *joint) era(moment time.Time) *era {
	if !moment.After(j.past.first.until) {
		return j.past.first
	}
	if latest := j.past.latest.Load(); latest != nil && !moment.After(latest.until) {
		return latest
	}
	if j.Again == nil || moment.After(time.Now().Add(fast)) {
		return nil
	}
	return j.readOn(moment)
}

// readOn reads what the log of addresses has got until a moment.
func (j *joint) readOn(moment time.Time) *era {
	p := &j.past
	p.reading.Lock()
	defer p.reading.Unlock()
	latest := p.latest.Load()
	if latest != nil && !moment.After(latest.until) {
		return latest // the one who was before us did
	}
	if p.failed && time.Since(p.read) < patience {
		return nil
	}
	if !j.wait(later(p.read.Add(apart), moment.Add(settled))) {
		return nil
	}
	ctx, cancel := context.WithTimeout(j.ctx, patience)
	defer cancel()
	next := &era{number: 1, until: time.Now().Add(-settled)}
	if latest != nil {
		next.number = latest.number + 1
	}
	h, pools, err := j.Again(ctx)
	if p.read, p.failed = time.Now(), err != nil; p.failed {
		return nil
	}
	next.lookup = replay.NewLookup(h, pools, p.first.until)
	if p.failed = h.Err() != nil; p.failed || moment.After(next.until) {
		return nil
	}
	p.latest.Store(next)
	return next
}

// wait waits for a moment; false if the run is over before.
func (j *joint) wait(moment time.Time) bool {
	timer := time.NewTimer(time.Until(moment))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-j.ctx.Done():
		return false
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
