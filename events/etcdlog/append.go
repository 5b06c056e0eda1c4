// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"context"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/ipamlog/ipamlog/events"
)

// MaxEvents is how many events a commit may hold: etcd takes 128 operations in
// a transaction, and the log key, the grants and the host need some.
const MaxEvents = 100

// maxOperations is what etcd takes in one transaction.
const maxOperations = 128

var (
	// ErrConflict is returned when a guard was not as the writer saw it; the
	// error is a [*ConflictError] then. Nothing was written.
	ErrConflict = errors.New("the state changed under the decision")
	// ErrUnknown is returned when no answer came in time: the commit may be in
	// the log, or may come into it later, until [Writer.Close] has settled it.
	ErrUnknown = errors.New("the store did not answer")
	// ErrVoided is returned when the commit's ID was closed by a void commit
	// before it. Nothing was written, and nothing can be under this ID.
	ErrVoided = errors.New("the commit was voided")
	// ErrFenced is returned when another daemon has joined as this host since.
	// Nothing was written.
	ErrFenced = errors.New("another daemon has joined as this host")
	// ErrRejected is returned when the store refuses the transaction as such
	// (permission, size). Nothing was written.
	ErrRejected = errors.New("the store refused")
)

// Proposal is a commit on its way: events, and the guards the decision rests on.
type Proposal struct {
	ID     events.ID // from [Clock.NewID]; the same one when it is sent again
	Stream events.Stream
	Events []events.Event
	// Seen holds every guard that the events touch or lean on, as it was seen. A
	// guard that is not in it was seen absent.
	Seen events.Guards
	// SeenAt is a revision that the writer knows the store has reached; a store
	// that answers from before it is another one. 0 knows nothing.
	SeenAt int64
	// CatalogueAt is the revision the catalogue was read at, for a commit that
	// creates a pool, or changes one in a way that others bear on: no pool of either
	// space may have changed since.
	CatalogueAt int64
	// AllGrants says that Seen holds every grant of the pool: none may have been
	// opened since.
	AllGrants bool
	// AliveAt is a revision since which no daemon may have come, or have told anything
	// else of itself. 0 does not care.
	AliveAt int64
	// Dead are hosts of which no daemon may be alive.
	Dead []string
	// For is the host that a person speaks for; "" for none. Its guard, as it is in
	// Seen, fences the commit in the place of the writer's.
	For string
}

// fence is the host by whose guard the commit of a writer is fenced.
func (p Proposal) fence(who host) host {
	if p.For == "" {
		return who
	}
	guard := p.Seen.Hosts[p.For]
	return host{name: p.For, incarnation: guard.Value.Incarnation, revision: guard.Revision}
}

// ConflictError tells what stood in the way of a proposal.
type ConflictError struct {
	// Now holds the compared guards as they are at Revision; the absent ones
	// are not in it.
	Now      events.Guards
	Revision int64
}

// Error implements error.
func (c *ConflictError) Error() string { return ErrConflict.Error() }

// Is makes a ConflictError an [ErrConflict].
func (c *ConflictError) Is(target error) bool { return target == ErrConflict }

// Append commits a proposal, and returns its record. While no answer comes, it
// sends the same transaction again until ctx ends. It returns [ErrConflict] (a
// [*ConflictError]), [ErrHostAlive] (see [Proposal.Dead]), [ErrFenced],
// [ErrOtherStore], [ErrVoided], [ErrRejected], [ErrFull] or [ErrUnknown]; after any but the last nothing of the proposal is, or will be, in the log.
func (w *Writer) Append(ctx context.Context, p Proposal) (events.Record, error) {
	who := *w.host.Load()
	fence := p.fence(who)
	t, err := w.log.prepare(p, w.log.sign(p, who), fence)
	if err != nil {
		return events.Record{}, err
	}
	w.leanOnLast(t)
	w.log.echoes.expect(t.logKey, t.value, t.commit)
	record, err := w.log.run(ctx, t)
	w.answered(err)
	if err != nil {
		w.log.echoes.forget(t.logKey)
	}
	var conflict *ConflictError
	if errors.As(err, &conflict) {
		if now, compared := conflict.Now.Hosts[fence.name]; compared && now.Revision != fence.revision {
			return events.Record{}, errors.Wrapf(ErrFenced, "host %s is at incarnation %d, this is %d", fence.name, now.Value.Incarnation, fence.incarnation)
		}
	}
	if err == nil {
		w.wrote(record)
	}
	return record, err
}

// run sends a transaction until it has an answer or ctx ends. It returns what
// stands under its log key, or [ErrConflict], [ErrVoided], [ErrRejected],
// [ErrUnknown].
func (l *Log) run(ctx context.Context, t *transaction) (events.Record, error) {
	var last error
	ambiguous := false
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		resp, err := l.try(ctx, t)
		if err == nil && l.revision(resp.Header.Revision) < t.seenAt {
			return events.Record{}, other("it is at revision %d, and this daemon has seen revision %d in its own", l.revision(resp.Header.Revision), t.seenAt)
		}
		switch {
		case err == nil && resp.Succeeded:
			return events.Record{Commit: t.commit, Revision: l.revision(resp.Header.Revision)}, nil
		case err == nil:
			record, err := l.refusal(ctx, t, resp)
			if errors.Is(err, errSilent) {
				// Why it was refused is not known: it is sent again to find out.
				last = err
				break
			}
			if errors.IsAny(err, ErrConflict, ErrHostAlive) && ambiguous {
				// An earlier send may still be under way, and would succeed
				// once the guards happen to be absent again.
				closed, closeErr := l.close(ctx, t.commit.Stream, t.commit.ID)
				if closeErr != nil {
					// Whatever refused to close it, the earlier send is still out.
					return events.Record{}, errors.Mark(errors.Newf("append to the log: %v", closeErr), ErrUnknown)
				}
				if !closed.Void() {
					return closed, nil
				}
			}
			return record, err
		case definite(err) && !ambiguous:
			return events.Record{}, errors.Mark(errors.Wrap(err, "append to the log"), ErrRejected)
		case isFull(err) && !ambiguous:
			record, err := l.full(ctx, t, err)
			if !errors.Is(err, errSilent) {
				return record, err
			}
			last, ambiguous = err, true
		default:
			last, ambiguous = err, true
		}
		select {
		case <-ctx.Done():
			err := errors.Mark(errors.Wrap(last, "append to the log"), ErrUnknown)
			if isFull(last) {
				err = errors.Mark(err, ErrFull)
			}
			return events.Record{}, err
		case <-time.After(pause):
		}
	}
}

func (l *Log) try(ctx context.Context, t *transaction) (*clientv3.TxnResponse, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, l.attempt)
	defer cancel()
	return l.client.Txn(ctx).If(t.ifs...).Then(t.then...).Else(t.orElse...).Commit()
}

// errSilent is returned by refusal when the store does not say why.
var errSilent = errors.New("the store did not say what stood in the way")

// refusal finds out why a transaction did not pass. That its log key exists means
// that an earlier send of it did. The guards are read after it, and may have moved
// on once more, even back to what was compared with.
func (l *Log) refusal(ctx context.Context, t *transaction, resp *clientv3.TxnResponse) (events.Record, error) {
	if kvs := resp.Responses[0].GetResponseRange().GetKvs(); len(kvs) > 0 {
		return l.standing(kvs[0])
	}
	reads := make([]clientv3.Op, 0, len(t.guards)+2)
	reads = append(reads, clientv3.OpGet(l.keys.store()))
	for _, key := range t.guards {
		reads = append(reads, clientv3.OpGet(key))
	}
	reads = append(reads, t.leaning.look(l.keys)...)
	now, err := l.try(ctx, &transaction{then: reads})
	if err != nil {
		return events.Record{}, errors.Mark(errors.Wrap(err, "look at what stood in the way"), errSilent)
	}
	if err := l.stillThis(now.Responses[0].GetResponseRange().GetKvs()); err != nil {
		return events.Record{}, err
	}
	if err := l.standsIn(now, t); err != nil {
		return events.Record{}, err
	}
	conflict := &ConflictError{Now: events.NewGuards(), Revision: l.revision(now.Header.Revision)}
	for i, r := range now.Responses[1 : 1+len(t.guards)] {
		for _, kv := range r.GetResponseRange().GetKvs() {
			if name, lives := strings.CutPrefix(t.guards[i], l.keys.alive("")); lives {
				p, err := readPresence(name, kv.Value)
				if err == nil {
					err = alive(name, p)
				}
				return events.Record{}, err
			}
			if err := l.readGuard(&conflict.Now, t.pool, string(kv.Key), kv); err != nil {
				return events.Record{}, err
			}
		}
	}
	return events.Record{}, conflict
}

// standing reads the commit that was found under a transaction's log key.
func (l *Log) standing(kv *mvccpb.KeyValue) (events.Record, error) {
	record, err := l.decodeRecord(kv)
	if err == nil && record.Void() {
		err = ErrVoided
	}
	return record, err
}

// definite says whether an error means that the transaction was not, and will
// not be, applied.
func definite(err error) bool {
	var server rpctypes.EtcdError
	if !errors.As(err, &server) {
		return false
	}
	switch server.Code() {
	case codes.InvalidArgument, codes.NotFound, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
		return true
	}
	// Not so codes.ResourceExhausted: too many requests is worth another try, and
	// what is answered with "no space" etcd may have applied.
	return false
}
