// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"context"
	"net/netip"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
)

// release decides a ReleaseAddress. Whatever comes of it, the address is not
// held through the grant when it is answered.
func (p *Pool) release(t *releaseTask) {
	if s := p.overlay.byAddr[t.address]; s != nil {
		p.park(s, t)
		return
	}
	if t.lasting != nil {
		if meant := t.lasting.meant(); !meant.IsZero() {
			t.allocation = meant
		}
	}
	a, held := p.held(t.address).Value.Of(t.grant)
	if held && !t.allocation.IsZero() && a.ID != t.allocation {
		held = false // a later one, which is not meant
	}
	switch {
	case held && !p.mine(a.Host):
		t.answer(Answer{}, errors.Wrapf(ErrNoGrant, "%s is held by host %s", t.address, a.Host))
	case held && t.reason == events.Compensated && p.repeated[a.ID]:
		t.answer(Answer{Address: t.address}, nil) // it asked again, and was told
	case held && t.lasting != nil && !t.lasting.means(a.ID):
		p.noteFirst(t)
	case held:
		e := events.AddressReleased{Allocation: a.ID, Address: t.address, Reason: t.reason}
		p.queue(&step{event: e, task: t, addr: t.address, grant: t.grant})
	case t.asked:
		t.answer(Answer{Address: t.address}, nil) // doubled, late or unknown: harmless
	default:
		p.releaseUnknown(t)
	}
}

// releaseUnknown asks the store about a release that the projection does not
// understand: the projection may be behind.
func (p *Pool) releaseUnknown(t *releaseTask) {
	t.asked = true
	p.parked++
	// Until the store has answered nobody gets the address here: a release frees
	// what was held when it came, never what came after it.
	s := &step{addr: t.address, grant: t.grant}
	p.overlay.add(s)
	p.refresh(s.addr)
	p.spawn(func() {
		now, err := insist(p.life, func(ctx context.Context) (newer[events.Held], error) {
			guard, revision, err := p.writer.Log().Holding(ctx, p.id, t.address)
			return newer[events.Held]{guard, revision}, err
		})
		p.post(func() {
			p.parked--
			p.unqueue(s)
			defer p.unpark(s)
			a, held := now.guard.Value.Of(t.grant)
			switch {
			case err != nil:
				t.answer(Answer{}, errors.Mark(err, ErrStoreSilent))
			case held:
				if t.allocation.IsZero() {
					t.allocation = a.ID
				}
				p.reach(now.revision, t)
			default:
				t.answer(Answer{Address: t.address}, nil)
			}
		})
	})
}

// noteFirst lets the spool note which allocation a release means, and then decides it:
// not before, however long the disk takes. Until then nobody is told of the address
// again.
func (p *Pool) noteFirst(t *releaseTask) {
	p.parked++
	s := &step{addr: t.address, grant: t.grant}
	p.overlay.add(s)
	p.spawn(func() {
		err := persist(p.life, t.lasting.note, func(err error) {
			p.log.Error().Err(err).Stringer("address", t.address).Msg("what a spooled release means cannot be noted, and it waits: see that the disk can be written")
		})
		p.post(func() {
			p.parked--
			p.unqueue(s)
			if err != nil {
				t.answer(Answer{}, ErrStopping)
			} else {
				p.decide(t)
			}
			p.unpark(s)
		})
	})
}

// insist asks the store until it answers or ctx ends, whoever waits for that:
// what Docker releases it never releases again.
func insist[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	for {
		try, cancel := context.WithTimeout(ctx, storePatience)
		answer, err := ask(try)
		cancel()
		if err == nil {
			return answer, nil
		}
		select {
		case <-ctx.Done():
			return answer, err
		case <-time.After(storePatience / 10):
		}
	}
}

// compensate takes back an allocation that nobody was told of.
func (p *Pool) compensate(grant, allocation events.ID, addr netip.Addr) {
	p.log.Warn().Stringer("address", addr).Stringer("allocation", allocation).
		Msg("the address was allocated, but its answer reached nobody: taking it back")
	p.decide(&releaseTask{
		request: newRequest(context.WithoutCancel(p.life)), grant: grant, address: addr,
		allocation: allocation, reason: events.Compensated,
	})
}
