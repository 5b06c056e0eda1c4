// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
)

// Difference is something that the guards say otherwise than the log.
type Difference struct {
	Pool string `json:"pool_id"`
	// What is the guard: "pool", "grant <id>" or "held <address>"; or "replay"
	// when the pool could not be rebuilt, and Log says why.
	What string `json:"what"`
	// Log and Guards are the guard's value and the revision that wrote it, as
	// either has it; empty: absent.
	Log    string `json:"log"`
	Guards string `json:"guards"`
}

// Comparison is what [Compare] found.
type Comparison struct {
	Pools     int // compared, retired ones too
	Guards    int // compared
	Commits   int // replayed
	Different []Difference
}

// snapshot is a pool's guards as the store has them at a revision.
type snapshot struct {
	guards   events.Guards
	revision int64
}

// Compare rebuilds every pool from the log alone and compares it with the pool's
// guards at the same revision. It may run while others write. progress, if not
// nil, is told how many commits have come so far.
func Compare(ctx context.Context, log *etcdlog.Log, progress func(int)) (Comparison, error) {
	// The guards come first, each pool's at a revision of its own; the log, read
	// after them, reaches beyond every one.
	stood, err := log.Revision(ctx)
	if err != nil {
		return Comparison{}, err
	}
	pools, err := Catalogue(ctx, log)
	if err != nil {
		return Comparison{}, err
	}
	seen := map[events.ID]snapshot{}
	for _, pool := range pools {
		if seen[pool.ID], err = look(ctx, log, pool); err != nil {
			return Comparison{}, err
		}
	}
	j, err := Load(ctx, log, progress)
	if err != nil {
		return Comparison{}, err
	}
	// Whatever else the log had by then is retired, and must have left nothing.
	for _, pool := range j.timeline.Pools() {
		if _, listed := seen[pool.ID]; listed || pool.Created.Revision > stood {
			continue
		}
		if seen[pool.ID], err = look(ctx, log, pool); err != nil {
			return Comparison{}, err
		}
	}
	result := Comparison{Pools: len(seen), Commits: len(j.records), Different: []Difference{}}
	for id, rebuilt := range j.rebuildEach(seen) {
		if rebuilt.err != nil {
			result.Different = append(result.Different, Difference{Pool: id.String(), What: "replay", Log: rebuilt.err.Error()})
			continue
		}
		n, different := differences(rebuilt.Guards(), seen[id].guards)
		for _, d := range different {
			d.Pool = id.String()
			result.Different = append(result.Different, d)
		}
		result.Guards += n
	}
	slices.SortFunc(result.Different, func(a, b Difference) int {
		return slices.Compare([]string{a.Pool, a.What}, []string{b.Pool, b.What})
	})
	return result, nil
}

func look(ctx context.Context, log *etcdlog.Log, pool *projection.PoolLife) (snapshot, error) {
	space := pool.Space
	if space == "" {
		space = events.Local // its creation was not read; the default is the likely one
	}
	guards, revision, err := log.Guards(ctx, space, pool.ID)
	return snapshot{guards, revision}, errors.Wrapf(err, "read pool %s", Title(pool))
}

type attempt struct {
	*projection.Pool
	err error
}

// rebuildEach replays every pool up to the revision at which its guards were
// seen.
func (j *Journal) rebuildEach(seen map[events.ID]snapshot) map[events.ID]attempt {
	rebuilt := make(map[events.ID]attempt, len(seen))
	byStream := make(map[events.Stream]events.ID, len(seen))
	for id := range seen {
		rebuilt[id] = attempt{Pool: projection.New()}
		byStream[events.PoolStream(id)] = id
	}
	for _, r := range j.records {
		id, ok := byStream[r.Stream]
		if !ok || r.Revision > seen[id].revision {
			continue
		}
		if err := rebuilt[id].Apply(r); err != nil {
			rebuilt[id] = attempt{rebuilt[id].Pool, err}
		}
	}
	return rebuilt
}

// differences compares the guards of one pool, and counts them.
func differences(log, store events.Guards) (compared int, different []Difference) {
	note := func(what, log, store string) {
		compared++
		if log != store {
			different = append(different, Difference{What: what, Log: log, Guards: store})
		}
	}
	if log.Pool.Present() || store.Pool.Present() {
		note("pool", text(log.Pool), text(store.Pool))
	}
	for id := range both(log.Grants, store.Grants) {
		note("grant "+id.String(), text(log.Grants[id]), text(store.Grants[id]))
	}
	for address := range both(log.Held, store.Held) {
		note("held "+address.String(), text(log.Held[address]), text(store.Held[address]))
	}
	return compared, different
}

// both is the union of two maps' keys.
func both[K comparable, V any](a, b map[K]V) map[K]V {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// text writes a guard for comparison, and for people.
func text[T events.Pool | events.Grant | events.HostGuard | events.Held](g events.Guarded[T]) string {
	if !g.Present() {
		return ""
	}
	value, err := events.EncodeGuard(g.Value)
	if err != nil {
		return "unreadable: " + err.Error()
	}
	return fmt.Sprintf("@%d %s", g.Revision, value)
}
