// SPDX-License-Identifier: Apache-2.0

package etcdlog

import clientv3 "go.etcd.io/etcd/client/v3"

// leanOnLast demands that what this writer wrote last still stands. It does not in an
// older copy of the store that was put under the daemon, which may be ahead of what
// the daemon has seen by then: etcd's own restore can raise the revisions.
func (w *Writer) leanOnLast(t *transaction) {
	w.mu.Lock()
	t.last = w.last
	w.mu.Unlock()
	if t.last.Revision > 0 {
		t.ifs = append(t.ifs, clientv3.Compare(clientv3.CreateRevision(w.log.keys.commit(t.last.Stream, t.last.ID)), "=", t.own(t.last.Revision)))
	}
}

// standsIn looks whether that is why a transaction was refused: the commit was read
// behind the guards.
func (l *Log) standsIn(now *clientv3.TxnResponse, t *transaction) error {
	if t.last.Revision == 0 {
		return nil
	}
	for _, kv := range now.Responses[len(now.Responses)-1].GetResponseRange().GetKvs() {
		if kv.CreateRevision == t.own(t.last.Revision) {
			return nil
		}
	}
	return other("commit %s, which this daemon has written at revision %d, is not in it", t.last.ID, t.last.Revision)
}
