// SPDX-License-Identifier: Apache-2.0

package index_test

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/ipamlog/ipamlog/bench/bulk"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/index"
)

func story(n int) []events.Record {
	var records []events.Record
	for c := range (bulk.Story{Events: n, Held: 10_000}).Commits() {
		records = append(records, events.Record{Commit: c, Revision: int64(len(records) + 1)})
	}
	return records
}

// BenchmarkIndex measures what a process does with the file of 300,000 events: write
// it, open it and tell who held an address, look at all of it, go over all holdings.
func BenchmarkIndex(b *testing.B) {
	records := story(300_000)
	tl := timelineOf(projection.NewTimeline(), records)
	var out bytes.Buffer
	if err := index.Write(b.Context(), &out, tl); err != nil {
		b.Fatal(err)
	}
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			out.Reset()
			if err := index.Write(b.Context(), &out, tl); err != nil {
				b.Fatal(err)
			}
		}
	})
	address := netip.MustParseAddr("10.3.0.17")
	open := func(b *testing.B) projection.Sealed {
		b.Helper()
		s, err := index.Read(out.Bytes())
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	b.Run("who", func(b *testing.B) {
		for b.Loop() {
			h := replay.NewHistory(projection.NewTimelineOn(open(b)), 1)
			if who := h.Who(address, nil, h.Now(noon)); who.Before == nil && who.After == nil && len(who.Holdings) == 0 {
				b.Fatal("nobody ever held it")
			}
		}
	})
	b.Run("check", func(b *testing.B) {
		for b.Loop() {
			if !index.Check(open(b)) {
				b.Fatal("it is damaged")
			}
		}
	})
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			n := 0
			for range projection.NewTimelineOn(open(b)).Holdings() {
				n++
			}
			if n < 90_000 {
				b.Fatalf("%d holdings", n)
			}
		}
	})
	b.Run("tail", func(b *testing.B) {
		from := len(records) - 2000
		s, err := func() (projection.Sealed, error) {
			var cut bytes.Buffer
			if err := index.Write(b.Context(), &cut, timelineOf(projection.NewTimeline(), records[:from])); err != nil {
				return nil, err
			}
			return index.Read(cut.Bytes())
		}()
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			timelineOf(projection.NewTimelineOn(s), records[from:])
		}
	})
}
