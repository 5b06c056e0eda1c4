// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"bytes"
	"encoding/json"
	"iter"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
)

// Event is one event of the log with where and when it stands in it.
type Event struct {
	Record events.Record
	Index  int
	Pool   *projection.PoolLife // nil in the catalogue
}

// Event is what happened.
func (e Event) Event() events.Event { return e.Record.Events[e.Index] }

// Name is revision.index.
func (e Event) Name() string { return e.Record.Name(e.Index) }

// MarshalJSON is the promised form of an event: where it stands, then its own
// fields, those of newer versions included. An own field that bears the name of
// one of the former is left out where it says the same, and else called
// event_<name>: such a one is the host an event speaks of, when another wrote it.
func (e Event) MarshalJSON() ([]byte, error) {
	fields, err := e.fields()
	if err != nil {
		return nil, err
	}
	return object(fields)
}

// field is one of a JSON object.
type field struct {
	name string
	raw  json.RawMessage
}

func object(fields []field) ([]byte, error) {
	out := []byte{'{'}
	for i, f := range fields {
		if i > 0 {
			out = append(out, ',')
		}
		name, err := json.Marshal(f.name)
		if err != nil {
			return nil, errors.Wrapf(err, "write the field %q", f.name)
		}
		out = append(append(out, name...), ':')
		out = append(out, f.raw...)
	}
	return append(out, '}'), nil
}

func (e Event) fields() ([]field, error) {
	envelope := struct {
		Revision     int64         `json:"revision"`
		Index        int           `json:"index"`
		Time         string        `json:"time"`
		Host         string        `json:"host"`
		Stream       events.Stream `json:"stream"`
		Commit       string        `json:"commit"`
		Type         string        `json:"type"`
		ClockSuspect bool          `json:"clock_suspect,omitempty"`
	}{
		e.Record.Revision, e.Index, Stamp(e.Record.Time), e.Record.Host, e.Record.Stream,
		e.Record.ID.String(), e.Event().Type(), e.Record.ClockSuspect,
	}
	raw, err := json.Marshal(envelope)
	if err != nil {
		return nil, errors.Wrapf(err, "write event %s", e.Name())
	}
	fields, err := takeApart(raw)
	if err != nil {
		return nil, err
	}
	raw, err = events.EncodeEvent(e.Event())
	if err != nil {
		return nil, errors.Wrapf(err, "write event %s", e.Name())
	}
	own, err := takeApart(raw)
	if err != nil {
		return nil, errors.Wrapf(err, "write event %s", e.Name())
	}
	for _, f := range own {
		i := slices.IndexFunc(fields, func(g field) bool { return g.name == f.name })
		switch {
		case i < 0:
			fields = append(fields, f)
		case !bytes.Equal(fields[i].raw, f.raw):
			fields = append(fields, field{"event_" + f.name, f.raw})
		}
	}
	return fields, nil
}

// takeApart returns the fields of a JSON object in their order.
func takeApart(raw []byte) ([]field, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil {
		return nil, errors.Wrap(err, "take an event apart")
	}
	var fields []field
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, errors.Wrap(err, "take an event apart")
		}
		f := field{}
		f.name, _ = name.(string)
		if err := dec.Decode(&f.raw); err != nil {
			return nil, errors.Wrap(err, "take an event apart")
		}
		fields = append(fields, f)
	}
	return fields, nil
}

// Events goes over the events of a span, oldest first: those of the given pools
// or, if it is nil, all.
func (j *Journal) Events(pools []*projection.PoolLife, span Span) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for _, r := range j.records {
			if r.Revision <= span.From.Revision || r.Revision > span.To.Revision || pools != nil && !of(pools, r.Stream) {
				continue
			}
			for e := range EventsOf(j.timeline, r) {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// EventsOf goes over the events of one record, whose pool the timeline knows.
func EventsOf(t *projection.Timeline, r events.Record) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		pool := t.Pool(r.Stream)
		for i := range r.Events {
			if !yield(Event{Record: r, Index: i, Pool: pool}) {
				return
			}
		}
	}
}
