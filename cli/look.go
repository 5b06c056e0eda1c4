// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/render"
)

// look is how people see a column, where that is not as programs do.
type look[T any] struct {
	column  string
	heading string         // empty: the column's name
	human   func(T) string // nil: what programs get
	width   int            // at least, while the table is streamed
}

// dressed gives columns their looks.
func dressed[T any](columns []render.Column[T], looks ...look[T]) []render.Column[T] {
	for _, l := range looks {
		c := &columns[place(columns, l.column)]
		c.Heading, c.Human, c.Width = l.heading, l.human, l.width
	}
	return columns
}

// showing leaves the named columns in tables; CSV has them all.
func showing[T any](columns []render.Column[T], names ...string) []render.Column[T] {
	for i := range columns {
		columns[i].Detail = true
	}
	for _, name := range names {
		columns[place(columns, name)].Detail = false
	}
	return columns
}

// place is where a column stands. There is one, or the program is wrong.
func place[T any](columns []render.Column[T], name string) int {
	i := slices.IndexFunc(columns, func(c render.Column[T]) bool { return c.Name == name })
	if i < 0 {
		panic(errors.AssertionFailedf("there is no column %q", name))
	}
	return i
}
