// SPDX-License-Identifier: Apache-2.0

package timespec

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
)

// Spec is a moment: a revision of the log, or an instant.
type Spec struct {
	// Revision is 1 or more where a revision was asked for, else 0.
	Revision int64
	// Time is the instant where no revision was asked for. It is in the zone
	// it was written in, and within the years 1970 to 9999.
	Time time.Time
}

// IsRevision reports whether the moment is a revision and not an instant.
func (s Spec) IsRevision() bool { return s.Revision > 0 }

// String returns what was understood: @4711, or the instant as RFC 3339 with
// its zone. [Parse] reads it as the same moment, whatever the time then is.
func (s Spec) String() string {
	if s.IsRevision() {
		return "@" + strconv.FormatInt(s.Revision, 10)
	}
	return instant(s.Time)
}

// instant writes t in its own zone. RFC 3339 cannot write the offsets of times
// when a town's clock followed its sun, for they have seconds: those are
// written in UTC.
func instant(t time.Time) string {
	if _, offset := t.Zone(); offset%60 != 0 {
		t = t.UTC()
	}
	return t.Format(time.RFC3339Nano)
}

// Parse understands input as a moment, as the package's grammar has it. Words
// like "today" are relative to now; clock times without a zone are in loc,
// which is the local zone when nil.
//
// The moment may be to come. An error is one sentence that says what may be
// written instead.
func Parse(input string, now time.Time, loc *time.Location) (Spec, error) {
	if loc == nil {
		loc = time.Local
	}
	p := parser{input: input, now: now.Round(0).In(loc)}
	text := strings.ToLower(strings.Join(strings.Fields(input), " "))
	if revision, ok := strings.CutPrefix(text, "@"); ok {
		return p.revision(revision)
	}
	t, err := p.instant(text)
	if errors.Is(err, errUnknown) {
		return Spec{}, p.notUnderstood()
	}
	if err != nil {
		return Spec{}, err
	}
	if t.UTC().Year() < 1970 || max(t.UTC().Year(), t.Year()) > 9999 {
		return Spec{}, errors.Newf("the time %s is outside the years 1970 to 9999; write one within, such as %s",
			p.quoted(), instant(p.now.Truncate(time.Second)))
	}
	return Spec{Time: t}, nil
}

// errUnknown is the error of the forms for text that is none of them.
var errUnknown = errors.New("not in the grammar")

// parser holds what the forms of the grammar have in common.
type parser struct {
	input string    // as it was written, for errors
	now   time.Time // in the caller's zone
}

func (p parser) revision(digits string) (Spec, error) {
	revision, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || revision < 1 || digits[0] == '+' {
		return Spec{}, errors.Newf("%s is no revision; write @ and a number from 1, such as @4711", p.quoted())
	}
	return Spec{Revision: revision}, nil
}

func (p parser) instant(text string) (time.Time, error) {
	if text == "now" {
		return p.now, nil
	}
	if length, ok := strings.CutPrefix(text, "-"); ok {
		if m := days.FindStringSubmatch(length); m != nil {
			return p.ago(m[1] + " " + units[m[2]])
		}
		return p.before(length)
	}
	if length, ok := strings.CutSuffix(text, " ago"); ok {
		return p.ago(length)
	}
	return p.dayAndClock(p.asWritten(text))
}

// days are the lengths of "-2d" and "-1w", which are counted on the calendar.
var (
	days  = regexp.MustCompile(`^(\d{1,6})(d|w)$`)
	units = map[string]string{"d": "day", "w": "week"}
)

var duration = regexp.MustCompile(`^(\d+(\.\d+)?(h|m|s|ms))+$`)

// before understands "2h" of "-2h" and "2h ago".
func (p parser) before(length string) (time.Time, error) {
	if !duration.MatchString(length) {
		return time.Time{}, errUnknown
	}
	d, err := time.ParseDuration(length)
	if err != nil {
		return time.Time{}, errUnknown
	}
	return p.now.Add(-d), nil
}

var count = regexp.MustCompile(`^(\d{1,6}|an?) (second|sec|minute|min|hour|day|week)s?$`)

// ago understands what stands before "ago".
func (p parser) ago(length string) (time.Time, error) {
	m := count.FindStringSubmatch(length)
	if m == nil {
		return p.before(length)
	}
	n, err := strconv.Atoi(strings.NewReplacer("an", "1", "a", "1").Replace(m[1]))
	if err != nil {
		return time.Time{}, errUnknown
	}
	switch m[2] {
	case "second", "sec":
		return p.now.Add(-time.Duration(n) * time.Second), nil
	case "minute", "min":
		return p.now.Add(-time.Duration(n) * time.Minute), nil
	case "hour":
		return p.now.Add(-time.Duration(n) * time.Hour), nil
	case "week":
		n *= 7
	}
	// Days are counted on the calendar: two days ago the clock showed what it
	// shows now, though it may have been put forward since.
	return p.resolve(dayOf(p.now).plus(-n), clockOf(p.now), p.now.Location())
}
