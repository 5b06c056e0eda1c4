// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// heldAnswers makes a host's answers from the store wait: those about who holds an
// address, or those to its commits.
type heldAnswers struct {
	clientv3.KV
	mu      sync.Mutex
	reads   *hold
	commits *hold
}

// hold lets an answer wait at a gate.
type hold struct {
	come chan struct{} // one for each that waits
	open chan struct{}
}

func newHold() *hold { return &hold{come: make(chan struct{}, 100), open: make(chan struct{})} }

func (h *hold) pass() {
	if h != nil {
		h.come <- struct{}{}
		<-h.open
	}
}

func (k *heldAnswers) set(reads, commits *hold) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reads, k.commits = reads, commits
}

func (k *heldAnswers) holds() (reads, commits *hold) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.reads, k.commits
}

// Get implements [clientv3.KV].
func (k *heldAnswers) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if reads, _ := k.holds(); strings.Contains(key, "/held/") {
		reads.pass()
	}
	return k.KV.Get(ctx, key, opts...)
}

// Txn implements [clientv3.KV].
func (k *heldAnswers) Txn(ctx context.Context) clientv3.Txn { return &heldTxn{k.KV.Txn(ctx), k} }

type heldTxn struct {
	clientv3.Txn
	from *heldAnswers
}

// If implements [clientv3.Txn].
func (t *heldTxn) If(cs ...clientv3.Cmp) clientv3.Txn { t.Txn = t.Txn.If(cs...); return t }

// Then implements [clientv3.Txn].
func (t *heldTxn) Then(ops ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Then(ops...); return t }

// Else implements [clientv3.Txn].
func (t *heldTxn) Else(ops ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Else(ops...); return t }

// Commit implements [clientv3.Txn].
func (t *heldTxn) Commit() (*clientv3.TxnResponse, error) {
	resp, err := t.Txn.Commit()
	_, commits := t.from.holds()
	commits.pass()
	return resp, err
}

func (k *heldAnswers) into(o *actor.Options) { k.KV, o.Client.KV = o.Client.KV, k }

// A release that the projection does not understand frees what was held when it
// came, and nothing that came while the store was asked.
func TestDoubledReleaseAndALaterHolding(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	store := &heldAnswers{}
	d := b.start("h1", store.into)
	ref := d.subnet("10.9.0.0/24")
	this := endpoint(1)
	this.Address = addr("10.9.0.5")
	d.ask(ref, this)
	d.release(ref, this.Address)

	asking := newHold()
	store.set(asking, nil)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = d.ReleaseAddress(b.ctx(), ref, this.Address) }) // doubled
	<-asking.come
	wg.Go(func() {
		later := endpoint(2)
		later.Address = this.Address
		if _, err := d.RequestAddress(b.ctx(), ref, later); err != nil {
			t.Error(err)
		}
	})
	store.set(nil, nil)
	close(asking.open)
	wg.Wait()
	b.same(ref, map[string][]string{"10.9.0.5": {"endpoint"}})
}

// Two grants of a host share a gateway; one is closed while the other's release
// of it is on its way. Both come to their end.
func TestClosingBesideASharedGateway(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	store := &heldAnswers{}
	d := b.start("h1", store.into)
	one := d.pool(actor.PoolRequest{Name: "web", Subnet: prefix("10.9.0.0/24")})
	other := d.pool(actor.PoolRequest{Name: "web", Subnet: prefix("10.9.0.0/24")})
	d.ask(one, gateway("10.9.0.254"))
	d.ask(other, gateway("10.9.0.254"))

	first := newHold()
	store.set(nil, first)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = d.ReleasePool(b.ctx(), one) })
	<-first.come // grant.closing is in, its answer waits
	second := newHold()
	store.set(nil, second)
	wg.Go(func() { _, _ = d.ReleaseAddress(b.ctx(), other, addr("10.9.0.254")) })
	store.set(nil, nil)
	close(first.open)
	close(second.open)
	wg.Wait()
	d.closeGrant(one)
	d.closeGrant(other)
	if grants := b.guards(other).Grants; len(grants) > 0 {
		t.Errorf("not closed: %v", grants)
	}
}

// Docker that was told no subnet asks again for as long as our answer overlaps
// what the host reaches: it must hear no.
func TestJoinByNameOnAHostThatReachesThePool(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1", func(o *actor.Options) {
		o.Routes = func() ([]netip.Prefix, error) { return []netip.Prefix{prefix("10.50.0.0/16")}, nil }
	})
	d.pool(actor.PoolRequest{Name: "web", Subnet: prefix("10.50.0.0/24")})
	_, err := d.RequestPool(b.ctx(), actor.PoolRequest{Name: "web", Space: events.Local})
	wantErr(t, err, actor.ErrOnHost)
	d.pool(actor.PoolRequest{Name: "web", Subnet: prefix("10.50.0.0/24")})
}

// A store that is swapped under a running daemon ends it, whether the other one
// is shorter or longer.
func TestStoreIsSwapped(t *testing.T) {
	t.Parallel()
	for name, longer := range map[string]bool{"for a shorter one": false, "for a longer one": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, other := newBed(t), newBed(t)
			if _, err := other.log.Found(other.ctx()); err != nil {
				t.Fatal(err)
			}
			for range 50 {
				if _, err := other.etcd.Client().Put(other.ctx(), "x", ""); longer && err != nil {
					t.Fatal(err)
				} else if !longer {
					break
				}
			}
			g := newGate(t, b.etcd.Endpoint())
			d := b.startAt(g.endpoint(), "h1")
			ref := d.subnet("10.9.0.0/24")
			for n := range 10 {
				d.ask(ref, endpoint(n))
			}
			g.turn(other.etcd.Endpoint())
			eventually(t, "an end", func() bool {
				_, _ = d.RequestAddress(b.ctx(), ref, endpoint(99))
				return !d.Alive()
			})
			wantErr(t, d.stop(), etcdlog.ErrOtherStore)
			if pools, _, err := other.log.Pools(other.ctx()); err != nil || len(pools) > 0 {
				t.Errorf("it went on in the other store: %v %v", pools, err)
			}
		})
	}
}
