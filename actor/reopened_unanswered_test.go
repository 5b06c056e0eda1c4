// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"bytes"
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
)

// lostAnswers is a store that goes silent with the transaction that opens a grant again,
// which it takes.
type lostAnswers struct {
	clientv3.KV
	away, back atomic.Bool
	during     func() // if not nil, what happens before the answer, which then is not lost
}

func (k *lostAnswers) into(o *actor.Options) { k.KV, o.Client.KV = o.Client.KV, k }

// Txn implements [clientv3.KV].
func (k *lostAnswers) Txn(ctx context.Context) clientv3.Txn { return &lostTxn{k.KV.Txn(ctx), k, false} }

type lostTxn struct {
	clientv3.Txn
	from    *lostAnswers
	reopens bool
}

// If implements [clientv3.Txn].
func (t *lostTxn) If(cs ...clientv3.Cmp) clientv3.Txn { t.Txn = t.Txn.If(cs...); return t }

// Else implements [clientv3.Txn].
func (t *lostTxn) Else(ops ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Else(ops...); return t }

// Then implements [clientv3.Txn].
func (t *lostTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	t.reopens = slices.ContainsFunc(ops, func(op clientv3.Op) bool { return bytes.Contains(op.ValueBytes(), []byte("grant.reopened")) })
	t.Txn = t.Txn.Then(ops...)
	return t
}

// Commit implements [clientv3.Txn].
func (t *lostTxn) Commit() (*clientv3.TxnResponse, error) {
	k := t.from
	if t.reopens && k.during != nil {
		answer, err := t.Txn.Commit()
		k.during()
		return answer, err
	}
	if k.back.Load() {
		return t.Txn.Commit()
	}
	if t.reopens && !k.away.Swap(true) {
		if _, err := t.Txn.Commit(); err != nil {
			return nil, err
		}
	}
	if k.away.Load() {
		return nil, context.DeadlineExceeded
	}
	return t.Txn.Commit()
}

// TestReopen_unanswered: a grant that was opened again while the store's answer was lost
// stays open. Docker has its network, and containers hold addresses through it.
func TestReopen_unanswered(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref := d.subnet("10.1.0.0/24")
	kept := d.ask(ref, endpoint(1))
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	b.beginTakeOver("h1", ref)
	store := &lostAnswers{}
	d = b.start("h1", store.into)

	wantErr(t, d.Reopen(b.ctx(), ref), actor.ErrStoreSilent)
	store.back.Store(true)
	given := d.ask(ref, endpoint(2))
	if err := d.stop(); err != nil { // waits for what goes on behind it
		t.Fatal(err)
	}
	b.same(ref, map[string][]string{kept.Address.String(): {"endpoint"}, given.Address.String(): {"endpoint"}})
	b.agree(ref)
}

// TestReopen_unansweredIsLookedAt: as long as nobody knows whether a grant is open again, no
// look at the engine counts for its network; and once it is known, its pool is followed, so
// that the next look finds it.
func TestReopen_unansweredIsLookedAt(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.start("h2").subnet("10.1.0.0/24") // keeps the pool
	store := &lostAnswers{}
	d := b.leaving("h1", store.into, looking(actor.Unlooked{}))
	ref := d.subnet("10.1.0.0/24")
	d.ask(ref, endpoint(1))
	d.closeGrant(ref)
	d.runs("it leaves the pool")

	_, err := d.RequestAddress(b.ctx(), ref, endpoint(2))
	wantErr(t, err, actor.ErrStoreSilent)
	d.Looked(time.Now(), nil)
	if u := d.Unlooked(); !slices.Equal(u.Grants, []events.ID{ref.Grant}) {
		t.Errorf("to be looked at still: %v", u.Grants)
	}
	store.back.Store(true)
	d.runs("it follows the pool of the grant that is open", ref)
	d.refused(ref, 2)
	eventually(t, "a look counts", func() bool {
		d.Looked(time.Now(), nil)
		return len(d.Unlooked().Grants) == 0
	})
	d.ask(ref, endpoint(2))
	b.agree(ref)
}
