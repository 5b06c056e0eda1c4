// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"context"
	"io"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/replay"
)

// Input is the form of a log.
type Input string

const (
	// CSV is delimited values below a header, or below Zeek's #fields line.
	CSV Input = "csv"
	// JSONL is a JSON object on each line.
	JSONL Input = "jsonl"
)

// ErrForm marks an error about a log that is not of the form that the options say,
// or of none that is known.
var ErrForm = errors.New("the log is of another form")

// Options say how a log is to be read, and what is known.
type Options struct {
	Time      string   // the field with the time
	Addresses []string // the fields with addresses, at least one, each once
	Input     Input    // empty: it is found out
	Delimiter byte     // of CSV, a byte of ASCII; 0: it is found out
	Clock     Clock    // Now: lines that are later go through unchanged
	History   *replay.History
	Pools     []*projection.PoolLife // nil: any
	// Again returns the history as it is by then, with its pools, for lines that are
	// later than Clock.Now: those of a log that is still being written. It is called
	// by one goroutine at a time. Nil: such lines go through unchanged.
	Again func(context.Context) (*replay.History, []*projection.PoolLife, error)
}

// Check says in a sentence what is wrong with the fields that are named.
func (o *Options) Check() error {
	if len(o.Addresses) == 0 {
		return errors.New("no field with addresses is named")
	}
	seen := map[string]string{}
	if o.Time == "" || slices.Contains(o.Addresses, "") {
		return errors.New("the name of a field is empty")
	}
	for _, name := range o.Addresses {
		if other, twice := seen[memberName(name)]; twice {
			return errors.Newf("fields %s and %s would be joined under one name: leave one out", other, name)
		}
		seen[memberName(name)] = name
	}
	return nil
}

// chunkSize is how much a worker is given at a time, if there is as much.
const chunkSize = 1 << 20

// Join copies a log, and adds to its records who held their addresses then. Where
// the context ends, what was read until then is written in whole lines; a read that
// never returns is left behind. progress, if not nil, is told now and then what
// became of the lines so far, by the goroutine that called Join.
//
// The options are to be those that [Options.Check] is content with.
//
// It returns [ErrForm], the context's error, and those of the reader and the writer.
// The summary is true in any case.
func Join(ctx context.Context, in io.Reader, out io.Writer, o Options, progress func(Summary)) (Summary, error) {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	workers := runtime.GOMAXPROCS(0)
	room := longestPieces + 4*workers
	j := &joint{Options: o, ctx: reading, queue: make(chan *chunk, room), work: make(chan *chunk, room), room: make(chan struct{}, room)}
	var running sync.WaitGroup
	var failed error // the reader's
	running.Go(func() {
		defer close(j.queue)
		defer close(j.work)
		failed = j.read(reading, in)
	})
	for range workers {
		running.Go(j.join)
	}
	var sum Summary
	err := j.write(out, stop, &sum, progress)
	running.Wait()
	if err == nil {
		err = failed
	}
	return sum.ordered(), err
}

// joint is one run of [Join].
type joint struct {
	Options
	ctx    context.Context // the run's
	past   past            // there before the first chunk is, as is the form
	form   form
	queue  chan *chunk   // in the order of the log
	work   chan *chunk   // the same, in nobody's order
	room   chan struct{} // has one in it for each piece of the chunks under way
	spare  sync.Pool     // of buffers that were written
	unused sync.Pool     // of blocks
}

// chunk is some whole records on their way.
type chunk struct {
	dialect dialect
	text    string
	of      *block // that the text is in; nil: in none
	out     []byte
	sum     Summary
	done    chan struct{} // closed when out and sum are there
}

// pieces is how much room a chunk takes.
func (c *chunk) pieces() int { return 1 + len(c.text)/chunkSize }

// enter waits for room for a chunk, and puts it in the queue. The reader alone does
// so, and the writer makes room whatever happens.
func (j *joint) enter(c *chunk) {
	for range c.pieces() {
		j.room <- struct{}{}
	}
	j.queue <- c
}

// leave makes room.
func (j *joint) leave(c *chunk) {
	for range c.pieces() {
		<-j.room
	}
}

// dialect is a way to write a log. It never changes, and is used by many.
type dialect interface {
	// whole is how many bytes of a text are whole records; nothing comes behind if
	// last is said.
	whole(text string, last bool) int
	// headed says whether a text begins with a header.
	headed(text string) bool
	// join appends the records of a text, and what is known.
	join(w *worker, text string)
}

func (j *joint) write(out io.Writer, stop func(), sum *Summary, progress func(Summary)) error {
	var failed error
	for c := range j.queue {
		<-c.done
		j.leave(c)
		j.done(c.of)
		if failed != nil {
			continue
		}
		if _, err := out.Write(c.out); err != nil {
			failed = errors.Wrap(err, "write the joined lines")
			stop()
			continue
		}
		sum.add(c.sum)
		if written := c.out; cap(written) <= 4*chunkSize {
			j.spare.Put(&written)
		}
		if progress != nil {
			progress(sum.ordered())
		}
	}
	return failed
}

// join is what a worker does.
func (j *joint) join() {
	w := &worker{joint: j, glance: newGlance(j.objects().wanted), clock: newClock(j.Clock), kept: make([]kept, places), found: make([]found, len(j.Addresses)), asked: make([]field, len(j.Addresses))}
	for c := range j.work {
		if j.Again != nil { // it may go on into the next year
			w.clock.Now = later(time.Now(), j.Clock.Now)
		}
		w.out, w.sum = c.out, Summary{Bytes: int64(len(c.text))}
		if w.out == nil {
			w.out = w.buffer()
		}
		c.dialect.join(w, c.text)
		c.out, c.sum = w.out, w.sum
		close(c.done)
	}
}

// worker joins one chunk after the other.
type worker struct {
	*joint
	clock   *clock
	out     []byte
	sum     Summary
	asked   []field  // a record's addresses
	found   []found  // what is known of each
	fields  []string // a record's
	glance  *glance  // at lines with objects
	kept    []kept
	holders []replay.Holder // of an answer that is being written
	written []byte          // the same
}

// found is who held an address.
type found struct {
	era        *era
	answer     replay.Answer
	understood bool // false: it is no address, and the answer is none
}

// field is one of a record, which may not have it.
type field struct {
	text  string
	there bool
}

func (w *worker) buffer() []byte {
	if spare, ok := w.spare.Get().(*[]byte); ok {
		return (*spare)[:0]
	}
	return make([]byte, 0, 2*chunkSize)
}

// ask finds who held the addresses of a record, and counts it. It says false if
// nothing can be added.
func (w *worker) ask(at field) bool {
	w.sum.Lines++
	reason := w.find(at)
	if reason != "" {
		w.sum.trouble(reason)
		return false
	}
	held, doubtful, all := false, false, true
	for _, f := range w.found {
		all = all && f.understood
		held = held || f.answer.Held()
		doubtful = doubtful || f.answer.Doubted()
	}
	if !all {
		w.sum.mark(&w.sum.Partly)
	}
	if doubtful {
		w.sum.mark(&w.sum.Doubtful)
	}
	if held {
		w.sum.Joined++
	} else {
		w.sum.Nobody++
	}
	return true
}

func (w *worker) find(at field) Reason {
	if !at.there {
		return noField
	}
	moment, reason := w.clock.read(at.text)
	if reason != "" {
		return reason
	}
	era := w.era(moment)
	if era == nil {
		return timeToCome
	}
	there, understood, known := false, false, !moment.Before(era.lookup.Began())
	for i, f := range w.asked {
		w.found[i] = found{}
		there = there || f.there
		if !f.there {
			continue
		}
		if address, ok := readAddress(f.text); ok {
			a := era.lookup.Who(address, moment)
			w.found[i] = found{era, a, true}
			understood, known = true, known || a.Held() || a.Doubted()
		}
	}
	switch {
	case understood && !known:
		return timeBefore
	case understood:
		return ""
	case there:
		return noAddress
	}
	return noField
}

// refuse counts a record that cannot be read at all.
func (w *worker) refuse(reason Reason) {
	w.sum.Lines++
	w.sum.trouble(reason)
}
