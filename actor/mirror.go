// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// Swarm's managers ask for a network's pool and addresses in the global space;
// each node that runs a task of it then asks for the same ones in the local space.
// There they are the node's own: a mirror, a pool of the local space that belongs
// to one host. That no address is given twice the global pool sees to. A node that
// crashed forgets what it held, and asks for the same addresses again: whoever
// asks last in a mirror has the address.
//
// Swarm takes managed plugins only, so only a daemon that runs as one has mirrors.

// mirrored finds out whether a request is about this node's mirror of a Swarm
// network: one in the local space for the very subnet of a global pool. A mirror
// has no policy of its own, and no name: engines before version 29 send none, so
// that two Swarm networks of one subnet cannot be told apart.
func (h *Host) mirrored(pools []etcdlog.PoolEntry, r PoolRequest) PoolRequest {
	if !h.mirrors || r.Space != events.Local || !r.Subnet.IsValid() {
		return r
	}
	for _, e := range pools {
		if e.Value.Space == events.Global && e.Value.Subnet == r.Subnet && (r.Name == "" || r.Name == e.Value.Name) {
			r.node, r.Name, r.Wish = h.writer.Host(), "", Wish{}
			return r
		}
	}
	return r
}

// supersede takes an address of a mirror from whoever held it, for one who asks.
func (p *Pool) supersede(t *allocateTask, a events.Allocation) {
	s := &step{
		event: events.AddressReleased{Allocation: a.ID, Address: t.ask.Address, Reason: events.Superseded},
		addr:  t.ask.Address, grant: a.Grant,
	}
	p.queue(s)
	p.park(s, t)
}
