// SPDX-License-Identifier: Apache-2.0

package actor

import "github.com/ipamlog/ipamlog/events"

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
