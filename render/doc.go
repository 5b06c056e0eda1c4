// SPDX-License-Identifier: Apache-2.0

// Package render prints answers: lists of records as a table for people, and
// as JSON, JSON lines or CSV for programs.
//
// A command says once, in a [Table], which columns its records have. The
// [Output] says where the answer goes, in which [Format] and whether in
// colour. [Table.List] prints records that are all there; [Table.Stream]
// prints them one by one as they come, each complete before the next.
//
//	out := render.NewOutput(os.Stdout, render.FormatTable, noColor)
//	err := table.List(out, holdings)
//
// # Hostile content
//
// Names, labels and images are written by whoever may start a container, and
// are read by whoever investigates them. So no format lets a control
// character, a terminal's escape sequence or an invisible direction mark
// through: tables and CSV show them as \x1b or \u202e, JSON escapes them the
// way JSON does. A CSV cell that a spreadsheet would run as a formula begins
// with an apostrophe. Exact bytes are had from JSON alone.
package render
