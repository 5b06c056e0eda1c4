// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"github.com/ipamlog/ipamlog/events"
)

// Update is what a follower is told: either everything anew, or what came after
// what it was told last.
type Update struct {
	// Guards, if not nil, is the pool's whole state at Revision. It comes first,
	// and again when the records between were lost to compaction.
	Guards *events.Guards
	// Records follow in the order of their revisions.
	Records []events.Record
	// Revision is what the follower is complete up to.
	Revision int64
}

// maxPause bounds the wait before a follower tries again.
const maxPause = 2 * time.Second

// Follow tells handle of a pool's guards and then of every record of its stream,
// until ctx ends or handle fails, whose error it returns. handle is called from
// one goroutine. Trouble with the store is waited out, and told to trouble, if
// that is not nil; a record that cannot be read ends the following, because
// nothing may be decided past it.
func (l *Log) Follow(ctx context.Context, space events.Space, pool events.ID, handle func(Update) error, trouble func(error)) error {
	var at int64
	pause := 10 * time.Millisecond
	for {
		err := l.follow(ctx, space, pool, &at, func(u Update) error {
			pause = 10 * time.Millisecond
			return handle(u)
		})
		var fatal *followError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &fatal):
			return fatal.cause
		case errors.Is(err, events.ErrMalformed), errors.Is(err, events.ErrNewer):
			return err
		case errors.Is(err, rpctypes.ErrCompacted):
			at = 0
			continue
		}
		if trouble != nil {
			trouble(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
}

// followError carries an error of the follower's own through follow.
type followError struct{ cause error }

func (e *followError) Error() string { return e.cause.Error() }

// follow runs from *at, or from the guards when it is 0, until something breaks.
func (l *Log) follow(ctx context.Context, space events.Space, pool events.ID, at *int64, handle func(Update) error) error {
	told := func(u Update) error {
		if err := handle(u); err != nil {
			return &followError{cause: err}
		}
		*at = u.Revision
		return nil
	}
	if *at == 0 {
		guards, revision, err := l.Guards(ctx, space, pool)
		if err != nil {
			return err
		}
		if err := told(Update{Guards: &guards, Revision: revision}); err != nil {
			return err
		}
	}
	return l.watch(ctx, l.keys.stream(events.PoolStream(pool)), *at, told)
}

// Tail tells handle of every record, of the given stream or of all when it is
// empty, that comes after a revision, until ctx ends. It returns etcd's
// ErrCompacted when records of the past it was asked for are gone from the
// store's memory: read those with [Log.Read].
func (l *Log) Tail(ctx context.Context, stream events.Stream, after int64, handle func(Update) error) error {
	prefix := l.keys.logs()
	if stream != "" {
		prefix = l.keys.stream(stream)
	}
	return l.watch(ctx, prefix, after, handle)
}

func (l *Log) watch(ctx context.Context, prefix string, after int64, handle func(Update) error) error {
	own := after - l.base()
	if own < 0 {
		return errors.Wrapf(rpctypes.ErrCompacted, "revision %d was before the store was restored", after)
	}
	number, leave := l.watches.join(prefix)
	defer leave()
	ctx, cancel := context.WithCancel(watchContext(ctx, number))
	defer cancel()
	for resp := range l.client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(own+1), clientv3.WithFilterDelete(), clientv3.WithProgressNotify()) {
		if err := resp.Err(); err != nil {
			return errors.Wrap(err, "watch the log")
		}
		u := Update{Revision: l.revision(resp.Header.Revision)}
		for _, ev := range resp.Events {
			if !ev.IsCreate() {
				continue // a commit is never rewritten; whatever this is, it is not ours
			}
			record, err := l.recordOf(ev.Kv)
			if err != nil {
				return err
			}
			if record.Revision <= after {
				continue // a restore wrote it, long after it happened
			}
			l.Clock.Seen(record.Commit, true)
			u.Records = append(u.Records, record)
		}
		// A response may be a part of what the store has: only a progress
		// notice speaks for its whole revision.
		if n := len(u.Records); n > 0 {
			u.Revision = u.Records[n-1].Revision
		} else if !resp.IsProgressNotify() {
			continue
		}
		if err := handle(u); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return errors.New("the watch of the log ended")
}

// recordOf reads a commit that was watched.
func (l *Log) recordOf(kv *mvccpb.KeyValue) (events.Record, error) {
	if commit, ours := l.echoes.of(kv); ours {
		return events.Record{Commit: commit, Revision: l.revision(kv.CreateRevision)}, nil
	}
	return l.decodeRecord(kv)
}

// CatchUp asks the store to tell the followers of a stream how far they are, or all of
// them where it is empty; it answers through their updates, and may have to be asked
// again.
func (l *Log) CatchUp(ctx context.Context, of events.Stream) error {
	prefix := ""
	if of != "" {
		prefix = l.keys.stream(of)
	}
	for _, number := range l.watches.of(prefix) {
		if err := l.client.RequestProgress(watchContext(ctx, number)); err != nil {
			return errors.Wrap(err, "ask how far the watch is")
		}
	}
	return nil
}

// watchKey tells watches apart in what goes to etcd with them.
const watchKey = "ipamlog-watch"

// watchContext makes a watch end, and begin again elsewhere, when its member of etcd
// has lost the leader. It also gives the watch a gRPC stream of its own: what etcd
// tells of progress goes to all watches on a stream, and may overtake the beginning of
// one that has not been told its past yet, which would then take that for seen.
// Watches and progress requests meet only when they ask with the same metadata.
func watchContext(ctx context.Context, number int) context.Context {
	return clientv3.WithRequireLeader(metadata.AppendToOutgoingContext(ctx, watchKey, strconv.Itoa(number)))
}

// watches are those that run. Safe for concurrent use.
type watches struct {
	mu   sync.Mutex
	last int
	open map[int]string // what is watched
}

func (w *watches) join(prefix string) (number int, leave func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == nil {
		w.open = map[int]string{}
	}
	w.last++
	number = w.last
	w.open[number] = prefix
	return number, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.open, number)
	}
}

// of lists the watches of a prefix, or all.
func (w *watches) of(prefix string) []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	var numbers []int
	for number, watched := range w.open {
		if prefix == "" || watched == prefix {
			numbers = append(numbers, number)
		}
	}
	return numbers
}
