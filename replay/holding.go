// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"cmp"
	"encoding/json"
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
)

// Holding is one address in one hand, with what was learnt of the container and
// the network behind it.
type Holding struct {
	projection.Holding
	Container *Container // nil: not known
	Network   *Network   // nil: not known
	// Doubt says, among the holders at a moment, that the clocks leave open whether
	// it stood then. Nil: there is no doubt.
	Doubt *Doubt
}

// known returns nil, which JSON has as null, for the zero value of what may not
// be known.
func known[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// microseconds is RFC 3339 with the precision of the log.
const microseconds = "2006-01-02T15:04:05.000000Z07:00"

// Stamp writes a time as JSON and CSV have it: RFC 3339, UTC, microseconds. It
// is empty for the zero time.
func Stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(microseconds)
}

// MarshalJSON is the promised form of a holding.
func (h Holding) MarshalJSON() ([]byte, error) {
	wire := struct {
		Allocation   string         `json:"allocation"`
		Address      netip.Addr     `json:"address"`
		Pool         *string        `json:"pool"`
		PoolID       string         `json:"pool_id"`
		Subnet       *netip.Prefix  `json:"subnet"`
		Space        *events.Space  `json:"space"`
		Kind         events.Kind    `json:"kind"`
		Host         *string        `json:"host"`
		MAC          *string        `json:"mac"`
		Endpoint     *string        `json:"endpoint"`
		Why          string         `json:"why,omitempty"`
		EndpointID   string         `json:"endpoint_id,omitempty"`
		Container    *Container     `json:"container"`
		Network      *Network       `json:"network"`
		From         *string        `json:"from"`
		To           *string        `json:"to"`
		FromRevision *int64         `json:"from_revision"`
		ToRevision   *int64         `json:"to_revision"`
		End          *events.Reason `json:"end"`
		Suspected    *string        `json:"suspected"`
		ClockSuspect bool           `json:"clock_suspect,omitempty"`
		ClockDoubt   *Doubt         `json:"clock_doubt,omitempty"`
	}{
		h.Allocation.String(), h.Address, known(h.Pool.Name), h.Pool.ID.String(), known(h.Pool.Subnet), known(h.Pool.Space),
		h.Kind, known(h.Host), known(h.MAC.String()), known(h.Endpoint), h.Why, h.endpointID(), h.Container, h.Network,
		known(Stamp(h.From.Time)), known(Stamp(h.To.Time)), known(h.From.Revision), known(h.To.Revision), known(h.End),
		known(Stamp(h.Suspected.Time)),
		h.ClockSuspect(), h.Doubt,
	}
	return json.Marshal(wire)
}

// ClockSuspect says that a time of the holding comes from a clock that
// contradicted its neighbours.
func (h Holding) ClockSuspect() bool { return h.From.Suspect || h.To.Suspect }

// byAddress is the order in which holders are listed, the same whatever the
// order in which they were found.
func byAddress(a, b Holding) int {
	return cmp.Or(
		a.Address.Compare(b.Address),
		cmp.Compare(a.From.Revision, b.From.Revision),
		a.Pool.ID.Compare(b.Pool.ID),
		a.Allocation.Compare(b.Allocation),
	)
}

// gather lists the holdings that a question is about, in the order of
// their beginning, as they were at a moment; the zero one knows all that was ever
// learnt of them.
func (h *History) gather(m Moment, wanted func(*projection.Holding) bool) []Holding {
	return m.describeAll(h.timeline.Holdings(), wanted)
}

// describeAll is gather for those of the holdings that a question can be about.
func (m Moment) describeAll(all iter.Seq[*projection.Holding], wanted func(*projection.Holding) bool) []Holding {
	list := []Holding{}
	for x := range all {
		if wanted(x) {
			list = append(list, m.describe(x))
		}
	}
	return list
}

// Holders lists who held the addresses of a pool at a moment, of all pools when
// it is nil, by address.
func (h *History) Holders(pool *projection.PoolLife, m Moment) []Holding {
	list := m.describeAll(h.timeline.Between(m.Revision, m.Revision), func(x *projection.Holding) bool {
		return (pool == nil || x.Pool == pool) && m.Holds(x)
	})
	for i := range list {
		list[i].Doubt = h.doubt(m, &list[i].Holding)
	}
	slices.SortFunc(list, byAddress)
	return list
}
