// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"iter"
	"slices"
	"strconv"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
)

// Rebuilt is the state of pools made from the log alone, by the code that the
// daemon allocates with.
type Rebuilt struct {
	pools map[events.Stream]*projection.Pool
}

// Rebuild replays the records up to a revision. It fails, unlike the questions
// of a [History], on what an allocator would stop at: an event of a newer version,
// or one that contradicts the state before it.
func (j *Journal) Rebuild(at int64, pools ...*projection.PoolLife) (Rebuilt, error) {
	state := Rebuilt{pools: map[events.Stream]*projection.Pool{}}
	for _, r := range j.records {
		if r.Revision > at {
			break
		}
		if err := state.apply(j.timeline, pools, r); err != nil {
			return state, err
		}
	}
	return state, nil
}

// apply adds one record if it belongs to one of the pools, to any if none is
// named.
func (s Rebuilt) apply(t *projection.Timeline, pools []*projection.PoolLife, r events.Record) error {
	life := t.Pool(r.Stream)
	if life == nil || len(pools) > 0 && !slices.Contains(pools, life) {
		return nil
	}
	pool := s.pools[r.Stream]
	if pool == nil {
		pool = projection.New()
		s.pools[r.Stream] = pool
	}
	return errors.Wrapf(pool.Apply(r), "replay pool %s", Title(life))
}

// Replay rebuilds the state at a moment from the log alone and lists who held
// the addresses of the pools, of all if none is named, by address.
func (j *Journal) Replay(m Moment, pools ...*projection.PoolLife) ([]Holding, error) {
	state, err := j.Rebuild(m.Revision, pools...)
	if err != nil {
		return nil, err
	}
	began := map[events.ID]*projection.Holding{}
	for x := range j.timeline.Between(m.Revision, m.Revision) {
		began[x.Allocation] = x
	}
	held := []Holding{}
	for _, pool := range state.pools {
		for address, guard := range pool.HeldAll() {
			for _, a := range guard.Value {
				x, ok := began[a.ID]
				if !ok || x.Address != address {
					return nil, errors.AssertionFailedf("the allocation %s of %s is in the state and not in the timeline", a.ID, address)
				}
				if !m.over(x) {
					described := m.describe(x)
					described.Doubt = j.doubt(m, x)
					held = append(held, described)
				}
			}
		}
	}
	slices.SortFunc(held, byAddress)
	return held, nil
}

// Step is one event and what is held after its commit.
type Step struct {
	Event
	Held int // addresses of the event's pool; 0 in the catalogue
}

// MarshalJSON is an event's form with the count behind it.
func (s Step) MarshalJSON() ([]byte, error) {
	fields, err := s.fields()
	if err != nil {
		return nil, err
	}
	return object(append(fields, field{"held", []byte(strconv.Itoa(s.Held))}))
}

// Steps replays the log and goes over the events of a span, oldest first, with
// the state's count after each commit. It stops at what [Journal.Rebuild] fails on.
func (j *Journal) Steps(span Span, pools ...*projection.PoolLife) iter.Seq2[Step, error] {
	return func(yield func(Step, error) bool) {
		state := Rebuilt{pools: map[events.Stream]*projection.Pool{}}
		for _, r := range j.records {
			if r.Revision > span.To.Revision {
				return
			}
			if err := state.apply(j.timeline, pools, r); err != nil {
				yield(Step{}, err)
				return
			}
			if r.Revision <= span.From.Revision || len(pools) > 0 && !of(pools, r.Stream) {
				continue
			}
			for e := range EventsOf(j.timeline, r) {
				step := Step{Event: e}
				if pool := state.pools[r.Stream]; pool != nil {
					step.Held = pool.Count()
				}
				if !yield(step, nil) {
					return
				}
			}
		}
	}
}
