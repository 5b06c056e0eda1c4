// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
)

// form appends what is added to a record for one address: cells with the delimiter
// before each, or a JSON array. Behind it is what is in doubt, which begins at cut;
// where nothing is, doubt is nil and nothing is there.
type form func(line []byte, list []replay.Holder, doubt *replay.Doubt) (written []byte, cut int)

// columns are what CSV has of a holder, each below FIELD_NAME: of several holders
// with bars between.
var columns = []struct {
	name string
	of   func(*replay.Holder) string
}{
	{"container", func(x *replay.Holder) string { return x.Container }},
	{"container_id", func(x *replay.Holder) string { return x.ContainerID }},
	{"image", func(x *replay.Holder) string { return x.Image }},
	{"host", func(x *replay.Holder) string { return x.Host }},
	{"network", func(x *replay.Holder) string { return x.Network }},
	{"pool", func(x *replay.Holder) string { return x.Pool }},
	{"kind", func(x *replay.Holder) string { return x.Kind.String() }},
	{"endpoint", func(x *replay.Holder) string { return x.Endpoint }},
}

// further are the columns behind these, and all their types as Zeek calls them.
var (
	further = []string{"holders", "clock_doubt"}
	types   = strings.Repeat("\tstring", len(columns)) + "\tcount\tstring"
)

// added are the names of all columns.
func added() []string {
	names := make([]string, 0, len(columns)+len(further))
	for _, c := range columns {
		names = append(names, c.name)
	}
	return append(names, further...)
}

// cells is the form of a table.
func (t *table) cells(line []byte, list []replay.Holder, doubt *replay.Doubt) (written []byte, cut int) {
	for _, c := range columns {
		line = append(line, t.delimiter)
		if len(list) == 1 {
			line = t.cell(line, c.of(&list[0]))
			continue
		}
		line = t.cell(line, joined(list, c.of))
	}
	line = append(line, t.delimiter)
	line = t.cell(line, strconv.Itoa(len(list)))
	line = append(line, t.delimiter)
	line = t.cell(line, interval(doubt))
	return line, len(line)
}

// joined is a cell of all holders; empty if it is for each.
func joined(list []replay.Holder, of func(*replay.Holder) string) string {
	values, some := make([]string, len(list)), false
	for i := range list {
		values[i] = of(&list[i])
		some = some || values[i] != ""
	}
	if !some {
		return ""
	}
	return strings.Join(values, "|")
}

// interval writes a doubt as ISO 8601 does, with two dots for an end that is open.
func interval(doubt *replay.Doubt) string {
	if doubt == nil {
		return ""
	}
	end := func(t time.Time) string { return cmp.Or(replay.Stamp(t), "..") }
	return end(doubt.From) + "/" + end(doubt.To)
}

// cell appends a cell as package render shows it in CSV: who named a container may
// have had a spreadsheet in mind.
func (t *table) cell(line []byte, text string) []byte {
	switch {
	case text == "" && t.zeek:
		return append(line, '-')
	case !isPlain(text):
		text = harmless(text)
	case !plain[t.delimiter]:
		return append(line, text...)
	}
	return t.quoted(line, text)
}

// quoted appends a cell as it is.
func (t *table) quoted(line []byte, text string) []byte {
	switch {
	case t.zeek:
		return append(line, zeekEscapes.Replace(text)...)
	case strings.IndexByte(text, t.delimiter) < 0 && !strings.ContainsAny(text, "\"\r\n"):
		return append(line, text...)
	}
	line = append(line, '"')
	line = append(line, strings.ReplaceAll(text, `"`, `""`)...)
	return append(line, '"')
}

var zeekEscapes = strings.NewReplacer("\t", `\x09`, "\n", `\x0a`)

// plain are letters, digits and a few signs, which mean nothing to anybody.
var plain = func() (set [256]bool) {
	for _, b := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@") {
		set[b] = true
	}
	return set
}()

// isPlain says whether a text is the same in CSV, JSON and on a terminal. Nearly all
// are.
func isPlain(text string) bool {
	for i := range len(text) {
		if !plain[text[i]] {
			return false
		}
	}
	return text == "" || text[0] != '-' && text[0] != '@' // else it may be a formula
}

// harmless shows a text as package render does in CSV.
func harmless(text string) string {
	var page bytes.Buffer
	column := render.Column[string]{Name: "text", Value: func(text string) string { return text }}
	// A buffer takes everything, and what was written as CSV can be read as such.
	_ = render.Table[string]{Columns: []render.Column[string]{column}}.List(render.Output{Writer: &page, Format: render.FormatCSV}, []string{text})
	rows, _ := csv.NewReader(&page).ReadAll()
	return rows[1][0]
}

// array is the form of JSON, on one line. What is not known is null.
func array(line []byte, list []replay.Holder, doubt *replay.Doubt) (written []byte, cut int) {
	line = append(line, '[')
	for i := range list {
		if i > 0 {
			line = append(line, ',')
		}
		line = appendHolder(line, &list[i])
	}
	line = append(line, ']')
	cut = len(line)
	if doubt != nil {
		line = appendTime(line, `{"from":`, doubt.From)
		line = appendTime(line, `,"to":`, doubt.To)
		line = append(line, '}')
	}
	return line, cut
}

func appendHolder(line []byte, x *replay.Holder) []byte {
	line = appendMember(line, `{"container":`, x.Container)
	line = appendMember(line, `,"container_id":`, x.ContainerID)
	line = appendMember(line, `,"image":`, x.Image)
	line = appendMember(line, `,"host":`, x.Host)
	line = appendMember(line, `,"network":`, x.Network)
	line = appendMember(line, `,"pool":`, x.Pool)
	line = appendMember(line, `,"kind":`, x.Kind.String())
	line = appendMember(line, `,"endpoint":`, x.Endpoint)
	line = appendMAC(line, x.MAC)
	line = append(line, `,"allocation":"`...)
	line = append(line, make([]byte, ulid.EncodedSize)...)
	// There is room for it.
	_ = ulid.ULID(x.Allocation).MarshalTextTo(line[len(line)-ulid.EncodedSize:])
	line = append(line, '"')
	line = appendTime(line, `,"from":`, x.From)
	line = appendTime(line, `,"to":`, x.To)
	if x.ClockSuspect {
		line = append(line, `,"clock_suspect":true`...)
	}
	return append(line, '}')
}

func appendMAC(line []byte, mac events.MAC) []byte {
	line = append(line, `,"mac":`...)
	if mac == (events.MAC{}) {
		return append(line, "null"...)
	}
	const digits = "0123456789abcdef"
	mark := byte('"')
	for _, b := range mac {
		line = append(line, mark, digits[b>>4], digits[b&15])
		mark = ':'
	}
	return append(line, '"')
}

// appendMember appends a text as JSON behind its name, or null for none.
func appendMember(line []byte, name, text string) []byte {
	line = append(line, name...)
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

// appendTime appends a time as JSON behind its name, or null for none.
func appendTime(line []byte, name string, t time.Time) []byte {
	line = append(line, name...)
	if t.IsZero() {
		return append(line, "null"...)
	}
	line = append(line, '"')
	line = appendStamp(line, t)
	return append(line, '"')
}
