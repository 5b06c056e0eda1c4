// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/cockroachdb/errors"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events"
)

// transaction is a proposal made ready: conditions, writes, and the guards that
// are looked at when they stood in the way.
type transaction struct {
	logKey string
	commit events.Commit
	value  []byte    // of the commit, as written
	pool   events.ID // zero in the catalogue
	ifs    []clientv3.Cmp
	then   []clientv3.Op
	orElse []clientv3.Op
	guards []string
	seenAt int64
	own    func(revision int64) int64 // see Log.own

	leaning leaning // see Writer.leanOnLast
}

// compare demands that a guard still is as it was seen. It is not read where it
// is not: all that a transaction may do is written to etcd's disk, and a refused
// one is rare (see Log.refusal).
func (t *transaction) compare(key string, revision int64) {
	t.ifs = append(t.ifs, clientv3.Compare(clientv3.ModRevision(key), "=", t.own(revision)))
	t.guards = append(t.guards, key)
}

// emptyBut demands that there is no key below prefix but the given ones.
func (t *transaction) emptyBut(prefix string, but []string) {
	from := prefix
	for _, key := range append(slices.Sorted(slices.Values(but)), endOf(prefix)) {
		t.ifs = append(t.ifs, clientv3.Compare(clientv3.CreateRevision(from).WithRange(key), "=", 0))
		from = key + "\x00"
	}
}

// prepare turns a proposal into a transaction. The guards' new values are what
// [events.Guards.Apply] makes of the events, so none can be written without its
// event, and no event without its guards.
func (l *Log) prepare(p Proposal, commit events.Commit, fence host) (*transaction, error) {
	if len(p.Events) > MaxEvents {
		return nil, errors.AssertionFailedf("%d events in one commit", len(p.Events))
	}
	if err := l.readable(p.Events); err != nil {
		return nil, err
	}
	value, err := events.Encode(commit)
	if err != nil {
		return nil, err
	}
	n := len(p.Events) + 8 // roughly: an operation an event, and what they lean on
	t := &transaction{
		logKey: l.keys.commit(p.Stream, p.ID), commit: commit, value: value, seenAt: p.SeenAt, own: l.own,
		ifs: make([]clientv3.Cmp, 0, n), then: make([]clientv3.Op, 0, n), guards: make([]string, 0, n),
	}
	t.ifs = append(t.ifs, clientv3.Compare(clientv3.CreateRevision(t.logKey), "=", 0))
	t.ifs = append(t.ifs, l.isKnown()...)
	t.then = append(t.then, l.keys.putCommit(p.Stream, p.ID, value)...)
	t.orElse = append(t.orElse, clientv3.OpGet(t.logKey))
	if p.Stream != events.Catalogue {
		if t.pool, err = events.ParseID(string(p.Stream)); err != nil {
			return nil, err
		}
	}

	// The revision is not known yet; any that is not zero stands for it.
	after := cloneGuards(p.Seen)
	if err := after.Apply(events.Record{Commit: commit, Revision: 1}); err != nil {
		return nil, errors.Wrap(err, "apply a proposal to what it rests on")
	}
	touched := touchedBy(p.Events, p.Seen)
	if err := touched.founded(after); err != nil {
		return nil, err
	}
	if touched.pool {
		space := after.Pool.Value.Space
		if !after.Pool.Present() {
			space = p.Seen.Pool.Value.Space
		}
		if err := put(t, l.keys.pool(space, t.pool), p.Seen.Pool.Revision, after.Pool); err != nil {
			return nil, err
		}
		if !p.Seen.Pool.Present() || p.CatalogueAt > 0 {
			t.ifs = append(t.ifs, clientv3.Compare(clientv3.ModRevision(l.keys.pools()), "<", l.own(p.CatalogueAt)+1).WithPrefix())
		}
	}
	if touched.retires {
		var ends []string // what this very commit ends is not in the way
		for addr := range touched.addresses {
			if !after.Held[addr].Present() {
				ends = append(ends, l.keys.held(t.pool, addr))
			}
		}
		t.emptyBut(l.keys.heldIn(t.pool), ends)
		ends = nil
		for id := range touched.grants {
			if !after.Grants[id].Present() {
				ends = append(ends, l.keys.grant(t.pool, id))
			}
		}
		t.emptyBut(l.keys.grantsIn(t.pool), ends)
	}
	if p.AllGrants {
		var known []string
		for id := range p.Seen.Grants {
			known = append(known, l.keys.grant(t.pool, id))
		}
		t.emptyBut(l.keys.grantsIn(t.pool), known)
	}
	for id := range touched.grants {
		if err := put(t, l.keys.grant(t.pool, id), p.Seen.Grants[id].Revision, after.Grants[id]); err != nil {
			return nil, err
		}
	}
	maps.Copy(touched.emptied, touched.joined)
	for id := range touched.emptied {
		if !touched.grants[id] {
			t.compare(l.keys.grant(t.pool, id), p.Seen.Grants[id].Revision)
		}
	}
	holdings := l.keys.heldIn(t.pool)
	for addr := range touched.addresses {
		if err := put(t, holdings+addr.String(), p.Seen.Held[addr].Revision, after.Held[addr]); err != nil {
			return nil, err
		}
	}
	for name := range touched.hosts {
		if err := put(t, l.keys.host(name), p.Seen.Hosts[name].Revision, after.Hosts[name]); err != nil {
			return nil, err
		}
	}
	if touched.leansOnPool && !touched.pool {
		t.compare(l.keys.pool(p.Seen.Pool.Value.Space, t.pool), p.Seen.Pool.Revision)
	}
	if p.AliveAt > 0 {
		t.ifs = append(t.ifs, clientv3.Compare(clientv3.ModRevision(l.keys.alive("")), "<", l.own(p.AliveAt)+1).WithPrefix())
	}
	for _, name := range p.Dead {
		t.compare(l.keys.alive(name), 0)
	}
	if (touched.fenced || p.For != "") && fence.name != "" && !touched.hosts[fence.name] {
		t.compare(l.keys.host(fence.name), fence.revision)
	}
	if n := max(len(t.ifs), len(t.then)); n > maxOperations {
		return nil, errors.AssertionFailedf("%d operations in one commit", n)
	}
	return t, nil
}

func put[T events.Pool | events.Grant | events.HostGuard | events.Held](t *transaction, key string, seen int64, after events.Guarded[T]) error {
	t.compare(key, seen)
	if !after.Present() {
		t.then = append(t.then, clientv3.OpDelete(key))
		return nil
	}
	value, err := events.EncodeGuard(after.Value)
	if err != nil {
		return err
	}
	t.then = append(t.then, clientv3.OpPut(key, string(value)))
	return nil
}

// touches is what a commit's events change or lean on.
type touches struct {
	pool, retires bool
	leansOnPool   bool               // a grant opens or a holding begins: the pool must be as it was seen
	fenced        bool               // only this host, in this incarnation, may do it
	grants        map[events.ID]bool // opened, closing, closed
	joined        map[events.ID]bool // allocated through: the grant must be open
	emptied       map[events.ID]bool // released because it is closing: it must be closing still
	addresses     map[netip.Addr]bool
	hosts         map[string]bool
}

func touchedBy(list []events.Event, seen events.Guards) touches {
	t := touches{
		grants: map[events.ID]bool{}, joined: map[events.ID]bool{}, emptied: map[events.ID]bool{},
		addresses: map[netip.Addr]bool{}, hosts: map[string]bool{},
	}
	for _, e := range list {
		switch e := e.(type) {
		case events.PoolCreated:
			t.pool = true
		case events.PoolChanged:
			t.pool = true
		case events.PoolRetired:
			t.pool, t.retires = true, true
		case events.PoolExhausted, events.AddressAttributed, events.AddressConflicted, events.Unknown:
		case events.GrantOpened:
			t.grants[e.Grant], t.leansOnPool, t.fenced = true, true, true
		case events.GrantReopened:
			t.grants[e.Grant], t.leansOnPool, t.fenced = true, true, true
		case events.GrantClosing:
			t.grants[e.Grant], t.fenced = true, true
		case events.GrantClosed:
			t.grants[e.Grant], t.fenced = true, true
		case events.AddressAllocated:
			// On the pool, because its layout says who may have which address.
			t.addresses[e.Address], t.leansOnPool = true, true
			if !e.Grant.IsZero() {
				t.joined[e.Grant] = true
			}
		case events.AddressReserved:
			t.addresses[e.Address], t.leansOnPool = true, true
		case events.AddressUnreserved:
			t.addresses[e.Address] = true
		case events.AddressReleased:
			t.addresses[e.Address] = true
			if held := seen.Held[e.Address].Value; e.Reason == events.GrantEnded {
				t.fenced = true
				// It leans on its grant if that was looked at.
				if i := held.Index(e.Allocation); i >= 0 && seen.Grants[held[i].Grant].Present() {
					t.emptied[held[i].Grant] = true
				}
			}
		case events.AddressSuspected:
			t.addresses[e.Address], t.fenced = true, true
		case events.AddressCleared:
			t.addresses[e.Address], t.fenced = true, true
		case events.AddressReclaimed:
			t.addresses[e.Address], t.fenced = true, true
		case events.HostJoined:
			t.hosts[e.Host] = true
		case events.HostLeft:
			t.hosts[e.Host] = true
		case events.HostAdopted:
			t.hosts[e.Host] = true
		case events.HostTakenOver:
			t.hosts[e.Host] = true
		}
	}
	return t
}

// founded says whether what the events lean on was there when it was looked at:
// comparing with an absent guard would demand that it stays absent.
func (t touches) founded(after events.Guards) error {
	for id := range t.joined {
		if after.Grants[id].Value.State != events.StateOpen {
			return errors.Wrapf(events.ErrContradiction, "grant %s is not open", id)
		}
	}
	if t.leansOnPool && !after.Pool.Present() {
		return errors.Wrap(events.ErrContradiction, "the pool does not exist")
	}
	return nil
}

func cloneGuards(g events.Guards) events.Guards {
	c := events.NewGuards()
	c.Pool = g.Pool
	maps.Copy(c.Grants, g.Grants)
	maps.Copy(c.Held, g.Held)
	maps.Copy(c.Hosts, g.Hosts)
	return c
}
