// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events"
)

// DefaultPrefix is where all keys live unless the user says otherwise.
const DefaultPrefix = "/ipamlog/v1/"

// Log is the log below one prefix of one etcd.
type Log struct {
	client *clientv3.Client
	keys   keys
	// Clock stamps the commits of this process.
	Clock *Clock
	// Archive reads what was sealed and is in the store no more. Nil: nothing of that can
	// be read. It is set before the log is used.
	Archive Archive

	// attempt is how long one try of a transaction waits for its answer before
	// the same one is sent again.
	attempt time.Duration
	// reading is how long one read waits for its answer.
	reading time.Duration

	echoes  echoes
	watches watches

	// identity is the store's as it was last read. Every commit demands that it is
	// still there: the store may be replaced under a connection. Nil before it was
	// read.
	identity atomic.Pointer[identity]
}

// identity is a store's identity, and how it is written.
type identity struct {
	Store
	raw   string
	since int64 // etcd's own revision at which it was first written
}

// New returns the log below prefix, which must end with "/". The client stays
// the caller's to close, after the log's last use.
func New(client *clientv3.Client, prefix string) *Log {
	return &Log{client: client, keys: keys(prefix), Clock: NewClock(), attempt: 1500 * time.Millisecond, reading: 10 * time.Second}
}

// Revision asks the store for its revision now. The answer is never stale.
func (l *Log) Revision(ctx context.Context) (int64, error) {
	resp, err := l.get(ctx, l.keys.store(), clientv3.WithKeysOnly())
	if err != nil {
		return 0, errors.Wrap(err, "ask the store for its revision")
	}
	return l.revision(resp.Header.Revision), nil
}

// get reads, but not for ever: etcd's client waits for a store that is away as
// long as it is let, and says nothing meanwhile.
func (l *Log) get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, l.reading)
	defer cancel()
	return l.client.Get(ctx, key, opts...)
}

// decodeRecord reads a log key and its value.
func (l *Log) decodeRecord(kv *mvccpb.KeyValue) (events.Record, error) {
	c, err := l.raw(kv)
	if err != nil {
		return events.Record{}, err
	}
	return c.record()
}

func (l *Log) decodeRecords(kvs []*mvccpb.KeyValue) ([]events.Record, error) {
	records := make([]events.Record, 0, len(kvs))
	for _, kv := range kvs {
		record, err := l.decodeRecord(kv)
		if err != nil {
			return nil, err
		}
		records = append(records, record)
	}
	return records, nil
}

func decodeGuard[T events.Pool | events.Grant | events.HostGuard | events.Held](l *Log, kv *mvccpb.KeyValue) (events.Guarded[T], error) {
	v, err := events.DecodeGuard[T](kv.Value)
	if err != nil {
		return events.Guarded[T]{}, errors.Wrapf(err, "read the guard at %s", kv.Key)
	}
	return events.Guarded[T]{Value: v, Revision: l.revision(kv.ModRevision)}, nil
}
