// SPDX-License-Identifier: Apache-2.0

package timespec

import (
	"slices"
	"sort"
	"time"

	"github.com/cockroachdb/errors"
)

// resolve finds the instant at which clocks in loc showed that day and time.
func (p parser) resolve(d day, c clock, loc *time.Location) (time.Time, error) {
	shown, all := candidates(d, c, loc)
	switch len(shown) {
	case 1:
		return shown[0], nil
	case 0:
		return time.Time{}, p.twoReadings(all, "never was, for clocks were put forward")
	default:
		return time.Time{}, p.twoReadings(shown, "was twice, for clocks were put back")
	}
}

// beginning finds the first instant of a day in loc.
func (p parser) beginning(d day, loc *time.Location) (time.Time, error) {
	shown, all := candidates(d, 0, loc)
	if len(shown) > 0 {
		return shown[0], nil
	}
	// Midnight was skipped: the day began when the clocks were changed, between
	// the two readings of midnight.
	before, after := all[0], all[len(all)-1]
	seconds := sort.Search(int(after.Sub(before)/time.Second), func(i int) bool {
		return dayOf(before.Add(time.Duration(i)*time.Second)) == d
	})
	if start := before.Add(time.Duration(seconds) * time.Second); dayOf(start) == d {
		return start, nil
	}
	// All of the day was: an island moved over the date line.
	return time.Time{}, p.twoReadings(all, "never was, for the calendar went on")
}

// candidates returns the instants at which clocks in loc would show that day
// and time under each offset from UTC in force around it, earliest first; and
// first of all those among them at which they really did.
func candidates(d day, c clock, loc *time.Location) (shown, all []time.Time) {
	digits := time.Date(d.year, d.month, d.day, 0, 0, 0, 0, time.UTC).Add(time.Duration(c))
	seen := map[int]bool{}
	// Written offsets are less than 24 hours and towns' less than 16, so the
	// instant is near. No offset was in force for less than an hour.
	for hours := -26; hours <= 26; hours++ {
		// Asking hour by hour, and not time.ZoneBounds for the next change:
		// on the last day of later leap years that answers "now", for ever.
		_, offset := digits.Add(time.Duration(hours) * time.Hour).In(loc).Zone()
		if !seen[offset] {
			seen[offset] = true
			all = append(all, digits.Add(-time.Duration(offset)*time.Second).In(loc))
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	for _, t := range all {
		if dayOf(t) == d && clockOf(t) == c {
			shown = append(shown, t)
		}
	}
	return shown, all
}

func (p parser) twoReadings(readings []time.Time, why string) error {
	return errors.Newf("the time %s %s; write %s or %s", p.quoted(), why,
		instant(readings[0]), instant(readings[len(readings)-1]))
}
