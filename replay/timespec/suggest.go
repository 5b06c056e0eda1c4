// SPDX-License-Identifier: Apache-2.0

package timespec

import (
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/errors"
)

// quoted returns the input as an error shows it: visible, and not too much.
func (p parser) quoted() string {
	const enough = 60
	input := []rune(p.input)
	if len(input) > enough {
		input = append(input[:enough:enough], '…')
	}
	return strconv.Quote(string(input))
}

// notUnderstood is the error for input that the grammar does not have.
func (p parser) notUnderstood() error {
	if suggestion := p.suggestion(); suggestion != "" {
		return errors.Newf("the time %s is not understood; did you mean %q?", p.quoted(), suggestion)
	}
	return errors.Newf(`the time %s is not understood; write one such as "2026-11-21 03:12", "03:12", "yesterday 03:12", "last tuesday 03:12", "-2h", "2 days ago", or a revision such as @4711`,
		p.quoted())
}

// words are what the grammar is made of, apart from digits.
var words = []string{
	"now", "today", "yesterday", "last", "at", "ago",
	"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday",
	"seconds", "second", "minutes", "minute", "hours", "hour", "days", "day", "weeks", "week",
	"utc",
}

// suggestion returns input that the grammar has and that is near to what was
// written, or nothing.
func (p parser) suggestion() string {
	if len(p.input) > 60 {
		return ""
	}
	fields := strings.Fields(strings.ToLower(p.input))
	if len(fields) == 0 {
		return ""
	}
	repaired := make([]string, len(fields))
	for i, field := range fields {
		repaired[i] = nearest(field)
	}
	text := strings.Join(repaired, " ")
	for _, candidate := range []string{
		text,
		text + " ago", // "2h", as docker logs --since has it
		"@" + text,    // a bare revision
	} {
		if p.reads(candidate) {
			return candidate
		}
	}
	return ""
}

// reads reports whether the grammar has text.
func (p parser) reads(text string) bool {
	var err error
	if revision, ok := strings.CutPrefix(text, "@"); ok {
		_, err = p.revision(revision)
	} else {
		_, err = p.instant(text)
	}
	return err == nil
}

// nearest returns the grammar's word that field is a slip of, or field itself.
func nearest(field string) string {
	if strings.ContainsAny(field, "0123456789") || slices.Contains(words, field) {
		return field
	}
	best, least := field, min(2, len(field)/3)+1
	for _, word := range words {
		if d := distance(field, word); d < least {
			best, least = word, d
		}
	}
	return best
}

// distance counts the letters to be put in, left out, changed, or swapped with
// their neighbour to make b of a.
func distance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
