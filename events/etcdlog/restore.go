// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events"
)

const (
	// restorePuts and restoreBytes bound one transaction of a restore: etcd takes 128
	// operations and 1.5 MiB.
	restorePuts  = 100
	restoreBytes = 512 << 10
	// wipePage is how many keys of an unfinished restore are deleted at once.
	wipePage = 2000
)

// ErrNotEmpty is returned by [Log.Restore] for a store that holds something.
var ErrNotEmpty = errors.New("the store is not empty")

// Restoration writes a backup into an empty store. Until [Restoration.Finish] the
// store has no identity, and a mark that tells every daemon and command why.
//
// Not safe for concurrent use.
type Restoration struct {
	log  *Log
	from Origin
	mine clientv3.Cmp // nobody else restores into the store meanwhile
	ops  []clientv3.Op
	size int
}

// Restore begins to restore a backup. What an unfinished restore left in the store
// goes first. It returns [ErrNotEmpty] for anything else below the prefix, and
// [ErrNested] for a prefix inside another log's.
func (l *Log) Restore(ctx context.Context, from Origin) (*Restoration, error) {
	if err := l.alone(ctx); err != nil {
		return nil, err
	}
	mark, err := json.Marshal(struct {
		Origin
		Restore events.ID `json:"restore"` // tells this restore from others
	}{from, l.Clock.NewID()})
	if err != nil {
		return nil, errors.Wrap(err, "write the mark of a restore")
	}
	r := &Restoration{log: l, from: from, mine: clientv3.Compare(clientv3.Value(l.keys.restoring()), "=", string(mark))}
	put := clientv3.OpPut(l.keys.restoring(), string(mark))
	begun, err := l.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(string(l.keys)), "=", 0).WithPrefix()).
		Then(put).
		Else(
			clientv3.OpGet(l.keys.store()), clientv3.OpGet(l.keys.restoring(), clientv3.WithKeysOnly()),
			clientv3.OpGet(string(l.keys), clientv3.WithPrefix(), clientv3.WithLimit(1), clientv3.WithKeysOnly()),
		).
		Commit()
	if err != nil {
		return nil, errors.Wrap(err, "begin to restore")
	}
	if begun.Succeeded {
		return r, nil
	}
	store, restoring, some := begun.Responses[0].GetResponseRange(), begun.Responses[1].GetResponseRange(), begun.Responses[2].GetResponseRange()
	if len(store.Kvs) > 0 || len(restoring.Kvs) == 0 {
		return nil, errors.Mark(errors.Newf("there are %d keys below %s already, such as %s: a restore needs an empty place, choose another --prefix, --data-dir or --cluster-store", some.Count, l.keys, some.Kvs[0].Key), ErrNotEmpty)
	}
	taken, err := l.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(l.keys.restoring()), "=", restoring.Kvs[0].ModRevision), clientv3.Compare(clientv3.CreateRevision(l.keys.store()), "=", 0)).
		Then(put).
		Commit()
	switch {
	case err != nil:
		return nil, errors.Wrap(err, "begin to restore")
	case !taken.Succeeded:
		return nil, errOtherRestore()
	}
	return r, r.wipe(ctx)
}

// wipe deletes what an unfinished restore has written, all but its mark.
func (r *Restoration) wipe(ctx context.Context) error {
	l := r.log
	meta := string(l.keys) + "meta/"
	for _, span := range [][2]string{{string(l.keys), meta}, {endOf(meta), endOf(string(l.keys))}} {
		for {
			page, err := l.get(ctx, span[0], clientv3.WithRange(span[1]), clientv3.WithLimit(wipePage), clientv3.WithKeysOnly())
			if err != nil {
				return errors.Wrap(err, "look for what an unfinished restore has left")
			}
			if len(page.Kvs) == 0 {
				break
			}
			last := string(page.Kvs[len(page.Kvs)-1].Key)
			if err := r.write(ctx, clientv3.OpDelete(span[0], clientv3.WithRange(last+"\x00"))); err != nil {
				return err
			}
		}
	}
	return nil
}

// write does some operations together, unless another restore has begun.
func (r *Restoration) write(ctx context.Context, ops ...clientv3.Op) error {
	resp, err := r.log.client.Txn(ctx).If(r.mine).Then(ops...).Commit()
	switch {
	case errors.Is(err, rpctypes.ErrNoSpace):
		return errors.Mark(errors.New("etcd has no room for what is restored: raise its quota, disarm the alarm, and run the same restore again"), err)
	case err != nil:
		return errors.Wrap(err, "write what is restored: run the same restore again")
	case !resp.Succeeded:
		return errOtherRestore()
	}
	return nil
}

func errOtherRestore() error {
	return errors.New("another restore into this store has begun: let only one run")
}

// put writes a key, together with some others.
func (r *Restoration) put(ctx context.Context, key string, value []byte) error {
	if len(r.ops) == restorePuts || r.size+len(value) > restoreBytes {
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	r.ops = append(r.ops, clientv3.OpPut(key, string(value)))
	r.size += len(key) + len(value)
	return nil
}

func (r *Restoration) flush(ctx context.Context) error {
	if len(r.ops) == 0 {
		return nil
	}
	err := r.write(ctx, r.ops...)
	r.ops, r.size = nil, 0
	return err
}

// Commit restores a commit. It returns events.ErrMalformed for what cannot be one.
func (r *Restoration) Commit(ctx context.Context, c RawCommit) error {
	value, err := mark(c.Value, c.Revision)
	if err != nil {
		return err
	}
	if c.Stream == "" || strings.Contains(string(c.Stream), "/") || c.Revision < 1 || c.Revision > r.from.Revision {
		return errors.Wrapf(events.ErrMalformed, "commit %s of stream %q at revision %d", c.ID, c.Stream, c.Revision)
	}
	return r.put(ctx, r.log.keys.commit(c.Stream, c.ID), value)
}

// Guard restores a guard. It returns events.ErrMalformed for a key that is none.
func (r *Restoration) Guard(ctx context.Context, g RawGuard) error {
	if !IsGuard(g.Key) {
		return errors.Wrapf(events.ErrMalformed, "%q is no key of a guard", g.Key)
	}
	return r.put(ctx, string(r.log.keys)+g.Key, g.Value)
}

// Head restores what was counted of a stream.
func (r *Restoration) Head(ctx context.Context, s events.Stream, head Head) error {
	value, err := json.Marshal(head)
	if err != nil {
		return errors.Wrap(err, "write a head")
	}
	if s == "" || strings.Contains(string(s), "/") || head.Commits < 1 || head.Revision < 1 || head.Revision > r.from.Revision {
		return errors.Wrapf(events.ErrMalformed, "the head of stream %q", s)
	}
	return r.put(ctx, r.log.keys.restored()+string(s), value)
}

// Finish gives the store its identity: one of its own, for it is not the store that
// was backed up, and whoever knew that one must be told. Every revision from now on is
// higher than the backup's. The rest is as it was in the store that was backed up.
func (r *Restoration) Finish(ctx context.Context, was Store) (Store, error) {
	if err := r.flush(ctx); err != nil {
		return Store{}, err
	}
	l := r.log
	was.ID, was.Base, was.Restored = l.Clock.NewID(), r.from.Revision, r.from
	value, err := json.Marshal(was)
	if err != nil {
		return Store{}, errors.Wrap(err, "write the store's identity")
	}
	nothing := func(prefix string) clientv3.Cmp {
		return clientv3.Compare(clientv3.CreateRevision(prefix), "=", 0).WithPrefix()
	}
	resp, err := l.client.Txn(ctx).
		If(r.mine, nothing(l.keys.heads()), nothing(l.keys.alive("")), nothing(l.keys.store())).
		Then(clientv3.OpPut(l.keys.store(), string(value)), clientv3.OpDelete(l.keys.restoring())).
		Commit()
	switch {
	case err != nil:
		return Store{}, errors.Wrap(err, "finish what is restored: run the same restore again")
	case !resp.Succeeded:
		return Store{}, errors.New("somebody else wrote into the store while it was being restored: stop the daemons that use it, and run the same restore again")
	}
	return l.Store(ctx)
}
