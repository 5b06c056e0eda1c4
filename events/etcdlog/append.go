// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"context"
	"maps"
	"net/netip"
	"slices"
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
	// error is a [*Conflict] then. Nothing was written.
	ErrConflict = errors.New("the state changed under the decision")
	// ErrUnknown is returned when no answer came in time: the commit may be in
	// the log, or may come into it later, until [Log.Close] has settled it.
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
	// CatalogueAt is the revision the catalogue was read at, for a commit that
	// creates a pool: nothing under the space's pools may have changed since.
	CatalogueAt int64
}

// Conflict tells what stood in the way of a proposal.
type Conflict struct {
	// Now holds the compared guards as they are at Revision; the absent ones
	// are not in it.
	Now      events.Guards
	Revision int64
}

// Error implements error.
func (c *Conflict) Error() string { return ErrConflict.Error() }

// Is makes a Conflict an [ErrConflict].
func (c *Conflict) Is(target error) bool { return target == ErrConflict }

// transaction is a proposal made ready: conditions, writes, and the guards that
// are looked at when they stood in the way.
type transaction struct {
	logKey string
	commit events.Commit
	value  []byte    // of the commit, as written
	pool   events.ID // zero in the catalogue
	ifs    []clientv3.Cmp
	then   []clientv3.Op
	orElse []clientv3.Op
	guards []string
}

// compare demands that a guard still is as it was seen. It is not read where it
// is not: all that a transaction may do is written to etcd's disk, and a refused
// one is rare (see Log.refusal).
func (t *transaction) compare(key string, revision int64) {
	t.ifs = append(t.ifs, clientv3.Compare(clientv3.ModRevision(key), "=", revision))
	t.guards = append(t.guards, key)
}

// emptyBut demands that there is no key below prefix but the given ones.
func (t *transaction) emptyBut(prefix string, but []string) {
	from := prefix
	for _, key := range append(slices.Sorted(slices.Values(but)), endOf(prefix)) {
		t.ifs = append(t.ifs, clientv3.Compare(clientv3.CreateRevision(from).WithRange(key), "=", 0))
		from = key + "\x00"
	}
}

// prepare turns a proposal into a transaction. The guards' new values are what
// [events.Guards.Apply] makes of the events, so none can be written without its
// event, and no event without its guards.
func (l *Log) prepare(p Proposal, commit events.Commit, fence host) (*transaction, error) {
	if len(p.Events) > MaxEvents {
		return nil, errors.AssertionFailedf("%d events in one commit", len(p.Events))
	}
	value, err := events.Encode(commit)
	if err != nil {
		return nil, err
	}
	n := len(p.Events) + 8 // roughly: an operation an event, and what they lean on
	t := &transaction{
		logKey: l.keys.commit(p.Stream, p.ID), commit: commit, value: value,
		ifs: make([]clientv3.Cmp, 0, n), then: make([]clientv3.Op, 0, n), guards: make([]string, 0, n),
	}
	t.ifs = append(t.ifs, clientv3.Compare(clientv3.CreateRevision(t.logKey), "=", 0))
	t.then = append(t.then, clientv3.OpPut(t.logKey, string(value)))
	t.orElse = append(t.orElse, clientv3.OpGet(t.logKey))
	if p.Stream != events.Catalogue {
		if t.pool, err = events.ParseID(string(p.Stream)); err != nil {
			return nil, err
		}
	}

	// The revision is not known yet; any that is not zero stands for it.
	after := cloneGuards(p.Seen)
	if err := after.Apply(events.Record{Commit: commit, Revision: 1}); err != nil {
		return nil, errors.Wrap(err, "apply a proposal to what it rests on")
	}
	touched := touchedBy(p.Events, p.Seen)
	if err := touched.founded(after); err != nil {
		return nil, err
	}
	if touched.pool {
		space := after.Pool.Value.Space
		if !after.Pool.Present() {
			space = p.Seen.Pool.Value.Space
		}
		if err := put(t, l.keys.pool(space, t.pool), p.Seen.Pool.Revision, after.Pool); err != nil {
			return nil, err
		}
		if !p.Seen.Pool.Present() {
			t.ifs = append(t.ifs, clientv3.Compare(clientv3.ModRevision(l.keys.poolsIn(space)), "<", p.CatalogueAt+1).WithPrefix())
		}
	}
	if touched.retires {
		var ends []string // what this very commit ends is not in the way
		for addr := range touched.addresses {
			if !after.Held[addr].Present() {
				ends = append(ends, l.keys.held(t.pool, addr))
			}
		}
		t.emptyBut(l.keys.heldIn(t.pool), ends)
		ends = nil
		for id := range touched.grants {
			if !after.Grants[id].Present() {
				ends = append(ends, l.keys.grant(t.pool, id))
			}
		}
		t.emptyBut(l.keys.grantsIn(t.pool), ends)
	}
	for id := range touched.grants {
		if err := put(t, l.keys.grant(t.pool, id), p.Seen.Grants[id].Revision, after.Grants[id]); err != nil {
			return nil, err
		}
	}
	maps.Copy(touched.emptied, touched.joined)
	for id := range touched.emptied {
		if !touched.grants[id] {
			t.compare(l.keys.grant(t.pool, id), p.Seen.Grants[id].Revision)
		}
	}
	holdings := l.keys.heldIn(t.pool)
	for addr := range touched.addresses {
		if err := put(t, holdings+addr.String(), p.Seen.Held[addr].Revision, after.Held[addr]); err != nil {
			return nil, err
		}
	}
	for name := range touched.hosts {
		if err := put(t, l.keys.host(name), p.Seen.Hosts[name].Revision, after.Hosts[name]); err != nil {
			return nil, err
		}
	}
	if touched.leansOnPool && !touched.pool {
		t.compare(l.keys.pool(p.Seen.Pool.Value.Space, t.pool), p.Seen.Pool.Revision)
	}
	if touched.fenced && fence.name != "" {
		t.compare(l.keys.host(fence.name), fence.revision)
	}
	if n := max(len(t.ifs), len(t.then)); n > maxOperations {
		return nil, errors.AssertionFailedf("%d operations in one commit", n)
	}
	return t, nil
}

func put[T events.Pool | events.Grant | events.HostGuard | events.Held](t *transaction, key string, seen int64, after events.Guarded[T]) error {
	t.compare(key, seen)
	if !after.Present() {
		t.then = append(t.then, clientv3.OpDelete(key))
		return nil
	}
	value, err := events.EncodeGuard(after.Value)
	if err != nil {
		return err
	}
	t.then = append(t.then, clientv3.OpPut(key, string(value)))
	return nil
}

// touches is what a commit's events change or lean on.
type touches struct {
	pool, retires bool
	leansOnPool   bool               // a grant opens, or a holding without a grant begins: the pool must stand
	fenced        bool               // only this host, in this incarnation, may do it
	grants        map[events.ID]bool // opened, closing, closed
	joined        map[events.ID]bool // allocated through: the grant must be open
	emptied       map[events.ID]bool // released because it is closing: it must be closing still
	addresses     map[netip.Addr]bool
	hosts         map[string]bool
}

func touchedBy(list []events.Event, seen events.Guards) touches {
	t := touches{
		grants: map[events.ID]bool{}, joined: map[events.ID]bool{}, emptied: map[events.ID]bool{},
		addresses: map[netip.Addr]bool{}, hosts: map[string]bool{},
	}
	for _, e := range list {
		switch e := e.(type) {
		case events.PoolCreated:
			t.pool = true
		case events.PoolRetired:
			t.pool, t.retires = true, true
		case events.PoolExhausted, events.Unknown:
		case events.GrantOpened:
			t.grants[e.Grant], t.leansOnPool = true, true
		case events.GrantReopened:
			t.grants[e.Grant], t.leansOnPool, t.fenced = true, true, true
		case events.GrantClosing:
			t.grants[e.Grant], t.fenced = true, true
		case events.GrantClosed:
			t.grants[e.Grant], t.fenced = true, true
		case events.AddressAllocated:
			t.addresses[e.Address] = true
			if e.Grant.IsZero() {
				t.leansOnPool = true
			} else {
				t.joined[e.Grant] = true
			}
		case events.AddressReleased:
			t.addresses[e.Address] = true
			if held := seen.Held[e.Address].Value; e.Reason == events.GrantEnded {
				t.fenced = true
				// It leans on its grant if that was looked at.
				if i := held.Index(e.Allocation); i >= 0 && seen.Grants[held[i].Grant].Present() {
					t.emptied[held[i].Grant] = true
				}
			}
		case events.HostJoined:
			t.hosts[e.Host] = true
		case events.HostAdopted:
			t.hosts[e.Host] = true
		}
	}
	return t
}

// founded says whether what the events lean on was there when it was looked at:
// comparing with an absent guard would demand that it stays absent.
func (t touches) founded(after events.Guards) error {
	for id := range t.joined {
		if after.Grants[id].Value.State != events.StateOpen {
			return errors.Wrapf(events.ErrContradiction, "grant %s is not open", id)
		}
	}
	if t.leansOnPool && !after.Pool.Present() {
		return errors.Wrap(events.ErrContradiction, "the pool does not exist")
	}
	return nil
}

func cloneGuards(g events.Guards) events.Guards {
	c := events.NewGuards()
	c.Pool = g.Pool
	maps.Copy(c.Grants, g.Grants)
	maps.Copy(c.Held, g.Held)
	maps.Copy(c.Hosts, g.Hosts)
	return c
}

// run sends a transaction until it has an answer or ctx ends. It returns what
// stands under its log key, or [ErrConflict], [ErrVoided], [ErrRejected],
// [ErrUnknown].
func (l *Log) run(ctx context.Context, t *transaction) (events.Record, error) {
	var last error
	ambiguous := false
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		resp, err := l.try(ctx, t)
		switch {
		case err == nil && resp.Succeeded:
			return events.Record{Commit: t.commit, Revision: resp.Header.Revision}, nil
		case err == nil:
			record, err := l.refusal(ctx, t, resp)
			if errors.Is(err, errSilent) {
				// Why it was refused is not known: it is sent again to find out.
				last = err
				break
			}
			if errors.Is(err, ErrConflict) && ambiguous {
				// An earlier send may still be under way, and would succeed
				// once the guards happen to be absent again.
				closed, closeErr := l.closeKey(ctx, t.logKey)
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
		default:
			last, ambiguous = err, true
		}
		select {
		case <-ctx.Done():
			return events.Record{}, errors.Mark(errors.Wrap(last, "append to the log"), ErrUnknown)
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
		record, err := l.decodeRecord(kvs[0])
		if err == nil && record.Void() {
			err = ErrVoided
		}
		return record, err
	}
	reads := make([]clientv3.Op, 0, len(t.guards))
	for _, key := range t.guards {
		reads = append(reads, clientv3.OpGet(key))
	}
	now, err := l.try(ctx, &transaction{then: reads})
	if err != nil {
		return events.Record{}, errors.Mark(errors.Wrap(err, "look at what stood in the way"), errSilent)
	}
	conflict := &Conflict{Now: events.NewGuards(), Revision: now.Header.Revision}
	for _, r := range now.Responses {
		for _, kv := range r.GetResponseRange().GetKvs() {
			if err := l.readGuard(&conflict.Now, t.pool, string(kv.Key), kv); err != nil {
				return events.Record{}, err
			}
		}
	}
	return events.Record{}, conflict
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
	case codes.ResourceExhausted:
		// Not so ErrNoSpace: etcd may have applied what it answers that to.
		return errors.Is(err, rpctypes.ErrTooManyRequests)
	}
	return false
}

// Close settles what became of a commit whose answer never came: if nothing is
// under its ID, a void commit is put there, and nothing else ever will be. It
// returns what stands there now, void or not, or [ErrUnknown] when ctx ended
// first.
func (w *Writer) Close(ctx context.Context, stream events.Stream, id events.ID) (events.Record, error) {
	return w.log.closeKey(ctx, w.log.keys.commit(stream, id))
}

// closeKey implements [Writer.Close]; the void commit is signed by nobody in
// particular, since it changes nothing.
func (l *Log) closeKey(ctx context.Context, key string) (events.Record, error) {
	now, suspect := l.Clock.Stamp()
	value, err := events.Encode(events.Commit{Time: now, ClockSuspect: suspect, Host: "-"})
	if err != nil {
		return events.Record{}, err
	}
	t := &transaction{
		logKey: key,
		ifs:    []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", 0)},
		then:   []clientv3.Op{clientv3.OpPut(key, string(value)), clientv3.OpGet(key)},
		orElse: []clientv3.Op{clientv3.OpGet(key)},
	}
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		resp, err := l.try(ctx, t)
		if err == nil {
			for _, r := range resp.Responses {
				for _, kv := range r.GetResponseRange().GetKvs() {
					return l.decodeRecord(kv)
				}
			}
			return events.Record{}, errors.AssertionFailedf("no commit under %s after it was closed", key)
		}
		if definite(err) {
			return events.Record{}, errors.Mark(errors.Wrap(err, "close a commit"), ErrRejected)
		}
		select {
		case <-ctx.Done():
			return events.Record{}, errors.Mark(errors.Wrap(err, "close a commit"), ErrUnknown)
		case <-time.After(pause):
		}
	}
}

// readGuard files a guard's key and value under what the key names.
func (l *Log) readGuard(g *events.Guards, pool events.ID, key string, kv *mvccpb.KeyValue) error {
	var err error
	switch {
	case strings.HasPrefix(key, l.keys.heldIn(pool)):
		var addr netip.Addr
		if addr, err = netip.ParseAddr(lastPart(kv.Key, l.keys.heldIn(pool))); err == nil {
			g.Held[addr], err = decodeGuard[events.Held](kv)
		}
	case strings.HasPrefix(key, l.keys.grantsIn(pool)):
		var id events.ID
		if id, err = events.ParseID(lastPart(kv.Key, l.keys.grantsIn(pool))); err == nil {
			g.Grants[id], err = decodeGuard[events.Grant](kv)
		}
	case strings.HasPrefix(key, l.keys.host("")):
		g.Hosts[lastPart(kv.Key, l.keys.host(""))], err = decodeGuard[events.HostGuard](kv)
	default:
		for _, space := range events.Spaces() {
			if strings.HasPrefix(key, l.keys.poolsIn(space)) {
				g.Pool, err = decodeGuard[events.Pool](kv)
				g.Pool.Value.Space = space
				return errors.Wrapf(err, "read the guard %s", key)
			}
		}
		err = errors.New("no guard lives there")
	}
	return errors.Wrapf(err, "read the guard %s", key)
}
