// SPDX-License-Identifier: Apache-2.0

package node

import "time"

// sizes are what a member of etcd says of its database, in bytes. Etcd takes no more
// writes once the file has reached the quota; the file only grows when nothing in it is
// free, so that what is in use tells how near that is.
type sizes struct {
	member             string
	file, inUse, quota int64
}

// part is how much of the quota is in use.
func (s sizes) part() float64 { return float64(s.inUse) / float64(s.quota) }

const (
	// sink is how far, as a part of the quota, the use must fall below a mark before that
	// mark is told of again: superseded revisions come and go by themselves.
	sink = 0.05
	// The rate is taken over rateOver at most, and over rateFrom at least: in less time
	// compactions move more than the log does.
	rateOver = 7 * 24 * time.Hour
	rateFrom = time.Hour
	// fileMark is the part of the quota from which on a file with much free space in it
	// is told of.
	fileMark = 0.9
)

// marks are the parts of the quota that are told when they are passed.
var marks = []float64{0.5, 0.7, 0.8, 0.9}

// fullness decides what is told of the store's sizes, and when.
type fullness struct {
	told     float64 // the mark that was last told and not fallen below since
	fileTold bool
	seen     []look
}

type look struct {
	at    time.Time
	inUse int64
}

// note takes what was seen at a moment. passed says whether that is news, left how long the
// rest of the quota lasts at the rate seen, or 0 where that is not known; bloated is news
// of a file near the quota that is mostly free.
func (f *fullness) note(at time.Time, s sizes) (passed bool, left time.Duration, bloated bool) {
	if n := len(f.seen); n > 0 && s.inUse < f.seen[n-1].inUse*9/10 {
		f.seen = nil // somebody made room: what was before says nothing of the rate
	}
	for len(f.seen) > 0 && at.Sub(f.seen[0].at) > rateOver {
		f.seen = f.seen[1:]
	}
	f.seen = append(f.seen, look{at, s.inUse})
	first := f.seen[0]
	if took, grew := at.Sub(first.at), s.inUse-first.inUse; took >= rateFrom && grew > 0 {
		left = time.Duration(float64(max(0, s.quota-s.inUse)) / float64(grew) * float64(took))
	}

	if s.part() < f.told-sink {
		f.told = markBelow(s.part())
	}
	if mark := markBelow(s.part()); mark > f.told {
		f.told, passed = mark, true
	}
	full := float64(s.file) >= fileMark*float64(s.quota) && s.inUse < s.file/2
	bloated = full && !f.fileTold
	f.fileTold = full
	return passed, left, bloated
}

// markBelow is the highest mark that is reached; 0 if none is.
func markBelow(part float64) float64 {
	reached := 0.0
	for _, m := range marks {
		if part >= m {
			reached = m
		}
	}
	return reached
}
