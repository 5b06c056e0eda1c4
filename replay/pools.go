// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
)

// MatchPools returns the pools that a user's word means: the one whose id it is,
// or all of that name, or all with that subnet, or all whose id begins so. The
// first of these that fits any pool decides.
func MatchPools(pools []*projection.PoolLife, word string) []*projection.PoolLife {
	subnet, _ := netip.ParsePrefix(word)
	id := strings.ToUpper(word)
	for _, fits := range []func(*projection.PoolLife) bool{
		func(p *projection.PoolLife) bool { return p.ID.String() == id },
		func(p *projection.PoolLife) bool { return p.Name != "" && p.Name == word },
		func(p *projection.PoolLife) bool { return subnet.IsValid() && p.Subnet == subnet.Masked() },
		func(p *projection.PoolLife) bool { return word != "" && strings.HasPrefix(p.ID.String(), id) },
	} {
		var found []*projection.PoolLife
		for _, p := range pools {
			if fits(p) {
				found = append(found, p)
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// OnePool returns the one pool that a user's word means. It returns
// [ErrNotFound], or [ErrAmbiguous] with a list of those it may mean.
func OnePool(pools []*projection.PoolLife, word string) (*projection.PoolLife, error) {
	found := MatchPools(pools, word)
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, errors.Mark(errors.Newf("there is no pool %q%s", word, among(pools)), ErrNotFound)
	}
	return nil, ambiguous(word, found)
}

// among lists what could have been meant, if that is not too much.
func among(pools []*projection.PoolLife) string {
	switch {
	case len(pools) == 0:
		return ": there is none at all"
	case len(pools) <= 5:
		return ", only " + list(pools)
	}
	return ": ipamlog pools lists those there are"
}

func list(pools []*projection.PoolLife) string {
	names := make([]string, 0, len(pools))
	for _, p := range pools {
		names = append(names, Title(p)+" ("+p.ID.String()+")")
	}
	return strings.Join(names, ", ")
}

// Title is what people call a pool: its name, or its subnet if it has none, or
// its id if not even that is known.
func Title(p *projection.PoolLife) string {
	if p.Name == "" && !p.Known() {
		return p.ID.String()
	}
	return p.Title()
}

// Pools lists the pools that stood at a moment.
func (h *History) Pools(m Moment) []*projection.PoolLife {
	var list []*projection.PoolLife
	for _, p := range h.timeline.Pools() {
		if p.At(m.Revision) {
			list = append(list, p)
		}
	}
	return list
}

// PoolAt finds the pool that a user's word meant at a moment. It returns
// [ErrNotFound], saying when there was such a pool if there was one, or
// [ErrAmbiguous].
func (h *History) PoolAt(word string, m Moment) (*projection.PoolLife, error) {
	pool, err := OnePool(h.Pools(m), word)
	if !errors.Is(err, ErrNotFound) {
		return pool, err
	}
	ever := MatchPools(h.timeline.Pools(), word)
	if len(ever) == 0 {
		return nil, err
	}
	last := ever[len(ever)-1]
	life := "was created at " + Stamp(last.Created.Time)
	if last.Retired.Reached() {
		life += " and retired at " + Stamp(last.Retired.Time)
	}
	return nil, errors.Mark(errors.Newf("there was no pool %q at that moment: %s %s", word, Title(last), life), ErrNotFound)
}

// PoolsEver finds all incarnations of the pool that a user's word means: those of
// one name or, unnamed, of one subnet, in one space. It returns [ErrNotFound] or
// [ErrAmbiguous].
func (h *History) PoolsEver(word string) ([]*projection.PoolLife, error) {
	found := MatchPools(h.timeline.Pools(), word)
	if len(found) == 0 {
		_, err := OnePool(h.timeline.Pools(), word)
		return nil, err
	}
	for _, p := range found[1:] {
		if p.Space != found[0].Space || Title(p) != Title(found[0]) {
			return nil, ambiguous(word, found)
		}
	}
	return found, nil
}

// Means says whether a user's word means a pool; none is meant by no word.
func Means(pool *projection.PoolLife, word string) bool {
	return pool != nil && len(MatchPools([]*projection.PoolLife{pool}, word)) > 0
}

func ambiguous(word string, found []*projection.PoolLife) error {
	lives := make([]string, 0, len(found))
	for _, p := range found {
		text := Title(p) + " (" + p.ID.String()
		if !p.Created.Time.IsZero() {
			text += ", " + lasted(p.Created.Time, p.Retired.Time)
		}
		lives = append(lives, text+")")
	}
	return errors.Mark(errors.Newf("%q means %d pools: %s: name one by its id", word, len(found), strings.Join(lives, ", ")), ErrAmbiguous)
}

// of says whether a stream is that of one of the pools.
func of(pools []*projection.PoolLife, s events.Stream) bool {
	return slices.ContainsFunc(pools, func(p *projection.PoolLife) bool { return events.PoolStream(p.ID) == s })
}
