// SPDX-License-Identifier: Apache-2.0

package enrich

import "time"

const secondsADay = 24 * 60 * 60

// wall turns what clocks of a zone show into moments. It remembers the last day
// asked for: logs are written day by day. Not safe for concurrent use.
type wall struct {
	zone   *time.Location
	day    int64 // since 1970, as clocks count
	offset int64 // seconds east of Greenwich, all of that day
	known  bool
}

// moment is when clocks showed so many seconds since 1970. A time that was twice or
// never, because clocks were changed, is none.
func (w *wall) moment(shown int64) (seconds int64, reason Reason) {
	day := shown / secondsADay
	if !w.known || day != w.day {
		// No zone is a day from Greenwich, and none changed its clocks twice in
		// three days.
		before, after := w.offsetAt((day-1)*secondsADay), w.offsetAt((day+2)*secondsADay)
		if before != after {
			return changing(shown, before, after, w.offsetAt)
		}
		w.day, w.offset, w.known = day, before, true
	}
	return shown - w.offset, ""
}

func (w *wall) offsetAt(seconds int64) int64 {
	_, offset := time.Unix(seconds, 0).In(w.zone).Zone()
	return int64(offset)
}

// changing is for the days on which clocks are changed.
func changing(shown, before, after int64, offsetAt func(int64) int64) (int64, Reason) {
	early, late := shown-before, shown-after
	switch was, is := offsetAt(early) == before, offsetAt(late) == after; {
	case was && is:
		return 0, timeTwice
	case was:
		return early, ""
	case is:
		return late, ""
	}
	return 0, timeNever
}
