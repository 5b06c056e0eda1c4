// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/render"
)

var update = flag.Bool("update", false, "write the golden files anew")

// lodger is a record as the commands have them.
type lodger struct {
	Address  string  `json:"address"`
	Name     string  `json:"name"`
	Revision int     `json:"from_revision"`
	Note     *string `json:"note"`
}

var lodgers = render.Table[lodger]{
	Columns: []render.Column[lodger]{
		{Name: "address", Value: func(l lodger) string { return l.Address }, Width: 15},
		{Name: "name", Value: func(l lodger) string { return l.Name }, Width: 8},
		{
			Name:  "from_revision",
			Value: func(l lodger) string { return strconv.Itoa(l.Revision) },
			Human: func(l lodger) string { return "@" + strconv.Itoa(l.Revision) },
		},
		{Name: "note", Detail: true, Value: func(l lodger) string {
			if l.Note == nil {
				return ""
			}
			return *l.Note
		}},
	},
	Emphasis: func(l lodger) render.Emphasis {
		switch {
		case l.Name == "":
			return render.Alarm
		case l.Revision < 0:
			return render.Notice
		case l.Revision == 0:
			return render.Faint
		}
		return render.Plain
	},
}

func someLodgers() []lodger {
	note := "she said \"hi\", <b>&</b>\nleft"
	return []lodger{
		{Address: "10.50.0.2", Name: "c1", Revision: 4711, Note: &note},
		{Address: "10.50.0.200", Name: "a-name-longer-than-eight", Revision: -1},
		{Address: "fd00::1", Name: "", Revision: 0},
		{Address: "10.50.0.3", Name: "evil\x1b[2J\n\tname\u202e\u009b31m\\x\xff", Revision: 1},
		{Address: "10.50.0.4", Name: "=HYPERLINK(\"http://x\")\r", Revision: 0},
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestTable_List(t *testing.T) {
	for _, format := range render.Formats() {
		t.Run(format, func(t *testing.T) {
			var out bytes.Buffer
			if err := lodgers.List(render.Output{Writer: &out, Format: render.Format(format)}, someLodgers()); err != nil {
				t.Fatal(err)
			}
			golden(t, "list."+format, out.Bytes())
		})
	}
	t.Run("color", func(t *testing.T) {
		var out bytes.Buffer
		if err := lodgers.List(render.Output{Writer: &out, Format: render.FormatTable, Color: true}, someLodgers()); err != nil {
			t.Fatal(err)
		}
		golden(t, "list.color", out.Bytes())
	})
}

func TestTable_List_empty(t *testing.T) {
	want := map[string]string{
		"table": "ADDRESS  NAME  FROM REVISION\n",
		"json":  "[]\n",
		"jsonl": "",
		"csv":   "address,name,from_revision,note\n",
	}
	for _, format := range render.Formats() {
		var listed, streamed bytes.Buffer
		if err := lodgers.List(render.Output{Writer: &listed, Format: render.Format(format)}, nil); err != nil {
			t.Fatal(err)
		}
		if got := listed.String(); got != want[format] {
			t.Errorf("%s: got %q, want %q", format, got, want[format])
		}
		if err := lodgers.Stream(render.Output{Writer: &streamed, Format: render.Format(format)}).Close(); err != nil {
			t.Fatal(err)
		}
		if format != "table" && streamed.String() != want[format] {
			t.Errorf("%s streamed: got %q, want %q", format, streamed.String(), want[format])
		}
	}
}

// writes counts the calls of Write.
type writes struct {
	bytes.Buffer
	calls int
}

func (w *writes) Write(p []byte) (int, error) {
	w.calls++
	return w.Buffer.Write(p)
}

func TestStream(t *testing.T) {
	for _, format := range render.Formats() {
		t.Run(format, func(t *testing.T) {
			var out writes
			stream := lodgers.Stream(render.Output{Writer: &out, Format: render.Format(format)})
			for i, l := range someLodgers() {
				if err := stream.Write(l); err != nil {
					t.Fatal(err)
				}
				if out.calls != i+1 {
					t.Fatalf("after record %d: %d writes", i+1, out.calls)
				}
			}
			if err := stream.Close(); err != nil {
				t.Fatal(err)
			}
			if format == "table" {
				golden(t, "stream.table", out.Bytes())
			} else {
				golden(t, "list."+format, out.Bytes())
			}
		})
	}
}

func TestJSON(t *testing.T) {
	value := map[string]any{"a": "<b>\u009b\U000e0001", "list": []int{}}
	var out bytes.Buffer
	if err := render.JSON(render.Output{Writer: &out, Format: render.FormatJSON}, value); err != nil {
		t.Fatal(err)
	}
	want := "{\n  \"a\": \"<b>\\u009b\\udb40\\udc01\",\n  \"list\": []\n}\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	out.Reset()
	if err := render.JSON(render.Output{Writer: &out, Format: render.FormatJSONL}, value); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Count(got, "\n") != 1 {
		t.Errorf("jsonl: %q is not one line", got)
	}
}

func TestParseFormat(t *testing.T) {
	for _, name := range append(render.Formats(), "ecs") {
		if got, err := render.ParseFormat(name); err != nil || string(got) != name {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	_, err := render.ParseFormat("yaml")
	if err == nil || err.Error() != `"yaml" is not a format, choose one of table, json, jsonl, csv` {
		t.Errorf("yaml: %v", err)
	}
}

func TestNewOutput_noTerminalNoColor(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, w := range []io.Writer{file, io.Discard} {
		if render.NewOutput(w, render.FormatTable, false).Color {
			t.Errorf("%T is coloured", w)
		}
	}
}

func TestCSV_cells(t *testing.T) {
	column := render.Table[string]{Columns: []render.Column[string]{
		{Name: "v", Value: func(s string) string { return s }},
	}}
	for in, want := range map[string]string{
		"plain":                "plain",
		"":                     "",
		"-5":                   "-5",
		"+49":                  "+49",
		"-2.5e3":               "-2.5e3",
		"-1h30m":               "-1h30m",
		"2026-11-21T03:12:00Z": "2026-11-21T03:12:00Z",
		"-":                    "'-",
		"-2+3":                 "'-2+3",
		"=1+1":                 "'=1+1",
		"+cmd|' /C calc'!A0":   "'+cmd|' /C calc'!A0",
		"@SUM(A1)":             "'@SUM(A1)",
		"＝1":                   "'＝1",
		"\t=1":                 "'\t=1",
		"\r=1":                 "'\\r=1",
		"\n=1":                 "'\n=1",
		"a=1":                  "a=1",
		"x;=HYPERLINK(1)":      "x;'=HYPERLINK(1)",
		"a\x1b[0m":             "a\\x1b[0m",
		"C:\\x":                "C:\\x",
	} {
		var out bytes.Buffer
		if err := column.List(render.Output{Writer: &out, Format: render.FormatCSV}, []string{in, "end"}); err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(&out).ReadAll()
		if err != nil {
			t.Fatalf("%q: %v", in, err)
		}
		// A CSV reader takes a lone empty cell for no line.
		got := ""
		if len(rows) == 3 {
			got = rows[1][0]
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// Whatever names hold, no format prints a character that a terminal obeys,
// tables have one line a record, and JSON is valid and exact.
func TestFormats_hostile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.String(), rapid.StringMatching(`[\x00-\x20\x7f-\x{9f}\x{202a}-\x{202e}=+@\\"',-]{0,6}`)).Draw(t, "name")
		records := []lodger{{Address: "10.0.0.1", Name: name}, {Address: "10.0.0.2", Name: name}}
		for _, format := range render.Formats() {
			var out bytes.Buffer
			if err := lodgers.List(render.Output{Writer: &out, Format: render.Format(format)}, records); err != nil {
				t.Fatal(err)
			}
			for _, r := range out.String() {
				if !unicode.IsPrint(r) && r != '\n' && (r != '\t' || format != "csv") {
					t.Fatalf("%s prints %U: %q", format, r, out.String())
				}
			}
			lines := strings.Count(out.String(), "\n")
			switch format {
			case "table":
				if lines != 3 {
					t.Fatalf("table has %d lines: %q", lines, out.String())
				}
			case "jsonl":
				if lines != 2 {
					t.Fatalf("jsonl has %d lines: %q", lines, out.String())
				}
			case "json":
				var got []lodger
				if err := json.Unmarshal(out.Bytes(), &got); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(records, got); diff != "" {
					t.Fatal(diff)
				}
			case "csv":
				if _, err := csv.NewReader(&out).ReadAll(); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestList_writerError(t *testing.T) {
	for _, format := range render.Formats() {
		err := lodgers.List(render.Output{Writer: broken{}, Format: render.Format(format)}, someLodgers())
		if !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%s: %v", format, err)
		}
	}
}

// A sentence is one line, whatever was put into it, and what a person typed is
// not made longer.
func TestLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "",
		"10.0.0.1 is café ✓":    "10.0.0.1 is café ✓",
		`a\b`:                   `a\b`,
		"a\nb\tc\rd":            `a\nb\tc\rd`,
		"\x1b[2J\u202e\xff\x00": `\x1b[2J\u202e\xff\x00`,
	} {
		if got := render.Line(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// A part's columns are those of the whole, and empty where there is none.
func TestWithin(t *testing.T) {
	type pair struct{ left, right *lodger }
	lined := lodgers.Columns[:2]
	table := render.Table[pair]{Columns: append(
		render.Within(lined, func(p pair) *lodger { return p.left }),
		render.Within(lined, func(p pair) *lodger { return p.right })...,
	)}
	one := someLodgers()[0]
	var out bytes.Buffer
	if err := table.List(render.Output{Writer: &out, Format: render.FormatTable}, []pair{{&one, nil}, {nil, &one}}); err != nil {
		t.Fatal(err)
	}
	if want := "ADDRESS    NAME  ADDRESS    NAME\n10.50.0.2  c1    -          -\n-          -     10.50.0.2  c1\n"; out.String() != want {
		t.Errorf("%q", out.String())
	}
}
