// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"context"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/oklog/ulid/v2"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events"
)

// Streams lists the streams that have a commit, at any time.
//
// etcd finds the first key of a range at the cost of all keys in it, so the next
// stream is not looked for in all that is left: a stream's name begins with a
// time, as a commit's does, and the stretch of time that is searched grows until
// there is one in it.
func (l *Log) Streams(ctx context.Context) ([]events.Stream, error) {
	var streams []events.Stream
	last := lowestID(ulid.MaxTime())
	from, width := l.keys.logs(), time.Duration(0) // the first one may be of any time
	for {
		end := endOf(l.keys.logs())
		if width > 0 && from < l.keys.logs()+last.String() {
			after, err := events.ParseID(string(streams[len(streams)-1]))
			if err == nil && ulid.ULID(after).Time()+uint64(width.Milliseconds()) < ulid.MaxTime() {
				end = l.keys.logs() + lowestID(ulid.ULID(after).Time()+uint64(width.Milliseconds())).String()
			}
		}
		resp, err := l.get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(1), clientv3.WithKeysOnly())
		if err != nil {
			return nil, errors.Wrap(err, "list the streams of the log")
		}
		switch {
		case len(resp.Kvs) > 0:
			stream, _, err := l.keys.parseCommit(string(resp.Kvs[0].Key))
			if err != nil {
				return nil, err
			}
			streams = append(streams, stream)
			from = endOf(l.keys.stream(stream))
			width = max(width/4, time.Second)
		case end == endOf(l.keys.logs()):
			return streams, nil
		default:
			width *= 16
		}
	}
}
