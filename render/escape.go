// SPDX-License-Identifier: Apache-2.0

package render

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// unseen reports whether r has no shape of its own: a terminal obeys it or
// hides it, instead of showing it.
func unseen(r rune) bool { return !unicode.IsPrint(r) }

// tableCell returns text as a table shows it: visible, on one line, and never
// empty, so that tools which split lines at white space keep count.
func tableCell(text string) string {
	if text == "" {
		return "-"
	}
	return visible(text, true)
}

// formulaStart is what makes a spreadsheet run a cell instead of showing it;
// some take the full-width forms as well.
const formulaStart = "=+-@\t\r\n＝＋－＠"

// harmless is a number or duration: it may begin with a sign and still is no
// formula.
var harmless = regexp.MustCompile(`^[+-]?(\d+(\.\d*)?([eE][+-]?\d+)?|(\d+(\.\d+)?(h|m|s|ms|µs|ns))+)$`)

// csvCell returns text as CSV has it: visible, and nothing that a spreadsheet
// would run. Line breaks and tabs stay, quoted as CSV does; a carriage return
// does not, for on a terminal it would overwrite what stands before it.
func csvCell(text string) string {
	first, _ := utf8.DecodeRuneInString(text)
	dangerous := text != "" && strings.ContainsRune(formulaStart, first) && !harmless.MatchString(text)
	text = visible(text, false)
	text = splitFormula.ReplaceAllString(text, "$1'$2")
	if dangerous {
		return "'" + text
	}
	return text
}

// splitFormula is what becomes the beginning of a cell, and so a formula, where a
// spreadsheet takes another sign for the one that parts cells.
var splitFormula = regexp.MustCompile(`([;|])([=+\-@\t＝＋－＠])`)

// Line returns a sentence as a terminal may show it: on one line, with a Go escape
// for what cannot be seen. A backslash stays as it is, for a sentence is not read
// back.
func Line(text string) string {
	return strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(visible(text, false))
}

// visible replaces what cannot be seen by its Go escape. On one line also line
// breaks and tabs go, and a backslash is doubled so that escapes are not
// mistaken for text.
func visible(text string, oneLine bool) string {
	shown := func(r rune) bool {
		if oneLine {
			return !unseen(r) && r != '\\'
		}
		return !unseen(r) || r == '\n' || r == '\t'
	}
	if utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !shown(r) }) {
		return text
	}
	var out strings.Builder
	for i, r := range text {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(text[i:]); size == 1 {
				out.WriteString(`\x` + strconv.FormatUint(uint64(text[i]), 16))
				continue
			}
		}
		if shown(r) {
			out.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRune(r)
		out.WriteString(quoted[1 : len(quoted)-1])
	}
	return out.String()
}
