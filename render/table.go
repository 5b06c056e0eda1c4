// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/cockroachdb/errors"
)

// Column is one property of the records.
type Column[T any] struct {
	// Name is the property's name as in JSON, such as "from_revision": CSV
	// has it as it is, a table in capitals with spaces.
	Name string
	// Heading is what a table calls it where that is not the name.
	Heading string
	// Value returns the property as programs read it.
	Value func(T) string
	// Human returns the property as people read it in a table. Nil: as Value.
	Human func(T) string
	// Detail keeps the column out of tables, where room is scarce.
	Detail bool
	// Width is the least width in characters when a table is streamed, and
	// nobody knows yet how wide the values will be.
	Width int
}

func (c Column[T]) human(record T) string {
	if c.Human != nil {
		return c.Human(record)
	}
	return c.Value(record)
}

func (c Column[T]) heading() string {
	if c.Heading != "" {
		return c.Heading
	}
	return strings.ToUpper(strings.ReplaceAll(c.Name, "_", " "))
}

// Within returns the columns of what is a part of a record. They are empty for a
// record without that part, for which part returns nil.
func Within[T, P any](columns []Column[P], part func(T) *P) []Column[T] {
	whole := make([]Column[T], 0, len(columns))
	for _, c := range columns {
		own := Column[T]{Name: c.Name, Heading: c.Heading, Detail: c.Detail, Width: c.Width}
		through := func(value func(P) string) func(T) string {
			return func(record T) string {
				p := part(record)
				if p == nil {
					return ""
				}
				return value(*p)
			}
		}
		own.Value = through(c.Value)
		if c.Human != nil {
			own.Human = through(c.Human)
		}
		whole = append(whole, own)
	}
	return whole
}

// Table says how records of one kind are listed. Tables and CSV print its
// columns; JSON prints the records themselves, by their own JSON form.
//
// A Table is never changed by printing, so that one may serve goroutines at
// the same time.
type Table[T any] struct {
	Columns []Column[T]
	// Emphasis says how a record's line in a table is coloured. Nil: plain.
	Emphasis func(T) Emphasis
}

// List prints all records. Without any it prints what the format has for an
// empty list: the header, or [], or nothing at all for JSON lines.
//
// An error is the writer's, or that of a record which has no JSON form.
func (t Table[T]) List(out Output, records []T) error {
	if out.Format == FormatTable {
		return t.align(out, records)
	}
	stream := t.Stream(out)
	for _, record := range records {
		if err := stream.Write(record); err != nil {
			return err
		}
	}
	return stream.Close()
}

// align prints a table whose columns are as wide as their widest cell.
func (t Table[T]) align(out Output, records []T) error {
	var aligned bytes.Buffer
	tw := tabwriter.NewWriter(&aligned, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, strings.Join(t.headings(), "\t"))
	for _, record := range records {
		fmt.Fprintln(tw, strings.Join(t.cells(record), "\t"))
	}
	if err := tw.Flush(); err != nil {
		return errors.Wrap(err, "align table")
	}
	// A cell holds no line break, so line i is record i-1.
	var page strings.Builder
	i := 0
	for line := range strings.Lines(aligned.String()) {
		emphasis := heading
		if i > 0 {
			emphasis = t.emphasis(records[i-1])
		}
		page.WriteString(finish(line, emphasis, out.Color))
		i++
	}
	_, err := io.WriteString(out.Writer, page.String())
	return errors.Wrap(err, "print table")
}

// inTable returns the columns that tables show.
func (t Table[T]) inTable() []Column[T] {
	var shown []Column[T]
	for _, column := range t.Columns {
		if !column.Detail {
			shown = append(shown, column)
		}
	}
	return shown
}

func (t Table[T]) headings() []string {
	var headings []string
	for _, column := range t.inTable() {
		headings = append(headings, column.heading())
	}
	return headings
}

func (t Table[T]) cells(record T) []string {
	var cells []string
	for _, column := range t.inTable() {
		cells = append(cells, tableCell(column.human(record)))
	}
	return cells
}

func (t Table[T]) emphasis(record T) Emphasis {
	if t.Emphasis == nil {
		return Plain
	}
	return t.Emphasis(record)
}

// finish trims the padding after the last cell, which is of no use and breaks
// lines on narrow terminals, and paints the line where colour is wanted.
func finish(line string, emphasis Emphasis, color bool) string {
	line = strings.TrimRight(line, " \n")
	if color {
		line = emphasis.paint(line)
	}
	return line + "\n"
}
