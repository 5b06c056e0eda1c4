// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"sync"

	"github.com/ipamlog/ipamlog/events"
)

// spot is an address of a pool, which one alone may have.
type spot struct {
	pool    string
	address netip.Addr
}

// ledger is what the clients know at any moment: whose which address is, and of
// whom nobody can say. Safe for concurrent use.
type ledger struct {
	mu    sync.Mutex
	has   map[events.MAC]spot
	doubt map[events.MAC]bool // it may hold something: it asks, gives back, or never heard
	// unheard are those of whom an answer was lost: what the daemon had decided when it
	// was killed comes into the log as late as the store likes, after all that the next
	// daemon answered. Reconciliation finds such holdings, and there is none here.
	unheard map[events.MAC]bool
}

func newLedger() *ledger {
	return &ledger{has: map[events.MAC]spot{}, doubt: map[events.MAC]bool{}, unheard: map[events.MAC]bool{}}
}

// doubts notes that what a container holds is not known from now on.
func (l *ledger) doubts(mac events.MAC) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.has, mac)
	l.doubt[mac] = true
}

// told notes that a container was told that an address is its own.
func (l *ledger) told(mac events.MAC, at spot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.doubt, mac)
	l.has[mac] = at
}

// done notes that a container was told that it has nothing any more.
func (l *ledger) done(mac events.MAC) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.doubt, mac)
	delete(l.has, mac)
}

// lost notes that the answer to a container's ask was lost.
func (l *ledger) lost(mac events.MAC) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unheard[mac] = true
}
