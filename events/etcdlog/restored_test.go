// SPDX-License-Identifier: Apache-2.0

package etcdlog_test

import (
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// A commit that calls itself restored where it cannot have been is no commit.
func TestCommitsOfNoRestore(t *testing.T) {
	b := startBed(t)
	ctx := within(t, time.Minute)
	if _, err := b.log.Found(ctx); err != nil {
		t.Fatal(err)
	}
	forge := func(prefix, lead string) {
		value := `{` + lead + `"v":1,"time":"2026-03-01T00:00:00Z","host":"h1","incarnation":1,"events":[]}`
		if _, err := b.client.Txn(ctx).Then(etcdlog.PutCommit(prefix, events.Catalogue, b.log.Clock.NewID(), []byte(value))...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	restored := func(prefix string) *etcdlog.Log {
		log := etcdlog.New(b.client, prefix)
		r, err := log.Restore(ctx, etcdlog.Origin{Store: events.ID{1}, Revision: 100})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Finish(ctx, etcdlog.Store{Format: etcdlog.Format}); err != nil {
			t.Fatal(err)
		}
		return log
	}
	for lead, fine := range map[string]bool{
		``: true, `"revision":100,`: true, `"revision":101,`: false, `"revision":0,`: false, `"revision":-1,`: false,
		`"revision":1e1,`: false, `"revision":null,`: false,
	} {
		prefix := "/restored-" + lead + "/"
		log := restored(prefix)
		forge(prefix, lead)
		records, _, err := log.Read(ctx, 0, nil)
		if fine && (err != nil || len(records) != 1) || !fine && !errors.Is(err, events.ErrMalformed) {
			t.Errorf("%q in a store with base 100: %v %v", lead, records, err)
		}
	}
	forge(etcdlog.DefaultPrefix, `"revision":2,`)
	if _, _, err := b.log.Read(ctx, 0, nil); !errors.Is(err, events.ErrMalformed) {
		t.Errorf("in a store that never was restored: %v", err)
	}
}
