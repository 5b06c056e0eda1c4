// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
)

// table is the dialect of delimited values.
type table struct {
	delimiter byte
	quotes    bool
	zeek      bool  // lines that begin with # are no records; no cell is empty
	columns   int   // how many fields a record has; 0: any number
	time      int   // which one
	addresses []int // which ones
	needed    int   // how many fields from the first one on
}

// spread is how far behind its first line a record may end: more line breaks are in
// nobody's cell, but behind a quote that should not be there.
const spread = 1 << 20

// row is a record at the beginning of a text.
type row struct {
	size   int      // bytes, with the line end
	body   int      // bytes without
	fields []string // if some were quoted
	reason Reason   // not empty: the line cannot be read
}

// next finds the record that a text begins with. It says false if more of the text
// is needed to tell. The fields are appended to a list that may be used again.
func (t *table) next(text string, last bool, fields []string) (row, bool) {
	line, enough := firstLine(text, last)
	if !enough {
		return row{}, false
	}
	if !t.quotes || strings.IndexByte(text[:line.body], '"') < 0 {
		return line, true
	}
	return t.withQuotes(text, line, last, fields)
}

func firstLine(text string, last bool) (row, bool) {
	end := strings.IndexByte(text, '\n')
	if end < 0 {
		return row{size: len(text), body: len(text)}, last
	}
	body := end
	if end > 0 && text[end-1] == '\r' {
		body--
	}
	return row{size: end + 1, body: body}, true
}

// withQuotes reads a record with quotes in its first line. One that goes wrong ends
// there: whatever the quote was, the next line is not part of it.
func (t *table) withQuotes(text string, line row, last bool, fields []string) (row, bool) {
	bad := row{size: line.size, body: line.body, reason: notCSV}
	end := line // of the record, as far as it is known
	pos := 0
	for {
		if pos < len(text) && text[pos] == '"' {
			value, n := unquote(text[pos:])
			switch {
			case n < 0 && !last && len(text)-line.size < spread:
				return row{}, false
			case n < 0, pos+n-line.size > spread:
				return bad, true
			}
			fields = append(fields, value)
			pos += n
			if pos > end.body {
				behind, enough := firstLine(text[pos:], last)
				if !enough {
					return bad, len(text)-line.size >= spread
				}
				end = row{size: pos + behind.size, body: pos + behind.body}
			}
		} else {
			n := strings.IndexByte(text[pos:end.body], t.delimiter)
			if n < 0 {
				n = end.body - pos
			}
			fields = append(fields, text[pos:pos+n])
			pos += n
		}
		if pos >= end.body {
			break
		}
		if text[pos] != t.delimiter {
			return bad, true
		}
		pos++
	}
	if end.size > line.size && t.columns > 0 && len(fields) != t.columns {
		return bad, true
	}
	end.fields = fields
	return end, true
}

// unquote reads a quoted field, and says how long it is; -1 if it does not close.
func unquote(text string) (value string, n int) {
	doubled := false
	for n = 1; ; n++ {
		i := strings.IndexByte(text[n:], '"')
		if i < 0 {
			return "", -1
		}
		n += i + 1
		if n == len(text) || text[n] != '"' {
			break
		}
		doubled = true
	}
	value = text[1 : n-1]
	if doubled {
		value = strings.ReplaceAll(value, `""`, `"`)
	}
	return value, n
}

// split returns the fields of a record.
func (t *table) split(body string, r row) []string {
	if r.fields != nil {
		return r.fields
	}
	return strings.Split(body, string(rune(t.delimiter)))
}

// whole implements [dialect].
func (t *table) whole(text string, last bool) int {
	switch {
	case t.zeek:
		if again := strings.Index(text, "\n#fields\t"); again >= 0 {
			return again + 1
		}
		fallthrough
	case strings.IndexByte(text, '"') < 0:
		if last {
			return len(text)
		}
		return strings.LastIndexByte(text, '\n') + 1
	}
	n := 0
	var fields []string
	for n < len(text) {
		r, enough := t.next(text[n:], last, fields[:0])
		if !enough {
			break
		}
		n += r.size
		fields = r.fields
	}
	return n
}

// headed implements [dialect].
func (t *table) headed(text string) bool { return t.zeek && strings.HasPrefix(text, "#fields\t") }

// join implements [dialect].
func (t *table) join(w *worker, text string) {
	for text != "" {
		r, _ := t.next(text, true, w.fields[:0])
		if r.fields != nil {
			w.fields = r.fields
		}
		w.out = append(w.out, text[:r.body]...)
		t.add(w, text[:r.body], r)
		w.out = append(w.out, text[r.body:r.size]...)
		w.sum.passed += int64(strings.Count(text[:r.size], "\n"))
		text = text[r.size:]
	}
}

// add appends what is known of a record.
func (t *table) add(w *worker, body string, r row) {
	switch {
	case body == "":
		return
	case t.zeek && body[0] == '#':
		if strings.HasPrefix(body, "#types\t") {
			for range w.asked {
				w.out = append(w.out, types...)
			}
		}
		return
	case r.reason != "":
		w.refuse(r.reason)
		return
	}
	at, ok := t.pick(w, body, r.fields)
	if !ok {
		w.refuse(otherWidth)
		return
	}
	if !w.ask(field{at, true}) {
		return
	}
	for _, f := range w.found {
		if !f.understood {
			w.out = t.unasked(w.out)
			continue
		}
		cells, _ := w.text(f)
		w.out = append(w.out, cells...)
	}
}

// pick finds the fields asked for.
func (t *table) pick(w *worker, body string, fields []string) (at string, ok bool) {
	if fields == nil {
		// Those behind the last one that is needed are counted, not cut out.
		delimiter := string(rune(t.delimiter))
		if strings.Count(body, delimiter) != t.columns-1 {
			return "", false
		}
		fields = w.fields[:0]
		for range t.needed {
			n := strings.IndexByte(body, t.delimiter)
			if n < 0 {
				fields = append(fields, body)
				break
			}
			fields = append(fields, body[:n])
			body = body[n+1:]
		}
		w.fields = fields
	} else if len(fields) != t.columns {
		return "", false
	}
	for i, column := range t.addresses {
		w.asked[i] = field{fields[column], true}
	}
	return fields[t.time], true
}

// find finds the fields asked for among the names in the header.
func (t *table) find(o *Options, names []string) error {
	t.columns = len(names)
	column := func(name string) (int, error) {
		n := slices.Index(names, name)
		if n < 0 {
			return 0, errors.Mark(errors.Newf("the log has no field %q: name one of %s", name, brief(names)), ErrForm)
		}
		if slices.Contains(names[n+1:], name) {
			return 0, errors.Mark(errors.Newf("the log has several fields %q: give them names of their own", name), ErrForm)
		}
		return n, nil
	}
	var err error
	if t.time, err = column(o.Time); err != nil {
		return err
	}
	t.addresses, t.needed = nil, t.time+1
	for _, name := range o.Addresses {
		n, err := column(name)
		if err != nil {
			return err
		}
		t.addresses = append(t.addresses, n)
		t.needed = max(t.needed, n+1)
		for _, column := range added() {
			if slices.Contains(names, name+"_"+column) {
				return errors.Mark(errors.Newf("the log has a field %q already: it has been joined before", name+"_"+column), ErrForm)
			}
		}
	}
	return nil
}

// brief lists the names of fields, not all if they are many, nor the whole of one that
// is long: what has no header has its data there.
func brief(names []string) string {
	const most, longest = 20, 40
	names = slices.Clone(names[:min(len(names), most+1)])
	for i, name := range names {
		if runes := []rune(name[:min(len(name), 4*(longest+1))]); len(runes) > longest {
			names[i] = string(runes[:longest]) + "…"
		}
	}
	if len(names) > most {
		return strings.Join(names[:most], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

// header appends the names of what is added.
func (t *table) header(line []byte, addresses []string) []byte {
	for _, name := range addresses {
		for _, column := range added() {
			line = append(line, t.delimiter)
			line = t.quoted(line, name+"_"+column)
		}
	}
	return line
}

// unasked is what is added for an address that is not understood.
func (t *table) unasked(line []byte) []byte {
	for range len(columns) + len(further) {
		line = append(line, t.delimiter)
		line = t.cell(line, "")
	}
	return line
}
