// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"net/netip"
	"time"

	"github.com/ipamlog/ipamlog/events"
)

// recallPatience is how long an ask waits until it is known which address its
// endpoint had last.
const recallPatience = 2 * time.Second

// memory knows which address an endpoint had last, for pools with the sticky
// policy. What was held before this daemon started stands in the log alone, which
// is read once, beside everything else. A nil memory remembers nothing.
type memory struct {
	by      events.Sticky
	last    map[string]had     // by endpoint
	owners  map[netip.Addr]had // the last endpoint on an address; its addr is the address
	read    bool               // the log was read, or is not waited for any more
	waiting []*allocateTask
}

// had says that an endpoint had an address, and since when.
type had struct {
	endpoint string
	addr     netip.Addr
	revision int64
}

// of is by what an endpoint is known again; "" if it is not.
func (m *memory) of(mac events.MAC, endpoint string) string {
	switch m.by {
	case events.StickyName:
		return endpoint
	case events.StickyMAC:
		return mac.String()
	case events.StickyNot:
	}
	return ""
}

// note takes in an allocation. Older ones may come later.
func (m *memory) note(e events.AddressAllocated, revision int64) {
	if m == nil || e.Kind != events.Endpoint || m.owners[e.Address].revision > revision {
		return
	}
	h := had{m.of(e.MAC, e.Endpoint), e.Address, revision}
	m.owners[e.Address] = h
	if h.endpoint != "" && m.last[h.endpoint].revision <= revision {
		m.last[h.endpoint] = h
	}
}

// address is the one an endpoint had last, if nobody had it since.
func (m *memory) address(endpoint string) (netip.Addr, bool) {
	h, known := m.last[endpoint]
	return h.addr, known && m.owners[h.addr].endpoint == endpoint
}

// remember begins to read what the log tells of endpoints and their addresses.
func (p *Pool) remember() {
	if p.policy().Sticky == events.StickyNot || p.memory != nil {
		return
	}
	m := &memory{by: p.policy().Sticky, last: map[string]had{}, owners: map[netip.Addr]had{}}
	p.memory = m
	p.spawn(func() {
		records, err := p.writer.Log().Since(p.life, events.PoolStream(p.id), p.id.Time().Add(-clockSlack))
		p.post(func() {
			if err != nil {
				p.log.Warn().Err(err).Msg("the log could not be read for the addresses that endpoints had: they may get others")
			}
			for _, r := range records {
				for _, e := range r.Events {
					if e, ok := e.(events.AddressAllocated); ok {
						m.note(e, r.Revision)
					}
				}
			}
			p.recalled(m)
		})
	})
	p.spawn(func() {
		select {
		case <-time.After(recallPatience):
		case <-p.life.Done():
		}
		p.post(func() { p.recalled(m) })
	})
}

// recalled lets those go on who waited for the memory: it was read, or that takes
// too long.
func (p *Pool) recalled(m *memory) {
	m.read = true
	waiting := m.waiting
	m.waiting = nil
	p.parked -= len(waiting)
	for _, t := range waiting {
		p.decide(t)
	}
}

// recalls makes an endpoint wait until the log was read for what it had.
func (p *Pool) recalls(t *allocateTask) bool {
	m := p.memory
	if m == nil || m.read || m.of(t.ask.MAC, t.ask.Endpoint) == "" {
		return false
	}
	m.waiting = append(m.waiting, t)
	p.parked++
	return true
}

// lastOf is the address that an endpoint had last, if it may have it again.
func (p *Pool) lastOf(t *allocateTask, within netip.Prefix) (netip.Addr, bool) {
	if p.memory == nil {
		return netip.Addr{}, false
	}
	endpoint := p.memory.of(t.ask.MAC, t.ask.Endpoint)
	if endpoint == "" {
		return netip.Addr{}, false
	}
	addr, known := p.memory.address(endpoint)
	return addr, known && p.free(addr) && p.picker.gives(within, addr)
}
