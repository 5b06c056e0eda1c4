// SPDX-License-Identifier: Apache-2.0

package timespec

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
)

// day is a date on the calendar, in no zone.
type day struct {
	year  int
	month time.Month
	day   int
}

func dayOf(t time.Time) day {
	year, month, d := t.Date()
	return day{year, month, d}
}

func (d day) plus(days int) day {
	return dayOf(time.Date(d.year, d.month, d.day+days, 12, 0, 0, 0, time.UTC))
}

func (d day) weekday() time.Weekday {
	return time.Date(d.year, d.month, d.day, 12, 0, 0, 0, time.UTC).Weekday()
}

// clock is the time since midnight that a clock shows.
type clock time.Duration

func clockOf(t time.Time) clock {
	h, m, s := t.Clock()
	return clock(time.Duration(h)*time.Hour + time.Duration(m)*time.Minute +
		time.Duration(s)*time.Second + time.Duration(t.Nanosecond()))
}

// form is a day, a clock time, or both; a zone only with a clock time.
var form = regexp.MustCompile(`^(?:` +
	`(?P<date>\d{4}-\d\d-\d\d)` +
	`|(?P<word>today|yesterday)` +
	`|(?P<last>last )?(?P<weekday>mon(?:day)?|tue(?:sday)?|wed(?:nesday)?|thu(?:rsday)?|fri(?:day)?|sat(?:urday)?|sun(?:day)?)` +
	`)?` +
	`(?P<between>t|(?: at)? )?` +
	`(?P<clock>\d{1,2}:\d\d(?::\d\d(?:\.\d{1,9})?)?)?` +
	`(?: ?(?P<zone>z|utc|gmt|[+-]\d\d:?\d\d))?$`)

func (p parser) dayAndClock(text string) (time.Time, error) {
	m := form.FindStringSubmatch(text)
	if m == nil {
		return time.Time{}, errUnknown
	}
	part := func(name string) string { return m[form.SubexpIndex(name)] }
	date, word, weekday, between := part("date"), part("word"), part("weekday"), part("between")
	hasDay, hasClock := date+word+weekday != "", part("clock") != ""
	switch {
	case !hasDay && !hasClock,
		!hasClock && (between != "" || part("zone") != ""),
		hasDay && hasClock && between == "",
		!hasDay && between != "",
		date == "" && between == "t",
		date != "" && between == " at ":
		return time.Time{}, errUnknown
	}

	loc, err := p.zone(part("zone"))
	if err != nil {
		return time.Time{}, err
	}
	at, err := p.clock(part("clock"))
	if err != nil {
		return time.Time{}, err
	}
	moment := func(d day) (time.Time, error) {
		if !hasClock {
			return p.beginning(d, loc)
		}
		return p.resolve(d, at, loc)
	}

	now := p.now.In(loc)
	switch today := dayOf(now); {
	case date != "":
		d, err := p.date(date)
		if err != nil {
			return time.Time{}, err
		}
		return moment(d)
	case word == "yesterday":
		return moment(today.plus(-1))
	case weekday != "":
		back := (int(today.weekday()) - int(weekdays[weekday[:3]]) + 7) % 7
		// Compared as clocks show it: whether today's is past must not hang
		// on a reading that today may not have.
		if back == 0 && (part("last") != "" || at > clockOf(now)) {
			back = 7
		}
		return moment(today.plus(-back))
	default:
		return moment(today)
	}
}

var weekdays = map[string]time.Weekday{
	"sun": time.Sunday, "mon": time.Monday, "tue": time.Tuesday, "wed": time.Wednesday,
	"thu": time.Thursday, "fri": time.Friday, "sat": time.Saturday,
}

func (p parser) date(text string) (day, error) {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return day{}, errors.Newf("there is no day %s in %s; write a date such as %s", text, p.quoted(), p.now.Format(time.DateOnly))
	}
	return dayOf(t), nil
}

func (p parser) clock(text string) (clock, error) {
	if text == "" {
		return 0, nil
	}
	layout := "15:04"
	if strings.Count(text, ":") == 2 {
		layout = "15:04:05" // reads a fraction too
	}
	t, err := time.Parse(layout, text)
	if err != nil {
		return 0, errors.Newf("no clock shows %s in %s; write hours and minutes such as 03:12", text, p.quoted())
	}
	return clockOf(t), nil
}

func (p parser) zone(text string) (*time.Location, error) {
	switch text {
	case "":
		return p.now.Location(), nil
	case "z", "utc", "gmt":
		return time.UTC, nil
	}
	hours, errH := strconv.Atoi(text[1:3])
	minutes, errM := strconv.Atoi(text[len(text)-2:])
	if errH != nil || errM != nil || hours > 23 || minutes > 59 {
		return nil, errors.Newf("no zone is %s from UTC in %s; write its offset such as +01:00, or Z", text, p.quoted())
	}
	offset := hours*3600 + minutes*60
	if text[0] == '-' {
		offset = -offset
	}
	return time.FixedZone("", offset), nil
}
