// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bufio"
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/store"
)

// rebuild answers who held which address, found from the log alone.
func rebuild(q *question) error {
	h, err := q.history()
	if err != nil {
		return err
	}
	m, err := q.moment(h, "at")
	if err != nil {
		return err
	}
	var pools []*projection.PoolLife
	if q.given.Has("pool") {
		pool, err := h.PoolAt(q.given.Get("pool"), m)
		if err != nil {
			return err
		}
		pools = append(pools, pool)
	}
	j, err := h.Journal(q.ctx, q.source.Log, pools, replay.Span{To: m}, nil)
	if err != nil {
		return err
	}
	held, err := j.Replay(m, pools...)
	if err != nil {
		return err
	}
	return list(q, holdingTable, held)
}

// excerpt is what is asked for of the log itself.
type excerpt struct {
	word    string // the pool's; empty: all
	streams map[events.Stream]bool
	span    replay.Span
	left    int // events that may still be told
}

// eventsOf answers with the events themselves.
func eventsOf(q *question) error {
	x := excerpt{word: q.given.Get("pool"), left: -1}
	var err error
	if text := q.given.Get("limit"); text != "" {
		if x.left, err = strconv.Atoi(text); err != nil || x.left < 1 {
			return wrong("limit: %q is no number of events: write one from 1", text)
		}
	}
	follow := false
	if text := q.given.Get("follow"); text != "" {
		if follow, err = strconv.ParseBool(text); err != nil {
			return wrong("follow: %q is neither true nor false", text)
		}
	}
	if follow && q.given.Has("until") {
		return wrong("until ends what follow goes on with: leave one of them out")
	}
	if follow && q.format == render.FormatJSON {
		return wrong("an array never ends while it is followed: choose format=jsonl")
	}
	h, err := q.history()
	if err != nil {
		return err
	}
	pools, err := q.pools(h)
	if err != nil {
		return err
	}
	if x.span, err = q.span(h, "since", "until"); err != nil {
		return err
	}
	if pools != nil {
		x.streams = map[events.Stream]bool{}
		for _, p := range pools {
			x.streams[events.PoolStream(p.ID)] = true
		}
	}
	records, err := h.Records(q.ctx, q.source.Log, pools, x.span, nil)
	if err != nil {
		return err
	}
	if follow {
		return q.follow(&x, records, h.Revision())
	}
	q.seat.found() // others read the log once these records are told
	return all(q, eventTable, func(yield func(replay.Event, error) bool) {
		for _, r := range records {
			if !x.tell(r, func(e replay.Event) bool { return yield(e, nil) }) {
				return
			}
		}
	})
}

// tell goes over the events of a record that are asked for, and says whether
// there may be more.
func (x *excerpt) tell(r events.Record, yield func(replay.Event) bool) bool {
	if r.Revision > x.span.To.Revision {
		return false
	}
	if r.Revision <= x.span.From.Revision || !x.wants(r) {
		return true
	}
	for i := range r.Events {
		if x.left == 0 || !yield(replay.Event{Record: r, Index: i}) {
			return false
		}
		x.left--
	}
	return x.left != 0
}

// wants says whether a record is of the pool that is asked for. A pool that comes
// while the log is followed may be the next one of that name.
func (x *excerpt) wants(r events.Record) bool {
	if x.streams == nil || x.streams[r.Stream] {
		return true
	}
	for _, e := range r.Events {
		created, ok := e.(events.PoolCreated)
		if !ok {
			continue
		}
		id, err := events.ParseID(string(r.Stream))
		if err == nil && replay.Means(&projection.PoolLife{ID: id, Pool: events.Pool(created)}, x.word) {
			x.streams[r.Stream] = true
			return true
		}
	}
	return false
}

// errEnough ends the following of a log of which enough was told.
var errEnough = errors.New("enough was told")

// follow tells of the records there are, and of those that come, until the client
// leaves.
func (q *question) follow(x *excerpt, records []events.Record, revision int64) error {
	leave, err := q.slots.following.enter(client(q.r))
	if err != nil {
		return err
	}
	defer leave()
	q.seat.found()
	out := q.output()
	q.w.WriteHeader(http.StatusOK)
	if q.r.Method == http.MethodHead {
		return nil
	}
	buffered := bufio.NewWriterSize(out.Writer, chunk)
	out.Writer = buffered
	stream := eventTable.Stream(out)
	tell := func(records []events.Record) error {
		for _, r := range records {
			var failed error
			more := x.tell(r, func(e replay.Event) bool {
				failed = stream.Write(e)
				return failed == nil
			})
			if failed != nil {
				return failed
			}
			if !more {
				return errors.CombineErrors(buffered.Flush(), errEnough)
			}
		}
		return errors.CombineErrors(buffered.Flush(), http.NewResponseController(q.w).Flush())
	}
	err = tell(records)
	// The past is told: others may read it now.
	clear(records)
	q.seat.leave()
	q.w.end = time.Time{}
	if err == nil {
		x.span.To.Revision = 1<<63 - 1
		err = q.tail(revision, tell)
	}
	if errors.Is(err, errEnough) || q.r.Context().Err() != nil {
		return nil
	}
	return err
}

// tail tells of the records that come after a revision. A store that is silent is
// waited for. Where the store has forgotten how it came, the answer breaks off:
// the client asks again, since the last revision it saw.
func (q *question) tail(revision int64, tell func([]events.Record) error) error {
	const pause = time.Second
	ctx := q.r.Context()
	for {
		var failed error
		err := q.source.Log.Tail(ctx, "", revision, func(u etcdlog.Update) error {
			if failed = tell(u.Records); failed == nil {
				revision = max(revision, u.Revision)
			}
			return failed
		})
		switch {
		case failed != nil:
			return failed
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !store.Silent(err):
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}
