// SPDX-License-Identifier: Apache-2.0

package render

import (
	"io"
	"os"

	"github.com/mattn/go-isatty"
)

// Output is where an answer goes and what it looks like there.
type Output struct {
	Writer io.Writer
	Format Format
	// Color allows colour in tables; no other format has any.
	Color bool
}

// NewOutput returns an output that is coloured where w is a terminal that
// knows colour and noColor does not forbid it.
func NewOutput(w io.Writer, format Format, noColor bool) Output {
	return Output{Writer: w, Format: format, Color: !noColor && colorTerminal(w)}
}

// ForPrograms reports whether the answer is JSON, so that one value can say all.
func (o Output) ForPrograms() bool { return o.Format == FormatJSON || o.Format == FormatJSONL }

func colorTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && isatty.IsTerminal(file.Fd()) && os.Getenv("TERM") != "dumb"
}

// Emphasis is how much a line of a table calls for attention.
type Emphasis int

const (
	// Plain lines are printed as they are.
	Plain Emphasis = iota
	// Faint lines matter less: something over, or empty.
	Faint
	// Notice lines should be looked at.
	Notice
	// Alarm lines must be looked at.
	Alarm

	heading
)

const reset = "\x1b[0m"

func (e Emphasis) paint(line string) string {
	switch e {
	case Faint:
		return "\x1b[2m" + line + reset
	case Notice:
		return "\x1b[33m" + line + reset
	case Alarm:
		return "\x1b[31m" + line + reset
	case heading:
		return "\x1b[1m" + line + reset
	case Plain:
	}
	return line
}
