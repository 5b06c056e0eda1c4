// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// closing is a grant's end under way, in two phases. First the grant is set to
// closing, after which nothing can join it; then, once the projection has seen
// that and so knows all that ever joined, what is held through it is released,
// and the grant closed last. A daemon that dies between goes on where it was.
type closing struct {
	tasks   []*closeTask
	at      int64 // the revision of grant.closing; 0 until it is committed
	resting bool  // it was refused, and is tried again after closingPause
	// left are addresses still to be released: in portions, so that the pool has
	// time for others.
	left []netip.Addr
}

// portion is how many addresses of a closing grant are released at once.
const portion = etcdlog.MaxEvents

// closingPause is the wait before a closing that was refused is tried again:
// Docker will not ask for it a second time.
const closingPause = 2 * time.Second

func (p *Pool) rest(c *closing) {
	if c.resting {
		return
	}
	c.resting = true
	p.spawn(func() {
		select {
		case <-time.After(closingPause):
		case <-p.life.Done():
		}
		p.post(func() { c.resting = false })
	})
}

// close decides a ReleasePool.
func (p *Pool) close(t *closeTask) {
	if c := p.closing[t.grant]; c != nil {
		c.tasks = append(c.tasks, t)
		return
	}
	if s := p.overlay.byGrant[t.grant]; s != nil {
		p.park(s, t)
		return
	}
	grant := p.grant(t.grant)
	switch {
	case !t.unused.IsZero() && (!grant.Present() || p.isUsed(t.grant, t.unused)):
		t.answer(Answer{}, nil)
	case !grant.Present() && t.asked:
		t.answer(Answer{}, nil) // doubled, late or unknown: harmless
	case !grant.Present():
		p.closeUnknown(t)
	case !p.mine(grant.Value.Host):
		t.answer(Answer{}, errors.Wrapf(ErrNoGrant, "grant %s belongs to host %s", t.grant, grant.Value.Host))
	case grant.Value.State == events.StateClosing:
		p.closing[t.grant] = &closing{tasks: []*closeTask{t}, at: grant.Revision}
	default:
		p.closing[t.grant] = &closing{tasks: []*closeTask{t}}
	}
}

// closeUnknown asks the store about a grant that the projection does not know.
func (p *Pool) closeUnknown(t *closeTask) {
	t.asked = true
	p.parked++
	p.spawn(func() {
		now, err := insist(p.life, func(ctx context.Context) (newer[events.Grant], error) {
			guard, revision, err := p.writer.Log().Grant(ctx, p.id, t.grant)
			return newer[events.Grant]{guard, revision}, err
		})
		p.post(func() {
			p.parked--
			switch {
			case err != nil:
				t.answer(Answer{}, errors.Mark(err, ErrStoreSilent))
			case now.guard.Present():
				p.reach(now.revision, t)
			default:
				t.answer(Answer{}, nil)
			}
		})
	})
}

// resume goes on with a closing that an earlier daemon of this host began.
func (p *Pool) resume(grant events.ID, at int64) {
	if p.closing[grant] == nil {
		p.closing[grant] = &closing{at: at}
	}
}

// advance moves every closing on as far as it goes.
func (p *Pool) advance() {
	for grant, c := range p.closing {
		if p.overlay.through[grant] > 0 || p.overlay.byGrant[grant] != nil || c.resting || p.broken != nil {
			continue // something of it is on its way: its outcome comes back here
		}
		guard := p.grant(grant)
		switch {
		case !guard.Present():
			p.closed(grant, guard.Revision) // somebody else did it
		case guard.Value.State == events.StateOpen && c.at > 0:
			p.closed(grant, guard.Revision) // it was opened again meanwhile
		case guard.Value.State == events.StateOpen:
			p.queue(&step{event: events.GrantClosing{Grant: grant}, grant: grant, alone: true})
		case p.state.Revision() < max(c.at, guard.Revision):
			p.nudgeTo(max(c.at, guard.Revision))
		default:
			p.releaseThrough(grant, c)
		}
	}
	p.retireIfEmpty()
}

// retireIfEmpty ends a pool that nothing is left in, though its last grant did
// not end it: two hosts closed theirs at once, and each still saw the other's.
func (p *Pool) retireIfEmpty() {
	if p.state == nil || p.retired || p.broken != nil || p.state.Revision() <= p.emptyAt ||
		len(p.closing) > 0 || !p.overlay.empty() || !p.lastOne(events.ID{}) {
		return
	}
	p.emptyAt = p.state.Revision()
	p.queue(&step{event: events.PoolRetired{Space: p.space}, alone: true})
}

// nudgeTo sees to it that the projection reaches a revision on a quiet pool.
func (p *Pool) nudgeTo(revision int64) {
	if !p.nudging {
		p.reach(revision, &reachTask{request: newRequest(p.life), revision: revision})
	}
}

// releaseThrough queues the release of a portion of what is held through a grant,
// or the grant's end when nothing is.
func (p *Pool) releaseThrough(grant events.ID, c *closing) {
	if len(c.left) == 0 {
		for addr := range p.state.HeldAll() {
			if _, ours := p.held(addr).Value.Of(grant); ours {
				c.left = append(c.left, addr)
			}
		}
		slices.SortFunc(c.left, netip.Addr.Compare)
	}
	if len(c.left) == 0 {
		end := &step{event: events.GrantClosed{Grant: grant}, grant: grant, alone: true}
		if p.lastOne(grant) {
			end.follow = events.PoolRetired{Space: p.space}
		}
		p.queue(end)
		return
	}
	queued, pending := 0, false
	for len(c.left) > 0 && queued < portion {
		addr := c.left[0]
		c.left = c.left[1:]
		a, ours := p.held(addr).Value.Of(grant)
		switch {
		case !ours:
		case p.overlay.byAddr[addr] != nil:
			// Another grant's step about a shared address: its outcome comes back
			// here, and then this one is found again.
			pending = true
		default:
			queued++
			p.queue(&step{
				event: events.AddressReleased{Allocation: a.ID, Address: addr, Reason: events.GrantEnded},
				addr:  addr, grant: grant,
			})
		}
	}
	if queued == 0 && !pending {
		p.releaseThrough(grant, c) // somebody else released those: look again
	}
}

// lastOne says whether nothing is left in the pool but a grant.
func (p *Pool) lastOne(grant events.ID) bool {
	if p.state.Pool().Value.Kept {
		return false // an operator laid it out
	}
	for id := range p.state.Grants() {
		if id != grant && p.grant(id).Present() {
			return false
		}
	}
	for addr := range p.state.HeldAll() {
		if p.held(addr).Present() {
			return false
		}
	}
	for _, n := range p.overlay.held {
		if n.guard.Present() {
			return false
		}
	}
	return true
}

// closed answers those who waited for a grant's end.
func (p *Pool) closed(grant events.ID, revision int64) {
	c := p.closing[grant]
	delete(p.closing, grant)
	if c == nil {
		return
	}
	for _, t := range c.tasks {
		t.answer(Answer{Revision: revision}, nil)
	}
}
