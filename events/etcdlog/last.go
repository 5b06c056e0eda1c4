// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events"
)

// leanFor is how long after it was written a commit is leant on by itself: it may go
// into an archive as soon as it is an hour old.
const leanFor = 30 * time.Minute

// leaning is what a commit demands of the one that its writer wrote before.
type leaning struct {
	last events.Record // zero: nothing
	// aged says that the last one may be in an archive by now. What stands then is its
	// stream's head, which only goes forward.
	aged bool
}

// leanOnLast demands that what this writer wrote last still stands. It does not in an
// older copy of the store that was put under the daemon, which may be ahead of what
// the daemon has seen by then: etcd's own restore can raise the revisions.
func (w *Writer) leanOnLast(t *transaction) {
	w.mu.Lock()
	t.leaning = leaning{w.last, SinceBoot()-w.wroteAt > leanFor}
	w.mu.Unlock()
	last := t.leaning.last
	switch {
	case last.Revision == 0:
	case t.leaning.aged:
		t.ifs = append(t.ifs, clientv3.Compare(clientv3.ModRevision(w.log.keys.head(last.Stream)), ">", t.own(last.Revision)-1))
	default:
		t.ifs = append(t.ifs, clientv3.Compare(clientv3.CreateRevision(w.log.keys.commit(last.Stream, last.ID)), "=", t.own(last.Revision)))
	}
}

// look reads what a commit leant on, to see why it was refused.
func (l leaning) look(k keys) []clientv3.Op {
	switch {
	case l.last.Revision == 0:
		return nil
	case l.aged:
		return []clientv3.Op{clientv3.OpGet(k.head(l.last.Stream), clientv3.WithKeysOnly())}
	}
	return []clientv3.Op{clientv3.OpGet(k.commit(l.last.Stream, l.last.ID), clientv3.WithKeysOnly())}
}

// standsIn looks whether that is why a transaction was refused: what it leant on was
// read behind the guards.
func (l *Log) standsIn(now *clientv3.TxnResponse, t *transaction) error {
	last := t.leaning.last
	if last.Revision == 0 {
		return nil
	}
	stands := func(kv *mvccpb.KeyValue) bool { return kv.CreateRevision == t.own(last.Revision) }
	if t.leaning.aged {
		stands = func(kv *mvccpb.KeyValue) bool { return kv.ModRevision >= t.own(last.Revision) }
	}
	if slices.ContainsFunc(now.Responses[len(now.Responses)-1].GetResponseRange().GetKvs(), stands) {
		return nil
	}
	return other("commit %s, which this daemon has written at revision %d, is not in it", last.ID, last.Revision)
}
