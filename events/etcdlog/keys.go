// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/cockroachdb/errors"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events"
)

// keys knows where everything lives. Its value is the prefix, "/" at its end.
type keys string

func (k keys) logs() string                  { return string(k) + "log/" }
func (k keys) heads() string                 { return string(k) + "heads/" }
func (k keys) head(s events.Stream) string   { return k.heads() + string(s) }
func (k keys) stream(s events.Stream) string { return k.logs() + string(s) + "/" }
func (k keys) grants() string                { return string(k) + "grants/" }
func (k keys) guards() []string              { return []string{string(k) + "held/", k.grants()} }

func (k keys) heldIn(pool events.ID) string { return string(k) + "held/" + pool.String() + "/" }

func (k keys) grantsIn(pool events.ID) string { return k.grants() + pool.String() + "/" }

func (k keys) pools() string                     { return string(k) + "pools/" }
func (k keys) poolsIn(space events.Space) string { return k.pools() + string(space) + "/" }
func (k keys) host(name string) string           { return string(k) + "hosts/" + name }
func (k keys) alive(host string) string          { return string(k) + "alive/" + host }
func (k keys) store() string                     { return string(k) + "meta/store" }
func (k keys) restoring() string                 { return string(k) + "meta/restoring" }
func (k keys) restored() string                  { return string(k) + "restored/" }
func (k keys) archiving() string                 { return string(k) + "meta/archiving" }
func (k keys) segments() string                  { return string(k) + "segments/" }

// segment has its number in so many digits that keys stand in the order of revisions.
func (k keys) segment(first int64) string { return k.segments() + fmt.Sprintf("%016d", first) }

func (k keys) commit(s events.Stream, id events.ID) string { return k.stream(s) + id.String() }

func (k keys) held(pool events.ID, a netip.Addr) string { return k.heldIn(pool) + a.String() }

func (k keys) grant(pool, grant events.ID) string { return k.grantsIn(pool) + grant.String() }

func (k keys) pool(space events.Space, pool events.ID) string {
	return k.poolsIn(space) + pool.String()
}

// parseCommit takes a log key apart.
func (k keys) parseCommit(key string) (events.Stream, events.ID, error) {
	stream, id, ok := strings.Cut(strings.TrimPrefix(key, k.logs()), "/")
	if !ok || !strings.HasPrefix(key, k.logs()) {
		return "", events.ID{}, errors.Newf("%q is no key of a commit", key)
	}
	parsed, err := events.ParseID(id)
	return events.Stream(stream), parsed, err
}

// lastPart is what follows the prefix that a key was listed by.
func lastPart(key []byte, prefix string) string { return strings.TrimPrefix(string(key), prefix) }

func endOf(prefix string) string { return clientv3.GetPrefixRangeEnd(prefix) }
