// SPDX-License-Identifier: Apache-2.0

package index_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/index"
	"github.com/ipamlog/ipamlog/replay/timespec"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func idOf(kind byte, n int) events.ID {
	return events.ID{0: 1, 6: kind, 12: byte(n >> 24), 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)}
}

// anyLog draws records of pools that come, change and go, of addresses that are held
// in turn or together, told of in any order, with clocks that are wrong, and events
// that contradict each other or are a newer version's.
func anyLog(t *rapid.T) []events.Record {
	addresses := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("::ffff:a00:1").Unmap()}
	word := rapid.SampledFrom([]string{"", "a", "web-1", "deadbeef", "DEADBEEF", "0", "abc", "\x00ü", "4f3c0000000000000000000000000000000000000000000000000000000000aa"})
	var records []events.Record
	revision, clock := int64(0), noon
	held := map[int]netip.Addr{}
	for i := range rapid.IntRange(0, 60).Draw(t, "commits") {
		revision += int64(rapid.IntRange(1, 300).Draw(t, "skip"))
		clock = clock.Add(time.Duration(rapid.IntRange(-5, 60).Draw(t, "seconds"))*time.Second + time.Duration(rapid.IntRange(0, 999_999).Draw(t, "µs"))*time.Microsecond)
		r := events.Record{Revision: revision, Commit: events.Commit{
			ID: idOf('C', i), Stream: events.PoolStream(idOf('P', rapid.IntRange(0, 2).Draw(t, "pool"))), Time: clock, Host: "h", Writer: "v1",
		}}
		if rapid.IntRange(0, 9).Draw(t, "suspect") == 0 {
			r.ClockSuspect, r.Time = true, time.Date(2038, 1, 1, 0, 0, 0, 0, time.UTC)
		}
		if rapid.IntRange(0, 19).Draw(t, "elsewhere") == 0 {
			r.Stream = rapid.SampledFrom([]events.Stream{events.Catalogue, "a-newer-stream"}).Draw(t, "stream")
		}
		for range rapid.IntRange(0, 3).Draw(t, "events") {
			n := rapid.IntRange(0, 20).Draw(t, "allocation")
			a, ok := held[n]
			if !ok || rapid.IntRange(0, 19).Draw(t, "other") == 0 {
				a = rapid.SampledFrom(addresses).Draw(t, "address")
				held[n] = a
			}
			switch rapid.IntRange(0, 11).Draw(t, "what") {
			case 0:
				r.Events = append(r.Events, events.PoolCreated{Space: events.Local, Name: word.Draw(t, "name"), Subnet: netip.MustParsePrefix("10.0.0.0/24"), Policy: events.DefaultPolicy(), Extra: events.Extra{"new": json.RawMessage(`1`)}})
			case 1:
				r.Events = append(r.Events, events.PoolRetired{Space: events.Local}, events.PoolChanged{Space: events.Local, Kept: true, Layout: events.Layout{Ranges: []netipx.IPRange{netipx.MustParseIPRange("10.0.0.5-10.0.0.20")}, Router: a}})
			case 2:
				r.Events = append(r.Events, events.Unknown{Name: word.Draw(t, "type"), Raw: json.RawMessage(`{}`)})
			case 3:
				r.Events = append(r.Events, events.AddressReserved{Allocation: idOf('A', n), Address: a, Why: word.Draw(t, "why")})
			case 4, 5:
				e := events.AddressReleased{Allocation: idOf('A', n), Address: a, Reason: events.Reason(word.Draw(t, "reason"))}
				if rapid.Bool().Draw(t, "early") {
					e.At = clock.Add(-time.Duration(rapid.IntRange(0, 200).Draw(t, "ago")) * time.Second)
				}
				r.Events = append(r.Events, e)
			case 6, 7:
				e := events.AddressAttributed{Allocation: idOf('A', n), Address: a, Attribution: events.Attribution{
					ContainerID: word.Draw(t, "container"), ContainerName: word.Draw(t, "container name"), Image: word.Draw(t, "image"), ImageID: word.Draw(t, "image id"),
					NetworkID: word.Draw(t, "network"), NetworkName: word.Draw(t, "network name"), EndpointID: word.Draw(t, "endpoint"),
				}}
				if rapid.Bool().Draw(t, "labels") {
					e.Labels = map[string]string{}
					for range rapid.IntRange(0, 3).Draw(t, "number") {
						e.Labels[word.Draw(t, "label")] = word.Draw(t, "value")
					}
				}
				if rapid.Bool().Draw(t, "since") {
					e.Since = clock.Add(-time.Second)
				}
				r.Events = append(r.Events, e)
			case 8:
				r.Events = append(r.Events, rapid.SampledFrom([]events.Event{
					events.AddressSuspected{Allocation: idOf('A', n), Address: a},
					events.AddressSuspected{Allocation: idOf('A', n), Address: a},
					events.AddressCleared{Allocation: idOf('A', n), Address: a},
					events.AddressReclaimed{Allocation: idOf('A', n), Address: a},
					events.AddressConflicted{Holder: idOf('A', n), Address: a, Host: word.Draw(t, "conflict")},
					events.HostLeft{Host: "h", Incarnation: 1},
					events.HostTakenOver{Host: "h", Incarnation: 1, By: "h2"},
				}).Draw(t, "suspicion"))
			default:
				e := events.AddressAllocated{Allocation: idOf('A', n), Address: a, Kind: events.Endpoint, Shared: rapid.Bool().Draw(t, "shared"), Host: word.Draw(t, "host"), Endpoint: word.Draw(t, "name")}
				if rapid.Bool().Draw(t, "grant") {
					e.Grant, e.MAC = idOf('G', 1), events.MAC{2, 0x42, 10, 0, 0, byte(n)}
				}
				r.Events = append(r.Events, e)
			}
		}
		records = append(records, r)
	}
	return records
}

func timelineOf(t *projection.Timeline, records []events.Record) *projection.Timeline {
	for _, r := range records {
		t.Apply(r)
	}
	return t
}

type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func seal(t fataler, of *projection.Timeline) projection.Sealed {
	t.Helper()
	var out bytes.Buffer
	if err := index.Write(context.Background(), &out, of); err != nil {
		t.Fatal(err)
	}
	s, err := index.Read(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var same = cmp.Options{
	cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b netipx.IPRange) bool { return a == b }),
}

// agree compares all that two timelines of one log can be asked.
func agree(t fataler, want, got *projection.Timeline, records []events.Record) {
	t.Helper()
	said := func(tl *projection.Timeline) map[string]any {
		all := map[string]any{"past": tl.Past(), "running": map[int64]time.Time{}, "passages": [][2]any{}}
		var list []string // which compare much faster than what they spell
		for h := range tl.Holdings() {
			x := *h
			x.Pool = nil
			list = append(list, fmt.Sprintf("%s %+v", h.Pool.ID, x))
			found, ok := tl.Allocation(h.Allocation)
			if !ok || found.Allocation != h.Allocation || h.Pool != tl.Pool(events.PoolStream(h.Pool.ID)) {
				t.Fatalf("holding %+v is not found again", h)
			}
		}
		all["holdings"] = list
		var passages []string
		for revision, running := range tl.Passages() {
			passages = append(passages, fmt.Sprint(revision, running.UTC(), tl.Running(revision).UTC(), tl.Running(revision-1).UTC(), tl.Until(running), tl.Until(running.Add(-time.Nanosecond)), tl.Commits(revision), tl.Commits(revision-1), tl.Later(running).UTC(), tl.Later(running.Add(-time.Nanosecond)).UTC()))
		}
		all["passages"] = passages
		return all
	}
	if diff := cmp.Diff(said(want), said(got), same); diff != "" {
		t.Fatalf("(-whole log +index and tail):\n%s", diff)
	}
	end := int64(0)
	if len(records) > 0 {
		end = records[len(records)-1].Revision
	}
	a, b := replay.NewHistory(want, end+5), replay.NewHistory(got, end+5)
	specs := []timespec.Spec{}
	for _, r := range records {
		specs = append(specs, timespec.Spec{Revision: r.Revision}, timespec.Spec{Time: r.Time}, timespec.Spec{Time: r.Time.Add(-time.Microsecond)})
	}
	addresses := map[netip.Addr]bool{}
	for h := range want.Holdings() {
		addresses[h.Address] = true
	}
	now := time.Date(2039, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, spec := range specs {
		if spec.Time.IsZero() && spec.Revision == 0 {
			continue
		}
		var answers [2][]any
		for i, h := range []*replay.History{a, b} {
			m, err := h.Moment(spec, now)
			if err != nil {
				t.Fatal(err)
			}
			answers[i] = append(answers[i], h.Holders(nil, m))
			for _, address := range slices.SortedFunc(maps.Keys(addresses), netip.Addr.Compare) {
				answers[i] = append(answers[i], h.Who(address, nil, m))
			}
			for _, p := range h.Timeline().Pools() {
				answers[i] = append(answers[i], h.Holders(p, m))
			}
		}
		x, err := json.Marshal(answers[0])
		if err != nil {
			t.Fatal(err)
		}
		y, err := json.Marshal(answers[1])
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(x, y) {
			t.Fatalf("at %v (-whole log +index and tail):\n%s", spec, cmp.Diff(string(x), string(y)))
		}
	}
	for _, word := range []string{"10.0.0.1", "fd00::1", "host:web-1", "endpoint:web-1", "host:a"} {
		x, errX := a.Subject(word)
		y, errY := b.Subject(word)
		if fmt.Sprint(errX) != fmt.Sprint(errY) {
			t.Fatalf("%s: %v, %v", word, errX, errY)
		}
		if errX != nil {
			continue
		}
		span := replay.Span{To: a.Now(now)}
		if diff := cmp.Diff(fmt.Sprint(asJSON(t, a.Of(x, span))), fmt.Sprint(asJSON(t, b.Of(y, span)))); diff != "" {
			t.Fatalf("%s (-whole log +index and tail):\n%s", word, diff)
		}
	}
}

func asJSON(t fataler, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestSealedIsTheLog: wherever a log is cut, and cut again, what was before it from a
// file and the rest from the log is the whole.
func TestSealedIsTheLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := anyLog(t)
		first := rapid.IntRange(0, len(records)).Draw(t, "first cut")
		second := rapid.IntRange(first, len(records)).Draw(t, "second cut")
		tl := timelineOf(projection.NewTimeline(), records[:first])
		tl = timelineOf(projection.NewTimelineOn(seal(t, tl)), records[:second])
		tl = timelineOf(projection.NewTimelineOn(seal(t, tl)), records)
		agree(t, timelineOf(projection.NewTimeline(), records), tl, records)
		if err := tl.Err(); err != nil {
			t.Fatal(err)
		}
	})
}

// long is a log that fills several blocks of each kind.
func long(n int) []events.Record {
	records := make([]events.Record, 0, n)
	add := func(list ...events.Event) {
		i := len(records)
		records = append(records, events.Record{Revision: int64(2*i + 2), Commit: events.Commit{
			ID: idOf('C', i), Stream: events.PoolStream(idOf('P', 0)), Time: noon.Add(time.Duration(i) * time.Second), Host: "h", Events: list,
		}})
	}
	add(events.PoolCreated{Space: events.Local, Name: "web", Subnet: netip.MustParsePrefix("10.0.0.0/8"), Policy: events.DefaultPolicy()})
	for i := 0; len(records) < n; i++ {
		// Allocations are in no order of their ids.
		a := events.AddressAllocated{Allocation: idOf('A', (i*7919)%1_000_003), Address: netip.AddrFrom4([4]byte{10, 0, byte(i % 7), byte(i % 251)}), Kind: events.Endpoint, Host: fmt.Sprintf("h%d", i%3)}
		add(a)
		if i%3 > 0 {
			add(events.AddressAttributed{Allocation: a.Allocation, Address: a.Address, Attribution: events.Attribution{ContainerID: fmt.Sprintf("%064x", i), Image: "nginx"}})
			add(events.AddressReleased{Allocation: a.Allocation, Address: a.Address, Reason: events.Released})
		}
	}
	return records
}

func TestSealedOfManyBlocks(t *testing.T) {
	records := long(4_600)
	tl := timelineOf(projection.NewTimeline(), records[:4_200])
	tl = timelineOf(projection.NewTimelineOn(seal(t, tl)), records)
	agree(t, timelineOf(projection.NewTimeline(), records), tl, records[len(records)-3:])
	if err := tl.Err(); err != nil {
		t.Fatal(err)
	}
}

// TestDamageIsFound: no byte of a file can change, and none go, without being noticed.
func TestDamageIsFound(t *testing.T) {
	var out bytes.Buffer
	if err := index.Write(t.Context(), &out, timelineOf(projection.NewTimeline(), long(40))); err != nil {
		t.Fatal(err)
	}
	whole := out.Bytes()
	found := func(b []byte) bool {
		s, err := index.Read(b)
		if err != nil {
			return errors.Is(err, index.ErrDamaged)
		}
		return !index.Check(s) && errors.Is(s.Err(), index.ErrDamaged)
	}
	if found(whole) {
		t.Fatal("damage is found where there is none")
	}
	for i := range whole {
		for _, bit := range []byte{1, 0x80} {
			b := slices.Clone(whole)
			b[i] ^= bit
			if !found(b) {
				t.Fatalf("byte %d of %d changed unnoticed", i, len(whole))
			}
		}
		if !found(whole[:i]) || !found(append(slices.Clone(whole[:i]), whole[i+1:]...)) {
			t.Fatalf("a file cut at %d of %d passed for whole", i, len(whole))
		}
	}
}

// FuzzBlocks: whatever stands in a block whose checksum is right, reading it ends.
func FuzzBlocks(f *testing.F) {
	var out bytes.Buffer
	if err := index.Write(f.Context(), &out, timelineOf(projection.NewTimeline(), long(40))); err != nil {
		f.Fatal(err)
	}
	f.Add(out.Bytes())
	f.Add(out.Bytes()[16+13*40:])
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(_ *testing.T, b []byte) { index.ReadBlocks(b) })
}

// FuzzFile: nor does any file bring it down.
func FuzzFile(f *testing.F) {
	var out bytes.Buffer
	if err := index.Write(f.Context(), &out, timelineOf(projection.NewTimeline(), long(40))); err != nil {
		f.Fatal(err)
	}
	f.Add(out.Bytes())
	f.Fuzz(func(_ *testing.T, b []byte) {
		s, err := index.Read(b)
		if err != nil {
			return
		}
		tl := projection.NewTimelineOn(s)
		for h := range tl.Holdings() {
			tl.Allocation(h.Allocation)
		}
		tl.Until(noon)
		tl.Running(5)
	})
}
