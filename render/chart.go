// SPDX-License-Identifier: Apache-2.0

package render

import (
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cockroachdb/errors"
)

// Bar is a stretch of time.
type Bar struct {
	From, To time.Time // To zero: it goes on
	// FromDoubt and ToDoubt mark an end that may lie elsewhere.
	FromDoubt, ToDoubt bool
}

// Chart draws records as bars below an axis of time, a line each: some columns to
// the left, the bar, and one column to the right.
//
//	├──┤  from its beginning to its end     ←──→  began before, goes on after
//	│     too short to be drawn             ?──?  a clock leaves open where
//
// The light lines between the bars are where days begin.
type Chart[T any] struct {
	Left  []Column[T]
	Bar   func(T) Bar
	Right Column[T]
	// Emphasis says how a record's line is coloured. Nil: plain.
	Emphasis func(T) Emphasis
	// From and To are the ends of the axis, in the zone that its labels are in.
	From, To time.Time
}

const (
	narrowest  = 20 // columns of bars, below which nothing can be read off them
	widestCell = 28
	cut        = "…"
)

// Draw prints the chart as wide as the output is. It prints nothing, and returns
// false, where that is too narrow.
func (c Chart[T]) Draw(out Output, records []T) (bool, error) {
	left, right := c.columns(records, widestCell)
	width := out.Width - sum(left) - right
	if width < narrowest {
		left, right = c.columns(records, widestCell/2)
		width = out.Width - sum(left) - right
	}
	if width < narrowest {
		return false, nil
	}
	scale := newScale(c.From, c.To, width)
	var page strings.Builder
	line := func(cells []string, bar []rune, after string, e Emphasis) {
		var text strings.Builder
		for i, cell := range cells {
			text.WriteString(padded(cell, left[i]))
		}
		text.WriteString(string(bar) + "  " + after)
		page.WriteString(finish(text.String(), e, out.Color))
	}
	headings := make([]string, 0, len(c.Left))
	for _, column := range c.Left {
		headings = append(headings, column.heading())
	}
	dates, clocks := scale.axis()
	if clocks != nil {
		line(make([]string, len(c.Left)), dates, "", heading)
		dates = clocks
	}
	line(headings, dates, c.Right.heading(), heading)
	for _, record := range records {
		e := Plain
		if c.Emphasis != nil {
			e = c.Emphasis(record)
		}
		line(c.cells(record), scale.bar(c.Bar(record)), visible(c.Right.human(record), true), e)
	}
	_, err := io.WriteString(out.Writer, page.String())
	return true, errors.Wrap(err, "print chart")
}

// columns are the widths of the columns, with the gap that parts them from what
// follows, or from what is before the last one.
func (c Chart[T]) columns(records []T, most int) (left []int, right int) {
	const gap = 2
	left = make([]int, len(c.Left))
	for i, column := range c.Left {
		left[i] = utf8.RuneCountInString(column.heading())
	}
	right = utf8.RuneCountInString(c.Right.heading())
	for _, record := range records {
		for i, cell := range c.cells(record) {
			left[i] = max(left[i], utf8.RuneCountInString(cell))
		}
		right = max(right, utf8.RuneCountInString(visible(c.Right.human(record), true)))
	}
	for i := range left {
		left[i] = min(left[i], most) + gap
	}
	return left, right + gap
}

func (c Chart[T]) cells(record T) []string {
	cells := make([]string, 0, len(c.Left))
	for _, column := range c.Left {
		// Nobody splits these lines: what is empty may look so.
		cells = append(cells, visible(column.human(record), true))
	}
	return cells
}

// padded fills a cell up to a width that has room for a gap behind it, or cuts it.
func padded(cell string, width int) string {
	const gap = 2
	if n := utf8.RuneCountInString(cell); n <= width-gap {
		return cell + strings.Repeat(" ", width-n)
	}
	return string([]rune(cell)[:width-gap-1]) + cut + "  "
}

func sum(widths []int) int {
	total := 0
	for _, w := range widths {
		total += w
	}
	return total
}

// scale is the axis: which column is which time.
type scale struct {
	from, to time.Time
	width    int
	days     []int // the columns in which days begin that are marked
	ticks    []time.Time
	clocks   bool // ticks are parts of days
}

func newScale(from, to time.Time, width int) scale {
	if !to.After(from) {
		to = from.Add(time.Second)
	}
	s := scale{from: from, to: to, width: width}
	step := s.step()
	s.clocks = step.length > 0
	s.ticks = step.between(from, to)
	for _, day := range s.ticks {
		if day.Equal(midnight(day)) {
			s.days = append(s.days, s.column(day))
		}
	}
	return s
}

func (s scale) column(t time.Time) int {
	at := float64(t.Sub(s.from)) / float64(s.to.Sub(s.from)) * float64(s.width)
	return max(0, min(s.width-1, int(at)))
}

// bar draws one stretch.
func (s scale) bar(b Bar) []rune {
	cells := slices.Repeat([]rune{' '}, s.width)
	for _, day := range s.days {
		cells[day] = '┊'
	}
	first, last, begin, end := s.column(b.From), s.width-1, '├', '→'
	if b.From.Before(s.from) {
		begin = '←'
	}
	if b.FromDoubt {
		begin = '?'
	}
	if !b.To.IsZero() && !b.To.After(s.to) {
		// An end that a clock put before the beginning is drawn at the beginning.
		last, end = max(first, s.column(b.To)), '┤'
	}
	if b.ToDoubt {
		end = '?'
	}
	for i := first; i <= last; i++ {
		cells[i] = '─'
	}
	cells[first], cells[last] = begin, end
	if first == last && !b.FromDoubt && !b.ToDoubt && end == '┤' {
		cells[first] = '│'
	}
	if first == last && b.FromDoubt {
		cells[first] = '?'
	}
	return cells
}

// axis is a line of dates and one of clock times; the latter is nil where days
// are too short for it.
func (s scale) axis() (dates, clocks []rune) {
	const date = "2006-01-02"
	dates = slices.Repeat([]rune{' '}, s.width)
	write(dates, 0, s.from.Format(date))
	if s.clocks {
		clocks = slices.Repeat([]rune{' '}, s.width)
	}
	for _, t := range s.ticks {
		if t.Equal(midnight(t)) {
			write(dates, s.column(t), t.Format(date))
		}
		if s.clocks {
			write(clocks, s.column(t), clockText(t))
		}
	}
	return dates, clocks
}

func clockText(t time.Time) string {
	if t.Second() != 0 {
		return t.Format("15:04:05")
	}
	return t.Format("15:04")
}

// write puts a label at a column if there is room for it, a space before and
// behind it included.
func write(line []rune, at int, label string) {
	text := []rune(label)
	if at+len(text) > len(line) {
		return
	}
	for i := max(0, at-1); i < min(len(line), at+len(text)+1); i++ {
		if line[i] != ' ' {
			return
		}
	}
	copy(line[at:], text)
}

// step is from one tick to the next: a part of a day, or some days or months.
type step struct {
	length       time.Duration
	days, months int
}

// step is the shortest between whose ticks there is room for a label.
func (s scale) step() step {
	const day = 24 * time.Hour
	var steps []step
	for _, seconds := range []int{1, 5, 10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600} {
		steps = append(steps, step{length: time.Duration(seconds) * time.Second})
	}
	for _, days := range []int{1, 2, 7, 14} {
		steps = append(steps, step{days: days})
	}
	for _, months := range []int{1, 3, 12, 60, 600} {
		steps = append(steps, step{months: months})
	}
	for _, step := range steps {
		length, room := step.length, len("15:04:05")+4
		if length == 0 {
			length, room = time.Duration(step.days+30*step.months)*day, len("2006-01-02")+2
		}
		if float64(length)/float64(s.to.Sub(s.from))*float64(s.width) >= float64(room) {
			return step
		}
	}
	return steps[len(steps)-1]
}

// between lists the ticks after a moment, up to another.
func (s step) between(from, to time.Time) []time.Time {
	var ticks []time.Time
	keep := func(t time.Time) {
		if t.After(from) && !t.After(to) {
			ticks = append(ticks, t)
		}
	}
	switch {
	case s.length > 0:
		for day := midnight(from); !day.After(to); day = day.AddDate(0, 0, 1) {
			// From each midnight anew: a day on which clocks change is not 24 hours long.
			next := day.AddDate(0, 0, 1)
			for t := day; t.Before(next); t = t.Add(s.length) {
				keep(t)
			}
		}
	case s.days > 0:
		for day := midnight(from); !day.After(to); day = day.AddDate(0, 0, s.days) {
			keep(day)
		}
	default:
		year, month, _ := from.Date()
		for t := time.Date(year, 1+(month-1)/time.Month(min(s.months, 12))*time.Month(min(s.months, 12)), 1, 0, 0, 0, 0, from.Location()); !t.After(to); t = t.AddDate(0, s.months, 0) {
			keep(t)
		}
	}
	return ticks
}

// midnight is when the day of a moment began.
func midnight(t time.Time) time.Time {
	year, month, day := t.Date()
	return time.Date(year, month, day, 0, 0, 0, 0, t.Location())
}
