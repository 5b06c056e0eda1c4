// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"bytes"
	"encoding/csv"
	"slices"
	"strconv"
	"strings"

	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
)

// answer is what is added to a record for one address: cells with the delimiter
// before each, or a JSON array.
type answer struct {
	text string
	held bool
}

// columns are what CSV has of an address, each below FIELD_NAME. Of several holders
// a cell has all, with a bar between.
var columns = []struct {
	name string
	of   func(replay.Holding) string // nil: how many holders there are
}{
	{"container", func(x replay.Holding) string { return text(containerOf(x).Name) }},
	{"container_id", func(x replay.Holding) string { return containerOf(x).ID }},
	{"image", func(x replay.Holding) string { return text(containerOf(x).Image) }},
	{"host", func(x replay.Holding) string { return x.Host }},
	{"network", func(x replay.Holding) string { return text(networkName(x)) }},
	{"pool", func(x replay.Holding) string { return x.Pool.Name }},
	{"kind", func(x replay.Holding) string { return x.Kind.String() }},
	{"endpoint", func(x replay.Holding) string { return x.Endpoint }},
	{"holders", nil},
}

// cells are the columns of the holdings, as a spreadsheet or a terminal may be
// given them.
func cells(list []replay.Holding) []string {
	row := make([]string, 0, len(columns))
	for _, c := range columns {
		if c.of == nil {
			row = append(row, strconv.Itoa(len(list)))
			continue
		}
		values := make([]string, 0, 1)
		for _, x := range list {
			values = append(values, c.of(x))
		}
		cell := ""
		if slices.ContainsFunc(values, func(v string) bool { return v != "" }) {
			cell = strings.Join(values, "|")
		}
		row = append(row, harmless(cell))
	}
	return row
}

// isPlain says whether a text is of letters, digits and a few signs within, which
// mean nothing to anybody: it is the same in CSV, JSON and on a terminal. Nearly all
// are.
func isPlain(text string) bool {
	for i := range len(text) {
		switch b := text[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9':
		case i > 0 && (b == '-' || b == '_' || b == '.' || b == '/' || b == ':' || b == '@'):
		default:
			return false
		}
	}
	return true
}

// harmless shows a text as package render does in CSV: who named a container may
// have had a spreadsheet in mind.
func harmless(text string) string {
	if isPlain(text) {
		return text
	}
	var page bytes.Buffer
	column := render.Column[string]{Name: "text", Value: func(text string) string { return text }}
	// A buffer takes everything, and what was written as CSV can be read as such.
	_ = render.Table[string]{Columns: []render.Column[string]{column}}.List(render.Output{Writer: &page, Format: render.FormatCSV}, []string{text})
	rows, _ := csv.NewReader(&page).ReadAll()
	return rows[1][0]
}

func containerOf(x replay.Holding) replay.Container {
	if x.Container == nil {
		return replay.Container{}
	}
	return *x.Container
}

func networkName(x replay.Holding) *string {
	if x.Network == nil {
		return nil
	}
	return x.Network.Name
}

func text(known *string) string {
	if known == nil {
		return ""
	}
	return *known
}

// array makes the JSON of holdings, on one line. What is not known is null.
func array(list []replay.Holding) *answer {
	line := []byte{'['}
	for i, x := range list {
		if i > 0 {
			line = append(line, ',')
		}
		c := containerOf(x)
		for i, m := range []struct{ name, value string }{
			{"container", text(c.Name)},
			{"container_id", c.ID},
			{"image", text(c.Image)},
			{"host", x.Host},
			{"network", text(networkName(x))},
			{"pool", x.Pool.Name},
			{"kind", x.Kind.String()},
			{"endpoint", x.Endpoint},
			{"mac", x.MAC.String()},
			{"allocation", x.Allocation.String()},
			{"from", replay.Stamp(x.From.Time)},
			{"to", replay.Stamp(x.To.Time)},
		} {
			line = append(line, "{,"[min(i, 1)], '"')
			line = append(line, m.name...)
			line = append(line, `":`...)
			line = appendJSON(line, m.value)
		}
		if x.ClockSuspect() {
			line = append(line, `,"clock_suspect":true`...)
		}
		line = append(line, '}')
	}
	return &answer{string(append(line, ']')), len(list) > 0}
}

// appendJSON appends a text as JSON, or null for none.
func appendJSON(line []byte, text string) []byte {
	switch {
	case text == "":
		return append(line, "null"...)
	case isPlain(text):
		line = append(line, '"')
		line = append(line, text...)
		return append(line, '"')
	}
	var value bytes.Buffer
	// A buffer takes everything, and no text is without a JSON form.
	_ = render.JSON(render.Output{Writer: &value, Format: render.FormatJSONL}, text)
	return append(line, bytes.TrimSuffix(value.Bytes(), []byte("\n"))...)
}
