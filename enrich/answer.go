// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
)

// answer is what is added to a record for one address.
type answer struct {
	text  string // cells with the delimiter before each, or a JSON array
	held  bool
	doubt string // JSON, or an interval; empty: the clocks leave nothing open
}

// columns are what CSV has of an address, each below FIELD_NAME, and what Zeek calls
// their types.
var columns = []struct {
	name, zeek string
	of         func([]replay.Holding, *replay.Doubt) string
}{
	{"container", "string", each(func(x replay.Holding) string { return text(containerOf(x).Name) })},
	{"container_id", "string", each(func(x replay.Holding) string { return containerOf(x).ID })},
	{"image", "string", each(func(x replay.Holding) string { return text(containerOf(x).Image) })},
	{"host", "string", each(func(x replay.Holding) string { return x.Host })},
	{"network", "string", each(func(x replay.Holding) string { return text(networkName(x)) })},
	{"pool", "string", each(func(x replay.Holding) string { return x.Pool.Name })},
	{"kind", "string", each(func(x replay.Holding) string { return x.Kind.String() })},
	{"endpoint", "string", each(func(x replay.Holding) string { return x.Endpoint })},
	{"holders", "count", func(list []replay.Holding, _ *replay.Doubt) string { return strconv.Itoa(len(list)) }},
	{"clock_doubt", "string", func(_ []replay.Holding, doubt *replay.Doubt) string { return interval(doubt) }},
}

// each makes a cell of all holders: a bar is between them.
func each(of func(replay.Holding) string) func([]replay.Holding, *replay.Doubt) string {
	return func(list []replay.Holding, _ *replay.Doubt) string {
		values := make([]string, 0, 1)
		for _, x := range list {
			values = append(values, of(x))
		}
		if !slices.ContainsFunc(values, func(v string) bool { return v != "" }) {
			return ""
		}
		return harmless(strings.Join(values, "|"))
	}
}

// interval writes a doubt as ISO 8601 does, with two dots for an end that is open.
func interval(doubt *replay.Doubt) string {
	if doubt == nil {
		return ""
	}
	end := func(t time.Time) string { return cmp.Or(replay.Stamp(t), "..") }
	return end(doubt.From) + "/" + end(doubt.To)
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
func array(list []replay.Holding, doubt *replay.Doubt) *answer {
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
	a := &answer{text: string(append(line, ']')), held: len(list) > 0}
	if doubt != nil {
		written := appendJSON([]byte(`{"from":`), replay.Stamp(doubt.From))
		written = appendJSON(append(written, `,"to":`...), replay.Stamp(doubt.To))
		a.doubt = string(append(written, '}'))
	}
	return a
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
