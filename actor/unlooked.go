// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
)

// ErrUnlooked is returned for an address that a container may use of which the log knows
// nothing: the engine was not compared with the log since. What it is wrapped in says
// why, and what the last look at the engine failed with. Nothing is held.
var ErrUnlooked = errors.New("it is not known yet which addresses this host's containers use")

// errOtherEngine is what a look fails with that does not find what Docker asks for.
var errOtherEngine = errors.New("another engine than the one that asks answers there: name that one with --engine")

// Unlooked is what the log may lack of what this host's containers use.
type Unlooked struct {
	// All says that it may be anything: the store was restored, or adopted.
	All bool
	// Grants are those that were opened again and whose networks nobody has looked at
	// since, in order.
	Grants []events.ID
}

// Looking is how it is found out what the log lacks.
type Looking struct {
	// Soon has the engine compared with the log soon, by who tells [Host.Looked] then, or
	// [Host.LookFailed]. It must not wait. Nil: nobody does, and nothing is refused.
	Soon func()
	// Keep has what [Host.Unlooked] says on disk when it returns, so that the next daemon
	// knows it. Nil: nothing is kept.
	Keep func()
	// Left is what an earlier daemon had not looked at.
	Left Unlooked
}

// gate keeps back what may be in use. It is asked by the pools' actors, which know of an
// open grant only after it was shut for that. Safe for concurrent use.
type gate struct {
	Looking
	mu    sync.Mutex
	all   bool
	marks map[events.ID]mark
	why   error // what the last look failed with; nil: it did not, or there was none
}

// mark is a grant on whose network a look has to be had.
type mark struct {
	since   time.Time // only a look that begins later counts
	opening int       // who are just opening it: no look counts before they are through
	// reopened says that the log may lack all of its network. Otherwise it is only known
	// that Docker has asked for an endpoint there, and so its engine has the network.
	reopened bool
}

func newGate(l Looking) *gate {
	g := &gate{Looking: l, all: l.Left.All, marks: map[events.ID]mark{}}
	for _, grant := range l.Left.Grants {
		g.marks[grant] = mark{reopened: true}
	}
	return g
}

// Unlooked is what has to be looked at still.
func (h *Host) Unlooked() Unlooked {
	g := h.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	u := Unlooked{All: g.all}
	for grant, m := range g.marks {
		if m.reopened {
			u.Grants = append(u.Grants, grant)
		}
	}
	slices.SortFunc(u.Grants, events.ID.Compare)
	return u
}

// Looked says that all of the engine's networks were compared with the log, and what they
// use is held now; that the look began at a time; and of which open grants of this host
// the engine has no network. If Docker has asked for an endpoint through one of those,
// the engine is not the one that asks, and the look does not count.
func (h *Host) Looked(began time.Time, absent []events.ID) {
	if h.gate.looked(began, absent) && h.gate.Keep != nil {
		h.gate.Keep()
	}
}

// looked says whether there was something to look at.
func (g *gate) looked(began time.Time, absent []events.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	shut := g.all || len(g.marks) > 0
	g.why = nil
	for grant, m := range g.marks {
		switch {
		case m.opening > 0 || !m.since.Before(began): // it is for the next one
		case slices.Contains(absent, grant):
			g.why = errOtherEngine
		default:
			delete(g.marks, grant)
		}
	}
	g.all = g.all && g.why != nil
	return shut
}

// LookFailed says why a look at the engine did not come about, or not what is in use
// into the log. Who is refused is told.
func (h *Host) LookFailed(why error) {
	h.gate.mu.Lock()
	defer h.gate.mu.Unlock()
	h.gate.why = why
}

// refuse refuses an ask through an open grant that has to be looked at first; nil: it has
// not. Where the log may lack anything nothing is given out, and on a single network no
// endpoint's address.
func (g *gate) refuse(grant events.ID, how Asking) error {
	if g.Soon == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	m, marked := g.marks[grant]
	why := "ipamlog had lost this network"
	switch {
	case m.reopened && how == AskEndpoint:
	case !g.all:
		return nil
	default:
		why = "the store was restored or adopted"
		if !marked && how == AskEndpoint {
			g.marks[grant] = mark{since: time.Now()}
			g.Soon()
		}
	}
	if g.why != nil {
		return errors.Wrapf(ErrUnlooked, "%s, and the last look at Docker failed: %v", why, g.why)
	}
	return errors.Wrap(ErrUnlooked, why)
}

// open opens a grant again, which no look knows that has begun before it was open.
func (g *gate) open(grant events.ID, reopen func() error) error {
	defer g.hold(grant)()
	if g.Keep != nil {
		g.Keep() // this daemon may die over what follows
	}
	return reopen()
}

// hold keeps looks from counting for a grant until it is let go. Then another is had.
func (g *gate) hold(grant events.ID) (letGo func()) {
	if g.Soon == nil {
		return func() {}
	}
	g.change(grant, 1)
	return func() {
		g.change(grant, -1)
		g.Soon()
	}
}

func (g *gate) change(grant events.ID, opening int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.marks[grant] = mark{since: time.Now(), opening: g.marks[grant].opening + opening, reopened: true}
}
