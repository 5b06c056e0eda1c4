// SPDX-License-Identifier: Apache-2.0

package etcdlog_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// A store that lacks what the writer wrote last is an older copy of its own, whatever
// revision it is at: etcd's own restore can raise that.
func TestAppendLeansOnItsLastCommit(t *testing.T) {
	b := startBed(t)
	kept := b.append(b.allocate(5))
	lost := b.append(b.allocate(6))
	before := b.raw("")
	for _, r := range []events.Record{lost, kept} {
		key := etcdlog.DefaultPrefix + "log/" + string(r.Stream) + "/" + r.ID.String()
		if gone, err := b.client.Delete(t.Context(), key); err != nil || gone.Deleted != 1 {
			t.Fatalf("%+v %v", gone, err)
		}
		_, err := b.w.Append(within(t, 20*time.Second), b.propose(b.allocate(7)))
		if !errors.Is(err, etcdlog.ErrOtherStore) {
			t.Fatalf("without commit %s: %v", r.ID, err)
		}
		t.Log(err)
	}
	if after := b.raw(""); len(after) != len(before)-2 {
		t.Errorf("it wrote: %v", after)
	}
	// Others go on: they have seen nothing else.
	other := b.by(join(t, b.log, "h2"))
	if _, err := other.w.Append(within(t, 20*time.Second), other.propose(other.share(8))); errors.Is(err, etcdlog.ErrOtherStore) {
		t.Error(err)
	}
}

// What was written long ago may be in an archive by now: then the stream's head says
// whether the store is an older copy.
func TestAppendLeansOnItsHead(t *testing.T) {
	b := startBed(t)
	last := b.append(b.allocate(5))
	archived := func(r events.Record) {
		t.Helper()
		etcdlog.Age(b.w, time.Hour)
		if _, err := b.client.Delete(t.Context(), etcdlog.DefaultPrefix+"log/"+string(r.Stream)+"/"+r.ID.String()); err != nil {
			t.Fatal(err)
		}
	}
	archived(last)
	last = b.append(b.allocate(6))
	archived(last)
	head := etcdlog.DefaultPrefix + "heads/" + string(last.Stream)
	if _, err := b.client.Delete(t.Context(), head); err != nil {
		t.Fatal(err)
	}
	if r, err := b.w.Append(within(t, 20*time.Second), b.propose(b.allocate(7))); !errors.Is(err, etcdlog.ErrOtherStore) {
		t.Errorf("without the stream's head: %+v %v", r, err)
	}
}

// A commit's fate is settled in its own store, and in no other.
func TestCloseWritesToNoOtherStore(t *testing.T) {
	b := startBed(t)
	if _, err := b.log.Found(t.Context()); err != nil {
		t.Fatal(err)
	}
	never := b.propose(b.allocate(5))
	id := b.raw("meta/")["meta/store"]
	stand := func(identity string) {
		t.Helper()
		if _, err := b.client.Put(t.Context(), etcdlog.DefaultPrefix+"meta/store", identity); err != nil {
			t.Fatal(err)
		}
	}
	other := fmt.Sprintf(`{"store":%q,"base":0,"format":%d}`, b.log.Clock.NewID(), etcdlog.Format)
	stand(other)
	before := b.raw("")
	if r, err := b.w.Close(within(t, 20*time.Second), never.Stream, never.ID); !errors.Is(err, etcdlog.ErrOtherStore) {
		t.Errorf("%+v %v", r, err)
	}
	if diff := cmp.Diff(before, b.raw("")); diff != "" {
		t.Errorf("it wrote to another store (-before +after):\n%s", diff)
	}
	stand(strings.Replace(id, "{", "{ ", 1)) // the same, written anew
	if r, err := b.w.Close(within(t, 20*time.Second), never.Stream, never.ID); err != nil || !r.Void() {
		t.Errorf("%+v %v", r, err)
	}
}
