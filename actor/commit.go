// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"context"
	"slices"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

const (
	// maxInFlight is how many commits of a pool may be on their way at once.
	maxInFlight = 4
	// worthwhile is how many steps are worth a second commit while one is on its
	// way; fewer gather until that one is back.
	worthwhile = 32
	// maxGrants is how many grants a commit may be about: each is one more guard
	// to compare, beside etcdlog.MaxEvents addresses.
	maxGrants = 20
	// storePatience is how long a commit waits for the store. A requester waits
	// a little longer (see requestPatience), so that it hears why.
	storePatience = 3 * time.Second
	// delay is how much later than Docker released its commit may come before it
	// says so.
	delay = time.Second
)

// queue makes a step pending, and puts it in line for a commit.
func (p *Pool) queue(s *step) {
	p.overlay.add(s)
	if s.addr.IsValid() {
		p.refresh(s.addr)
	}
	p.batch = append(p.batch, s)
}

// unqueue ends a step's being pending. Its parked tasks are the caller's to
// decide.
func (p *Pool) unqueue(s *step) {
	p.overlay.remove(s)
	if s.addr.IsValid() {
		p.refresh(s.addr)
	}
}

// flush sends what has gathered: at once when nothing is on its way, else when
// it is worth a commit beside those that are.
func (p *Pool) flush() {
	for len(p.batch) > 0 && p.broken == nil {
		free := p.inFlight == 0 || p.inFlight < maxInFlight && len(p.batch) >= min(worthwhile, p.batchLimit)
		if !free {
			return
		}
		steps := p.take()
		if len(steps) > 0 {
			p.dispatch(steps)
		}
	}
}

// take cuts a commit's steps off the line. What the guards have come to
// contradict meanwhile is decided again, and who has left is dropped.
func (p *Pool) take() []*step {
	var steps []*step
	grants := map[events.ID]bool{}
	n := 0
	for _, s := range p.batch {
		if len(steps) == p.batchLimit || len(steps) > 0 && s.alone || len(grants) == maxGrants && !grants[s.grant] {
			break
		}
		n++
		grants[s.grant] = true
		if p.holdsStill(s) {
			steps = append(steps, s)
		} else {
			steps = append(steps, nil)
		}
		if s.alone {
			break
		}
	}
	line := p.batch[:n]
	p.batch = slices.Clone(p.batch[n:])
	for i, s := range line {
		if steps[i] == nil {
			p.redecide(s)
		}
	}
	return slices.DeleteFunc(steps, func(s *step) bool { return s == nil })
}

// holdsStill says whether a step is still wanted, and fits what is known now.
func (p *Pool) holdsStill(s *step) bool {
	switch e := s.event.(type) {
	case events.AddressAllocated:
		return s.on == p.state.Pool().Revision && !s.task.base().gone() && p.held(s.addr).Value.Admits(e.Shared) && p.grant(s.grant).Value.State == events.StateOpen
	case events.AddressReleased:
		return p.held(s.addr).Value.Index(e.Allocation) >= 0
	case events.GrantClosing:
		return p.grant(s.grant).Value.State == events.StateOpen
	case events.GrantClosed:
		if s.follow != nil && p.state.Pool().Value.Kept {
			return false // an operator has laid the pool out meanwhile
		}
		return p.grant(s.grant).Value.State == events.StateClosing
	case events.AddressSuspected:
		held := p.held(s.addr).Value
		return held.Index(e.Allocation) >= 0 && !held.Suspected(e.Allocation)
	case events.AddressCleared:
		return p.held(s.addr).Value.Suspected(e.Allocation)
	case events.AddressReclaimed:
		return p.held(s.addr).Value.Suspected(e.Allocation)
	case events.PoolRetired:
		return !p.retired
	default:
		return true
	}
}

// redecide takes a step back, and decides anew for all who wait for it.
func (p *Pool) redecide(s *step) {
	p.unqueue(s)
	if s.task != nil {
		p.decide(s.task)
	}
	p.unpark(s)
}

// dispatch sends one commit on its way.
func (p *Pool) dispatch(steps []*step) {
	proposal := etcdlog.Proposal{ID: p.writer.Log().Clock.NewID(), Stream: events.PoolStream(p.id), Seen: events.NewGuards()}
	proposal.Seen.Pool, proposal.SeenAt = p.state.Pool(), p.state.Revision()
	now, _ := p.writer.Log().Clock.Stamp()
	for _, s := range steps {
		if s.layOut != nil {
			proposal.Events = append(proposal.Events, *s.layOut)
		}
		proposal.Events = append(proposal.Events, s.told(now))
		if s.follow != nil {
			proposal.Events = append(proposal.Events, s.follow)
		}
		if s.addr.IsValid() {
			if guard := p.held(s.addr); guard.Present() {
				proposal.Seen.Held[s.addr] = guard
			}
		}
		if s.leansOnGrant() {
			proposal.Seen.Grants[s.grant] = p.grant(s.grant)
		}
	}
	p.inFlight++
	p.spawn(func() {
		begun := time.Now()
		ctx, cancel := context.WithTimeout(p.life, storePatience)
		defer cancel()
		record, err := p.writer.Append(ctx, proposal)
		if err == nil {
			p.observer.Committed(len(steps), time.Since(begun))
		}
		p.post(func() {
			p.inFlight--
			p.outcome(proposal, steps, record, err)
		})
	})
}

// told is the step's event as it goes into the log: a release that had to wait for
// the store, with the moment that Docker released, by the clock that says what is now.
func (s *step) told(now time.Time) events.Event {
	released, is := s.event.(events.AddressReleased)
	t, asked := s.task.(*releaseTask)
	if !is || !asked || t.came.IsZero() {
		return s.event
	}
	// On the clock that the commit has: the wall's may have jumped in between.
	late := time.Since(t.came)
	at := now.Add(-late).UTC().Truncate(time.Microsecond)
	// A moment before the allocation is that of a clock that was set back, and tells nothing.
	if late > delay && at.After(released.Allocation.Time()) {
		released.At = at
	}
	return released
}

// outcome takes in how a commit went.
func (p *Pool) outcome(proposal etcdlog.Proposal, steps []*step, record events.Record, err error) {
	var conflict *etcdlog.ConflictError
	switch {
	case err == nil:
		p.committed(proposal, steps, record)
	case errors.As(err, &conflict):
		p.lostRace(proposal, steps, conflict)
	case errors.Is(err, etcdlog.ErrVoided):
		for _, s := range steps {
			p.redecide(s)
		}
	case errors.Is(err, etcdlog.ErrUnknown):
		p.silent(proposal, steps, err)
	case errors.Is(err, etcdlog.ErrOtherStore):
		p.fail(err)
		p.doom(err)
	case errors.Is(err, etcdlog.ErrFenced):
		p.log.Error().Err(err).Msg("what only the host's present daemon may do was refused")
		for _, s := range steps {
			if _, asks := s.task.(*allocateTask); s.closes() || s.judges() && !asks {
				p.refused(s, err)
			} else {
				p.redecide(s) // it only shared the commit
			}
		}
	default:
		log := p.log
		if errors.IsAny(err, etcdlog.ErrFull, etcdlog.ErrRejected) {
			log = log.Sample(p.refusals)
		}
		log.Error().Err(err).Int("events", len(steps)).Msg("a commit was refused")
		for _, s := range steps {
			p.refused(s, err)
		}
	}
}

// committed answers those whose events are in the log.
func (p *Pool) committed(proposal etcdlog.Proposal, steps []*step, record events.Record) {
	p.latest = max(p.latest, record.Revision)
	p.batchLimit = min(2*p.batchLimit, etcdlog.MaxEvents)
	if p.state.Revision() < record.Revision {
		after := proposal.Seen
		if err := after.Apply(record); err != nil {
			p.fail(errors.Wrap(err, "apply a commit of our own"))
			return
		}
		p.overlay.learn(steps, after, record.Revision)
	}
	now := time.Now()
	for _, s := range steps {
		p.unqueue(s)
		if s.layOut != nil {
			p.laidOutAt = record.Revision
		}
		switch e := s.event.(type) {
		case events.AddressAllocated:
			p.settleAllocated(s, e, record.Revision)
		case events.AddressReleased:
			p.gaveBack(s, now)
			s.settled(Answer{Address: s.addr, Allocation: e.Allocation, Revision: record.Revision})
		case events.AddressReclaimed:
			p.gaveBack(s, now)
			s.settled(Answer{Address: s.addr, Revision: record.Revision})
		case events.AddressSuspected:
			s.settled(Answer{Address: s.addr, Revision: record.Revision})
		case events.AddressCleared:
			if _, asks := s.task.(*allocateTask); asks {
				p.decide(s.task)
			} else {
				s.settled(Answer{Address: s.addr, Revision: record.Revision})
			}
		case events.GrantClosing:
			if c := p.closing[s.grant]; c != nil {
				c.at = record.Revision
			}
		case events.GrantClosed:
			p.closed(s.grant, record.Revision)
		default:
		}
		p.unpark(s)
	}
}

// settled answers whom the step was for, if it was for somebody.
func (s *step) settled(a Answer) {
	if s.task != nil {
		s.task.base().answer(a, nil)
	}
}

// gaveBack notes that a step's address is free again.
func (p *Pool) gaveBack(s *step, now time.Time) {
	p.dry = false
	p.letRest(s.addr, now)
}

// settleAllocated tells the requester of its address. If it has left, whoever
// asked the same again meanwhile is told, or else nobody keeps it.
func (p *Pool) settleAllocated(s *step, e events.AddressAllocated, revision int64) {
	if key := s.ask; key != (askKey{}) {
		p.asks[key] = s.addr
	}
	p.memory.note(e, revision)
	p.witnessed(e)
	p.asked[e.Allocation] = time.Now()
	answer := p.answerOf(s.addr, e.Kind, e.Allocation, revision, false)
	if s.task.base().answer(answer, nil) {
		return
	}
	for _, t := range s.parked {
		again, ok := t.(*allocateTask)
		if ok && s.ask != (askKey{}) && again.askKey(e.Kind) == s.ask && again.answer(answer, nil) {
			return
		}
	}
	p.compensate(s.grant, e.Allocation, s.addr)
}

// lostRace decides again for what somebody else's commit stood in the way of.
// The rest of the commit goes again as it was.
func (p *Pool) lostRace(proposal etcdlog.Proposal, steps []*step, c *etcdlog.ConflictError) {
	p.observer.Conflicted()
	p.batchLimit = max(1, p.batchLimit/2)
	if p.state.Revision() < c.Revision {
		p.overlay.learn(steps, c.Now, c.Revision)
	}
	var again, contested, changed []*step
	for _, s := range steps {
		if s.leansOnPool() && proposal.Seen.Pool.Revision != c.Now.Pool.Revision {
			changed = append(changed, s)
			continue
		}
		moved := s.addr.IsValid() && proposal.Seen.Held[s.addr].Revision != c.Now.Held[s.addr].Revision ||
			s.leansOnGrant() && proposal.Seen.Grants[s.grant].Revision != c.Now.Grants[s.grant].Revision
		if moved || s.retires() {
			contested = append(contested, s)
		} else {
			again = append(again, s)
		}
	}
	p.batch = append(again, p.batch...)
	for _, s := range changed {
		// The pool has another layout, or its router: what that is the projection
		// tells before this is decided again.
		p.unqueue(s)
		p.reach(c.Revision, s.task)
		p.unpark(s)
	}
	for _, s := range contested {
		if t, ok := s.task.(*allocateTask); ok {
			t.contested = true
		}
		if s.retires() {
			// Somebody joined the pool that was about to retire. Who it was the
			// projection will tell before this is decided again.
			p.unqueue(s)
			if closing := p.closing[s.grant]; closing != nil {
				closing.at = max(closing.at, c.Revision)
			}
			p.unpark(s)
			continue
		}
		p.redecide(s)
	}
}

// silent refuses those who wait for a commit that got no answer, and finds out
// what became of it. Until then its addresses stay pending.
func (p *Pool) silent(proposal etcdlog.Proposal, steps []*step, err error) {
	p.log.Warn().Err(err).Stringer("commit", proposal.ID).Int("events", len(steps)).
		Msg("the store did not answer: the commit's fate is being found out")
	for _, s := range steps {
		if _, ok := s.event.(events.AddressAllocated); ok {
			s.task.base().answer(Answer{}, errors.Mark(err, ErrStoreSilent))
		}
	}
	p.unsettled++
	p.spawn(func() {
		record, err := p.writer.Close(p.life, proposal.Stream, proposal.ID)
		p.post(func() {
			p.unsettled--
			switch {
			case err != nil:
				p.log.Error().Err(err).Stringer("commit", proposal.ID).Msg("the commit's fate is not known: reconciliation will have to find out")
				for _, s := range steps {
					p.refused(s, err)
				}
			case record.Void():
				for _, s := range steps {
					p.redecide(s)
				}
			default:
				p.committed(proposal, steps, record)
			}
		})
	})
}

// refused gives up a step, and decides anew for those who waited for it.
func (p *Pool) refused(s *step, err error) {
	p.unqueue(s)
	if s.task != nil {
		s.task.base().answer(Answer{}, err)
	}
	if c := p.closing[s.grant]; c != nil && s.closes() {
		for _, t := range c.tasks {
			t.answer(Answer{}, err)
		}
		c.tasks = nil
		p.rest(c)
	}
	p.unpark(s)
}
