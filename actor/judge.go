// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
)

// Verdict is what is to become of a holding after a look at the engine.
type Verdict uint8

// The verdicts.
const (
	Leave   Verdict = iota // it stays as it is
	Suspect                // the engine does not know it
	Wait                   // nor does it again, but too soon after the first time
	Reclaim                // nor does it again
	Clear                  // it does after all
)

// Finding is what a look at the engine has found of an endpoint's holding.
type Finding struct {
	Known     bool // the engine uses the address
	Suspected bool // an earlier look did not know it
	Young     bool // it was asked for a moment ago: the engine may not have written it down
	Ripe      bool // it has been suspected for a grace
}

// Verdict is what follows from a finding.
func (f Finding) Verdict() Verdict {
	switch {
	case f.Known && f.Suspected:
		return Clear
	case f.Known, !f.Suspected && f.Young:
		return Leave
	case !f.Suspected:
		return Suspect
	case f.Ripe:
		return Reclaim
	default:
		return Wait
	}
}

// Standing is what this host has in one pool, at one moment.
type Standing struct {
	Holdings []Holding
	Grants   []Opened // that are open
	// Left are grants that are closing, and that nobody goes on to close: a take-over of
	// this host has begun to.
	Left []Opened
	// Asked is when each allocation was last asked for, as far as this daemon knows.
	Asked map[events.ID]time.Time
}

// Opened is a grant of this host that is open, or was, as a holding without an address.
type Opened struct {
	Holding
	Ref Ref
}

func opened(id events.ID, pool events.Pool, grant events.ID, g events.Grant) Opened {
	return Opened{
		Holding: Holding{ID: id, Pool: pool, Range: g.Range, Allocation: events.Allocation{Grant: grant, Host: g.Host}},
		Ref:     Ref{Space: pool.Space, Pool: id, Grant: grant, Host: g.Host, Name: pool.Name, Subnet: pool.Subnet, Range: g.Range},
	}
}

// judgeTask carries a verdict to the pool. What was asked for since the look began is
// left alone: the engine may not have written it down yet.
type judgeTask struct {
	request
	verdict    Verdict
	address    netip.Addr
	allocation events.ID
	look       time.Time
}

// standTask is answered with what the host has.
type standTask struct {
	request
	into chan<- Standing // capacity 1
}

// Standing is what this host has in its pools of the local space. A pool that has not
// read its guards yet is waited for.
func (h *Host) Standing(ctx context.Context) ([]Standing, error) {
	h.mu.Lock()
	pools := make([]*Pool, 0, len(h.pools))
	for _, p := range h.pools {
		if p.space == events.Local {
			pools = append(pools, p)
		}
	}
	h.mu.Unlock()
	var all []Standing
	for _, p := range pools {
		into := make(chan Standing, 1)
		_, err := p.send(&standTask{request: newRequest(ctx), into: into})
		switch {
		case errors.IsAny(err, ErrStopping, ErrBroken): // it has retired, or nothing is decided there
		case err != nil:
			return nil, errors.Wrapf(err, "ask pool %s what this host holds", p.id)
		default:
			all = append(all, <-into)
		}
	}
	return all, nil
}

// stand answers what this host has here.
func (p *Pool) stand(t *standTask) {
	s := Standing{Holdings: p.ours(), Asked: maps.Clone(p.asked)}
	for _, h := range s.Holdings {
		if p.overlay.byAddr[h.Address] != nil {
			s.Asked[h.Allocation.ID] = time.Now() // the watch has told of it before its commit's answer came
		}
	}
	for id := range p.state.Grants() {
		g := p.grant(id)
		switch one := opened(p.id, p.state.Pool().Value, id, g.Value); {
		case g.Value.Host != p.writer.Host() || p.closing[id] != nil:
		case g.Value.State == events.StateOpen:
			s.Grants = append(s.Grants, one)
		case g.Value.State == events.StateClosing:
			s.Left = append(s.Left, one)
		}
	}
	t.into <- s
	t.answer(Answer{}, nil)
}

// Judge brings a verdict about a holding into the log, unless the holding has ended, is
// on its way to, or was asked for since the look began on which the verdict rests. It
// says whether the log has it. The errors are those of [Host.RequestAddress].
func (h *Host) Judge(ctx context.Context, x Holding, v Verdict, look time.Time) (bool, error) {
	if err := h.present(); err != nil {
		return false, err
	}
	ref := Ref{Space: events.Local, Pool: x.ID, Grant: x.Grant}
	answer, err := h.toPool(ref, func() task {
		return &judgeTask{request: newRequest(ctx), verdict: v, address: x.Address, allocation: x.Allocation.ID, look: look}
	})
	return answer.Revision > 0, err
}

// judge decides about a verdict.
func (p *Pool) judge(t *judgeTask) {
	held := p.held(t.address).Value
	i := held.Index(t.allocation)
	switch {
	case i < 0, held[i].Kind != events.Endpoint, p.overlay.byAddr[t.address] != nil, !p.asked[t.allocation].Before(t.look), p.closing[held[i].Grant] != nil:
		t.answer(Answer{}, nil)
		return
	}
	suspected := held.Suspected(t.allocation)
	var e events.Event
	switch {
	case t.verdict == Suspect && !suspected:
		e = events.AddressSuspected{Allocation: t.allocation, Address: t.address}
	case t.verdict == Clear && suspected:
		e = events.AddressCleared{Allocation: t.allocation, Address: t.address}
	case t.verdict == Reclaim && suspected:
		e = events.AddressReclaimed{Allocation: t.allocation, Address: t.address}
	default:
		t.answer(Answer{}, nil)
		return
	}
	p.queue(&step{event: e, task: t, addr: t.address})
}

// judges says whether the step is about a suspicion, which only the host's present
// daemon may have.
func (s *step) judges() bool {
	switch s.event.(type) {
	case events.AddressSuspected, events.AddressCleared, events.AddressReclaimed:
		return true
	default:
		return false
	}
}

// clear ends a suspicion for who asks for the very address again, and decides the ask
// anew then.
func (p *Pool) clear(t *allocateTask, addr netip.Addr, allocation events.ID) {
	p.queue(&step{event: events.AddressCleared{Allocation: allocation, Address: addr}, task: t, addr: addr})
}

// AllocateAgain gives an address that the engine uses, and nobody holds, to who uses it.
// Unlike [Host.RequestAddress] it opens no grant again: the network may just have been
// removed.
func (h *Host) AllocateAgain(ctx context.Context, ref Ref, ask AddressRequest) (Answer, error) {
	if err := h.present(); err != nil {
		return Answer{}, err
	}
	return h.toPool(ref, func() task { return &allocateTask{request: newRequest(ctx), ref: ref, ask: ask, inUse: true} })
}

// CloseUnused ends a grant that no network of the engine can be of, also one that is
// closing, unless something was asked through it since a moment.
func (h *Host) CloseUnused(ctx context.Context, ref Ref, since time.Time) (bool, error) {
	if err := h.present(); err != nil {
		return false, err
	}
	answer, err := h.toPool(ref, func() task {
		return &closeTask{request: newRequest(ctx), grant: ref.Grant, unused: since}
	})
	return answer.Revision > 0, err
}

// isUsed says whether something was asked through a grant since a moment.
func (p *Pool) isUsed(grant events.ID, since time.Time) bool {
	return !p.asking[grant].Before(since) || p.overlay.through[grant] > 0
}

// ours lists what this host holds in the pool, what is known beyond the projection
// included.
func (p *Pool) ours() []Holding {
	var all []Holding
	add := func(addr netip.Addr, held events.Held) {
		for _, a := range held {
			if p.concernsWitness(a) {
				all = append(all, p.holding(addr, a))
			}
		}
	}
	for addr := range p.state.HeldAll() {
		add(addr, p.held(addr).Value)
	}
	for addr, n := range p.overlay.held {
		if !p.state.Held(addr).Present() {
			add(addr, n.guard.Value)
		}
	}
	return slices.Clip(all)
}
