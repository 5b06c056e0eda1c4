// SPDX-License-Identifier: Apache-2.0

package index

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/durable"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/replay"
)

const (
	// smallTail is how many commits are read anew for every process before the
	// file is worth writing again; of a large log it is a part.
	smallTail = 5000
	tailPart  = 50 // one in so many
	// askedFor is how long a question keeps a daemon's interest.
	askedFor = 30 * 24 * time.Hour
	// atOnce is how many commits of an archive are taken into memory, about, before the
	// file is written: some 700 bytes each.
	atOnce = 300_000
)

// Index answers about the past of one log. Safe for concurrent use.
type Index struct {
	log    *etcdlog.Log
	store  events.ID
	prefix string
	dirs   []string
	small  int64 // smallTail
	atOnce int

	turn chan struct{} // one at a time; its holder may use what follows

	path    string  // of the file that was read or written; empty: none
	base    *sealed // its content; nil: none
	written time.Time
	front   *etcdlog.Frontier // how far the log was read, the base and the tail together
	tail    []events.Record   // what came after the base
	history *replay.History   // of both
}

// Open returns the index of a log, whose store's id and prefix tell it from others.
// Its file is in the first of the directories that can be read, or written; where
// there is none it still answers, from the log. Nothing is read yet.
func Open(log *etcdlog.Log, store events.ID, prefix string, dirs ...string) *Index {
	return &Index{log: log, store: store, prefix: prefix, dirs: dirs, small: smallTail, atOnce: atOnce, turn: make(chan struct{}, 1), front: &etcdlog.Frontier{}}
}

// take waits for the caller's turn; give ends it.
func (x *Index) take(ctx context.Context) error {
	select {
	case x.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (x *Index) give() { <-x.turn }

// History returns the history of the log as it is now, from a file of which every
// block was looked at once. progress, if not nil, is told how many commits were read,
// where that are many.
func (x *Index) History(ctx context.Context, progress func(int)) (*replay.History, error) {
	if err := x.take(ctx); err != nil {
		return nil, err
	}
	defer x.give()
	x.note()
	return x.whole(ctx, progress)
}

// whole implements History.
func (x *Index) whole(ctx context.Context, progress func(int)) (*replay.History, error) {
	h, err := x.read(ctx, progress)
	if err == nil && x.base != nil && !x.base.check() {
		h, err = x.read(ctx, progress)
	}
	return h, err
}

// Release gives the history of the log as it is now away, to who changes it: the index
// forgets what it read, and begins anew with its file.
func (x *Index) Release(ctx context.Context, progress func(int)) (*replay.History, error) {
	if err := x.take(ctx); err != nil {
		return nil, err
	}
	defer x.give()
	x.note()
	h, err := x.whole(ctx, progress)
	x.forget()
	return h, err
}

// Ask puts a question to the history of the log as it is now, for which only a small
// part of the file is looked at. Where damage spoilt the answer, the index is dropped,
// and all is asked again of the whole log: ask must do no more than find its answer.
func (x *Index) Ask(ctx context.Context, progress func(int), ask func(*replay.History) error) error {
	for {
		if err := x.take(ctx); err != nil {
			return err
		}
		x.note()
		h, err := x.read(ctx, progress)
		x.give()
		if err != nil {
			return err
		}
		if err := ask(h); h.Err() == nil {
			return err
		}
		// What is asked next finds the damage, too, and begins with the log.
	}
}

// drop deletes the file and forgets what was read.
func (x *Index) drop() {
	if x.path != "" {
		remove(x.path)
	}
	x.forget()
}

// forget is as if nothing had been read.
func (x *Index) forget() {
	x.path, x.base, x.front, x.tail, x.history = "", nil, &etcdlog.Frontier{}, nil, nil
}

// read reads on to where the log is now.
func (x *Index) read(ctx context.Context, progress func(int)) (*replay.History, error) {
	if x.front.Revision == 0 {
		x.load()
	}
	if x.base != nil && x.base.Err() != nil {
		x.drop()
	}
	for {
		h, err := x.readOn(ctx, progress)
		if !errors.IsAny(err, ErrDamaged, etcdlog.ErrAstray) || x.front.Revision == 0 {
			return h, err
		}
		x.drop() // and it all begins with the log
	}
}

func (x *Index) readOn(ctx context.Context, progress func(int)) (*replay.History, error) {
	for {
		records, err := x.log.ReadSealedOn(ctx, x.front, x.atOnce, progress)
		if err != nil {
			return nil, errors.Wrap(err, "read the log")
		}
		if len(records) == 0 {
			break
		}
		if _, err := x.grow(records); err != nil {
			return nil, err
		}
		if err := x.save(ctx); err != nil {
			return nil, err
		}
	}
	records, err := x.log.ReadOn(ctx, x.front, progress)
	if err != nil {
		return nil, errors.Wrap(err, "read the log")
	}
	return x.grow(records)
}

// grow adds what came after what is known.
func (x *Index) grow(records []events.Record) (*replay.History, error) {
	if len(records) > 0 || x.history == nil {
		x.tail = append(x.tail, records...)
		t := projection.NewTimeline()
		if x.base != nil {
			t = projection.NewTimelineOn(x.base)
		}
		for _, r := range x.tail {
			t.Apply(r)
		}
		if err := t.Err(); err != nil {
			return nil, err
		}
		x.history = x.tells(t)
	}
	if x.history.Revision() != x.front.Revision {
		// Nothing of ours came; what is complete is so up to a later revision.
		x.history = x.tells(x.history.Timeline())
	}
	return x.history, nil
}

// tells is the history that a timeline tells, as far as the log was read.
func (x *Index) tells(t *projection.Timeline) *replay.History {
	h := replay.NewHistory(t, x.front.Revision)
	h.Border = x.front.Forgotten
	return h
}

// load opens the first file that can be read.
func (x *Index) load() {
	for _, dir := range x.dirs {
		path := x.file(dir)
		base, written, err := openFile(path)
		switch {
		case err != nil:
			continue // what is no index is written over when it is time
		case base.store != x.store || base.prefix != x.prefix:
			continue
		}
		x.path, x.base, x.written = path, base, written
		x.front = base.known.Frontier.Clone()
		return
	}
}

// Save writes the file where none is, or where so much has come since that reading
// it each time costs more. What was read is kept in memory either way. It stops when
// ctx ends, and leaves nothing half done. A place that cannot be written is no error.
func (x *Index) Save(ctx context.Context) error {
	if err := x.take(ctx); err != nil {
		return err
	}
	defer x.give()
	return x.save(ctx)
}

// save implements Save.
func (x *Index) save(ctx context.Context) error {
	commits := x.front.Commits()
	if x.history == nil || len(x.tail) == 0 || x.base != nil && int64(len(x.tail)) <= max(x.small, commits/tailPart) {
		return nil
	}
	if x.base == nil && commits <= x.small {
		return nil // the log itself is as soon read
	}
	for _, dir := range x.dirs {
		path := x.file(dir)
		err := replaceFile(path, func(f io.Writer) error {
			return write(ctx, f, x.history.Timeline(), x.front, x.store, x.prefix)
		})
		if errors.Is(err, durable.ErrPlace) {
			continue
		}
		if errors.Is(err, ErrDamaged) {
			x.drop() // it rested on what is damaged
			return nil
		}
		if err != nil {
			return errors.Wrap(err, "write the index")
		}
		base, written, err := openFile(path)
		if err != nil {
			return errors.Wrap(err, "open the index")
		}
		x.path, x.base, x.written, x.tail, x.history = path, base, written, nil, nil
		return nil
	}
	return nil
}

// Refresh reads on and saves what is worth it, so that others find the index fresh. It
// is no question.
func (x *Index) Refresh(ctx context.Context) error {
	if err := x.take(ctx); err != nil {
		return err
	}
	defer x.give()
	if _, err := x.whole(ctx, nil); err != nil {
		return err
	}
	return x.save(ctx)
}

// note notes on disk that somebody asks, where that is not known already.
func (x *Index) note() {
	for _, dir := range x.dirs {
		if path := x.asked(dir); age(path) < askedFor/30 || touch(path) == nil {
			return
		}
	}
}

// Asked says whether anybody has asked a question of this log on this machine within the
// last 30 days, of any process's index.
func (x *Index) Asked() bool {
	return slices.ContainsFunc(x.dirs, func(dir string) bool { return age(x.asked(dir)) < askedFor })
}

// Read says whether a question was asked at all.
func (x *Index) Read() bool {
	x.turn <- struct{}{}
	defer x.give()
	return x.history != nil
}

// Describe says where the index is and how much it spares, for a log.
func (x *Index) Describe(ctx context.Context) string {
	if err := x.take(ctx); err != nil {
		return "the index is in use"
	}
	defer x.give()
	if x.base == nil {
		return fmt.Sprintf("no index: %d commits were read from the log", len(x.tail))
	}
	return fmt.Sprintf("index %s of %s, up to @%d: %d commits were read from the log, of %d",
		x.path, x.written.Format(time.RFC3339), x.base.known.Revision, len(x.tail), x.front.Commits())
}
