// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"context"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events"
)

// GuardedPools lists the pools of which an address or a grant has a guard, whether
// or not the catalogue has them, sorted.
func (l *Log) GuardedPools(ctx context.Context) ([]events.ID, error) {
	var pools []events.ID
	for _, prefix := range l.keys.guards() {
		for from, end := prefix, endOf(prefix); ; {
			resp, err := l.get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(1), clientv3.WithKeysOnly())
			if err != nil {
				return nil, errors.Wrap(err, "list the pools that have guards")
			}
			if len(resp.Kvs) == 0 {
				break
			}
			name, _, _ := strings.Cut(lastPart(resp.Kvs[0].Key, prefix), "/")
			id, err := events.ParseID(name)
			if err != nil {
				return nil, errors.Wrapf(err, "read the guard %s", resp.Kvs[0].Key)
			}
			pools = append(pools, id)
			from = endOf(prefix + name + "/")
		}
	}
	slices.SortFunc(pools, events.ID.Compare)
	return slices.Compact(pools), nil
}
