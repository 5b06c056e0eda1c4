// SPDX-License-Identifier: Apache-2.0

package events

import (
	"encoding/json"
	"net/netip"
	"time"

	"github.com/cockroachdb/errors"
)

// Event is one thing that happened, in the past tense. The interface is sealed:
// a switch over it can be checked for completeness.
//
//sumtype:decl
type Event interface {
	// Type is the event's name on the wire. It never follows a Go name and is
	// never given a second meaning.
	Type() string
	// check says what a writer must not leave out.
	check() error
}

// The wire names of the events, as users see them in `ipamlog tail`.
const (
	TypePoolCreated       = "pool.created"
	TypePoolChanged       = "pool.changed"
	TypePoolRetired       = "pool.retired"
	TypePoolExhausted     = "pool.exhausted"
	TypeGrantOpened       = "grant.opened"
	TypeGrantClosing      = "grant.closing"
	TypeGrantClosed       = "grant.closed"
	TypeGrantReopened     = "grant.reopened"
	TypeAddressAllocated  = "address.allocated"
	TypeAddressAttributed = "address.attributed"
	TypeAddressReleased   = "address.released"
	TypeAddressSuspected  = "address.suspected"
	TypeAddressCleared    = "address.cleared"
	TypeAddressReclaimed  = "address.reclaimed"
	TypeAddressConflicted = "address.conflicted"
	TypeAddressReserved   = "address.reserved"
	TypeAddressUnreserved = "address.unreserved"
	TypeHostJoined        = "host.joined"
	TypeHostLeft          = "host.left"
	TypeHostAdopted       = "host.adopted"
	TypeHostTakenOver     = "host.taken-over"
)

// PoolCreated opens a pool's stream: one subnet in one address space.
type PoolCreated struct {
	Space  Space        `json:"space"`
	Name   string       `json:"name,omitempty"` // empty: found by its subnet
	Subnet netip.Prefix `json:"subnet"`
	Policy
	Layout
	Kept  bool   `json:"kept,omitempty"` // an operator laid it out: it stands without grants
	Node  string `json:"node,omitempty"` // the host whose own mirror of a Swarm network it is
	Extra `json:"-"`
}

// PoolChanged gives a pool another layout, in the place of the one it had.
type PoolChanged struct {
	Space Space `json:"space"`
	Layout
	Kept  bool `json:"kept,omitempty"`
	Extra `json:"-"`
}

// PoolRetired ends a pool's stream: no grant and no holding is left in it.
type PoolRetired struct {
	Space Space `json:"space"`
	Extra `json:"-"`
}

// PoolExhausted says that a request was refused because no address was free.
// A host writes it once between two releases. It changes no guard.
type PoolExhausted struct {
	Grant ID           `json:"grant,omitzero"`
	Range netip.Prefix `json:"range,omitzero"`
	Extra `json:"-"`
}

// GrantOpened answers a RequestPool: from now on addresses may be asked for
// through the grant.
type GrantOpened struct {
	Grant ID           `json:"grant"`
	Host  string       `json:"host,omitempty"` // empty: the swarm's (global space)
	Range netip.Prefix `json:"range,omitzero"` // Docker's --ip-range; zero: the whole subnet
	Extra `json:"-"`
}

// GrantClosing is the first half of a ReleasePool: no allocation can join the
// grant any more.
type GrantClosing struct {
	Grant ID `json:"grant"`
	Extra `json:"-"`
}

// GrantClosed is the second half: everything held through the grant is released.
type GrantClosed struct {
	Grant ID `json:"grant"`
	Extra `json:"-"`
}

// GrantReopened takes a closing or closed grant back into use, because Docker
// still asks through it.
type GrantReopened struct {
	Grant ID           `json:"grant"`
	Host  string       `json:"host,omitempty"`
	Range netip.Prefix `json:"range,omitzero"`
	Extra `json:"-"`
}

// AddressAllocated begins one holding of one address.
type AddressAllocated struct {
	Allocation ID         `json:"allocation"`
	Address    netip.Addr `json:"address"`
	Kind       Kind       `json:"kind"`
	Shared     bool       `json:"shared,omitempty"`   // others may hold it too (named gateways and auxiliaries)
	Host       string     `json:"host,omitempty"`     // empty: the swarm
	Grant      ID         `json:"grant,omitzero"`     // zero: held by an operator's word
	MAC        MAC        `json:"mac,omitzero"`       // as Docker sent it
	Endpoint   string     `json:"endpoint,omitempty"` // the endpoint's name, engine 29 and later
	Extra      `json:"-"`
}

// Attribution is what the engine told of the container, and of the network, behind
// a holding. What it did not tell is empty: a gateway has a network alone.
type Attribution struct {
	ContainerID   string            `json:"container_id,omitempty"`
	ContainerName string            `json:"container_name,omitempty"` // without the slash
	Image         string            `json:"image,omitempty"`          // as it was asked for: nginx:1.27
	ImageID       string            `json:"image_id,omitempty"`       // sha256:...
	Labels        map[string]string `json:"labels,omitempty"`         // those that the operator lets through
	NetworkID     string            `json:"network_id,omitempty"`
	NetworkName   string            `json:"network_name,omitempty"`
	EndpointID    string            `json:"endpoint_id,omitempty"`
}

// AddressAttributed says whose a holding is. It changes no guard, and may come
// after the holding has ended. Of several on one allocation the later one says
// what has been so from Since on, as when a container gets another name.
type AddressAttributed struct {
	Allocation ID         `json:"allocation"`
	Address    netip.Addr `json:"address"`
	Attribution
	// Since is the moment from which it was so, where that is known and later than
	// the beginning of the holding.
	Since time.Time `json:"since,omitzero"`
	Extra `json:"-"`
}

// AddressReleased ends one holding.
type AddressReleased struct {
	Allocation ID         `json:"allocation"`
	Address    netip.Addr `json:"address"`
	Reason     Reason     `json:"reason"`
	// At is the moment Docker released, where it differs from the commit's: the
	// release waited for the store. Zero otherwise.
	At    time.Time `json:"at,omitzero"`
	Extra `json:"-"`
}

// AddressSuspected says that the engine of the holding's host was looked at, and does
// not know the endpoint: its release may have been lost. It is held as before; if a
// later look, after a grace time, still finds it unknown, it is reclaimed.
type AddressSuspected struct {
	Allocation ID         `json:"allocation"`
	Address    netip.Addr `json:"address"`
	Extra      `json:"-"`
}

// AddressCleared ends a suspicion: the engine knows the endpoint after all, or it
// asked for its address again.
type AddressCleared struct {
	Allocation ID         `json:"allocation"`
	Address    netip.Addr `json:"address"`
	Extra      `json:"-"`
}

// AddressReclaimed ends a holding that was suspected, and that no later look found
// either.
type AddressReclaimed struct {
	Allocation ID         `json:"allocation"`
	Address    netip.Addr `json:"address"`
	Extra      `json:"-"`
}

// AddressConflicted says that a host's engine uses an address that another holds.
// It changes no guard: whose the address is stays as it was, and people must part
// the two.
type AddressConflicted struct {
	Address netip.Addr `json:"address"`
	Host    string     `json:"host"` // whose engine uses it
	// What the engine told of the container that uses it; empty: it did not.
	ContainerID   string `json:"container_id,omitempty"`
	ContainerName string `json:"container_name,omitempty"` // without the slash
	NetworkID     string `json:"network_id,omitempty"`
	NetworkName   string `json:"network_name,omitempty"`
	MAC           MAC    `json:"mac,omitzero"`
	Holder        ID     `json:"holder,omitzero"` // the allocation that holds it; zero: not known
	Extra         `json:"-"`
}

// AddressReserved begins a holding by which an operator keeps an address out of
// use.
type AddressReserved struct {
	Allocation ID         `json:"allocation"`
	Address    netip.Addr `json:"address"`
	Why        string     `json:"why"`
	Extra      `json:"-"`
}

// AddressUnreserved ends such a holding.
type AddressUnreserved struct {
	Allocation ID         `json:"allocation"`
	Address    netip.Addr `json:"address"`
	Extra      `json:"-"`
}

// HostJoined says that a host's daemon started, or joined anew after it lost
// its lease. Each raises the host's incarnation.
type HostJoined struct {
	Host        string `json:"host"`
	Machine     string `json:"machine"` // the machine id
	Incarnation uint64 `json:"incarnation"`
	Version     string `json:"version,omitempty"` // the daemon's
	Extra       `json:"-"`
}

// HostLeft says that a host's daemon stopped in good order. What the host holds it
// still holds.
type HostLeft struct {
	Host        string `json:"host"`
	Incarnation uint64 `json:"incarnation"` // of the daemon that stopped
	Extra       `json:"-"`
}

// HostAdopted says that an operator accepted another machine under the host's name.
type HostAdopted struct {
	Host        string `json:"host"`
	Machine     string `json:"machine"` // the machine id from now on
	Incarnation uint64 `json:"incarnation"`
	Extra       `json:"-"`
}

// HostTakenOver says that an operator takes a dead host's addresses over. It raises
// the host's incarnation, so that a daemon of the host that wakes up is fenced; the
// addresses are given back by events of their own, for the reason [TakenOver].
type HostTakenOver struct {
	Host        string `json:"host"`
	Incarnation uint64 `json:"incarnation"` // one above the host's last
	By          string `json:"by"`          // the host where the operator was
	Extra       `json:"-"`
}

// AddressOf is the address that an event begins or ends a holding of; false for an
// event about something else.
func AddressOf(e Event) (netip.Addr, bool) {
	switch e := e.(type) {
	case AddressAllocated:
		return e.Address, true
	case AddressReleased:
		return e.Address, true
	case AddressReclaimed:
		return e.Address, true
	case AddressReserved:
		return e.Address, true
	case AddressUnreserved:
		return e.Address, true
	default:
		return netip.Addr{}, false
	}
}

// Unknown is an event written by a newer version, of a type or with a word that
// this one does not know: kept whole and shown, never dropped. State cannot be decided on it, so [Guards.Apply] refuses it.
type Unknown struct {
	Name string
	Raw  json.RawMessage // the whole event, its type included
}

// Type implements [Event].
func (PoolCreated) Type() string { return TypePoolCreated }

// Type implements [Event].
func (PoolChanged) Type() string { return TypePoolChanged }

// Type implements [Event].
func (PoolRetired) Type() string { return TypePoolRetired }

// Type implements [Event].
func (PoolExhausted) Type() string { return TypePoolExhausted }

// Type implements [Event].
func (GrantOpened) Type() string { return TypeGrantOpened }

// Type implements [Event].
func (GrantClosing) Type() string { return TypeGrantClosing }

// Type implements [Event].
func (GrantClosed) Type() string { return TypeGrantClosed }

// Type implements [Event].
func (GrantReopened) Type() string { return TypeGrantReopened }

// Type implements [Event].
func (AddressAllocated) Type() string { return TypeAddressAllocated }

// Type implements [Event].
func (AddressAttributed) Type() string { return TypeAddressAttributed }

// Type implements [Event].
func (AddressReleased) Type() string { return TypeAddressReleased }

// Type implements [Event].
func (AddressSuspected) Type() string { return TypeAddressSuspected }

// Type implements [Event].
func (AddressCleared) Type() string { return TypeAddressCleared }

// Type implements [Event].
func (AddressReclaimed) Type() string { return TypeAddressReclaimed }

// Type implements [Event].
func (AddressConflicted) Type() string { return TypeAddressConflicted }

// Type implements [Event].
func (AddressReserved) Type() string { return TypeAddressReserved }

// Type implements [Event].
func (AddressUnreserved) Type() string { return TypeAddressUnreserved }

// Type implements [Event].
func (HostJoined) Type() string { return TypeHostJoined }

// Type implements [Event].
func (HostLeft) Type() string { return TypeHostLeft }

// Type implements [Event].
func (HostAdopted) Type() string { return TypeHostAdopted }

// Type implements [Event].
func (HostTakenOver) Type() string { return TypeHostTakenOver }

// Type implements [Event].
func (u Unknown) Type() string { return u.Name }

func (e PoolCreated) check() error {
	switch {
	case !e.Space.valid():
		return errors.Newf("space %q is neither local nor global", e.Space)
	case !e.Subnet.IsValid() || e.Subnet != e.Subnet.Masked():
		return errors.Newf("subnet %s is not a network", e.Subnet)
	}
	if err := e.Layout.check(e.Subnet); err != nil {
		return err
	}
	return e.Policy.check()
}

func (e PoolChanged) check() error {
	if !e.Space.valid() {
		return errors.Newf("space %q is neither local nor global", e.Space)
	}
	return e.Layout.check(netip.Prefix{}) // which subnet it is the log knows
}

func (e PoolRetired) check() error {
	if !e.Space.valid() {
		return errors.Newf("space %q is neither local nor global", e.Space)
	}
	return nil
}

func (PoolExhausted) check() error { return nil }

func (e GrantOpened) check() error   { return need("grant", e.Grant) }
func (e GrantClosing) check() error  { return need("grant", e.Grant) }
func (e GrantClosed) check() error   { return need("grant", e.Grant) }
func (e GrantReopened) check() error { return need("grant", e.Grant) }

func (e AddressAllocated) check() error {
	if err := checkAddress(e.Address); err != nil {
		return err
	}
	if !e.Kind.valid() {
		return errors.Newf("kind %d is unknown", uint8(e.Kind))
	}
	return need("allocation", e.Allocation)
}

func (e AddressAttributed) check() error {
	if err := checkAddress(e.Address); err != nil {
		return err
	}
	if e.ContainerID == "" && e.NetworkID == "" {
		return errors.New("neither a container nor a network")
	}
	return need("allocation", e.Allocation)
}

func (e AddressReleased) check() error {
	if err := checkAddress(e.Address); err != nil {
		return err
	}
	if e.Reason == "" {
		return errors.New("no reason")
	}
	return need("allocation", e.Allocation)
}

func (e AddressSuspected) check() error { return checkHolding(e.Allocation, e.Address) }
func (e AddressCleared) check() error   { return checkHolding(e.Allocation, e.Address) }
func (e AddressReclaimed) check() error { return checkHolding(e.Allocation, e.Address) }

func (e AddressConflicted) check() error {
	if e.Host == "" {
		return errors.New("no host")
	}
	return checkAddress(e.Address)
}

func (e AddressReserved) check() error {
	if err := checkAddress(e.Address); err != nil {
		return err
	}
	if e.Why == "" {
		return errors.New("no reason why")
	}
	return need("allocation", e.Allocation)
}

func (e AddressUnreserved) check() error { return checkHolding(e.Allocation, e.Address) }

func (e HostJoined) check() error  { return checkHost(e.Host, e.Machine, e.Incarnation) }
func (e HostAdopted) check() error { return checkHost(e.Host, e.Machine, e.Incarnation) }

func (e HostLeft) check() error {
	if e.Host == "" || e.Incarnation == 0 {
		return errors.New("host and incarnation are both needed")
	}
	return nil
}

func (e HostTakenOver) check() error {
	if e.Host == "" || e.Incarnation == 0 || e.By == "" {
		return errors.New("host, incarnation and by whom are all needed")
	}
	return nil
}

// A reader passes on what it did not understand, but never writes it as its own.
func (u Unknown) check() error {
	return errors.Newf("event type %q is not this version's to write", u.Name)
}

func checkHost(host, machine string, incarnation uint64) error {
	if host == "" || machine == "" || incarnation == 0 {
		return errors.New("host, machine and incarnation are all needed")
	}
	return nil
}

// A holding is named by its allocation, beside its address.
func checkHolding(allocation ID, a netip.Addr) error {
	if err := checkAddress(a); err != nil {
		return err
	}
	return need("allocation", allocation)
}

// One address has one name, which its guard stands under: an IPv4 address in
// IPv6 clothes would be another one.
func checkAddress(a netip.Addr) error {
	if !a.IsValid() {
		return errors.New("no address")
	}
	if a.Zone() != "" || a.Is4In6() {
		return errors.Newf("address %s is not in its plain form", a)
	}
	return nil
}

func need(what string, id ID) error {
	if id.IsZero() {
		return errors.Newf("no %s", what)
	}
	return nil
}
