// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"maps"
	"slices"
	"time"

	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/events"
)

// What the ledger still waits for: looks that are due, what was found and not told,
// and what the log may have told already.

// searched says whether looks are to find whose a holding is.
func (h *holding) searched() bool { return h.ended == 0 && h.owner == nil && !h.lost }

// anyDue says whether a look is due. The first two are, whatever is held: after them
// a network that comes is known to be young.
func (l *Ledger) anyDue(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lists < 2 {
		return true
	}
	for _, h := range l.holdings {
		if h.searched() && !h.due.After(now) {
			return true
		}
	}
	return false
}

// nextDue is when the next look is due, limit at the latest. What was found and not
// told yet is come back to soon.
func (l *Ledger) nextDue(limit time.Time) time.Time {
	const soon = 100 * time.Millisecond
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lists < 2 {
		limit = earlier(limit, l.clock().Add(networkPause))
	}
	for _, h := range l.holdings {
		if h.owner != nil && h.told == nil && !h.lost {
			limit = earlier(limit, l.clock().Add(soon))
		} else if h.searched() {
			limit = earlier(limit, h.due)
		}
	}
	return limit
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// hurry makes all looks due: the engine says that something has changed.
func (l *Ledger) hurry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock()
	for _, h := range l.holdings {
		if h.searched() {
			h.due, h.pause = now, firstPause
		}
	}
}

// wanted are the networks to be inspected now: those on which a holding can be for
// which a look is due, and those that nobody has looked at yet, or with all, every
// one of ours. What is looked for is due again after a longer pause.
func (l *Ledger) wanted(networks []engine.Network, all bool, now time.Time) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	want := map[string]bool{}
	for _, n := range networks {
		x := l.networks[n.ID]
		want[n.ID] = l.driver.Ours(n) && (all || x == nil || x.endpoints == nil)
	}
	for _, h := range l.holdings {
		due := h.searched() && !h.due.After(now)
		if due {
			h.due = now.Add(h.pause)
			h.pause = min(2*h.pause, lastPause)
		}
		if h.Kind != events.Endpoint || !due {
			continue
		}
		for _, n := range networks {
			if !want[n.ID] && l.driver.Fits(n, h.Holding) {
				want[n.ID] = true
			}
		}
	}
	var ids []string
	for _, n := range networks {
		if want[n.ID] {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// found are the containers that were found, and those among them of which not all
// is told.
func (l *Ledger) found() (all, waiting map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all, waiting = map[string]bool{}, map[string]bool{}
	for _, h := range l.holdings {
		if h.owner == nil || h.owner.container == "" || h.lost {
			continue
		}
		all[h.owner.container] = true
		if h.told == nil || h.told.ImageID == "" && h.ended == 0 {
			waiting[h.owner.container] = true
		}
	}
	return all, waiting
}

// untold are the holdings whose owners were found, and of which there may be
// something to tell: current says of a container, and the version of what is known
// of it that was told last, whether that is all.
func (l *Ledger) untold(current func(id string, version uint64) bool) []holding {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []holding
	for _, h := range l.holdings {
		if h.owner == nil || h.lost || l.unread[h.ID] || h.told != nil && current(h.owner.container, h.worded) {
			continue
		}
		list = append(list, *h)
	}
	// In the order of their beginning, as the log would have it.
	slices.SortFunc(list, func(a, b holding) int { return a.Allocation.ID.Compare(b.Allocation.ID) })
	return list
}

// tell notes what was told of a holding, if anything, and up to which version of
// what is known of its container that is all.
func (l *Ledger) tell(allocation events.ID, told *events.AddressAttributed, version uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.holdings[allocation]
	if h == nil {
		return
	}
	if h.worded = version; told != nil {
		h.told, h.named = &told.Attribution, told.Since
	}
	l.forget()
}

// unrecalled are the pools of which the log may know more than the ledger.
func (l *Ledger) unrecalled() []events.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	there := map[events.ID]bool{}
	for _, h := range l.holdings {
		there[h.ID] = there[h.ID] || l.unread[h.ID]
	}
	maps.DeleteFunc(l.unread, func(pool events.ID, _ bool) bool { return !there[pool] })
	return slices.Collect(maps.Keys(l.unread))
}

// recalled takes in what the log knows of a pool's holdings.
func (l *Ledger) recalled(pool events.ID, r recollection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.unread, pool)
	for _, h := range l.holdings {
		if h.ID != pool {
			continue
		}
		h.sole = r.sole(h.Allocation.ID)
		if h.searched() && h.sole {
			h.due = l.clock()
		}
		told, known := r.told[h.Allocation.ID]
		switch {
		case !known || h.told != nil:
		case h.owner == nil:
			// It need not be found again: what was told is so.
			h.told, h.named = &told.Attribution, told.Since
			h.owner = &owner{
				network: engine.Network{ID: told.NetworkID, Name: told.NetworkName}, endpoint: told.EndpointID,
				container: told.ContainerID, name: told.ContainerName, found: l.clock(),
			}
		default:
			h.told, h.named = &told.Attribution, told.Since
			h.lost = h.owner.container != "" && told.ContainerID != "" && h.owner.container != told.ContainerID
		}
	}
	l.forget()
}

// open counts the holdings of which it is not known whose they are.
func (l *Ledger) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, h := range l.holdings {
		if h.searched() && h.told == nil {
			n++
		}
	}
	return n
}
