// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bufio"
	"io"
	"iter"
	"net/http"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/render"
)

const (
	// chunk is how many bytes of an answer are written at once.
	chunk = 64 << 10
	// stall is how long a client may take for a chunk.
	stall = 20 * time.Second
	// longest is how long it may take for an answer that has an end.
	longest = 5 * time.Minute
)

// answer notes what was answered, and gives a client that reads no more than a
// while for each chunk.
type answer struct {
	http.ResponseWriter
	status int
	end    time.Time // zero: there is none
}

// WriteHeader implements [http.ResponseWriter].
func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	deadline := time.Now().Add(stall)
	if !a.end.IsZero() && a.end.Before(deadline) {
		deadline = a.end
	}
	// Where a writer knows no deadline, as in a test, there is nobody to wait for.
	if err := http.NewResponseController(a.ResponseWriter).SetWriteDeadline(deadline); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, errors.Wrap(err, "bound the time for an answer")
	}
	return a.ResponseWriter.Write(p)
}

// Unwrap is what [http.ResponseController] wants.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// mediaTypes are what the formats are called in HTTP.
var mediaTypes = map[render.Format]string{
	render.FormatJSON:  "application/json",
	render.FormatJSONL: "application/x-ndjson",
	render.FormatCSV:   "text/csv; charset=utf-8; header=present",
}

// output begins the answer in the format that was asked for.
func (q *question) output() render.Output {
	q.w.Header().Set("Content-Type", mediaTypes[q.format])
	q.w.end = time.Now().Add(longest)
	return render.Output{Writer: q.w, Format: q.format}
}

// one answers with one value.
func (q *question) one(value any) error {
	if q.seat != nil {
		q.seat.leave()
	}
	return q.write(func(out render.Output) error { return render.JSON(out, value) })
}

// all answers with the records of a list, which are written as they come.
func all[T any](q *question, table render.Table[T], records iter.Seq2[T, error]) error {
	return q.write(func(out render.Output) error { return each(q, out, table, records) })
}

func each[T any](q *question, out render.Output, table render.Table[T], records iter.Seq2[T, error]) error {
	stream := table.Stream(out)
	for record, err := range records {
		if err != nil {
			return err
		}
		if err := stream.Write(record); err != nil {
			return err
		}
		// Whoever has gone is not written to.
		if err := q.r.Context().Err(); err != nil {
			return err
		}
	}
	return stream.Close()
}

// write answers with what is put out. What is longer than a chunk is written for as
// long as the client takes, and so it needs its part of the writers.
func (q *question) write(put func(render.Output) error) error {
	out := q.output()
	long := &long{q: q, w: out.Writer}
	defer func() { long.leave() }()
	buffered := bufio.NewWriterSize(long, chunk)
	out.Writer = buffered
	if err := put(out); err != nil {
		return err
	}
	long.last = true
	return errors.Wrap(buffered.Flush(), "write the answer")
}

// long is what an answer is written to, chunk by chunk.
type long struct {
	q    *question
	w    io.Writer
	last bool   // this is the last chunk
	left func() // gives back the part of the writers; nil: it has none
}

// Write implements [io.Writer].
func (l *long) Write(p []byte) (int, error) {
	if l.left == nil && !l.last {
		left, err := l.q.slots.writing.enter(client(l.q.r))
		if err != nil {
			return 0, err
		}
		l.left = left
	}
	return l.w.Write(p) //nolint:wrapcheck // put wraps it
}

func (l *long) leave() {
	if l.left != nil {
		l.left()
	}
}

// list answers with records that are all there: others may ask now.
func list[T any](q *question, table render.Table[T], records []T) error {
	q.seat.leave()
	return all(q, table, func(yield func(T, error) bool) {
		for _, record := range records {
			if !yield(record, nil) {
				return
			}
		}
	})
}
