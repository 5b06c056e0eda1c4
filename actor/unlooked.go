// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"sync"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
)

// ErrUnlooked is returned for an endpoint's address on a network whose grant was just
// opened again because Docker asked through it: what the network's containers use is not
// known yet, and is found out next. Nothing is held.
var ErrUnlooked = errors.New("ipamlog had lost this network, and is looking which addresses its containers use")

// unlooked are the grants that Docker's asking has opened again, since when: nobody has
// compared their networks with the log since. Safe for concurrent use.
type unlooked struct {
	mu    sync.Mutex
	look  func() // has the engine looked at soon; nil: nobody looks
	since map[events.ID]time.Time
}

// LookAfterReopening says that somebody compares the log with the engine: look has that
// done soon. From then on, an ask that opened a grant again is refused with
// [ErrUnlooked], and so are the next ones until [Host.Looked].
func (h *Host) LookAfterReopening(look func()) {
	h.unlooked.mu.Lock()
	defer h.unlooked.mu.Unlock()
	h.unlooked.look, h.unlooked.since = look, map[events.ID]time.Time{}
}

// Unlooked says whether a grant was opened again and its network not looked at since.
func (h *Host) Unlooked(grant events.ID) bool {
	h.unlooked.mu.Lock()
	defer h.unlooked.mu.Unlock()
	_, waits := h.unlooked.since[grant]
	return waits
}

// Looked says that what the engine's networks use was compared with the log, and that the
// look began at that time.
func (h *Host) Looked(began time.Time) {
	h.unlooked.mu.Lock()
	defer h.unlooked.mu.Unlock()
	for grant, since := range h.unlooked.since {
		if since.Before(began) {
			delete(h.unlooked.since, grant)
		}
	}
}

// reopened notes that an ask has opened a grant again. It says whether that has to be
// looked at first.
func (u *unlooked) reopened(grant events.ID) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.look == nil {
		return false
	}
	u.since[grant] = time.Now()
	u.look()
	return true
}
