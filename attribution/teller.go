// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"context"
	"sync"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

const (
	// maxTold is how many attributions a commit holds.
	maxTold = 50
	// tellPatience is how long one commit is sent again and again before it is
	// settled what became of it.
	tellPatience = 5 * time.Second
	// lastWords is how long a teller that is to end still waits for the store.
	lastWords = 2 * time.Second
)

// teller appends attributions, in the order they were found, one commit at a time.
// Its tell may be called from any goroutine.
type teller struct {
	writer *etcdlog.Writer
	log    zerolog.Logger
	told   func(n int) // n attributions are in the log

	mu    sync.Mutex
	queue []telling
	more  chan struct{} // capacity 1
}

// telling is an attribution of a holding in a pool.
type telling struct {
	pool  events.ID
	event events.AddressAttributed
}

func newTeller(w *etcdlog.Writer, told func(int), log zerolog.Logger) *teller {
	return &teller{writer: w, told: told, log: log, more: make(chan struct{}, 1)}
}

func (t *teller) tell(all ...telling) {
	t.mu.Lock()
	t.queue = append(t.queue, all...)
	t.mu.Unlock()
	select {
	case t.more <- struct{}{}:
	default:
	}
}

// run appends until ctx ends, and then what is left if the store takes it at once.
func (t *teller) run(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-t.more:
			t.drain(ctx)
		case <-ctx.Done():
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	t.drain(ctx)
}

func (t *teller) drain(ctx context.Context) {
	for ctx.Err() == nil {
		pool, batch := t.take()
		if len(batch) == 0 {
			return
		}
		if err := t.commit(ctx, events.PoolStream(pool), batch); err != nil {
			t.log.Warn().Err(err).Stringer("pool", pool).Int("events", len(batch)).Msg("whose these addresses are could not be appended: it stays unknown")
			continue
		}
		t.told(len(batch))
	}
}

// take cuts a commit's events off the queue: those of the first one's pool.
func (t *teller) take() (pool events.ID, batch []events.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var rest []telling
	for i, x := range t.queue {
		if i == 0 {
			pool = x.pool
		}
		if x.pool == pool && len(batch) < maxTold {
			batch = append(batch, x.event)
		} else {
			rest = append(rest, x)
		}
	}
	t.queue = rest
	return pool, batch
}

// commit appends a batch once. A commit whose answer never came is settled before
// it is sent under another ID.
func (t *teller) commit(ctx context.Context, stream events.Stream, batch []events.Event) error {
	for {
		id := t.writer.Log().Clock.NewID()
		try, cancel := context.WithTimeout(ctx, tellPatience)
		_, err := t.writer.Append(try, etcdlog.Proposal{ID: id, Stream: stream, Events: batch, Seen: events.NewGuards()})
		cancel()
		switch {
		case errors.Is(err, etcdlog.ErrVoided):
			continue
		case !errors.Is(err, etcdlog.ErrUnknown):
			return err
		}
		t.log.Debug().Err(err).Stringer("commit", id).Msg("the store did not answer: whose addresses are is told when it does")
		record, err := t.writer.Close(ctx, stream, id)
		if err != nil || !record.Void() {
			return err
		}
	}
}
