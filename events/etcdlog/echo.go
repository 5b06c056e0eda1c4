// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"bytes"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/ipamlog/ipamlog/events"
)

// maxEchoes bounds what is remembered of commits that nobody watches for.
const maxEchoes = 256

// echoes remembers the commits that this process has sent until the watch brings
// them back: under load most of what is watched is a host's own, and what comes
// back byte for byte as it was written need not be read again. Safe for
// concurrent use.
type echoes struct {
	mu   sync.Mutex
	sent map[string]echo // by log key
}

type echo struct {
	value  []byte
	commit events.Commit
}

// expect remembers a commit that is about to be sent.
func (e *echoes) expect(key string, value []byte, commit events.Commit) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sent == nil || len(e.sent) >= maxEchoes {
		e.sent = map[string]echo{}
	}
	e.sent[key] = echo{value, commit}
}

// forget ends the waiting for a commit that was refused.
func (e *echoes) forget(key string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.sent, key)
}

// of returns the commit that was sent with exactly this key and value, once.
func (e *echoes) of(kv *mvccpb.KeyValue) (events.Commit, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	sent, ok := e.sent[string(kv.Key)]
	delete(e.sent, string(kv.Key))
	return sent.commit, ok && bytes.Equal(sent.value, kv.Value)
}
