// SPDX-License-Identifier: Apache-2.0

package events

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
)

// ErrUnknownEvent is returned by [Guards.Apply] for an event written by a newer
// version. Nothing may be decided on a state that one event is missing from.
var ErrUnknownEvent = errors.New("event of a newer version")

// ErrContradiction is returned by [Guards.Apply] for an event that the state
// before it does not allow, such as the release of an allocation that is not
// held. The log's own conditions keep such events out of it.
var ErrContradiction = errors.New("event contradicts the log before it")

// Guarded is a guard's value and the revision of the commit that last wrote it.
// The zero revision means that the guard is absent.
type Guarded[T any] struct {
	Value    T
	Revision int64
}

// Present says whether the guard exists.
func (g Guarded[T]) Present() bool { return g.Revision != 0 }

// Pool is the guard of a pool.
type Pool struct {
	Space  Space        `json:"-"` // in the key
	Name   string       `json:"name,omitempty"`
	Subnet netip.Prefix `json:"subnet"`
	Policy
	Layout
	Kept  bool   `json:"kept,omitempty"`
	Node  string `json:"node,omitempty"`
	Extra `json:"-"`
}

// maxPoolName bounds a pool's name, in bytes.
const maxPoolName = 128

// ValidPoolName says whether a text can be a pool's name: 1 to 128 letters, digits,
// dots, dashes and underscores.
func ValidPoolName(s string) bool {
	foreign := func(c rune) bool {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		return !letter && !strings.ContainsRune(".-_", c)
	}
	return s != "" && len(s) <= maxPoolName && !strings.ContainsFunc(s, foreign)
}

// Title is what people call a pool: its name, or its subnet if it has none.
func (p Pool) Title() string {
	if p.Name != "" {
		return p.Name
	}
	return p.Subnet.String()
}

// Apart says whether a pool may overlap others: one with a name is apart from
// everything, a node's mirror from all but the Swarm network it mirrors.
func (p Pool) Apart() bool { return p.Name != "" || p.Node != "" }

// GrantState is where a grant is in its life.
type GrantState string

// The states of a grant. A closed grant has no guard.
const (
	StateOpen    GrantState = "open"
	StateClosing GrantState = "closing" // nothing can join it any more
)

// Grant is the guard of one answered RequestPool.
type Grant struct {
	Host  string       `json:"host,omitempty"` // empty: the swarm's
	Range netip.Prefix `json:"range,omitzero"` // zero: the whole subnet
	State GrantState   `json:"state"`
	Extra `json:"-"`
}

// Allocation is one holding of an address, as its guard tells it.
type Allocation struct {
	ID       ID     `json:"allocation"`
	Kind     Kind   `json:"kind"`
	Shared   bool   `json:"shared,omitempty"`
	Host     string `json:"host,omitempty"`
	Grant    ID     `json:"grant,omitzero"`
	MAC      MAC    `json:"mac,omitzero"`
	Endpoint string `json:"endpoint,omitempty"`
	Why      string `json:"why,omitempty"` // of a reservation
	Commit   ID     `json:"commit"`        // the commit that allocated it
	// Suspected is since when the host's engine does not know it; zero: it does, or
	// was not looked at.
	Suspected time.Time `json:"suspected,omitzero"`
	Extra     `json:"-"`
}

// Held is the guard of one address: the allocations on it, in the order they
// came. More than one only when all are shared.
type Held []Allocation

// HostGuard is the guard of a host.
type HostGuard struct {
	Machine     string `json:"machine"`
	Incarnation uint64 `json:"incarnation"`
	// Left is when the host's daemon stopped in good order; zero: it has not since it
	// joined.
	Left time.Time `json:"left,omitzero"`
	// TakenOver says that an operator took the host's addresses over since its daemon
	// last joined.
	TakenOver bool `json:"taken_over,omitempty"`
	Extra     `json:"-"`
}

// Guards is a set of guards: all of a pool's (its state), or those that one
// commit touches.
//
// Not safe for concurrent use while [Guards.Apply] runs.
type Guards struct {
	Pool   Guarded[Pool]
	Grants map[ID]Guarded[Grant]
	Held   map[netip.Addr]Guarded[Held]
	Hosts  map[string]Guarded[HostGuard]
}

// NewGuards returns an empty set.
func NewGuards() Guards {
	return Guards{
		Grants: map[ID]Guarded[Grant]{},
		Held:   map[netip.Addr]Guarded[Held]{},
		Hosts:  map[string]Guarded[HostGuard]{},
	}
}

// Apply folds one record into the guards. It returns [ErrUnknownEvent] or
// [ErrContradiction], naming the event; the guards are then of no further use.
func (g *Guards) Apply(r Record) error {
	for i, e := range r.Events {
		if err := g.apply(r, e); err != nil {
			return errors.Wrapf(err, "event %s (%s) written by %s %s", r.Name(i), e.Type(), r.Host, r.Writer)
		}
	}
	return nil
}

func (g *Guards) apply(r Record, e Event) error {
	switch e := e.(type) {
	case PoolCreated:
		if g.Pool.Present() {
			return errors.Wrap(ErrContradiction, "the pool exists")
		}
		g.Pool = Guarded[Pool]{
			Value:    Pool(e),
			Revision: r.Revision,
		}
	case PoolChanged:
		if !g.Pool.Present() {
			return errors.Wrap(ErrContradiction, "the pool does not exist")
		}
		if err := e.Layout.check(g.Pool.Value.Subnet); err != nil {
			return errors.Mark(err, ErrContradiction)
		}
		pool := g.Pool.Value
		pool.Layout, pool.Kept = e.Layout, e.Kept
		g.Pool = Guarded[Pool]{pool, r.Revision}
	case PoolRetired:
		if !g.Pool.Present() {
			return errors.Wrap(ErrContradiction, "the pool does not exist")
		}
		if g.Pool.Value.Kept {
			return errors.Wrap(ErrContradiction, "an operator has laid the pool out")
		}
		g.Pool = Guarded[Pool]{}
	case PoolExhausted, AddressAttributed, AddressConflicted: // no guard tells of these
	case GrantOpened:
		if g.Grants[e.Grant].Present() {
			return errors.Wrapf(ErrContradiction, "grant %s exists", e.Grant)
		}
		g.setGrant(r, e.Grant, Grant{Host: e.Host, Range: e.Range, State: StateOpen, Extra: e.Extra})
	case GrantReopened:
		if g.Grants[e.Grant].Value.State == StateOpen {
			return errors.Wrapf(ErrContradiction, "grant %s is open", e.Grant)
		}
		g.setGrant(r, e.Grant, Grant{Host: e.Host, Range: e.Range, State: StateOpen, Extra: e.Extra})
	case GrantClosing:
		grant := g.Grants[e.Grant]
		if grant.Value.State != StateOpen {
			return errors.Wrapf(ErrContradiction, "grant %s is not open", e.Grant)
		}
		grant.Value.State = StateClosing
		g.setGrant(r, e.Grant, grant.Value)
	case GrantClosed:
		if g.Grants[e.Grant].Value.State != StateClosing {
			return errors.Wrapf(ErrContradiction, "grant %s is not closing", e.Grant)
		}
		delete(g.Grants, e.Grant)
	case AddressAllocated:
		return g.hold(r, e.Address, Allocation{
			ID: e.Allocation, Kind: e.Kind, Shared: e.Shared, Host: e.Host, Grant: e.Grant,
			MAC: e.MAC, Endpoint: e.Endpoint, Commit: r.ID, Extra: e.Extra,
		})
	case AddressReserved:
		return g.hold(r, e.Address, Allocation{ID: e.Allocation, Kind: Reserved, Why: e.Why, Commit: r.ID, Extra: e.Extra})
	case AddressReleased:
		return g.free(r, e.Address, e.Allocation)
	case AddressSuspected:
		return g.suspect(r, e.Address, e.Allocation)
	case AddressCleared:
		return g.clear(r, e.Address, e.Allocation)
	case AddressReclaimed:
		if err := g.mustSuspect(e.Address, e.Allocation); err != nil {
			return err
		}
		return g.free(r, e.Address, e.Allocation)
	case AddressUnreserved:
		return g.free(r, e.Address, e.Allocation)
	case HostJoined:
		g.Hosts[e.Host] = Guarded[HostGuard]{HostGuard{Machine: e.Machine, Incarnation: e.Incarnation, Extra: e.Extra}, r.Revision}
	case HostAdopted:
		g.Hosts[e.Host] = Guarded[HostGuard]{HostGuard{Machine: e.Machine, Incarnation: e.Incarnation, Extra: e.Extra}, r.Revision}
	case HostLeft:
		return g.leave(r, e)
	case HostTakenOver:
		return g.takeOver(r, e)
	case Unknown:
		return ErrUnknownEvent
	}
	return nil
}

func (g *Guards) setGrant(r Record, id ID, grant Grant) {
	g.Grants[id] = Guarded[Grant]{grant, r.Revision}
}

func (g *Guards) hold(r Record, addr netip.Addr, a Allocation) error {
	held := g.Held[addr].Value
	if !held.Admits(a.Shared) {
		return errors.Wrapf(ErrContradiction, "%s is held by allocation %s", addr, held[0].ID)
	}
	// Never appended in place: a value once read stays as it was.
	g.Held[addr] = Guarded[Held]{append(slices.Clip(held), a), r.Revision}
	return nil
}

func (g *Guards) free(r Record, addr netip.Addr, allocation ID) error {
	i, err := g.mustHold(addr, allocation)
	if err != nil {
		return err
	}
	held := g.Held[addr].Value
	if len(held) == 1 {
		delete(g.Held, addr)
		return nil
	}
	g.Held[addr] = Guarded[Held]{slices.Delete(slices.Clone(held), i, i+1), r.Revision}
	return nil
}

// mustHold refuses an allocation that is not on the address, and returns its place.
func (g *Guards) mustHold(addr netip.Addr, allocation ID) (int, error) {
	i := g.Held[addr].Value.Index(allocation)
	if i < 0 {
		return i, errors.Wrapf(ErrContradiction, "%s is not held by allocation %s", addr, allocation)
	}
	return i, nil
}

// mustSuspect refuses an allocation that is not suspected.
func (g *Guards) mustSuspect(addr netip.Addr, allocation ID) error {
	_, err := g.mustHold(addr, allocation)
	if err == nil && !g.Held[addr].Value.Suspected(allocation) {
		err = errors.Wrapf(ErrContradiction, "allocation %s of %s is not suspected", allocation, addr)
	}
	return err
}

func (g *Guards) suspect(r Record, addr netip.Addr, allocation ID) error {
	i, err := g.mustHold(addr, allocation)
	held := g.Held[addr].Value
	switch {
	case err != nil:
		return err
	case held[i].Kind != Endpoint:
		return errors.Wrapf(ErrContradiction, "allocation %s of %s is no endpoint's", allocation, addr)
	case held.Suspected(allocation):
		return errors.Wrapf(ErrContradiction, "allocation %s of %s is suspected already", allocation, addr)
	}
	g.setSuspected(r, addr, i, r.moment())
	return nil
}

func (g *Guards) clear(r Record, addr netip.Addr, allocation ID) error {
	if err := g.mustSuspect(addr, allocation); err != nil {
		return err
	}
	g.setSuspected(r, addr, g.Held[addr].Value.Index(allocation), time.Time{})
	return nil
}

func (g *Guards) setSuspected(r Record, addr netip.Addr, i int, since time.Time) {
	held := slices.Clone(g.Held[addr].Value)
	held[i].Suspected = since
	g.Held[addr] = Guarded[Held]{held, r.Revision}
}

func (g *Guards) leave(r Record, e HostLeft) error {
	host := g.Hosts[e.Host]
	switch {
	case !host.Present():
		return errors.Wrapf(ErrContradiction, "host %s never joined", e.Host)
	case host.Value.Incarnation != e.Incarnation:
		return errors.Wrapf(ErrContradiction, "host %s is incarnation %d", e.Host, host.Value.Incarnation)
	case !host.Value.Left.IsZero():
		return errors.Wrapf(ErrContradiction, "host %s has left", e.Host)
	}
	host.Value.Left, host.Revision = r.moment(), r.Revision
	g.Hosts[e.Host] = host
	return nil
}

func (g *Guards) takeOver(r Record, e HostTakenOver) error {
	host := g.Hosts[e.Host]
	switch {
	case !host.Present():
		return errors.Wrapf(ErrContradiction, "host %s never joined", e.Host)
	case host.Value.Incarnation+1 != e.Incarnation:
		return errors.Wrapf(ErrContradiction, "host %s is incarnation %d", e.Host, host.Value.Incarnation)
	}
	host.Value.Incarnation, host.Value.TakenOver, host.Revision = e.Incarnation, true, r.Revision
	g.Hosts[e.Host] = host
	return nil
}

// Suspected counts the allocations that are suspected. It goes over all that is held.
func (g *Guards) Suspected() int {
	n := 0
	for _, guard := range g.Held {
		for _, a := range guard.Value {
			if !a.Suspected.IsZero() {
				n++
			}
		}
	}
	return n
}

// moment is the commit's time as readers of the log will have it: a guard written
// with its commit says the same as one made of the log.
func (c Commit) moment() time.Time { return c.Time.UTC().Truncate(time.Microsecond) }

// Admits says whether one more allocation may join those on the address: on a
// free one any, beside others only a shared one among shared ones.
func (h Held) Admits(shared bool) bool {
	for _, a := range h {
		if !shared || !a.Shared {
			return false
		}
	}
	return true
}

// Index finds an allocation by its ID; -1 if it is not there.
func (h Held) Index(allocation ID) int {
	return slices.IndexFunc(h, func(a Allocation) bool { return a.ID == allocation })
}

// Suspected says whether an allocation is on the address, and suspected.
func (h Held) Suspected(allocation ID) bool {
	i := h.Index(allocation)
	return i >= 0 && !h[i].Suspected.IsZero()
}

// Of returns the allocation held through a grant, if there is one. A grant holds
// an address once at most.
func (h Held) Of(grant ID) (Allocation, bool) {
	i := slices.IndexFunc(h, func(a Allocation) bool { return a.Grant == grant })
	if i < 0 {
		return Allocation{}, false
	}
	return h[i], true
}
