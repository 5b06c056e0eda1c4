// SPDX-License-Identifier: Apache-2.0

package index

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"io"
	"iter"
	"net/netip"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
)

// ErrDamaged is what [replay.History.Err] returns after a part of the index was
// touched that is not as it was written. [Index.Ask] mends it.
var ErrDamaged = errors.New("the index is damaged")

// sealed is a file that is being read: a projection.Sealed.
type sealed struct {
	contents
	file   io.ReaderAt
	known  past
	damage atomic.Pointer[error]

	checking sync.Once
	// What was read last of each kind.
	groups  cache[holdings]
	ids     cache[[]byte]
	running cache[[]passage]
}

// passage is a record, and the running time after it.
type passage struct {
	revision int64
	running  time.Time
}

var _ projection.Sealed = (*sealed)(nil)

// unseal opens a file of a size. It returns [ErrDamaged] for what is no index, one
// of another format too.
func unseal(file io.ReaderAt, size int64) (*sealed, error) {
	s := &sealed{file: file}
	if size < int64(len(magic)+trailerSize) {
		return nil, errors.Wrap(ErrDamaged, "it is too short")
	}
	head, trailer := make([]byte, len(magic)), make([]byte, trailerSize)
	for at, b := range map[int64][]byte{0: head, size - trailerSize: trailer} {
		if _, err := file.ReadAt(b, at); err != nil {
			return nil, errors.Mark(errors.Wrap(err, "read the index"), ErrDamaged)
		}
	}
	if string(head) != magic {
		return nil, errors.Wrap(ErrDamaged, "it is none that this version reads")
	}
	table := piece{int64(binary.BigEndian.Uint64(trailer)), binary.BigEndian.Uint32(trailer[8:]), binary.BigEndian.Uint32(trailer[12:])}
	// Nothing lies behind the contents, and so nothing is asked for that is
	// larger than the file.
	if table.offset < 0 || table.offset != size-trailerSize-int64(table.size) {
		return nil, errors.Wrap(ErrDamaged, "its end is not where it was")
	}
	b, ok := s.read(table, nil)
	if ok {
		s.contents, ok = readContents(b)
	}
	if ok {
		ok = s.within(table.offset)
	}
	if ok {
		b, ok = s.read(s.past, nil)
	}
	if !ok {
		return nil, errors.CombineErrors(s.Err(), errors.Wrap(ErrDamaged, "its contents are not as they were"))
	}
	if err := json.Unmarshal(b, &s.known); err != nil || s.known.Frontier == nil {
		return nil, errors.Wrap(ErrDamaged, "what it knows of pools cannot be read")
	}
	return s, nil
}

// within says whether all blocks lie before an offset.
func (s *sealed) within(end int64) bool {
	for _, list := range [][]piece{{s.past}, s.outlines, s.holdings, s.allocations, s.passages} {
		for _, p := range list {
			if p.offset < 0 || p.offset > end-int64(p.size) {
				return false
			}
		}
	}
	return true
}

// Err implements [projection.Sealed].
func (s *sealed) Err() error {
	if err := s.damage.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *sealed) spoilt(err error) {
	err = errors.Mark(errors.Wrap(err, "read the index"), ErrDamaged)
	s.damage.CompareAndSwap(nil, &err)
}

// read reads a block, into a buffer if that is large enough; false if it is not as
// it was written.
func (s *sealed) read(p piece, into []byte) ([]byte, bool) {
	if cap(into) < int(p.size) {
		into = make([]byte, p.size)
	}
	into = into[:p.size]
	if _, err := s.file.ReadAt(into, p.offset); err != nil {
		s.spoilt(err)
		return nil, false
	}
	if crc32.Checksum(into, castagnoli) != p.sum {
		s.spoilt(errors.Newf("the block at %d has another checksum", p.offset))
		return nil, false
	}
	return into, true
}

// check looks at every block, unless that was done; false if one is damaged.
func (s *sealed) check() bool {
	s.checking.Do(func() {
		var b []byte
		for _, list := range [][]piece{s.outlines, s.holdings, s.allocations, s.passages} {
			for _, p := range list {
				var ok bool
				if b, ok = s.read(p, b); !ok {
					return
				}
			}
		}
	})
	return s.Err() == nil
}

// Past implements [projection.Sealed].
func (s *sealed) Past() projection.Past {
	p := projection.Past{
		Revision: s.known.Revision, Running: s.known.Running, Rows: s.rows,
		Leads:  append([]projection.Lead(nil), s.known.Leads...),
		Unread: append([]projection.Unread(nil), s.known.Unread...), Misfits: append([]string(nil), s.known.Misfits...),
	}
	for _, known := range s.known.Pools {
		life := &projection.PoolLife{ID: known.ID, Pool: known.Pool, Created: known.Created, Retired: known.Retired}
		life.Space, life.Extra = known.Space, known.Extra
		p.Pools = append(p.Pools, life)
	}
	return p
}

// Row implements [projection.Sealed].
func (s *sealed) Row(n int, pools []*projection.PoolLife) (projection.Holding, bool) {
	group, ok := s.groups.get(n/groupRows, func(i int) (holdings, bool) {
		block, ok := s.read(s.holdings[i], nil)
		if !ok {
			return holdings{}, false
		}
		return readHoldings(block)
	})
	var h projection.Holding
	if ok {
		h, ok = group.row(n%groupRows, pools)
	}
	if !ok {
		s.spoilt(errors.Newf("holding %d is none", n))
	}
	return h, ok
}

// Find implements [projection.Sealed].
func (s *sealed) Find(allocation events.ID) (int, bool) {
	i := sort.Search(len(s.firstAllocation), func(i int) bool { return s.firstAllocation[i].Compare(allocation) > 0 }) - 1
	if i < 0 {
		return 0, false
	}
	block, ok := s.ids.get(i, func(i int) ([]byte, bool) { return s.read(s.allocations[i], nil) })
	if !ok {
		return 0, false
	}
	n := len(block) / allocationSize
	at := sort.Search(n, func(i int) bool { return bytes.Compare(block[i*allocationSize:][:16], allocation[:]) >= 0 })
	if at == n || !bytes.Equal(block[at*allocationSize:][:16], allocation[:]) {
		return 0, false
	}
	row := int(binary.BigEndian.Uint32(block[at*allocationSize+16:]))
	if row >= s.rows {
		s.spoilt(errors.Newf("there is no holding %d", row))
		return 0, false
	}
	return row, true
}

// Of implements [projection.Sealed]. Outlines are compared as they stand in the file:
// of a long log there are hundreds of thousands.
func (s *sealed) Of(address netip.Addr) iter.Seq[int] {
	return func(yield func(int) bool) {
		var like [outlineSize]byte
		putAddress(like[:], address)
		var b []byte
		for i, p := range s.outlines {
			var ok bool
			if b, ok = s.read(p, b); !ok {
				return
			}
			for n := range len(b) / outlineSize {
				if [addressSize]byte(b[n*outlineSize:]) == [addressSize]byte(like[:]) && !yield(i*groupRows+n) {
					return
				}
			}
		}
	}
}

// Select implements [projection.Sealed].
func (s *sealed) Select(wanted func(projection.Outline) bool) iter.Seq[int] {
	return func(yield func(int) bool) {
		var b []byte
		for i, p := range s.outlines {
			var ok bool
			if b, ok = s.read(p, b); !ok {
				return
			}
			for n := range len(b) / outlineSize {
				if wanted(readOutline(b[n*outlineSize:])) && !yield(i*groupRows+n) {
					return
				}
			}
		}
	}
}

func readOutline(b []byte) projection.Outline {
	o := projection.Outline{From: int64(binary.BigEndian.Uint64(b[24:])), To: int64(binary.BigEndian.Uint64(b[32:]))}
	if b[16] == 4 {
		o.Address = netip.AddrFrom4([4]byte(b[12:16]))
	} else {
		o.Address = netip.AddrFrom16([16]byte(b[:16]))
	}
	return o
}

// Until implements [projection.Sealed].
func (s *sealed) Until(moment time.Time) int64 {
	list := s.passagesOf(sort.Search(len(s.passages), func(i int) bool { return s.firstRunning[i].After(moment) }) - 1)
	n := sort.Search(len(list), func(i int) bool { return list[i].running.After(moment) })
	if n == 0 {
		return 0
	}
	return list[n-1].revision
}

// Later implements [projection.Sealed].
func (s *sealed) Later(moment time.Time) time.Time {
	next := sort.Search(len(s.passages), func(i int) bool { return s.firstRunning[i].After(moment) })
	list := s.passagesOf(next - 1)
	n := sort.Search(len(list), func(i int) bool { return list[i].running.After(moment) })
	switch {
	case n < len(list):
		return list[n].running
	case next < len(s.passages):
		return s.firstRunning[next]
	}
	return time.Time{}
}

// Running implements [projection.Sealed].
func (s *sealed) Running(revision int64) time.Time {
	list := s.passagesOf(sort.Search(len(s.passages), func(i int) bool { return s.firstRevision[i] > revision }) - 1)
	n := sort.Search(len(list), func(i int) bool { return list[i].revision > revision })
	if n == 0 {
		return time.Time{}
	}
	return list[n-1].running
}

// Commits implements [projection.Sealed].
func (s *sealed) Commits(until int64) int {
	before := sort.Search(len(s.passages), func(i int) bool { return s.firstRevision[i] > until }) - 1
	list := s.passagesOf(before)
	return max(before, 0)*passagesBlock + sort.Search(len(list), func(i int) bool { return list[i].revision > until })
}

// Passages implements [projection.Sealed].
func (s *sealed) Passages() iter.Seq2[int64, time.Time] {
	return func(yield func(int64, time.Time) bool) {
		for i := range s.passages {
			for _, p := range s.passagesOf(i) {
				if !yield(p.revision, p.running) {
					return
				}
			}
		}
	}
}

// passagesOf reads a block of passages; that before the first is empty.
func (s *sealed) passagesOf(i int) []passage {
	if i < 0 {
		return nil
	}
	list, ok := s.running.get(i, func(i int) ([]passage, bool) {
		block, ok := s.read(s.passages[i], nil)
		if !ok {
			return nil, false
		}
		return readPassages(block)
	})
	if !ok {
		s.spoilt(errors.Newf("the running times of block %d are none", i))
	}
	return list
}

func readPassages(block []byte) ([]passage, bool) {
	d := decoder{b: block}
	var list []passage
	var last passage
	for len(d.b) > 0 {
		last.revision += int64(d.uint())
		if running := d.time(); !running.IsZero() {
			last.running = running
		}
		if d.failed {
			return nil, false
		}
		list = append(list, last)
	}
	return list, true
}

// cacheBlocks is how many blocks of a kind are kept as they were read.
const cacheBlocks = 256

// cache keeps blocks that were read. Safe for concurrent use.
type cache[T any] struct {
	mu     sync.Mutex
	blocks map[int]T
}

// get returns a block, read if it is not there.
func (c *cache[T]) get(n int, read func(int) (T, bool)) (T, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b, ok := c.blocks[n]; ok {
		return b, true
	}
	b, ok := read(n)
	if !ok {
		return b, false
	}
	if c.blocks == nil || len(c.blocks) == cacheBlocks {
		c.blocks = make(map[int]T, cacheBlocks)
	}
	c.blocks[n] = b
	return b, true
}
