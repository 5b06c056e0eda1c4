// SPDX-License-Identifier: Apache-2.0

// Package bulk fills a log with a long story, many times faster than daemons would:
// what is measured on a million events need not wait for a million commits.
//
// A [Story] is told commit by commit. [Write] puts each under its key, as a write of
// its own with a revision of its own, and writes the guards that follow at the end.
// The result is what the append path would have left, which its test compares; but
// nobody may decide anything on the log meanwhile, for the guards are behind.
package bulk

import (
	"context"
	"iter"

	"github.com/cockroachdb/errors"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

const (
	// lanes is how many streams are written at once, each with one commit waiting:
	// revisions may differ from the story's order by twice as many. The story's clocks are
	// to be nearer to each other than anybody notices.
	lanes = 16
	// told is how many commits lie between two calls of progress.
	told = 1024
	// operations is what etcd takes in a transaction.
	operations = 128
)

// Write puts commits into an empty log below a prefix, each stream's in their order.
// progress, if not nil, is told how many are there, from another goroutine. What is below
// the prefix already is not looked at.
func Write(ctx context.Context, client *clientv3.Client, prefix string, commits iter.Seq[events.Commit], progress func(int)) error {
	if _, err := etcdlog.New(client, prefix).Found(ctx); err != nil {
		return err
	}
	guards := map[events.Stream]*events.Guards{}
	lane := map[events.Stream]chan<- events.Commit{}
	group, writing := errgroup.WithContext(ctx)
	var free [lanes]chan events.Commit
	for i := range free {
		free[i] = make(chan events.Commit, 1)
		group.Go(func() error { return put(writing, client, prefix, free[i]) })
	}
	n := 0
	group.Go(func() error {
		defer func() {
			for _, c := range free {
				close(c)
			}
		}()
		for c := range commits {
			if guards[c.Stream] == nil {
				g := events.NewGuards()
				guards[c.Stream], lane[c.Stream] = &g, free[len(lane)%lanes]
			}
			n++
			if err := guards[c.Stream].Apply(events.Record{Commit: c, Revision: int64(n)}); err != nil {
				return errors.Wrap(err, "the story does not fit together")
			}
			select {
			case lane[c.Stream] <- c:
			case <-writing.Done():
				return writing.Err()
			}
			if progress != nil && n%told == 0 {
				progress(n)
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return err
	}
	return putGuards(ctx, client, prefix, guards)
}

func put(ctx context.Context, client *clientv3.Client, prefix string, commits <-chan events.Commit) error {
	for c := range commits {
		value, err := events.Encode(c)
		if err != nil {
			return err
		}
		if _, err := client.Txn(ctx).Then(etcdlog.PutCommit(prefix, c.Stream, c.ID, value)...).Commit(); err != nil {
			return errors.Wrap(err, "write a commit")
		}
	}
	return nil
}

func putGuards(ctx context.Context, client *clientv3.Client, prefix string, guards map[events.Stream]*events.Guards) error {
	var ops []clientv3.Op
	flush := func() error {
		_, err := client.Txn(ctx).Then(ops...).Commit()
		ops = nil
		return errors.Wrap(err, "write guards")
	}
	for stream, g := range guards {
		values, err := valuesOf(stream, *g)
		if err != nil {
			return err
		}
		for key, value := range values {
			if ops = append(ops, clientv3.OpPut(prefix+key, string(value))); len(ops) == operations {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	if len(ops) == 0 {
		return nil
	}
	return flush()
}

// valuesOf are the guards of a pool by their keys.
func valuesOf(stream events.Stream, g events.Guards) (map[string][]byte, error) {
	values := map[string][]byte{}
	var failed error
	note := func(key string, value []byte, err error) {
		values[key], failed = value, errors.CombineErrors(failed, err)
	}
	if g.Pool.Present() {
		value, err := events.EncodeGuard(g.Pool.Value)
		note("pools/"+string(g.Pool.Value.Space)+"/"+string(stream), value, err)
	}
	for id, grant := range g.Grants {
		value, err := events.EncodeGuard(grant.Value)
		note("grants/"+string(stream)+"/"+id.String(), value, err)
	}
	for address, held := range g.Held {
		value, err := events.EncodeGuard(held.Value)
		note("held/"+string(stream)+"/"+address.String(), value, err)
	}
	return values, failed
}
