// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// looks are what a glance finds in a line, and what a close look does.
func looks(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, names []string, line string,
) {
	t.Helper()
	o := Options{Time: names[0], Addresses: names[1:]}
	d := o.objects()
	worker := func() *worker {
		return &worker{glance: newGlance(d.wanted), asked: make([]field, len(d.addresses))}
	}
	line = strings.TrimRight(line, " \t\r\n")
	if line == "" {
		return
	}
	quick, closely := worker(), worker()
	at, reason := d.glance(quick, line)
	if reason == unclear {
		return
	}
	wantAt, want := d.study(closely, line)
	if reason != want || reason == "" && (at != wantAt || !slices.Equal(quick.asked, closely.asked)) {
		t.Fatalf("%q of %q: at a glance %q %v %v, and closely %q %v %v", names, line, reason, at, quick.asked, want, wantAt, closely.asked)
	}
}

// A glance says nothing else than a close look.
func TestGlance(t *testing.T) {
	name := rapid.SampledFrom([]string{"t", "a", "b", "a.b", "a.b.c", "0", "a.0", "a..b", "ip_holders", "a_b_holders", "*", "@a", "#", `a\b`, "é", `"`})
	var value func(depth int) *rapid.Generator[string]
	value = func(depth int) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			kinds := 10
			if depth > 3 {
				kinds = 8
			}
			blank := rapid.SampledFrom([]string{"", "", "", " ", "\t", "\r"})
			switch rapid.IntRange(0, kinds).Draw(t, "kind") {
			case 0:
				return rapid.SampledFrom([]string{"null", "true", "false", "nul", "", "tru", "True"}).Draw(t, "word")
			case 1, 2, 3:
				return rapid.SampledFrom([]string{"1", "-0", "0.5", "1e9", "-1.5E+3", "01", "1.", ".5", "+1", "-", "1e", "1e+"}).Draw(t, "number")
			case 4, 5, 6, 7:
				return rapid.SampledFrom([]string{`"x"`, `""`, `"a\"b"`, `"\u00e9"`, `"\u12"`, `"\x"`, "\"\x01\"", `"\\"`, `"é"`, `"`, `"}"`}).Draw(t, "text")
			case 8:
				var list []string
				for range rapid.IntRange(0, 3).Draw(t, "elements") {
					list = append(list, value(depth+1).Draw(t, "element"))
				}
				return "[" + blank.Draw(t, "blank") + strings.Join(list, ",") + "]"
			default:
				var list []string
				for range rapid.IntRange(0, 4).Draw(t, "members") {
					list = append(list, `"`+name.Draw(t, "name")+`"`+blank.Draw(t, "blank")+":"+blank.Draw(t, "blank")+value(depth+1).Draw(t, "value"))
				}
				return "{" + blank.Draw(t, "blank") + strings.Join(list, ","+blank.Draw(t, "blank")) + "}"
			}
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(name, 2, 4, rapid.ID).Draw(t, "names")
		looks(t, names, rapid.Custom(func(t *rapid.T) string { return "{" + strings.TrimPrefix(value(0).Draw(t, "line"), "{") }).Draw(t, "line"))
	})
}

func FuzzGlance(f *testing.F) {
	for _, line := range []string{`{"t":1,"a":{"b":"10.0.0.1"}}`, `{"a":{"x":1},"a":{"b":2},"a.b":3,"t":null}`, `{"t":"\u0031","a":[1]}`, `{"\u0074":1}`, `{`, `{"t":}`, `{"a":1,}`} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) { looks(t, []string{"t", "a.b", "a.b.c", "0"}, line) })
}
