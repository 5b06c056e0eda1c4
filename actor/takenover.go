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

// A host that was taken for dead may come back while its addresses are being taken over,
// or after that. What an operator closed then is not what Docker gave back: its networks
// may be in use as before. So nothing of it is ended without a further word, and what
// the engine still has is opened again.

// takeOver is a stretch of the log in which this host counted as taken over: from an
// operator's word to the joining of the host's next daemon.
type takeOver struct {
	from, until int64 // revisions; until is 0 as long as there is none
	at          time.Time
}

func (t takeOver) has(revision int64) bool {
	return t.from < revision && (t.until == 0 || revision < t.until)
}

// takenOver says whether a revision is in one of the stretches.
func takenOver(list []takeOver, revision int64) bool {
	return slices.ContainsFunc(list, func(t takeOver) bool { return t.has(revision) })
}

// takeOvers finds when this host was taken over, in the order of the log.
func takeOvers(ctx context.Context, w *etcdlog.Writer) ([]takeOver, error) {
	catalogue, err := w.Log().Since(ctx, events.Catalogue, time.UnixMilli(0))
	if err != nil {
		return nil, errors.Wrap(err, "look when this host was taken over")
	}
	var list []takeOver
	for _, r := range catalogue {
		for _, e := range r.Events {
			last := len(list) - 1
			running := last >= 0 && list[last].until == 0
			switch e := e.(type) {
			case events.HostTakenOver:
				if e.Host == w.Host() && !running {
					list = append(list, takeOver{from: r.Revision, at: r.Time})
				}
			case events.HostJoined:
				if e.Host == w.Host() && running {
					list[last].until = r.Revision
				}
			default:
			}
		}
	}
	return list, nil
}

// takeUp goes on with closings that were begun before this daemon, by revision. Those
// that an operator began stay as they are: Docker asks through the grant, or gives it
// back, or a look at the engine finds its network.
func (p *Pool) takeUp(begun map[events.ID]int64) {
	if len(begun) == 0 {
		return
	}
	p.spawn(func() {
		list, err := insist(p.life, func(ctx context.Context) ([]takeOver, error) { return takeOvers(ctx, p.writer) })
		p.post(func() {
			for grant, at := range begun {
				switch {
				case err != nil || p.grant(grant).Revision != at: // the daemon ends, or it is not as it was
				case takenOver(list, at):
					p.log.Warn().Stringer("grant", grant).Msg("a take-over of this host has begun to close a grant: it stays as it is until it is known whether Docker still uses it")
				default:
					p.resume(grant, at)
				}
			}
		})
	})
}

// Taken is a grant that a take-over has closed, or begun to close.
type Taken struct {
	Opened           // as it was
	At     time.Time // when that was begun, by the log's clock
}

// TakenAway lists the grants of this host that its take-overs have closed, or begun to
// close, and that were neither opened again nor given back since: the newest first. It
// reads the log since the first of them, and only where the host was taken over.
func (h *Host) TakenAway(ctx context.Context) ([]Taken, error) {
	list, err := takeOvers(ctx, h.writer)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	heads, _, err := h.log.Heads(ctx)
	if err != nil {
		return nil, errors.Wrap(err, "look what the take-over of this host has closed")
	}
	t := takenAway{host: h.writer.Host(), stretches: list, grants: map[events.ID]ended{}, reopened: map[events.ID]int64{}}
	for stream, head := range heads {
		if stream == events.Catalogue || head.Revision <= list[0].from {
			continue
		}
		if err := t.read(ctx, h.log, stream); err != nil {
			return nil, errors.Wrapf(err, "look what the take-over of this host has closed in pool %s", stream)
		}
	}
	var all []Taken
	for id, g := range t.grants {
		if t.reopened[id] < g.revision { // maybe in another pool, as its own has retired
			all = append(all, g.Taken)
		}
	}
	slices.SortFunc(all, func(a, b Taken) int { return b.Grant.Compare(a.Grant) })
	return all, nil
}

// takenAway gathers what a host's take-overs have closed.
type takenAway struct {
	host      string
	stretches []takeOver
	grants    map[events.ID]ended
	reopened  map[events.ID]int64 // the revision at which a grant was opened again last
}

// ended is a grant as it was open, and the revision at which it was set to closing.
type ended struct {
	Taken
	revision int64
}

// read reads a pool's stream: its tail since the first take-over, and all of it if one
// has closed something there.
func (t *takenAway) read(ctx context.Context, log *etcdlog.Log, stream events.Stream) error {
	tail, err := log.Since(ctx, stream, t.stretches[0].at.Add(-clockSlack))
	if err != nil {
		return err
	}
	for _, r := range tail {
		for _, e := range r.Events {
			if e, ok := e.(events.GrantReopened); ok {
				t.reopened[e.Grant] = max(t.reopened[e.Grant], r.Revision)
			}
		}
	}
	if !slices.ContainsFunc(tail, func(r events.Record) bool { return takenOver(t.stretches, r.Revision) && endsGrants(r) }) {
		return nil
	}
	pool, err := events.ParseID(string(stream))
	if err != nil {
		return err
	}
	records, err := log.Since(ctx, stream, pool.Time().Add(-clockSlack))
	if err != nil {
		return err
	}
	state := events.NewGuards()
	for _, r := range records {
		for _, e := range r.Events {
			t.take(pool, state, r, e)
		}
		if err := state.Apply(r); err != nil {
			return err
		}
	}
	return nil
}

// take takes an event in, and the state before it.
func (t *takenAway) take(pool events.ID, state events.Guards, r events.Record, e events.Event) {
	taken := takenOver(t.stretches, r.Revision)
	switch e := e.(type) {
	case events.GrantClosing:
		g, p := state.Grants[e.Grant].Value, state.Pool.Value
		if taken && g.Host == t.host && p.Space == events.Local && p.Node == "" && t.grants[e.Grant].revision < r.Revision {
			t.grants[e.Grant] = ended{Taken{opened(pool, p, e.Grant, g), r.ID.Time()}, r.Revision}
		}
	case events.GrantClosed:
		if !taken && t.grants[e.Grant].revision < r.Revision {
			delete(t.grants, e.Grant) // Docker has given it back since
		}
	default:
	}
}

// endsGrants says whether a commit is about the end of a grant.
func endsGrants(r events.Record) bool {
	return slices.ContainsFunc(r.Events, func(e events.Event) bool {
		switch e.(type) {
		case events.GrantClosing, events.GrantClosed:
			return true
		default:
			return false
		}
	})
}

// Reopen opens a grant of this host again, for who has seen that Docker still has its
// network; one that is open stays as it is. What its closing took of the network's
// gateway and auxiliary addresses comes back with it, as far as nobody else has it; what its
// containers use is looked for before anything is given out through it. The errors are
// those of [Host.RequestPool].
func (h *Host) Reopen(ctx context.Context, ref Ref) error {
	ctx, cancel := h.within(ctx)
	defer cancel()
	if err := h.present(); err != nil {
		return err
	}
	return h.gate.open(ref.Grant, func() error { return h.reopen(ctx, ref) })
}
