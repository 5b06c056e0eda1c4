// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"cmp"
	"strings"

	"github.com/tidwall/gjson"
)

// objects is the dialect of one JSON object on each line.
type objects struct {
	time      member
	addresses []member
	added     []addition
	// wanted are the names of these, in this order and each followed by the one name
	// that has dots itself, if any has; and then those of what may have been added.
	wanted [][]string
}

// addition is the names of what is added for an address, in JSON and with a colon,
// but for the path that finds one.
type addition struct {
	holders, doubt string
	path           string
}

// member is where a value is: below objects within each other, or below a name that
// has dots itself.
type member struct{ path, flat string }

func (o *Options) objects() *objects {
	at := func(name string) member {
		parts := strings.Split(name, ".")
		for i := range parts {
			parts[i] = gjson.Escape(parts[i])
		}
		return member{strings.Join(parts, "."), gjson.Escape(name)}
	}
	d := &objects{time: at(o.Time)}
	for _, name := range append([]string{o.Time}, o.Addresses...) {
		path, flat := strings.Split(name, "."), []string(nil)
		if len(path) > 1 {
			flat = []string{name}
		}
		d.wanted = append(d.wanted, path, flat)
	}
	for _, name := range o.Addresses {
		d.addresses = append(d.addresses, at(name))
		d.added = append(d.added, addition{quoted(memberName(name)), quoted(prefix(name) + "_clock_doubt"), gjson.Escape(memberName(name))})
		d.wanted = append(d.wanted, []string{memberName(name)})
	}
	return d
}

// memberName is what is added for a field: without dots, which some readers take for
// objects.
func memberName(field string) string { return prefix(field) + "_holders" }

func prefix(field string) string { return strings.ReplaceAll(field, ".", "_") }

func quoted(name string) string { return string(gjson.AppendJSONString(nil, name)) + ":" }

func (m member) of(line string) field {
	value := gjson.Get(line, m.path)
	if !value.Exists() && m.flat != m.path {
		value = gjson.Get(line, m.flat)
	}
	return simple(value)
}

// simple is a value that is a text or a number.
func simple(value gjson.Result) field {
	switch value.Type {
	case gjson.String:
		return field{value.Str, true}
	case gjson.Number:
		return field{value.Raw, true}
	case gjson.Null, gjson.False, gjson.True, gjson.JSON:
	}
	return field{}
}

// whole implements [dialect].
func (*objects) whole(text string, last bool) int {
	if last {
		return len(text)
	}
	return strings.LastIndexByte(text, '\n') + 1
}

// headed implements [dialect].
func (*objects) headed(string) bool { return false }

// join implements [dialect].
func (d *objects) join(w *worker, text string) {
	for text != "" {
		line := text
		if end := strings.IndexByte(text, '\n'); end >= 0 {
			line = text[:end+1]
		}
		text = text[len(line):]
		// What is added stands before the last brace.
		if body := strings.TrimRight(line, " \t\r\n"); body == "" || !d.ask(w, body) {
			w.out = append(w.out, line...)
		} else {
			last := len(body) - 1
			w.out = append(w.out, line[:last]...)
			for i, f := range w.found {
				if !f.understood {
					continue
				}
				holders, doubt := w.text(f)
				w.out = append(append(w.out, ','), d.added[i].holders...)
				w.out = append(w.out, holders...)
				if len(doubt) > 0 {
					w.out = append(append(w.out, ','), d.added[i].doubt...)
					w.out = append(w.out, doubt...)
				}
			}
			w.out = append(w.out, line[last:]...)
		}
		if line[len(line)-1] == '\n' {
			w.sum.passed++
		}
	}
}

// ask finds who held the addresses of a line.
func (d *objects) ask(w *worker, line string) bool {
	at, reason := d.glance(w, line)
	if reason == unclear {
		at, reason = d.study(w, line)
	}
	if reason != "" {
		w.refuse(reason)
		return false
	}
	return w.ask(at)
}

// unclear is why there is no reason yet.
const unclear Reason = "unclear"

// glance finds the fields of a line as nearly all are.
func (d *objects) glance(w *worker, line string) (at field, reason Reason) {
	if w.glance == nil {
		return field{}, unclear
	}
	switch w.glance.read(line) {
	case broken:
		return field{}, notJSON
	case unsure:
		return field{}, unclear
	case whole:
	}
	found := w.glance.found
	for _, there := range found[2+2*len(d.addresses):] {
		if there != "" {
			return field{}, joinedTwice
		}
	}
	for i := range d.addresses {
		w.asked[i] = value(found[2+2*i : 4+2*i])
	}
	return value(found[:2]), ""
}

// value is the first of two that is there.
func value(of []string) field {
	raw := cmp.Or(of[0], of[1])
	switch {
	case raw == "":
		return field{}
	case raw[0] == '"' && strings.IndexByte(raw, '\\') < 0:
		return field{raw[1 : len(raw)-1], true}
	}
	return simple(gjson.Parse(raw))
}

// study finds the fields of any line.
func (d *objects) study(w *worker, line string) (at field, reason Reason) {
	if line[len(line)-1] != '}' || tooDeep(line) || !gjson.Valid(line) || strings.TrimLeft(line, " \t\r")[0] != '{' {
		return field{}, notJSON
	}
	for _, a := range d.added {
		if gjson.Get(line, a.path).Exists() {
			return field{}, joinedTwice
		}
	}
	for i, m := range d.addresses {
		w.asked[i] = m.of(line)
	}
	return d.time.of(line), ""
}

// tooDeep says whether objects and arrays stand within each other deeper than
// anybody writes them: who reads those calls itself once for each.
func tooDeep(line string) bool {
	const most = 10_000
	if len(line) < 2*most {
		return false
	}
	depth, quoted := 0, false
	for i := 0; i < len(line); i++ {
		switch b := line[i]; {
		case quoted && b == '\\':
			i++
		case b == '"':
			quoted = !quoted
		case quoted:
		case b == '{' || b == '[':
			if depth++; depth > most {
				return true
			}
		case b == '}' || b == ']':
			depth--
		}
	}
	return false
}
