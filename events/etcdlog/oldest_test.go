// SPDX-License-Identifier: Apache-2.0

package etcdlog_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// TestOldest: stretch by stretch it is the log from its beginning, in the order of its
// revisions and without a gap, whatever the clocks did; also of what is written while it
// is read.
func TestOldest(t *testing.T) {
	until := noon.Add(time.Hour)
	shapes := map[string]func(i int) place{
		"one after the other": func(i int) place {
			return place{Stream: streamNo(i % 7), ID: idAt(noon.Add(time.Duration(i)*time.Second), i)}
		},
		"backwards": func(i int) place {
			return place{Stream: streamNo(i % 7), ID: idAt(noon.Add(-time.Duration(i)*time.Second), i)}
		},
		"anyhow": func(i int) place {
			return place{Stream: streamNo(i % 7), ID: idAt(noon.Add(time.Duration(rand.Int64N(4e12))-time.Hour), i)}
		},
		"one in a hundred from a year ahead": func(i int) place {
			at := noon.Add(time.Duration(i) * time.Second)
			if i%100 == 50 {
				at = at.AddDate(1, 0, 0)
			}
			return place{Stream: streamNo(i % 3), ID: idAt(at, i)}
		},
	}
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := etcdtest.Start(t).Client()
			var names []place
			for i := range 2000 {
				names = append(names, shape(i))
			}
			// The one that writes them all shuffles those that are under way together.
			want := write(t, client, names[:1500])
			reader := etcdlog.New(client, etcdlog.DefaultPrefix).Oldest()
			var got []place
			var reached int64
			var running time.Time
			for {
				part, err := reader.Next(within(t, 60*time.Second), reached, running, until, 200)
				if err != nil {
					t.Fatal(err)
				}
				if len(part.Commits) == 0 {
					break
				}
				for _, c := range part.Commits {
					got = append(got, place{c.Stream, c.ID, c.Revision})
				}
				reached, running = got[len(got)-1].Revision, part.Running
				if len(want) < len(names) {
					want = append(want, write(t, client, names[1500:])...)
				}
			}
			// What follows the last one of before the moment is under IDs that are later.
			end := len(want)
			for end > 0 && !want[end-1].ID.Time().Before(until) {
				end--
			}
			if diff := difference(want[:end], got); diff != "" {
				t.Errorf("(-written +read):\n%.2000s", diff)
			}
		})
	}
}
