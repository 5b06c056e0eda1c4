// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/events"
)

var seedFlag = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the troubles")

// TestChaos is the short form. The long one is the command.
func TestChaos(t *testing.T) {
	t.Logf("-seed %d", *seedFlag)
	found := run(t.Context(), t, options{duration: 15 * time.Second, seed: *seedFlag, calm: time.Second, crowd: 1})
	var table strings.Builder
	if err := found.write(&table); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", &table)
	if len(found.wrong) > 0 {
		t.Errorf("%d things are wrong", len(found.wrong))
	}
	if found.history.tally[answered] == 0 || found.faults.total() == 0 || found.steps == 0 {
		t.Error("nothing was asked, or nothing broke")
	}
}

var (
	web = events.ID{1}
	a1  = netip.MustParseAddr("10.0.0.1")
	a2  = netip.MustParseAddr("10.0.0.2")
)

func mac(n byte) events.MAC { return events.MAC{2, 0, 0, 0, 0, n} }

func allocation(n byte) events.ID { return events.ID{9, n} }

// log is a pool with these events in it, a commit each.
func log(list ...events.Event) *fates {
	list = slices.Insert(list, 0, events.Event(events.PoolCreated{Name: "web"}))
	var records []events.Record
	for i, e := range list {
		records = append(records, events.Record{Commit: events.Commit{Stream: events.PoolStream(web), Events: []events.Event{e}}, Revision: int64(i + 1)})
	}
	return readFates(records)
}

func allocated(n byte, address netip.Addr) events.Event {
	return events.AddressAllocated{Allocation: allocation(n), Address: address, MAC: mac(n)}
}

func released(n byte, address netip.Addr) events.Event {
	return events.AddressReleased{Allocation: allocation(n), Address: address, Reason: events.Released}
}

// did is a call of a container that lasts from one moment to another.
func did(n byte, v verb, address netip.Addr, o outcome, begun, ended time.Duration) call {
	return call{Client: int(n), Pool: "web", Verb: v, MAC: mac(n), Address: address, Outcome: o, Begun: begun, Ended: ended}
}

// TestJudge: what is wrong is found, and what is right is not.
func TestJudge(t *testing.T) {
	t.Parallel()
	handedOn := log(allocated(1, a1), released(1, a1), allocated(2, a1), released(2, a1))
	for name, c := range map[string]struct {
		log     *fates
		calls   []call
		want    string // in what is wrong; empty: nothing is
		doubles int
		lost    int
		leaked  int
	}{
		"one after the other": {log: handedOn, calls: []call{
			did(1, take, a1, answered, 1, 2), did(1, keep, a1, answered, 3, 4), did(1, give, a1, answered, 5, 8),
			did(2, take, a1, answered, 6, 7), did(2, give, a1, answered, 9, 10),
		}},
		"two at once": {log: handedOn, doubles: 1, want: "at the same time", calls: []call{
			did(1, take, a1, answered, 1, 2), did(2, take, a1, answered, 3, 4),
			did(1, give, a1, answered, 5, 6), did(2, give, a1, answered, 7, 8),
		}},
		"a release that freed the next holding": {
			log:  log(allocated(1, a1), released(1, a1), allocated(2, a1), released(2, a1), allocated(3, a1), released(3, a1)),
			want: "no allocator", doubles: 1, calls: []call{
				did(1, take, a1, answered, 1, 2), did(1, give, a1, answered, 3, 4), did(2, take, a1, answered, 5, 6),
				did(3, take, a1, answered, 7, 8), did(3, give, a1, answered, 9, 10), did(2, give, a1, answered, 11, 12),
			},
		},
		"an answer that came to nobody, and the same again": {log: handedOn, calls: []call{
			did(1, take, netip.Addr{}, unknown, 1, 2), did(1, take, a1, answered, 3, 4), did(1, give, a1, unknown, 5, 6),
			did(2, take, a1, answered, 7, 8), did(2, give, a1, answered, 9, 10),
		}},
		"an answer that came to nobody, and was taken back": {log: handedOn, calls: []call{
			did(1, take, netip.Addr{}, unknown, 1, 2), did(2, take, a1, answered, 3, 4), did(2, give, a1, answered, 5, 6),
		}},
		"an ask that was in vain": {log: log(), calls: []call{did(1, take, a1, refused, 1, 2), did(2, take, netip.Addr{}, unknown, 1, 2)}},
		"a release that the log says took place, and whose answer was lost, under another": {
			log:  log(allocated(1, a1), allocated(2, a1), released(1, a1), released(2, a1)),
			want: "begin on addresses that are held", doubles: 1, calls: []call{
				did(1, take, a1, answered, 1, 2), did(1, give, a1, unknown, 3, 4),
				did(2, take, a1, answered, 5, 6), did(2, give, a1, answered, 7, 8),
			},
		},
		"an answer that is not in the log": {log: log(), lost: 1, want: "the log has nothing of it", calls: []call{
			did(1, take, a1, answered, 1, 2), did(1, give, a1, unknown, 3, 4),
		}},
		"a release that is not in the log": {log: log(allocated(1, a1)), lost: 1, leaked: 1, want: "the log does not say so", calls: []call{
			did(1, take, a1, answered, 1, 2), did(1, give, a1, answered, 3, 4),
		}},
		"a leak": {log: log(allocated(1, a1)), leaked: 1, want: "still held", calls: []call{did(1, take, netip.Addr{}, unknown, 1, 2)}},
		"a release that was refused": {log: log(allocated(1, a1), released(1, a1)), want: "could not give back", calls: []call{
			did(1, take, a1, answered, 1, 2), did(1, give, a1, refused, 3, 4),
		}},
		"a repeat with another answer": {log: log(allocated(1, a1), released(1, a1)), want: "and was told 10.0.0.2", calls: []call{
			did(1, take, a1, answered, 1, 2), did(1, keep, a2, answered, 3, 4), did(1, give, a1, answered, 5, 6),
		}},
		"a repeat after it was given back": {log: log(allocated(1, a1), released(1, a1)), want: "no allocator", calls: []call{
			did(1, take, a1, answered, 1, 2), did(1, give, a1, answered, 3, 4), did(1, keep, a1, answered, 5, 6),
		}},
		"taken back under one who was told": {
			log:  log(allocated(1, a1), released(1, a1), allocated(2, a1), released(2, a1)),
			want: "no allocator", doubles: 1, calls: []call{
				did(1, take, a1, answered, 1, 2), did(2, take, a1, answered, 3, 4), did(2, give, a1, answered, 5, 6), did(1, give, a1, answered, 7, 8),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := judge(c.calls, c.log, time.Minute)
			said := strings.Join(v.wrong, "\n")
			if (c.want == "") != (said == "") || !strings.Contains(said, c.want) {
				t.Errorf("it is said to be wrong: %q, want %q", said, c.want)
			}
			if v.doubles != c.doubles || v.lost != c.lost || v.leaked != c.leaked {
				t.Errorf("%d double, %d lost, %d leaked; want %d, %d, %d", v.doubles, v.lost, v.leaked, c.doubles, c.lost, c.leaked)
			}
			for at, draw := range v.charts {
				if err := draw(filepath.Join(t.TempDir(), "chart.html")); err != nil {
					t.Errorf("%v: %v", at, err)
				}
			}
		})
	}
}

// TestLead: refusals are counted by their first words.
func TestLead(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]string{
		"No available addresses (all of 10.0.0.0/28 is held): remove containers": "No available addresses",
		"The store does not answer: check that etcd is up":                       "The store does not answer",
		"nothing else": "nothing else",
	} {
		if got := lead(said); got != want {
			t.Errorf("the lead of %q is %q, want %q", said, got, want)
		}
	}
}
