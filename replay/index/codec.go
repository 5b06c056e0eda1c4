// SPDX-License-Identifier: Apache-2.0

package index

import (
	"encoding/binary"
	"time"

	"github.com/ipamlog/ipamlog/events"
)

// encoder appends values to a block.
type encoder struct{ b []byte }

func (e *encoder) uint(v uint64) { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) int(v int64)   { e.b = binary.AppendVarint(e.b, v) }
func (e *encoder) raw(v []byte)  { e.b = append(e.b, v...) }
func (e *encoder) id(v events.ID) {
	e.b = append(e.b, v[:]...)
}

func (e *encoder) text(v string) {
	e.uint(uint64(len(v)))
	e.b = append(e.b, v...)
}

// time writes a time to the nanosecond, whatever the year, or that there is none.
func (e *encoder) time(t time.Time) {
	if t.IsZero() {
		e.uint(0)
		return
	}
	e.uint(uint64(t.Nanosecond()) + 1)
	e.int(t.Unix())
}

// decoder takes them off again. Once it has failed it stays so, and what it
// returns means nothing.
type decoder struct {
	b      []byte
	failed bool
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	return v * uint64(d.took(n))
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	return v * int64(d.took(n))
}

// took passes over n bytes; it returns 1 if they were there, and else 0.
func (d *decoder) took(n int) int {
	if n <= 0 {
		d.failed, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return 1
}

// raw returns the next n bytes, which stay the block's.
func (d *decoder) raw(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.failed, d.b = true, nil
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) id() events.ID {
	var v events.ID
	copy(v[:], d.raw(uint64(len(v))))
	return v
}

func (d *decoder) text() string { return string(d.raw(d.uint())) }

func (d *decoder) time() time.Time {
	nanoseconds := d.uint()
	if nanoseconds == 0 || nanoseconds > uint64(time.Second) {
		d.failed = d.failed || nanoseconds > 0
		return time.Time{}
	}
	return time.Unix(d.int(), int64(nanoseconds-1)).UTC()
}

// length reads how many things follow, each of which takes a byte at least.
func (d *decoder) length() int {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.failed, d.b = true, nil
		return 0
	}
	return int(n)
}
