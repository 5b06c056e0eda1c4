// SPDX-License-Identifier: Apache-2.0

package replay_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/replaytest"
	"github.com/ipamlog/ipamlog/replay/timespec"
)

// networked tells of three networks: lan was on pool 1 until 20 and is on pool 2;
// both has two pools; old is on pool 3, which was retired at 22 and made again at 23.
func networked() *replay.History {
	timeline := projection.NewTimeline()
	put := func(revision int64, pool byte, e events.Event) {
		timeline.Apply(events.Record{Revision: revision, Commit: events.Commit{
			Stream: events.PoolStream(replaytest.ID('P', pool)), Host: "h1", Time: replaytest.Clock(0, int(revision)), Events: []events.Event{e},
		}})
	}
	create := func(revision int64, pool byte, name, subnet string) {
		put(revision, pool, events.PoolCreated{Space: events.Local, Name: name, Subnet: netip.MustParsePrefix(subnet)})
	}
	hold := func(revision int64, pool, n byte, address, network string) {
		put(revision, pool, events.AddressAllocated{Allocation: replaytest.Allocation(n), Address: netip.MustParseAddr(address), Kind: events.Endpoint, Host: "h1"})
		put(revision+1, pool, replaytest.Attributed(n, address, events.Attribution{NetworkID: strings.Repeat("ab", 31) + network[1:2], NetworkName: network}))
	}
	create(2, 1, "one", "10.1.0.0/24")
	create(3, 2, "two", "10.2.0.0/24")
	create(4, 3, "", "10.3.0.0/24")
	hold(5, 1, 1, "10.1.0.2", "lan")
	hold(7, 1, 2, "10.1.0.3", "both")
	hold(9, 2, 3, "10.2.0.3", "both")
	hold(11, 3, 4, "10.3.0.2", "old")
	put(20, 1, events.AddressReleased{Allocation: replaytest.Allocation(1), Address: netip.MustParseAddr("10.1.0.2"), Reason: events.Released})
	put(21, 3, events.AddressReleased{Allocation: replaytest.Allocation(4), Address: netip.MustParseAddr("10.3.0.2"), Reason: events.Released})
	put(22, 3, events.PoolRetired{Space: events.Local})
	create(23, 4, "", "10.3.0.0/24")
	hold(30, 2, 5, "10.2.0.2", "lan")
	// A pool's name comes first, whatever a network is called.
	hold(32, 2, 6, "10.2.0.4", "one")
	return replay.NewHistory(timeline, 40)
}

func TestHistory_PoolOrNetworkAt(t *testing.T) {
	h := networked()
	for _, c := range []struct {
		word     string
		revision int64
		want     string
		network  bool
	}{
		{"one", 40, "one", false},
		{"10.2.0.0/24", 40, "two", false},
		{"lan", 10, "one", true},
		{"lan", 40, "two", true},
		{"old", 12, "10.3.0.0/24", true},
		{"old", 21, "10.3.0.0/24", true}, // it holds nothing, and its pool stands
	} {
		pool, network, err := h.PoolOrNetworkAt(c.word, replay.Moment{Revision: c.revision})
		if err != nil || replay.Title(pool) != c.want || network != c.network {
			t.Errorf("%s at @%d: %v, %v, %v", c.word, c.revision, pool, network, err)
		}
	}
	for _, c := range []struct {
		word     string
		revision int64
		kind     error
		says     string
	}{
		{"both", 40, replay.ErrAmbiguous, `"both" means 2 pools: one (`},
		{"lan", 25, replay.ErrAmbiguous, `"lan" means 2 pools`}, // it holds nothing, and was or will be on either
		{"abab", 40, replay.ErrAmbiguous, `the ids of 4 networks begin with "abab"`},
		{"old", 40, replay.ErrNotFound, `there is no pool "old"`},
		{"nobody", 40, replay.ErrNotFound, `there is no pool "nobody"`},
		{"", 40, replay.ErrNotFound, `there is no pool ""`},
	} {
		if pool, network, err := h.PoolOrNetworkAt(c.word, replay.Moment{Revision: c.revision}); !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) || pool != nil || network {
			t.Errorf("%s at @%d: %v, %v, %v", c.word, c.revision, pool, network, err)
		}
	}
}

func TestHistory_PoolsOrNetworkEver(t *testing.T) {
	h := networked()
	for word, want := range map[string]struct {
		pools   string
		network bool
	}{
		"one": {"one", false},
		"old": {"10.3.0.0/24 10.3.0.0/24", true}, // what was made again is the same
	} {
		pools, network, err := h.PoolsOrNetworkEver(word)
		var titles []string
		for _, p := range pools {
			titles = append(titles, replay.Title(p))
		}
		if err != nil || strings.Join(titles, " ") != want.pools || network != want.network {
			t.Errorf("%s: %v, %v, %v", word, titles, network, err)
		}
	}
	for word, kind := range map[string]error{"both": replay.ErrAmbiguous, "lan": replay.ErrAmbiguous, "abab": replay.ErrAmbiguous, "nobody": replay.ErrNotFound} {
		if pools, network, err := h.PoolsOrNetworkEver(word); !errors.Is(err, kind) || pools != nil || network {
			t.Errorf("%s: %v, %v, %v", word, pools, network, err)
		}
	}
}

// A span may begin where the next commit will stand, and end whenever.
func TestHistory_Since(t *testing.T) {
	h := networked()
	now := replaytest.Clock(10, 0)
	for _, c := range []struct {
		find func(timespec.Spec, time.Time) (replay.Moment, error)
		spec timespec.Spec
		want int64 // -1: still to come
	}{
		{h.Since, timespec.Spec{Revision: 1}, 0},
		{h.Since, timespec.Spec{Revision: 40}, 39},
		{h.Since, timespec.Spec{Revision: 41}, 40},
		{h.Since, timespec.Spec{Revision: 42}, -1},
		{h.Since, timespec.Spec{Time: replaytest.Clock(0, 5)}, 4},
		{h.Since, timespec.Spec{Time: now.Add(1)}, -1},
		{h.Until, timespec.Spec{Revision: 5}, 5},
		{h.Until, timespec.Spec{Revision: 41}, 40},
		{h.Until, timespec.Spec{Revision: 1 << 62}, 40},
		{h.Until, timespec.Spec{Time: replaytest.Clock(0, 5)}, 5},
		{h.Until, timespec.Spec{Time: now.AddDate(100, 0, 0)}, 40},
	} {
		m, err := c.find(c.spec, now)
		if c.want < 0 {
			if !errors.Is(err, replay.ErrNotYet) {
				t.Errorf("%s: %v, %v", c.spec, m, err)
			}
			continue
		}
		if err != nil || m.Revision != c.want || m.Time.After(now) {
			t.Errorf("%s: %v, %v, want @%d", c.spec, m, err, c.want)
		}
	}
}
