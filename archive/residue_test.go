// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
)

// drawLog draws a log of pools in which everything may happen that the state before it
// allows.
func drawLog(t *rapid.T) []etcdlog.RawCommit {
	var log []etcdlog.RawCommit
	made := 0
	id := func() events.ID {
		made++
		return events.ID{0: 1, 14: byte(made >> 8), 15: byte(made)}
	}
	streams := []events.ID{id(), id()}
	guards := map[events.ID]*events.Guards{}
	for _, pool := range streams {
		g := events.NewGuards()
		guards[pool] = &g
	}
	known := map[events.ID][]events.ID{} // allocations by pool
	incarnation := uint64(0)
	now := begun
	for revision := int64(2); revision < int64(rapid.IntRange(2, 120).Draw(t, "commits")); revision++ {
		pool := rapid.SampledFrom(streams).Draw(t, "pool")
		now = now.Add(time.Duration(rapid.IntRange(-3, 9).Draw(t, "pause")) * time.Second)
		c := events.Commit{ID: id(), Stream: events.PoolStream(pool), Time: now, Host: rapid.SampledFrom([]string{"h1", "h2"}).Draw(t, "host"), Writer: "v1", Incarnation: 1}
		c.ClockSuspect = rapid.IntRange(0, 9).Draw(t, "suspect") == 0
		if rapid.IntRange(0, 15).Draw(t, "catalogue") == 0 {
			incarnation++
			c.Stream, c.Events = events.Catalogue, []events.Event{events.HostJoined{Host: c.Host, Machine: "m", Incarnation: incarnation}}
		} else {
			for range rapid.IntRange(0, 3).Draw(t, "events") {
				address := netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(1, 4).Draw(t, "address"))})
				allocation, grant := id(), events.ID{1: 2, 15: byte(rapid.IntRange(1, 2).Draw(t, "grant"))}
				if list := known[pool]; len(list) > 0 && rapid.Bool().Draw(t, "known") {
					allocation = rapid.SampledFrom(list).Draw(t, "allocation")
				}
				e := rapid.SampledFrom([]events.Event{
					events.PoolCreated{Space: events.Local, Subnet: netip.MustParsePrefix("10.0.0.0/24"), Policy: events.DefaultPolicy()},
					events.PoolRetired{Space: events.Local},
					events.PoolExhausted{},
					events.GrantOpened{Grant: grant, Host: "h1"},
					events.GrantClosing{Grant: grant},
					events.GrantClosed{Grant: grant},
					events.GrantReopened{Grant: grant, Host: "h1"},
					events.AddressAllocated{Allocation: allocation, Address: address, Kind: events.Endpoint, Host: c.Host, Endpoint: "e"},
					events.AddressAllocated{Allocation: allocation, Address: address, Kind: events.Gateway, Shared: true, Host: c.Host},
					events.AddressReserved{Allocation: allocation, Address: address, Why: "so"},
					events.AddressReleased{Allocation: allocation, Address: address, Reason: events.Released},
					events.AddressReleased{Allocation: allocation, Address: address, Reason: events.Released},
					events.AddressAttributed{Allocation: allocation, Address: address, Attribution: events.Attribution{ContainerID: fmt.Sprint("c", made)}},
					events.AddressSuspected{Allocation: allocation, Address: address},
					events.AddressCleared{Allocation: allocation, Address: address},
					events.AddressReclaimed{Allocation: allocation, Address: address},
					events.AddressUnreserved{Allocation: allocation, Address: address},
					events.AddressConflicted{Address: address, Host: "h2", ContainerName: "other"},
				}).Draw(t, "event")
				alone := events.Record{Commit: c, Revision: revision}
				alone.Events = []events.Event{e}
				if _, creates := e.(events.PoolCreated); guards[pool].Pool.Present() == creates {
					continue // a pool is made once, and used then
				}
				if _, retired := e.(events.PoolRetired); retired && (len(guards[pool].Held) > 0 || len(guards[pool].Grants) > 0) {
					continue
				}
				switch e := e.(type) {
				case events.AddressAttributed:
					if !slices.Contains(known[pool], e.Allocation) || guards[pool].Held[address].Value.Index(e.Allocation) < 0 {
						continue
					}
				case events.AddressAllocated:
					if slices.Contains(known[pool], e.Allocation) {
						continue
					}
				case events.AddressReserved:
					if slices.Contains(known[pool], e.Allocation) {
						continue
					}
				default:
				}
				if guards[pool].Apply(alone) != nil {
					continue
				}
				known[pool] = append(known[pool], allocation)
				c.Events = append(c.Events, e)
				if _, retired := e.(events.PoolRetired); retired {
					next, g := id(), events.NewGuards()
					streams[slices.Index(streams, pool)], guards[next] = next, &g
					break
				}
			}
		}
		value, err := events.Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		log = append(log, etcdlog.RawCommit{Revision: revision, Stream: c.Stream, ID: c.ID, Value: value})
	}
	return log
}

// known is what everybody knows of a log: the guards of all streams, and the past.
type known struct {
	guards   map[events.Stream]events.Guards
	timeline *projection.Timeline
	records  []events.Record
}

func read(t *rapid.T, log []etcdlog.RawCommit) known {
	k := known{map[events.Stream]events.Guards{}, projection.NewTimeline(), nil}
	for _, raw := range log {
		commit, err := events.Decode(raw.Value)
		if err != nil {
			t.Fatalf("%s: %v", raw.Value, err)
		}
		commit.Stream, commit.ID = raw.Stream, raw.ID
		r := events.Record{Commit: commit, Revision: raw.Revision}
		g, there := k.guards[raw.Stream]
		if !there {
			g = events.NewGuards()
		}
		if err := g.Apply(r); err != nil {
			t.Fatalf("revision %d: %v", raw.Revision, err)
		}
		k.guards[raw.Stream] = g
		k.timeline.Apply(r)
		k.records = append(k.records, r)
	}
	if m := k.timeline.Misfits(); len(m) > 0 {
		t.Fatalf("events %v do not fit", m)
	}
	for s, g := range k.guards { // of what is over, nothing is to be known
		if !g.Pool.Present() && len(g.Held) == 0 && len(g.Grants) == 0 && len(g.Hosts) == 0 {
			delete(k.guards, s)
		}
	}
	return k
}

// left is the residue of a log, read from its file.
func left(t *rapid.T, earlier map[events.Stream]etcdlog.Head, parts ...[]etcdlog.RawCommit) (commits []etcdlog.RawCommit, missing map[events.Stream]etcdlog.Head) {
	m := newRemnant()
	m.lack(earlier)
	for _, part := range parts {
		for _, c := range part {
			if err := m.add(c); err != nil {
				t.Fatal(err)
			}
		}
	}
	list, missing, err := m.left()
	if err != nil {
		t.Fatal(err)
	}
	last := int64(0)
	if len(list) > 0 {
		last = list[len(list)-1].Revision
	}
	made, err := packResidue(residueHead{Last: last, Missing: missing}, list)
	if err != nil {
		t.Fatal(err)
	}
	r, err := unpackResidue(made.content, func(c etcdlog.RawCommit) error {
		commits = append(commits, c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return commits, r.head.Missing
}

// Whatever happened, and wherever the border is: behind it everything is as it was, what
// had ended before is not there, and forgetting step by step comes to the same.
func TestRemnant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := drawLog(t)
		border := rapid.IntRange(0, len(log)).Draw(t, "border")
		earlier := rapid.IntRange(0, border).Draw(t, "earlier")
		rest, missing := left(t, nil, log[:border])
		before, now := read(t, log), read(t, slices.Concat(rest, log[border:]))
		if diff := gocmp.Diff(before.guards, now.guards, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("the state is another:\n%.2000s", diff)
		}
		end := int64(0)
		if border > 0 {
			end = log[border-1].Revision
		}
		if want, got := held(before, end), held(now, end); !slices.Equal(want, got) {
			t.Fatalf("held since the border was\n%v, and is\n%v", want, got)
		}
		for _, r := range before.records[border:] {
			if before.timeline.Running(r.Revision) != now.timeline.Running(r.Revision) {
				t.Fatalf("the running time at %d is another", r.Revision)
			}
		}
		for h := range now.timeline.Holdings() {
			if h.To.Reached() && h.To.Revision <= end && !h.Shared {
				t.Fatalf("%+v had ended before the border", h)
			}
		}
		first, gone := left(t, nil, log[:earlier])
		again, more := left(t, gone, first, log[earlier:border])
		if diff := gocmp.Diff(rest, again); diff != "" {
			t.Fatalf("in two steps something else is left:\n%.2000s", diff)
		}
		if diff := gocmp.Diff(missing, more, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("in two steps others are missing:\n%s", diff)
		}
	})
}

// held are the holdings that had not ended by a revision.
func held(k known, border int64) []string {
	var list []string
	for h := range k.timeline.Holdings() {
		if !h.To.Reached() || h.To.Revision > border {
			list = append(list, fmt.Sprintf("%s %s %v %v %v %+v", h.Allocation, h.Address, h.From, h.To, h.Suspected, h.Told))
		}
	}
	slices.Sort(list)
	return list
}

// FuzzResidue: whatever stands in a file, it is read as a residue or refused.
func FuzzResidue(f *testing.F) {
	var commits []etcdlog.RawCommit
	for _, line := range lines(f, sample(f, 3).content)[1:4] {
		c, err := decodeLine(line[:len(line)-1])
		if err != nil {
			f.Fatal(err)
		}
		commits = append(commits, c)
	}
	made, err := packResidue(residueHead{Last: 99}, commits)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(made.content)
	f.Add(made.content[:len(made.content)-3])
	f.Add(sample(f, 1).content)
	f.Fuzz(func(t *testing.T, content []byte) {
		n := int64(0)
		r, err := unpackResidue(content, func(etcdlog.RawCommit) error { n++; return nil })
		if err == nil && (n != r.head.Commits || r.head.Residue != format) {
			t.Errorf("it has %d of %d commits", n, r.head.Commits)
		}
	})
}
