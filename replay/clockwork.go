// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"math"

	"github.com/ipamlog/ipamlog/projection"
)

// clockwork knows the running time after each revision of a timeline, as an
// [instant].
type clockwork struct {
	timeline         *projection.Timeline
	revisions, times []int64 // nil: few are asked for
}

// newClockwork returns one for whom asks about few revisions, or about all.
func newClockwork(t *projection.Timeline, all bool) clockwork {
	c := clockwork{timeline: t}
	if !all {
		return c
	}
	for revision, running := range t.Passages() {
		c.revisions, c.times = append(c.revisions, revision), append(c.times, instant(running))
	}
	return c
}

// running is the running time after a revision.
func (c *clockwork) running(revision int64) int64 {
	if c.revisions == nil {
		return instant(c.timeline.Running(revision))
	}
	// Revisions are handed out one by one, some of them to others: the place of one
	// is no further on than its distance from the first.
	low, high := 0, int(min(int64(len(c.revisions)), max(revision-c.revisions[0]+1, 0)))
	for low < high {
		if middle := int(uint(low+high) / 2); c.revisions[middle] > revision {
			high = middle
		} else {
			low = middle + 1
		}
	}
	if low == 0 {
		return math.MinInt64
	}
	return c.times[low-1]
}
