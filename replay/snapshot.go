// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"context"
	"fmt"
	"maps"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
)

// snapshot is a pool's guards as the store has them at a revision.
type snapshot struct {
	guards   events.Guards
	revision int64
}

// look reads the guards of a pool.
func look(ctx context.Context, log *etcdlog.Log, pool *projection.PoolLife) (snapshot, error) {
	space := pool.Space
	if space == "" {
		space = events.Local // its creation was not read; the default is the likely one
	}
	guards, revision, err := log.Guards(ctx, space, pool.ID)
	return snapshot{guards, revision}, errors.Wrapf(err, "read pool %s", Title(pool))
}

// difference is one guard that the store has otherwise than the log gives it.
// Log and store are empty where the guard is absent; revision is the later of
// those that wrote it.
type difference struct {
	key        string
	log, store string
	revision   int64
}

// differences compares the guards of one pool, and counts them. Those of which restored
// says that a restore wrote them have lost their revision.
func differences(log, store events.Guards, restored func(revision int64) bool) (compared int, different []difference) {
	note := func(key string, log, store guard) {
		compared++
		older := log.revision < store.revision && restored(store.revision)
		if log.text != store.text || log.revision != store.revision && !older {
			different = append(different, difference{key, log.String(), store.String(), max(log.revision, store.revision)})
		}
	}
	if log.Pool.Present() || store.Pool.Present() {
		note("pool", spell(log.Pool), spell(store.Pool))
	}
	for id := range both(log.Grants, store.Grants) {
		note("grant "+id.String(), spell(log.Grants[id]), spell(store.Grants[id]))
	}
	for address := range both(log.Held, store.Held) {
		note("held "+address.String(), spell(log.Held[address]), spell(store.Held[address]))
	}
	for name := range both(log.Hosts, store.Hosts) {
		note("host "+name, spell(log.Hosts[name]), spell(store.Hosts[name]))
	}
	return compared, different
}

// both is the union of two maps' keys.
func both[K comparable, V any](a, b map[K]V) map[K]V {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// guard is a guard for comparison, and for people. Absent ones are empty.
type guard struct {
	text     string
	revision int64
}

// String is what a person is shown.
func (g guard) String() string {
	if g.revision == 0 {
		return ""
	}
	return fmt.Sprintf("@%d %s", g.revision, g.text)
}

func spell[T events.Pool | events.Grant | events.HostGuard | events.Held](g events.Guarded[T]) guard {
	if !g.Present() {
		return guard{}
	}
	value, err := events.EncodeGuard(g.Value)
	if err != nil {
		value = fmt.Appendf(nil, "unreadable: %s", err)
	}
	return guard{string(value), g.Revision}
}
