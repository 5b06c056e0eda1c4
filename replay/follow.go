// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"context"
	"time"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// maxPause bounds the wait before the log is asked again after trouble.
const maxPause = 2 * time.Second

// Follow tells handle of every event that comes after the history, in order,
// until ctx ends or handle fails, whose error it returns. Trouble with the store
// is waited out, and told to trouble.
//
// It uses up the history: its timeline goes on with the log, and nobody else may
// use it from now on.
func (j *Journal) Follow(ctx context.Context, log *etcdlog.Log, handle func(Event) error, trouble func(error)) error {
	var failed error
	tell := func(records []events.Record, revision int64) error {
		for _, r := range records {
			if r.Revision <= j.revision {
				continue
			}
			j.timeline.Apply(r)
			for e := range EventsOf(j.timeline, r) {
				if failed = handle(e); failed != nil {
					return failed
				}
			}
		}
		j.revision = max(j.revision, revision)
		return nil
	}
	pause := 50 * time.Millisecond
	for {
		err := log.Tail(ctx, "", j.revision, func(u etcdlog.Update) error {
			pause = 50 * time.Millisecond
			return tell(u.Records, u.Revision)
		})
		if errors.Is(err, rpctypes.ErrCompacted) {
			// The store has forgotten how it came; the log itself has not.
			var records []events.Record
			var revision int64
			if records, revision, err = log.Read(ctx, 0, nil); err == nil {
				err = tell(records, revision)
				if err == nil {
					continue
				}
			}
		}
		switch {
		case failed != nil:
			return failed
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.IsAny(err, events.ErrMalformed, events.ErrNewer):
			return err
		}
		trouble(err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
}
