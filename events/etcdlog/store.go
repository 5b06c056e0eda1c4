// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"context"
	"encoding/json"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events"
)

var (
	// ErrNoStore is returned by [Log.Store] where no log was ever begun.
	ErrNoStore = errors.New("there is no ipamlog log")
	// ErrStoreFormat is returned by [Log.Store] for a store in a newer format, or in
	// one of before the first release.
	ErrStoreFormat = errors.New("the store is in another format")
	// ErrOtherStore is returned by [Log.Recall] when the store is not the one
	// that was remembered, or an older copy of it.
	ErrOtherStore = errors.New("another store is behind this address")
)

// Store is the identity of a store.
type Store struct {
	ID     events.ID `json:"store"`
	Base   int64     `json:"base"` // added to the store's revisions since a restore
	Format int       `json:"format"`
	// Lowered says that the format was lowered by hand, and is not raised by itself.
	Lowered bool `json:"lowered,omitempty"`
	// Restored is what the store was restored from; zero: it began empty.
	Restored Origin `json:"restored,omitzero"`
}

// Memory is what a daemon remembers of its store, to know it again.
type Memory struct {
	Store    events.ID     `json:"store"`
	Revision int64         `json:"revision"` // the last commit seen in it; 0: none yet
	Stream   events.Stream `json:"stream,omitempty"`
	Commit   events.ID     `json:"commit,omitzero"`
	// Unlooked says that the store may lack what this machine's engine uses, and that
	// the two were not compared yet: it was restored, or adopted.
	Unlooked bool `json:"unlooked,omitempty"`
	// Reopened are the grants of this machine's that were opened again, and whose
	// networks were not compared with the log yet.
	Reopened []events.ID `json:"reopened,omitempty"`
	// Clock is what time it likely was then: see [Clock.Resume].
	Clock Reading `json:"clock,omitzero"`
}

// Store reads which store this is. It returns [ErrNoStore], [ErrUnfinished] or
// [ErrStoreFormat].
func (l *Log) Store(ctx context.Context) (Store, error) {
	resp, err := l.get(ctx, l.keys.store())
	if err != nil {
		return Store{}, errors.Wrap(err, "read the store's identity")
	}
	if len(resp.Kvs) == 0 {
		return Store{}, l.noStore(ctx)
	}
	var s Store
	if err := json.Unmarshal(resp.Kvs[0].Value, &s); err != nil {
		return Store{}, errors.Wrap(err, "read the store's identity")
	}
	if err := s.known(); err != nil {
		return Store{}, err
	}
	if s.Format < OldestFormat {
		return Store{}, errors.Wrapf(ErrStoreFormat, "it is in format %d, of before the first release: begin with an empty data directory, or another --prefix", s.Format)
	}
	l.identity.Store(&identity{Store: s, raw: string(resp.Kvs[0].Value), since: resp.Kvs[0].CreateRevision})
	return s, nil
}

// known says whether this program knows the store's format.
func (s Store) known() error {
	if s.Format > Format {
		return errors.Wrapf(ErrStoreFormat, "it is in format %d, this program reads up to %d: upgrade it", s.Format, Format)
	}
	return nil
}

// stillThis checks what stands now where the store's identity stood. One that was
// written anew, as for a newer format, is learnt.
func (l *Log) stillThis(kvs []*mvccpb.KeyValue) error {
	known := l.identity.Load()
	switch {
	case known == nil:
		return nil
	case len(kvs) == 0:
		return other("it has no identity, and this daemon writes to store %s", known.ID)
	case string(kvs[0].Value) == known.raw:
		return nil
	}
	var now Store
	if err := json.Unmarshal(kvs[0].Value, &now); err != nil {
		return errors.Wrap(err, "read the store's identity")
	}
	if now.ID != known.ID {
		return other("it is store %s, and this daemon writes to store %s", now.ID, known.ID)
	}
	if err := now.known(); err != nil {
		return err
	}
	l.identity.Store(&identity{Store: now, raw: string(kvs[0].Value), since: kvs[0].CreateRevision})
	return nil
}

// Found gives a store without an identity one, and returns the identity it has
// then, whoever gave it. It returns [ErrUnfinished], [ErrStoreFormat] or [ErrNested].
func (l *Log) Found(ctx context.Context) (Store, error) {
	there, err := l.Store(ctx)
	if !errors.Is(err, ErrNoStore) {
		return there, err
	}
	if err := l.alone(ctx); err != nil {
		return Store{}, err
	}
	value, err := json.Marshal(Store{ID: l.Clock.NewID(), Format: Format})
	if err != nil {
		return Store{}, errors.Wrap(err, "write the store's identity")
	}
	_, err = l.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(l.keys.store()), "=", 0), clientv3.Compare(clientv3.CreateRevision(l.keys.restoring()), "=", 0)).
		Then(clientv3.OpPut(l.keys.store(), string(value))).
		Commit()
	if err != nil {
		return Store{}, errors.Wrap(err, "write the store's identity")
	}
	return l.Store(ctx)
}

// other is an [ErrOtherStore] that says by what it is known.
func other(format string, args ...any) error {
	return errors.Mark(errors.Newf("another store is behind this address: "+format, args...), ErrOtherStore)
}

// Recall checks that the store is the one remembered, and no older copy of it.
// It returns [ErrOtherStore], saying what differs.
func (l *Log) Recall(ctx context.Context, m Memory) error {
	s, err := l.Store(ctx)
	switch {
	case errors.Is(err, ErrNoStore):
		return other("it has no identity, and this machine knows store %s", m.Store)
	case err != nil:
		return err
	case s.ID != m.Store && s.Restored.Store == m.Store:
		return other("it is store %s, restored from store %s as that was at revision %d, and this machine knows that one at revision %d", s.ID, m.Store, s.Restored.Revision, m.Revision)
	case s.ID != m.Store:
		return other("it is store %s, and this machine knows store %s", s.ID, m.Store)
	}
	resp, err := l.get(ctx, l.keys.commit(m.Stream, m.Commit), clientv3.WithKeysOnly())
	if err != nil {
		return errors.Wrap(err, "look for the last commit seen in the store")
	}
	if now := l.revision(resp.Header.Revision); now < m.Revision {
		return other("it is at revision %d, and this machine has seen revision %d in its own", now, m.Revision)
	}
	if m.Revision > 0 && len(resp.Kvs) == 0 {
		segments, err := l.Segments(ctx)
		if err != nil {
			return err
		}
		if s := sealedAt(segments, m.Revision); s != nil && s.gone() {
			return nil // it was archived since
		}
	}
	if m.Revision > 0 && (len(resp.Kvs) == 0 || l.revision(resp.Kvs[0].CreateRevision) != m.Revision) {
		return other("commit %s, which this machine has seen at revision %d, is not in it", m.Commit, m.Revision)
	}
	return nil
}
