// SPDX-License-Identifier: Apache-2.0

package render

import (
	"io"
	"os"
	"strconv"

	"github.com/mattn/go-isatty"
	"golang.org/x/sys/unix"
)

// Output is where an answer goes and what it looks like there.
type Output struct {
	Writer io.Writer
	Format Format
	// Color allows colour in tables; no other format has any.
	Color bool
	// Width is how many columns the terminal has; 0: it is none.
	Width int
}

// NewOutput returns an output that is coloured where w is a terminal that
// knows colour and noColor does not forbid it.
func NewOutput(w io.Writer, format Format, noColor bool) Output {
	return Output{Writer: w, Format: format, Color: !noColor && colorTerminal(w), Width: width(w)}
}

// width is how wide a terminal says it is. One that does not say is as wide as its
// user does, or as terminals were.
func width(w io.Writer) int {
	file, ok := w.(*os.File)
	if !ok || !isatty.IsTerminal(file.Fd()) {
		return 0
	}
	if size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
		return int(size.Col)
	}
	if columns, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && columns > 0 {
		return columns
	}
	return 80
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
