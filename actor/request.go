// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
)

// What callers decide on. Each is returned wrapped in a sentence for the user.
var (
	// ErrInUse is returned when the very address that was asked for is held.
	ErrInUse = errors.New("address already in use")
	// ErrExhausted is returned when no address of the range is free.
	ErrExhausted = errors.New("no available addresses")
	// ErrOutOfRange is returned for an address that the pool does not give out.
	ErrOutOfRange = errors.New("requested address is out of range")
	// ErrSetAside is returned for an address that no endpoint may have: it is
	// excluded, a host's, or the router.
	ErrSetAside = errors.New("the address is set aside")
	// ErrNoGrant is returned for a grant that is not open.
	ErrNoGrant = errors.New("the grant is not open")
	// ErrOverlap is returned when a new pool would overlap one that exists.
	ErrOverlap = errors.New("pool overlaps with other one on this address space")
	// ErrContradicts is returned for a request that contradicts the pool it names.
	ErrContradicts = errors.New("the pool exists with other settings")
	// ErrMirror is returned for an ask without an address in a node's mirror of a
	// Swarm network.
	ErrMirror = errors.New("the addresses of a Swarm network are its manager's to choose")
	// ErrStoreSilent is returned when the store gave no answer in time.
	ErrStoreSilent = errors.New("the store does not answer")
	// ErrOverloaded is returned when a pool's mailbox is full.
	ErrOverloaded = errors.New("too many requests are waiting")
	// ErrStopping is returned once the daemon is shutting down.
	ErrStopping = errors.New("the daemon is stopping")
	// ErrBroken is returned by a pool whose log cannot be understood.
	ErrBroken = errors.New("the pool's log cannot be read")
)

// Ref is a grant as the PoolID that Docker holds tells it: enough to find it,
// and to open it again where it is gone.
type Ref struct {
	Space  events.Space
	Pool   events.ID
	Grant  events.ID
	Host   string // empty: the swarm's
	Name   string // the pool's, empty when it has none
	Subnet netip.Prefix
	Range  netip.Prefix // zero: the whole subnet
}

// Asking is how a RequestAddress was put, which decides what the address is for.
type Asking uint8

// The ways of asking.
const (
	AskPlain     Asking = iota // nothing, or an address alone
	AskGateway                 // with the gateway option
	AskEndpoint                // with a MAC or an endpoint name
	AskAuxiliary               // for who knows that it is one: Docker puts it as AskPlain
)

// AddressRequest is a RequestAddress within a grant.
type AddressRequest struct {
	Asking   Asking
	Address  netip.Addr // zero: any
	MAC      events.MAC
	Endpoint string
}

// Answer is an address given out.
type Answer struct {
	Address    netip.Addr
	Subnet     netip.Prefix
	Kind       events.Kind
	Allocation events.ID
	Revision   int64 // of the commit that allocated it, or of the store when it was confirmed again
	Repeat     bool  // nothing new was written
}

// Prefix is the address with the subnet's length, as Docker wants it.
func (a Answer) Prefix() netip.Prefix { return netip.PrefixFrom(a.Address, a.Subnet.Bits()) }

// task is a request in a pool's hands.
type task interface{ base() *request }

type allocateTask struct {
	request
	ref Ref
	ask AddressRequest
	// synced: the projection is as new as the store was after the task came, so
	// that a full pool, or an address in use, may be believed.
	synced bool
	// contested: it lost a race before, and goes alone.
	contested bool
	// inUse: it is asked because the engine was looked at.
	inUse bool
}

type releaseTask struct {
	request
	grant      events.ID
	address    netip.Addr
	allocation events.ID // not zero: only this one
	reason     events.Reason
	came       time.Time // when Docker released; zero where nobody did
	asked      bool      // the store was asked about an allocation the projection does not know
	lasting    *lasting  // nil: nothing keeps it
}

type closeTask struct {
	request
	grant events.ID
	asked bool
	// unused, if not zero, leaves the grant alone that something was asked through
	// since.
	unused time.Time
}

// reachTask is answered once the projection has reached a revision.
type reachTask struct {
	request
	revision int64
}

// request is what every task has: who waits for it.
type request struct {
	ctx   context.Context //nolint:containedctx // the request travels through a mailbox, its context with it
	state atomic.Int32    // waiting, answered or left
	reply chan reply      // capacity 1
}

type reply struct {
	answer Answer
	err    error
}

const (
	waiting int32 = iota
	answered
	left
)

func (r *request) base() *request { return r }

// answer gives the caller its answer. False: it has left, nobody got it.
func (r *request) answer(a Answer, err error) bool {
	if !r.state.CompareAndSwap(waiting, answered) {
		return false
	}
	r.reply <- reply{a, err}
	return true
}

// gone says whether nobody waits any more: the caller has left, or has its answer.
func (r *request) gone() bool { return r.state.Load() != waiting }

// wait is the caller's side: either it gets the answer, or it has left before
// there was one. stopped says that nobody is there any more to answer.
func (r *request) wait(stopped <-chan struct{}) (Answer, error) {
	var why error
	select {
	case got := <-r.reply:
		return got.answer, got.err
	case <-r.ctx.Done():
		why = errors.Wrap(r.ctx.Err(), "wait for the pool")
	case <-stopped:
		why = ErrStopping
	}
	if r.state.CompareAndSwap(waiting, left) {
		return Answer{}, why
	}
	got := <-r.reply
	return got.answer, got.err
}

func newRequest(ctx context.Context) request {
	return request{ctx: ctx, reply: make(chan reply, 1)}
}
