// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"strings"

	"github.com/cockroachdb/errors"
)

// head is what the beginning of a log says.
type head struct {
	dialect dialect // nil: more is needed to tell
	size    int     // bytes that are no records
	out     []byte  // what becomes of them
	form    form
}

const byteOrderMark = "\uFEFF"

// recognise finds out what a log is from how it begins.
func (o *Options) recognise(text string, last bool) (head, error) {
	if !last && len(text) < len(byteOrderMark) {
		return head{}, nil
	}
	start := len(text) - len(strings.TrimPrefix(text, byteOrderMark))
	blank := len(text[start:]) - len(strings.TrimLeft(text[start:], "\r\n \t"))
	// A table may begin with an empty cell, so that only whole lines are blank.
	begin := start + strings.LastIndexByte(text[start:start+blank], '\n') + 1
	rest := text[begin:]
	var h head
	var err error
	switch first := strings.TrimLeft(rest, " \t"); {
	case first == "" && !last:
		return head{}, nil
	case first == "":
		h = head{dialect: o.objects(), form: array} // nothing is in it
	case o.Input == JSONL, o.Input == "" && first[0] == '{':
		h = head{dialect: o.objects(), form: array}
	case o.Input == "" && first[0] == '[':
		return head{}, errors.Mark(errors.New("the log is one JSON array: write each of its elements on a line, as jq -c '.[]' does"), ErrForm)
	case strings.HasPrefix(rest, "#separator"), strings.HasPrefix(rest, "#fields\t"):
		h, err = o.zeek(rest, last)
	default:
		h, err = o.csv(rest, last)
	}
	if err != nil || h.dialect == nil {
		return head{}, err
	}
	h.size += begin
	h.out = append([]byte(text[:begin]), h.out...)
	return h, nil
}

// delimiters are tried in this order.
const delimiters = ",\t;| "

// csv reads a header. The right delimiter is the one by which all the fields asked
// for are there.
func (o *Options) csv(text string, last bool) (head, error) {
	candidates := delimiters
	if o.Delimiter != 0 {
		candidates = string(rune(o.Delimiter))
	}
	var missing error
	most := 0
	for i := range len(candidates) {
		t := &table{delimiter: candidates[i], quotes: true}
		r, enough := t.next(text, last, nil)
		if !enough {
			return head{}, nil
		}
		if r.reason != "" {
			continue
		}
		names := t.split(text[:r.body], r)
		for i := range names {
			names[i] = strings.TrimSpace(names[i])
		}
		err := t.find(o, names)
		if err == nil {
			out := t.header([]byte(text[:r.body]), o.Addresses)
			return head{t, r.size, append(out, text[r.body:r.size]...), t.cells}, nil
		}
		if len(names) > most {
			missing, most = err, len(names)
		}
	}
	if missing == nil {
		missing = errors.Mark(errors.New("the first line is no CSV header: name the form of the log with --input"), ErrForm)
	}
	return head{}, missing
}

// zeek reads the comments up to the names of the fields.
func (o *Options) zeek(text string, last bool) (head, error) {
	size := 0
	for {
		end := strings.IndexByte(text[size:], '\n') + 1
		line := text[size:]
		if end > 0 {
			line = text[size : size+end]
		} else if !last {
			return head{}, nil
		}
		body := len(strings.TrimRight(line, "\r\n"))
		names, ok := strings.CutPrefix(line[:body], "#fields\t")
		if !ok && (end == 0 || !strings.HasPrefix(line, "#")) {
			return head{}, errors.Mark(errors.New("the log begins as Zeek's do, but has no #fields line with tabs: write the names of the columns there"), ErrForm)
		}
		if !ok {
			size += end
			continue
		}
		t := &table{delimiter: '\t', zeek: true}
		if err := t.find(o, strings.Split(names, "\t")); err != nil {
			return head{}, err
		}
		out := t.header([]byte(text[:size+body]), o.Addresses)
		size += len(line)
		return head{t, size, append(out, line[body:]...), t.cells}, nil
	}
}
