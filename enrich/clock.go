// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Clock says how the times of a log are to be read.
type Clock struct {
	// Layout is that of package time, for what is not understood without; empty:
	// RFC 3339 and what looks like it, seconds and their fractions since 1970,
	// syslog's times and web servers'.
	Layout string
	Zone   *time.Location // of times that name none
	// Now is when the log is read: a year that is not written is the latest that
	// is not to come.
	Now time.Time
}

// clock reads times. Not safe for concurrent use.
type clock struct {
	Clock
	wall wall
}

func newClock(c Clock) *clock { return &clock{Clock: c, wall: wall{zone: c.Zone}} }

// read returns the moment that a text means, or why it means none.
func (c *clock) read(text string) (time.Time, Reason) {
	text = strings.TrimSpace(text)
	if c.Layout != "" {
		return c.laidOut(text)
	}
	if n := len(text); n > 2 && text[0] == '[' && text[n-1] == ']' {
		text = text[1 : n-1] // as web servers write it
	}
	switch {
	case text == "":
		return time.Time{}, timeUnread
	case len(text) > 4 && (text[4] == '-' || text[4] == '/'):
		return c.dated(text)
	case len(text) > 2 && text[2] == '/':
		return c.common(text)
	case text[0] >= 'A' && text[0] <= 'Z':
		return c.syslog(text)
	}
	return sinceEpoch(text)
}

// scan reads a text from its beginning; once something is not there, nothing is.
type scan struct {
	rest string
	bad  bool
}

func (s *scan) fail() { s.bad, s.rest = true, "" }

// number reads exactly so many digits.
func (s *scan) number(digits int) int {
	if len(s.rest) < digits {
		s.fail()
		return 0
	}
	n := 0
	for i := range digits {
		d := s.rest[i] - '0'
		if d > 9 {
			s.fail()
			return 0
		}
		n = 10*n + int(d)
	}
	s.rest = s.rest[digits:]
	return n
}

// any reads one of these bytes.
func (s *scan) any(of string) {
	if s.rest == "" || strings.IndexByte(of, s.rest[0]) < 0 {
		s.fail()
		return
	}
	s.rest = s.rest[1:]
}

// has reads a byte if it is there.
func (s *scan) has(b byte) bool {
	if s.rest == "" || s.rest[0] != b {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// month reads the three letters of one.
func (s *scan) month() int {
	const months = "JanFebMarAprMayJunJulAugSepOctNovDec"
	if len(s.rest) < 3 {
		s.fail()
		return 0
	}
	n := strings.Index(months, s.rest[:3])
	if n < 0 || n%3 != 0 {
		s.fail()
		return 0
	}
	s.rest = s.rest[3:]
	return n/3 + 1
}

// clock reads hours, minutes, and seconds with a fraction; seconds may be left out
// where that is usual. It returns them in seconds and nanoseconds.
func (s *scan) clock(short bool) (seconds, nanoseconds int64) {
	h := s.number(2)
	s.any(":")
	m, sec := s.number(2), 0
	if !short || strings.HasPrefix(s.rest, ":") {
		s.any(":")
		sec = s.number(2)
	}
	if h > 23 || m > 59 || sec > 60 { // a leap second is the next one's beginning
		s.fail()
	}
	if s.has('.') || s.has(',') {
		nanoseconds = s.fraction()
	}
	return int64(h*3600 + m*60 + sec), nanoseconds
}

// fraction reads the digits behind a point, as nanoseconds; what is finer is cut off.
func (s *scan) fraction() int64 {
	n, digits := int64(0), 0
	for ; digits < len(s.rest) && s.rest[digits]-'0' <= 9; digits++ {
		if digits < 9 {
			n = 10*n + int64(s.rest[digits]-'0')
		}
	}
	if digits == 0 {
		s.fail()
		return 0
	}
	s.rest = s.rest[digits:]
	for ; digits < 9; digits++ {
		n *= 10
	}
	return n
}

// offset reads how far a zone is from Greenwich, in seconds. There may be none.
func (s *scan) offset() (seconds int64, named bool) {
	s.has(' ')
	switch s.rest {
	case "":
		return 0, false
	case "Z", "z", "UTC", "GMT":
		s.rest = ""
		return 0, true
	}
	sign := int64(1)
	if s.rest[0] == '-' {
		sign = -1
	}
	s.any("+-")
	h, m := s.number(2), 0
	if s.rest != "" {
		s.has(':')
		m = s.number(2)
	}
	if h > 23 || m > 59 {
		s.fail()
	}
	return sign * int64(h*3600+m*60), true
}

// dated reads 2026-11-21T03:12:01.123+01:00 and its kin.
func (c *clock) dated(text string) (time.Time, Reason) {
	s := scan{rest: text}
	year := s.number(4)
	s.any("-/")
	month := s.number(2)
	s.any("-/")
	day := s.number(2)
	s.any("Tt ")
	seconds, nanoseconds := s.clock(true)
	return c.finish(&s, year, month, day, seconds, nanoseconds)
}

// common reads 21/Nov/2026:03:12:01 +0000, the common log format of web servers.
func (c *clock) common(text string) (time.Time, Reason) {
	s := scan{rest: text}
	day := s.number(2)
	s.any("/")
	month := s.month()
	s.any("/")
	year := s.number(4)
	s.any(": ")
	seconds, nanoseconds := s.clock(false)
	return c.finish(&s, year, month, day, seconds, nanoseconds)
}

// syslog reads Nov 21 03:12:01, with a year behind the day or without.
func (c *clock) syslog(text string) (time.Time, Reason) {
	s := scan{rest: text}
	month := s.month()
	s.any(" ")
	digits := 2
	if s.has(' ') || len(s.rest) > 1 && s.rest[1] == ' ' {
		digits = 1
	}
	day := s.number(digits)
	s.any(" ")
	if len(s.rest) > 4 && s.rest[4] == ' ' {
		year := s.number(4)
		s.any(" ")
		seconds, nanoseconds := s.clock(false)
		return c.finish(&s, year, month, day, seconds, nanoseconds)
	}
	seconds, nanoseconds := s.clock(false)
	return c.inLatestYear(month, day, func(year int) (time.Time, Reason) {
		of := s
		return c.finish(&of, year, month, day, seconds, nanoseconds)
	})
}

// ahead is how far a log's clock may be before ours without its lines being taken
// for those of a year ago.
const ahead = 24 * time.Hour

// inLatestYear finds the year of a day that names none. Leap days are four years
// apart, or eight.
func (c *clock) inLatestYear(month, day int, read func(year int) (time.Time, Reason)) (time.Time, Reason) {
	last := c.Now.Add(ahead)
	for year := last.Year() + 1; year > last.Year()-9; year-- { // + 1: zones differ
		if !isDay(year, month, day) || daysSince1970(year, month, day)*secondsADay > last.Unix()+secondsADay {
			continue
		}
		if t, reason := read(year); reason != "" || !t.After(last) {
			return t, reason
		}
	}
	return time.Time{}, timeUnread
}

// finish reads the zone, and puts the date together.
func (c *clock) finish(s *scan, year, month, day int, seconds, nanoseconds int64) (time.Time, Reason) {
	offset, named := s.offset()
	if s.bad || s.rest != "" || !isDay(year, month, day) {
		return time.Time{}, timeUnread
	}
	shown := daysSince1970(year, month, day)*secondsADay + seconds
	if named {
		return time.Unix(shown-offset, nanoseconds), ""
	}
	moment, reason := c.wall.moment(shown)
	return time.Unix(moment, nanoseconds), reason
}

func isDay(year, month, day int) bool {
	return month >= 1 && month <= 12 && day >= 1 && day <= daysIn(year, month)
}

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// daysSince1970 counts in years that begin in March, so that the leap day is the
// last.
func daysSince1970(year, month, day int) int64 {
	y, m := int64(year), int64(month)
	if m <= 2 {
		y, m = y-1, m+12
	}
	return 365*y + floor(y, 4) - floor(y, 100) + floor(y, 400) + (153*(m-3)+2)/5 + int64(day) - 1 - 719468
}

func floor(a, b int64) int64 {
	if a < 0 {
		return -((b - 1 - a) / b)
	}
	return a / b
}

// sinceEpoch reads a number of seconds, milliseconds, microseconds or nanoseconds:
// which, its size tells, for all of them are of the years 1973 to 5138.
func sinceEpoch(text string) (time.Time, Reason) {
	whole, digits := int64(0), 0
	for ; digits < len(text) && text[digits]-'0' <= 9; digits++ {
		if digits >= 18 && whole > (math.MaxInt64-9)/10 {
			return time.Time{}, timeUnread
		}
		whole = 10*whole + int64(text[digits]-'0')
	}
	s := scan{rest: text[digits:]}
	if digits > 0 && strings.ContainsAny(s.rest, "eE") {
		return sinceEpochFloat(text)
	}
	fraction := int64(0) // in billionths of the unit
	if s.has('.') {
		fraction = s.fraction()
	}
	if whole < 1e8 || s.bad || s.rest != "" {
		return time.Time{}, timeUnread
	}
	perSecond := int64(1)
	for limit := int64(1e11); perSecond < 1e9 && whole >= limit; limit *= 1000 {
		perSecond *= 1000
	}
	return time.Unix(whole/perSecond, whole%perSecond*(1e9/perSecond)+fraction/perSecond), ""
}

// sinceEpochFloat is for programs that write large numbers as 1.7636947e+09. That
// is exact to the microsecond.
func sinceEpochFloat(text string) (time.Time, Reason) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f < 0 || f >= math.MaxInt64/1000 {
		return time.Time{}, timeUnread
	}
	return sinceEpoch(strconv.FormatFloat(f, 'f', -1, 64))
}

// laidOut reads a text by the layout that the user gave.
func (c *clock) laidOut(text string) (time.Time, Reason) {
	// As if in Greenwich, so that what clocks showed can be told from what they
	// showed a second time.
	shown, err := time.ParseInLocation(c.Layout, text, time.UTC)
	if err != nil {
		return time.Time{}, timeUnread
	}
	named := strings.Contains(c.Layout, "-07") || strings.Contains(c.Layout, "Z07")
	if strings.Contains(c.Layout, "MST") && !named {
		// Letters mean different zones in different places: those of one's own zone
		// alone are known.
		if shown, err = time.ParseInLocation(c.Layout, text, c.Zone); err != nil || shown.Location() != c.Zone && shown.Location() != time.UTC {
			return time.Time{}, timeUnread
		}
		named = true
	}
	in := func(t time.Time) (time.Time, Reason) {
		if named {
			return t, ""
		}
		moment, reason := c.wall.moment(t.Unix())
		return time.Unix(moment, int64(t.Nanosecond())), reason
	}
	if shown.Year() != 0 {
		return in(shown)
	}
	return c.inLatestYear(int(shown.Month()), shown.Day(), func(year int) (time.Time, Reason) {
		return in(shown.AddDate(year, 0, 0))
	})
}
