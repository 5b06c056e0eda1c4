// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"encoding/csv"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/cockroachdb/errors"
)

// Stream prints records one by one. Every call of [Stream.Write] makes one
// write to the output, of whole lines, so that a reader at the other end of a
// pipe has each record at once; who prints a million of them puts a
// bufio.Writer below.
//
// A Stream is not safe for concurrent use.
type Stream[T any] struct {
	table   Table[T]
	out     Output
	columns []Column[T] // of a streamed table
	started bool
	line    bytes.Buffer
}

// Stream begins a list whose records come one by one. Close must be called at
// its end: only then is a JSON array complete, and the header of an empty list
// printed.
func (t Table[T]) Stream(out Output) *Stream[T] {
	return &Stream[T]{table: t, out: out, columns: t.inTable()}
}

// Write prints one record. An error is the writer's, or that of a record which
// has no JSON form.
func (s *Stream[T]) Write(record T) error {
	s.line.Reset()
	switch s.out.Format {
	case FormatJSON:
		line, err := JSONLine(record)
		if err != nil {
			return err
		}
		if s.started {
			s.line.WriteString(",\n  ")
		} else {
			s.line.WriteString("[\n  ")
		}
		s.line.Write(indent(line, "  "))
	case FormatJSONL:
		line, err := JSONLine(record)
		if err != nil {
			return err
		}
		s.line.Write(append(line, '\n'))
	case FormatCSV:
		s.startCSV()
		s.csvLine(func(c Column[T]) string { return csvCell(c.Value(record)) })
	case FormatTable:
		s.startTable()
		s.tableLine(s.table.cells(record), s.table.emphasis(record))
	default:
		return errors.AssertionFailedf("no such format: %q", s.out.Format)
	}
	s.started = true
	return s.flush()
}

// Close ends the list. It does not close the writer.
func (s *Stream[T]) Close() error {
	s.line.Reset()
	switch s.out.Format {
	case FormatJSON:
		if s.started {
			s.line.WriteString("\n]\n")
		} else {
			s.line.WriteString("[]\n")
		}
	case FormatCSV:
		s.startCSV()
	case FormatTable:
		s.startTable()
	case FormatJSONL:
	}
	return s.flush()
}

func (s *Stream[T]) startCSV() {
	if !s.started {
		s.csvLine(func(c Column[T]) string { return c.Name })
	}
}

func (s *Stream[T]) csvLine(cell func(Column[T]) string) {
	var cells []string
	for _, column := range s.table.Columns {
		cells = append(cells, cell(column))
	}
	w := csv.NewWriter(&s.line)
	// A buffer takes everything, and there is no field that CSV cannot hold.
	_ = w.Write(cells)
	w.Flush()
}

func (s *Stream[T]) startTable() {
	if !s.started {
		s.tableLine(s.table.headings(), heading)
	}
}

func (s *Stream[T]) tableLine(cells []string, emphasis Emphasis) {
	var line strings.Builder
	for i, cell := range cells {
		width := max(s.columns[i].Width, utf8.RuneCountInString(s.columns[i].heading()))
		line.WriteString(cell)
		line.WriteString(strings.Repeat(" ", max(width-utf8.RuneCountInString(cell), 0)+2))
	}
	s.line.WriteString(finish(line.String(), emphasis, s.out.Color))
}

func (s *Stream[T]) flush() error {
	if s.line.Len() == 0 {
		return nil
	}
	_, err := io.Copy(s.out.Writer, &s.line)
	return errors.Wrap(err, "print record")
}
