// SPDX-License-Identifier: Apache-2.0

package index

import (
	"encoding/hex"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
)

// groupRows is how many holdings lie in one block: enough that the names they
// share are written once, few enough that one of them is read soon.
const groupRows = 512

// shortID is from how many characters on a text may be one of the engine's ids.
const shortID = 12

// group is a block of holdings that is being written: their rows, and the table of
// the texts they are made of.
type group struct {
	texts encoder
	known map[string]uint64
	rows  encoder
	row   []byte // the last one, for its room
	n     int
	marks []projection.Outline
}

func (g *group) reset() {
	*g = group{texts: encoder{g.texts.b[:0]}, known: map[string]uint64{}, rows: encoder{g.rows.b[:0]}, row: g.row, marks: g.marks[:0]}
}

// add appends a holding, whose pool has a number.
func (g *group) add(h *projection.Holding, pool int) {
	row := encoder{g.row[:0]}
	row.id(h.Allocation)
	row.text(string(h.Address.AsSlice()))
	row.uint(uint64(pool))
	row.uint(uint64(h.Kind))
	row.uint(flag(h.Shared, 0) | flag(h.Early, 1) | flag(!h.Grant.IsZero(), 2) | flag(h.MAC != events.MAC{}, 3))
	if !h.Grant.IsZero() {
		row.id(h.Grant)
	}
	if h.MAC != (events.MAC{}) {
		row.raw(h.MAC[:])
	}
	for _, text := range []string{h.Host, h.Endpoint, h.Why, string(h.End)} {
		row.uint(g.text(text))
	}
	row.mark(h.From)
	row.mark(h.To)
	row.mark(h.Suspected)
	row.uint(uint64(len(h.Told)))
	for _, t := range h.Told {
		for _, text := range []string{t.ContainerID, t.ContainerName, t.Image, t.ImageID, t.NetworkID, t.NetworkName, t.EndpointID} {
			row.uint(g.text(text))
		}
		row.uint(uint64(len(t.Labels)) + flag(t.Labels != nil, 0))
		for _, name := range slices.Sorted(maps.Keys(t.Labels)) {
			row.uint(g.text(name))
			row.uint(g.text(t.Labels[name]))
		}
		row.mark(t.Mark)
		row.time(t.Since)
	}
	g.rows.uint(uint64(len(row.b)))
	g.rows.raw(row.b)
	g.row = row.b
	g.marks = append(g.marks, h.Outline())
	g.n++
}

func flag(set bool, bit int) uint64 {
	if set {
		return 1 << bit
	}
	return 0
}

func (e *encoder) mark(m projection.Mark) {
	e.uint(uint64(m.Revision)<<1 | flag(m.Suspect, 0))
	if m.Reached() {
		e.time(m.Time)
	}
}

func (d *decoder) mark() projection.Mark {
	v := d.uint()
	m := projection.Mark{Revision: int64(v >> 1), Suspect: v&1 != 0}
	if m.Reached() {
		m.Time = d.time()
	}
	return m
}

// text returns the number of a text in the group's table, from 1 on; 0 is the
// empty one. The engine's long ids are packed to half their length.
func (g *group) text(s string) uint64 {
	if s == "" {
		return 0
	}
	n, ok := g.known[s]
	if !ok {
		n = uint64(len(g.known) + 1)
		g.known[s] = n
		if packed, ok := unhex(s); ok {
			g.texts.uint(uint64(len(packed))<<1 | 1)
			g.texts.raw(packed)
		} else {
			g.texts.uint(uint64(len(s)) << 1)
			g.texts.b = append(g.texts.b, s...)
		}
	}
	return n
}

// unhex packs a text of lower-case hexadecimal digits.
func unhex(s string) ([]byte, bool) {
	if len(s) < shortID || len(s)%2 != 0 || strings.Trim(s, "0123456789abcdef") != "" {
		return nil, false
	}
	packed, err := hex.DecodeString(s)
	return packed, err == nil
}

// block writes the group down.
func (g *group) block() []byte {
	var e encoder
	e.uint(uint64(len(g.known)))
	e.raw(g.texts.b)
	e.uint(uint64(g.n))
	e.raw(g.rows.b)
	return e.b
}

// holdings is a block of holdings that was read.
type holdings struct {
	texts []string
	rows  [][]byte
}

// readHoldings takes a block apart; false if it is none.
func readHoldings(block []byte) (holdings, bool) {
	d := decoder{b: block}
	h := holdings{texts: make([]string, 1, 1+min(d.peek(), len(block)))}
	for range d.length() {
		v := d.uint()
		raw := d.raw(v >> 1)
		if v&1 != 0 {
			h.texts = append(h.texts, hex.EncodeToString(raw))
		} else {
			h.texts = append(h.texts, string(raw))
		}
		if d.failed {
			return holdings{}, false
		}
	}
	for range d.length() {
		h.rows = append(h.rows, d.raw(d.uint()))
	}
	return h, !d.failed && len(d.b) == 0
}

// peek is the number that comes next.
func (d *decoder) peek() int {
	ahead := *d
	return ahead.length()
}

// row reads one holding; false if it is none.
func (b holdings) row(n int, pools []*projection.PoolLife) (h projection.Holding, ok bool) {
	if n >= len(b.rows) {
		return h, false
	}
	d := decoder{b: b.rows[n]}
	h.Allocation = d.id()
	h.Address, ok = netip.AddrFromSlice(d.raw(d.uint()))
	pool := d.uint()
	if !ok || pool >= uint64(len(pools)) {
		return h, false
	}
	h.Pool = pools[pool]
	h.Kind = events.Kind(d.uint())
	flags := d.uint()
	h.Shared, h.Early = flags&1 != 0, flags&2 != 0
	if flags&4 != 0 {
		h.Grant = d.id()
	}
	if flags&8 != 0 {
		copy(h.MAC[:], d.raw(uint64(len(h.MAC))))
	}
	text := func() string {
		i := d.uint()
		if i >= uint64(len(b.texts)) {
			d.failed = true
			return ""
		}
		return b.texts[i]
	}
	h.Host, h.Endpoint, h.Why, h.End = text(), text(), text(), events.Reason(text())
	h.From, h.To, h.Suspected = d.mark(), d.mark(), d.mark()
	if told := d.length(); told > 0 {
		h.Told = make([]projection.Told, 0, min(told, 16))
		for range told {
			var t projection.Told
			t.ContainerID, t.ContainerName, t.Image, t.ImageID = text(), text(), text(), text()
			t.NetworkID, t.NetworkName, t.EndpointID = text(), text(), text()
			if labels := d.length(); labels > 0 {
				t.Labels = make(map[string]string, labels-1)
				for range labels - 1 {
					name := text()
					t.Labels[name] = text()
				}
			}
			t.Mark, t.Since = d.mark(), d.time()
			if d.failed {
				return h, false
			}
			h.Told = append(h.Told, t)
		}
	}
	return h, !d.failed && len(d.b) == 0
}
