// SPDX-License-Identifier: Apache-2.0

package index

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
)

// The file begins with a magic word that names its format and ends with where its
// contents are.
const (
	magic       = "ipamlog index 5\n"
	trailerSize = 8 + 4 + 4 // the contents' offset, length and checksum

	outlineSize    = 40   // address 16, family 1, 7 free, from 8, to 8
	addressSize    = 17   // of these: address and family
	allocationSize = 20   // id 16, row 4
	idsInBlock     = 1024 // allocations
	passagesBlock  = 1024 // records
	maxRows        = 1<<32 - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// piece is where a block lies.
type piece struct {
	offset int64
	size   uint32
	sum    uint32
}

// contents are what is in a file, and where.
type contents struct {
	store  events.ID
	prefix string
	rows   int
	past   piece

	outlines, holdings []piece     // groups of rows
	allocations        []piece     // in the order of their ids
	firstAllocation    []events.ID // of each of these
	passages           []piece
	firstRevision      []int64     // of each of these
	firstRunning       []time.Time // after it
}

// past is what is kept beside the blocks, as JSON.
type past struct {
	Revision int64               `json:"revision"`
	Running  time.Time           `json:"running"`
	Leads    []projection.Lead   `json:"leads,omitempty"`
	Pools    []pool              `json:"pools"`
	Unread   []projection.Unread `json:"unread,omitempty"`
	Misfits  []string            `json:"misfits,omitempty"`
	Frontier *etcdlog.Frontier   `json:"frontier"`
}

type pool struct {
	ID      events.ID       `json:"id"`
	Space   events.Space    `json:"space,omitempty"`
	Pool    events.Pool     `json:"pool"`
	Extra   events.Extra    `json:"extra,omitempty"`
	Created projection.Mark `json:"created"`
	Retired projection.Mark `json:"retired"`
}

// writer writes a file from its beginning to its end.
type writer struct {
	out *bufio.Writer
	at  int64
	contents
}

// write writes what a timeline knows, and how far the log was read for it. It stops
// when ctx ends.
func write(ctx context.Context, out io.Writer, t *projection.Timeline, frontier *etcdlog.Frontier, store events.ID, prefix string) error {
	w := &writer{out: bufio.NewWriterSize(out, 1<<20), contents: contents{store: store, prefix: prefix}}
	if _, err := w.out.WriteString(magic); err != nil {
		return err
	}
	w.at = int64(len(magic))
	for _, part := range []func() error{
		func() error { return w.writeRows(ctx, t) },
		func() error { return w.writePassages(ctx, t) },
		func() error { return w.writePast(t, frontier) },
		w.writeContents,
		w.out.Flush,
	} {
		if err := part(); err != nil {
			return err
		}
	}
	// Whatever the timeline rests on was read for it just now.
	return t.Err()
}

func (w *writer) block(b []byte) (piece, error) {
	p := piece{w.at, uint32(len(b)), crc32.Checksum(b, castagnoli)}
	w.at += int64(len(b))
	_, err := w.out.Write(b)
	return p, err
}

func (w *writer) writeRows(ctx context.Context, t *projection.Timeline) error {
	numbers := map[*projection.PoolLife]int{}
	for i, p := range t.Pools() {
		numbers[p] = i
	}
	type place struct {
		id  events.ID
		row uint32
	}
	var places []place
	var g group
	g.reset()
	flush := func() error {
		if g.n == 0 {
			return nil
		}
		outlines, err := w.block(outlinesOf(g.marks))
		if err != nil {
			return err
		}
		rows, err := w.block(g.block())
		if err != nil {
			return err
		}
		w.outlines, w.holdings = append(w.outlines, outlines), append(w.holdings, rows)
		g.reset()
		return ctx.Err()
	}
	for h := range t.Holdings() {
		if len(places) == maxRows {
			return errors.New("there are too many holdings for an index")
		}
		places = append(places, place{h.Allocation, uint32(len(places))})
		if g.add(h, numbers[h.Pool]); g.n == groupRows {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	w.rows = len(places)
	slices.SortFunc(places, func(a, b place) int { return a.id.Compare(b.id) })
	for chunk := range slices.Chunk(places, idsInBlock) {
		b := make([]byte, 0, len(chunk)*allocationSize)
		for _, p := range chunk {
			b = binary.BigEndian.AppendUint32(append(b, p.id[:]...), p.row)
		}
		block, err := w.block(b)
		if err != nil {
			return err
		}
		w.allocations, w.firstAllocation = append(w.allocations, block), append(w.firstAllocation, chunk[0].id)
	}
	return nil
}

func outlinesOf(list []projection.Outline) []byte {
	b := make([]byte, 0, len(list)*outlineSize)
	for _, o := range list {
		at := len(b)
		b = append(b, make([]byte, 24)...)
		putAddress(b[at:], o.Address)
		b = binary.BigEndian.AppendUint64(b, uint64(o.From))
		b = binary.BigEndian.AppendUint64(b, uint64(o.To))
	}
	return b
}

// putAddress writes an address and its family at the beginning of an outline.
func putAddress(outline []byte, a netip.Addr) {
	address := a.As16()
	copy(outline, address[:])
	outline[16] = byte(a.BitLen() / 8)
}

// writePassages writes the revisions of all records and the running time after
// each, as differences.
func (w *writer) writePassages(ctx context.Context, t *projection.Timeline) error {
	var e encoder
	n, last := 0, int64(0)
	flush := func() error {
		if n == 0 {
			return nil
		}
		block, err := w.block(e.b)
		if err != nil {
			return err
		}
		w.passages = append(w.passages, block)
		e.b, n, last = e.b[:0], 0, 0
		return ctx.Err()
	}
	var before time.Time
	for revision, running := range t.Passages() {
		if n == 0 {
			w.firstRevision, w.firstRunning = append(w.firstRevision, revision), append(w.firstRunning, running)
			before = time.Time{}
		}
		e.uint(uint64(revision - last))
		if running.Equal(before) {
			e.uint(0) // as before; the running time is never unset again
		} else {
			e.time(running)
		}
		last, before = revision, running
		if n++; n == passagesBlock {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

func (w *writer) writePast(t *projection.Timeline, frontier *etcdlog.Frontier) error {
	known := t.Past()
	p := past{Revision: known.Revision, Running: known.Running, Leads: known.Leads, Unread: known.Unread, Misfits: known.Misfits, Frontier: frontier}
	for _, life := range known.Pools {
		p.Pools = append(p.Pools, pool{life.ID, life.Space, life.Pool, life.Extra, life.Created, life.Retired})
	}
	raw, err := json.Marshal(p)
	if err != nil {
		return errors.Wrap(err, "write down the pools")
	}
	w.past, err = w.block(raw)
	return err
}

func (w *writer) writeContents() error {
	e := encoder{}
	e.id(w.store)
	e.text(w.prefix)
	e.uint(uint64(w.rows))
	e.piece(w.past)
	e.uint(uint64(len(w.holdings)))
	for i, p := range w.holdings {
		e.piece(w.outlines[i])
		e.piece(p)
	}
	e.uint(uint64(len(w.allocations)))
	for i, p := range w.allocations {
		e.piece(p)
		e.id(w.firstAllocation[i])
	}
	e.uint(uint64(len(w.passages)))
	for i, p := range w.passages {
		e.piece(p)
		e.int(w.firstRevision[i])
		e.time(w.firstRunning[i])
	}
	p, err := w.block(e.b)
	if err != nil {
		return err
	}
	trailer := binary.BigEndian.AppendUint64(nil, uint64(p.offset))
	trailer = binary.BigEndian.AppendUint32(trailer, p.size)
	trailer = binary.BigEndian.AppendUint32(trailer, p.sum)
	_, err = w.out.Write(trailer)
	return err
}

func (e *encoder) piece(p piece) {
	e.uint(uint64(p.offset))
	e.uint(uint64(p.size))
	e.uint(uint64(p.sum))
}

func (d *decoder) piece() piece {
	return piece{offset: int64(d.uint()), size: uint32(d.uint()), sum: uint32(d.uint())}
}

// readContents reads what is in a file and where.
func readContents(b []byte) (c contents, ok bool) {
	d := decoder{b: b}
	c.store, c.prefix = d.id(), d.text()
	c.rows = int(min(d.uint(), maxRows))
	c.past = d.piece()
	for range d.length() {
		c.outlines, c.holdings = append(c.outlines, d.piece()), append(c.holdings, d.piece())
	}
	for range d.length() {
		c.allocations, c.firstAllocation = append(c.allocations, d.piece()), append(c.firstAllocation, d.id())
	}
	for range d.length() {
		c.passages = append(c.passages, d.piece())
		c.firstRevision, c.firstRunning = append(c.firstRevision, d.int()), append(c.firstRunning, d.time())
	}
	groups := (c.rows + groupRows - 1) / groupRows
	return c, !d.failed && len(d.b) == 0 && groups == len(c.holdings)
}
