// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // a zone means the same on every machine

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/timespec"
)

// longestQuery is how many bytes a query may have.
const longestQuery = 2048

// question is one request that was let in and understood.
type question struct {
	*Server
	w      *answer
	r      *http.Request
	ctx    context.Context // ends when the answer takes too long to be found
	source Source
	seat   *seat // among the questions; nil: it needs none

	given  url.Values
	format render.Format
	now    time.Time
	zone   *time.Location
}

// formats are those in which a route answers; the first is the usual one.
type formats []render.Format

var (
	lists = formats{render.FormatJSON, render.FormatJSONL, render.FormatCSV}
	lines = formats{render.FormatJSONL, render.FormatJSON, render.FormatCSV}
)

// read understands a request, or refuses it.
func (s *Server) read(w *answer, r *http.Request, route route) (*question, error) {
	q := &question{Server: s, w: w, r: r, now: s.options.Now(), zone: time.UTC, format: render.FormatJSON}
	if len(r.URL.RawQuery) > longestQuery {
		return nil, wrong("the query is longer than %d bytes: ask for less", longestQuery)
	}
	var err error
	if q.given, err = url.ParseQuery(r.URL.RawQuery); err != nil {
		return nil, wrong("the query is not NAME=VALUE&NAME=VALUE with %%XX for what is special: %v", err)
	}
	for name, values := range q.given {
		switch {
		case !slices.Contains(route.parameters, name):
			return nil, wrong("there is no parameter %q here, %s", name, among(route.parameters))
		case len(values) > 1:
			return nil, wrong("%s is given %d times: give it once", name, len(values))
		case strings.TrimSpace(values[0]) == "":
			return nil, wrong("%s is empty: give it a value, or leave it out", name)
		}
	}
	for _, name := range route.required {
		if q.given.Get(name) == "" {
			return nil, wrong("%s is missing: give it as ?%s=VALUE", name, name)
		}
	}
	if zone := q.given.Get("zone"); zone != "" {
		if q.zone, err = time.LoadLocation(zone); err != nil {
			return nil, wrong("zone: %q is no time zone: write one such as Europe/Berlin, or UTC", zone)
		}
	}
	if len(route.formats) > 0 {
		q.format, err = route.formats.choose(q.given.Get("format"), r.Header.Values("Accept"))
	}
	return q, err
}

func among(parameters []string) string {
	if len(parameters) == 0 {
		return "nor any other"
	}
	return "only " + strings.Join(parameters, ", ")
}

// choose returns the format that is named, or else the first one that is accepted.
func (f formats) choose(name string, accepted []string) (render.Format, error) {
	if name != "" {
		if format := render.Format(name); slices.Contains(f, format) {
			return format, nil
		}
		return "", wrong("format: %q is not a format here: choose json, jsonl or csv", name)
	}
	for text := range strings.SplitSeq(strings.Join(accepted, ","), ",") {
		wanted, _, err := mime.ParseMediaType(text)
		if err != nil {
			continue
		}
		for _, format := range f {
			if media, _, _ := strings.Cut(mediaTypes[format], ";"); media == wanted {
				return format, nil
			}
		}
	}
	return f[0], nil
}

// history returns every holding up to now, and tells of what it may lack.
func (q *question) history() (*replay.History, error) {
	h, err := q.source.Past.History(q.ctx, nil)
	if err != nil {
		return nil, err
	}
	q.doubt(h)
	return h, nil
}

// ask puts a question to the history for which little is looked at. It may be put
// twice, and must not answer yet.
func (q *question) ask(question func(*replay.History) error) error {
	return q.source.Past.Ask(q.ctx, nil, func(h *replay.History) error {
		q.doubt(h)
		return question(h)
	})
}

// doubt warns of what an answer from this history may lack.
func (q *question) doubt(h *replay.History) {
	q.w.Header().Del("Ipamlog-Warning")
	warn := func(format string, args ...any) {
		q.w.Header().Add("Ipamlog-Warning", render.Line(oneLine(errors.Newf(format, args...).Error())))
	}
	unread := h.Timeline().Unread()
	for _, u := range unread[:min(len(unread), 3)] {
		warn("%d events of type %q were written by a newer version, first at @%d, and the answer lacks what they say: upgrade ipamlog", u.Count, u.Type, u.First)
	}
	if m := h.Timeline().Misfits(); len(m) > 0 {
		warn("%d events contradict those before them and were passed over: look at @%s", len(m), strings.Join(m[:min(len(m), 3)], ", @"))
	}
}

// place finds the moment that a parameter means.
func (q *question) place(in func(timespec.Spec, time.Time) (replay.Moment, error), name string) (replay.Moment, error) {
	spec, err := timespec.Parse(q.given.Get(name), q.now, q.zone)
	if err != nil {
		hint := ""
		if strings.Contains(q.r.URL.RawQuery, "+") {
			hint = " (in a URL + is a space, and %2B is a plus)"
		}
		return replay.Moment{}, wrong("%s: %v%s", name, err, hint)
	}
	m, err := in(spec, q.now)
	return m, errors.Wrap(err, name)
}

// moment finds the moment that a parameter means, now if it is not given, and
// says what was understood.
func (q *question) moment(h *replay.History, name string) (replay.Moment, error) {
	m := h.Now(q.now)
	if q.given.Has(name) {
		var err error
		if m, err = q.place(h.Moment, name); err != nil {
			return m, err
		}
	}
	q.understood("", m)
	q.lacking(h, m)
	return m, nil
}

// span reads two parameters that say from when until when.
func (q *question) span(h *replay.History, from, to string) (replay.Span, error) {
	var span replay.Span
	var err error
	if q.given.Has(from) {
		if span.From, err = q.place(h.Since, from); err != nil {
			return span, err
		}
		q.understood("Since-", span.From)
	}
	q.lacking(h, span.From)
	span.To = h.Now(q.now)
	if q.given.Has(to) {
		if span.To, err = q.place(h.Until, to); err != nil {
			return span, err
		}
	}
	q.understood("", span.To)
	if span.From.Revision > span.To.Revision {
		return span, wrong("%s is later than %s: exchange them", from, to)
	}
	return span, nil
}

// lacking warns of what an answer about a moment lacks.
func (q *question) lacking(h *replay.History, m replay.Moment) {
	if h.Lacks(m) {
		q.w.Header().Add("Ipamlog-Warning", "the log was forgotten up to "+replay.Stamp(h.Border.Running)+": what had ended by then is not known")
	}
}

// understood says in the header which moment an answer is for. A span has two.
func (q *question) understood(which string, m replay.Moment) {
	if stamp := replay.Stamp(m.Time); stamp != "" {
		q.w.Header().Set("Ipamlog-"+which+"At", stamp)
	}
	q.w.Header().Set("Ipamlog-"+which+"Revision", strconv.FormatInt(m.Revision, 10))
}
