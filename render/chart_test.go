// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // one day in Berlin has 23 hours
	"unicode"
	"unicode/utf8"

	"github.com/cockroachdb/errors"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/render"
)

// stay is a stretch of time as the commands draw it.
type stay struct {
	address, name, end string
	bar                render.Bar
}

func stays(from, to time.Time) render.Chart[stay] {
	return render.Chart[stay]{
		From: from, To: to,
		Left: []render.Column[stay]{
			{Name: "address", Value: func(s stay) string { return s.address }},
			{Name: "container_name", Heading: "CONTAINER", Value: func(s stay) string { return s.name }},
		},
		Right: render.Column[stay]{Name: "end", Value: func(s stay) string { return s.end }},
		Bar:   func(s stay) render.Bar { return s.bar },
		Emphasis: func(s stay) render.Emphasis {
			switch {
			case s.bar.FromDoubt || s.bar.ToDoubt:
				return render.Notice
			case s.bar.To.IsZero():
				return render.Plain
			}
			return render.Faint
		},
	}
}

// someStays are of a span that is cut into tenths.
func someStays(from, to time.Time) []stay {
	at := func(tenths float64) time.Time {
		return from.Add(time.Duration(tenths / 10 * float64(to.Sub(from))))
	}
	return []stay{
		{"10.50.0.2", "c1", "released", render.Bar{From: at(1), To: at(3)}},
		{"", "=HYPERLINK(\"http://x\")\x1b[2J\u202e and more", "released", render.Bar{From: at(3), To: at(3.001)}},
		{"", "c3", "held", render.Bar{From: at(4)}},
		{"10.50.0.3", "before and after", "released", render.Bar{From: at(-5), To: at(15)}},
		{"10.50.0.4", "before, and still", "held", render.Bar{From: at(-5)}},
		{"10.50.0.5", "doubted", "grant-closed", render.Bar{From: at(5), To: at(8), FromDoubt: true, ToDoubt: true}},
		{"10.50.0.6", "doubted, and short", "released", render.Bar{From: at(5), To: at(5), FromDoubt: true}},
		{"10.50.0.7", "the whole", "released", render.Bar{From: from, To: to}},
		{"fd00:1::aaaa:bbbb:cccc", "ends before it begins", "released", render.Bar{From: at(7), To: at(2)}},
	}
}

func TestChart_Draw(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	morning := time.Date(2025, 3, 1, 4, 0, 0, 0, berlin)
	for _, c := range []struct {
		name     string
		width    int
		from, to time.Time
		color    bool
	}{
		{"wide", 140, morning, morning.Add(2 * time.Hour), false},
		{"usual", 100, morning, morning.Add(2 * time.Hour), false},
		{"narrow", 72, morning, morning.Add(2 * time.Hour), false},
		{"color", 100, morning, morning.Add(2 * time.Hour), true},
		{"seconds", 120, morning, morning.Add(25 * time.Second), false},
		{"days", 120, morning, morning.AddDate(0, 0, 3), false},
		{"over-midnight", 120, morning.Add(16 * time.Hour), morning.Add(30 * time.Hour), false},
		{"clocks-put-forward", 120, time.Date(2025, 3, 30, 0, 0, 0, 0, berlin), time.Date(2025, 3, 30, 8, 0, 0, 0, berlin), false},
		{"months", 120, morning, morning.AddDate(0, 7, 0), false},
		{"years", 120, morning, morning.AddDate(13, 0, 0), false},
		{"no-time-at-all", 100, morning, morning, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			drawn, err := stays(c.from, c.to).Draw(render.Output{Writer: &out, Width: c.width, Color: c.color}, someStays(c.from, c.to))
			if err != nil || !drawn {
				t.Fatalf("drawn %t, %v", drawn, err)
			}
			golden(t, "chart."+c.name, out.Bytes())
		})
	}
}

func TestChart_Draw_tooNarrow(t *testing.T) {
	from := time.Date(2025, 3, 1, 4, 0, 0, 0, time.UTC)
	for _, width := range []int{0, 1, 50} {
		var out bytes.Buffer
		drawn, err := stays(from, from.Add(time.Hour)).Draw(render.Output{Writer: &out, Width: width}, someStays(from, from.Add(time.Hour)))
		if drawn || err != nil || out.Len() > 0 {
			t.Errorf("width %d: drawn %t, %v, %q", width, drawn, err, out.String())
		}
	}
}

func TestChart_Draw_writerError(t *testing.T) {
	from := time.Date(2025, 3, 1, 4, 0, 0, 0, time.UTC)
	if _, err := stays(from, from.Add(time.Hour)).Draw(render.Output{Writer: broken{}, Width: 100}, nil); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v", err)
	}
}

// Whatever is drawn: no line is wider than the terminal, there is one for each
// record, and none paints it.
func TestChart_Draw_anything(t *testing.T) {
	epoch := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	moment := rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(epoch+rapid.Int64Range(0, 250_000_000_000).Draw(t, "second"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
	})
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.IntRange(0, 300).Draw(t, "width")
		records := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) stay {
			s := stay{address: "10.0.0.1", name: rapid.String().Draw(t, "name"), end: "released"}
			s.bar = render.Bar{From: moment.Draw(t, "from"), FromDoubt: rapid.Bool().Draw(t, "doubt"), ToDoubt: rapid.Bool().Draw(t, "doubt")}
			if rapid.Bool().Draw(t, "ended") {
				s.bar.To = moment.Draw(t, "to")
			}
			return s
		}), 0, 5).Draw(t, "records")
		from := moment.Draw(t, "axis from")
		to := from.Add(time.Duration(rapid.Int64Range(-1, int64(200*365*24*time.Hour)).Draw(t, "long")))
		var out bytes.Buffer
		drawn, err := stays(from, to).Draw(render.Output{Writer: &out, Width: width}, records)
		if err != nil {
			t.Fatal(err)
		}
		if !drawn {
			if width >= 100 || out.Len() > 0 {
				t.Fatalf("not drawn at %d columns: %q", width, out.String())
			}
			return
		}
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if n := len(lines) - len(records); n != 1 && n != 2 {
			t.Fatalf("%d lines for %d records", len(lines), len(records))
		}
		for _, line := range lines {
			if n := utf8.RuneCountInString(line); n > width {
				t.Fatalf("%d columns of %d: %q", n, width, line)
			}
			if i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
				t.Fatalf("unseen characters: %q", line)
			}
		}
	})
}

func ExampleChart() {
	from := time.Date(2025, 3, 1, 4, 0, 0, 0, time.UTC)
	_, err := stays(from, from.Add(2*time.Hour)).Draw(render.Output{Writer: printed{}, Width: 72}, []stay{
		{"10.50.0.2", "web-1", "released", render.Bar{From: from.Add(10 * time.Minute), To: from.Add(50 * time.Minute)}},
		{"", "web-2", "held", render.Bar{From: from.Add(55 * time.Minute)}},
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// 2025-03-01
	// ADDRESS    CONTAINER                      05:00                 END
	// 10.50.0.2  web-1         ├────────────┤                         released
	//            web-2                        ├────────────────────→  held
}

// printed is the standard output of examples.
type printed struct{}

func (printed) Write(p []byte) (int, error) { return fmt.Print(string(p)) }
