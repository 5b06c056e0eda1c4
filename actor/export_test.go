// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"time"

	"github.com/ipamlog/ipamlog/events"
)

// What tests measure against.
const (
	MailboxSize     = mailboxSize
	RequestPatience = requestPatience
	LeaseSeconds    = leaseSeconds
)

// ForgetMoved makes a host forget what it knows only since it started.
func (h *Host) ForgetMoved() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.moved)
}

// PoolOf is the pool that a host takes a grant to be in.
func (h *Host) PoolOf(ref Ref) events.ID { return h.poolOf(ref) }

// Running are the pools that have an actor.
func (h *Host) Running() map[events.ID]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	running := map[events.ID]bool{}
	for id := range h.pools {
		running[id] = true
	}
	return running
}

// Linger sets how long the pools that begin from now on are followed for nothing.
func (h *Host) Linger(span time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.linger = span
}

// Waiting is how many steps of a pool wait for a commit.
func (h *Host) Waiting(id events.ID) int {
	return look(h, id, func(p *Pool) int { return len(p.batch) })
}

// Remembered is of how many addresses a pool knows who had them last.
func (h *Host) Remembered(id events.ID) int {
	return look(h, id, func(p *Pool) int {
		if p.memory == nil {
			return 0
		}
		return len(p.memory.owners)
	})
}

// Asking is of how many grants a pool knows when something was asked through them.
func (h *Host) Asking(id events.ID) int {
	return look(h, id, func(p *Pool) int { return len(p.asking) })
}

// look looks at a pool in its own goroutine.
func look[T any](h *Host, id events.ID, at func(*Pool) T) (seen T) {
	h.mu.Lock()
	p := h.pools[id]
	h.mu.Unlock()
	if p == nil {
		return seen
	}
	answer := make(chan T, 1)
	p.post(func() { answer <- at(p) })
	select {
	case seen = <-answer:
	case <-p.done:
	}
	return seen
}
