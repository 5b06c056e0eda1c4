// SPDX-License-Identifier: Apache-2.0

// Package replaytest tells stories to a real etcd, for tests of what reads them:
// commits with times, writers and contents of the test's choice, and the guards
// that follow from them.
package replaytest

import (
	"context"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/embedded"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// Store is an etcd that lives as long as the test.
type Store struct {
	Dir    string // the data directory, as --data-dir takes it
	Server *embedded.Server
	Client *clientv3.Client
}

// Start runs an etcd. It ends with the test.
func Start(t testing.TB) *Store {
	t.Helper()
	dir, err := os.MkdirTemp("", "ipl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	server, err := embedded.Start(t.Context(), embedded.Options{Dir: dir, Log: zerolog.Nop(), TickMs: 10, NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return &Store{Dir: dir, Server: server, Client: server.Client()}
}

// Teller writes a story below one prefix.
type Teller struct {
	t      testing.TB
	client *clientv3.Client
	prefix string
	guards map[events.Stream]*events.Guards
	count  byte
	last   time.Time // the running time of the story
}

// Tell begins a story below a prefix, which must be empty.
func (s *Store) Tell(t testing.TB, prefix string) *Teller {
	t.Helper()
	value, err := json.Marshal(etcdlog.Store{ID: ID('S', 1), Format: etcdlog.Format})
	if err != nil {
		t.Fatal(err)
	}
	teller := &Teller{t: t, client: s.Client, prefix: prefix, guards: map[events.Stream]*events.Guards{}}
	teller.put(clientv3.OpPut(prefix+"meta/store", string(value)))
	return teller
}

// ID is the nth ID of a kind, the same in every run.
func ID(kind, n byte) events.ID {
	id := events.ID{1, 0x95, 0x4f, 0xc4, 0xe4, 0x80} // early in March 2025
	id[6], id[15] = kind, n
	return id
}

// Commit writes one commit and what it makes of the guards.
func (t *Teller) Commit(stream events.Stream, host string, at time.Time, list ...events.Event) events.Record {
	t.t.Helper()
	return t.Write(events.Commit{Stream: stream, Host: host, Incarnation: 1, Writer: "v1.0.0", Time: at, Events: list})
}

// Write writes a commit as it is, but for its ID.
func (t *Teller) Write(c events.Commit) events.Record {
	t.t.Helper()
	value, err := events.Encode(c)
	if err != nil {
		t.t.Fatal(err)
	}
	guards := t.guards[c.Stream]
	if guards == nil {
		g := events.NewGuards()
		guards = &g
		t.guards[c.Stream] = guards
	}
	if !c.ClockSuspect && c.Time.After(t.last) {
		t.last = c.Time
	}
	c.ID = t.next(t.last)
	before := t.values(c.Stream, *guards)
	if err := guards.Apply(events.Record{Commit: c, Revision: 1}); err != nil {
		t.t.Fatal(err)
	}
	ops := etcdlog.PutCommit(t.prefix, c.Stream, c.ID, value)
	after := t.values(c.Stream, *guards)
	for key, value := range after {
		if before[key] != value {
			ops = append(ops, clientv3.OpPut(t.prefix+key, value))
		}
	}
	for key := range before {
		if _, kept := after[key]; !kept {
			ops = append(ops, clientv3.OpDelete(t.prefix+key))
		}
	}
	return events.Record{Commit: c, Revision: t.put(ops...)}
}

// Raw writes a commit's value as it is, and no guards: what a newer version, or
// nobody in their right mind, would write.
func (t *Teller) Raw(stream events.Stream, value string) int64 {
	t.t.Helper()
	return t.put(etcdlog.PutCommit(t.prefix, stream, t.next(t.last), []byte(value))...)
}

// Forge writes a commit that the guards know nothing of.
func (t *Teller) Forge(c events.Commit) int64 {
	t.t.Helper()
	value, err := events.Encode(c)
	if err != nil {
		t.t.Fatal(err)
	}
	return t.put(etcdlog.PutCommit(t.prefix, c.Stream, t.next(t.last), value)...)
}

// Spoil writes, or with an empty value deletes, any key below the prefix: what
// the log does not say.
func (t *Teller) Spoil(key, value string) {
	t.t.Helper()
	if value == "" {
		t.put(clientv3.OpDelete(t.prefix + key))
		return
	}
	t.put(clientv3.OpPut(t.prefix+key, value))
}

// next is the ID of a commit whose writer, as long as its clock is not marked, is
// where the story is.
func (t *Teller) next(at time.Time) events.ID {
	t.count++
	id := ulid.ULID(ID('C', t.count))
	if err := id.SetTime(ulid.Timestamp(at)); err != nil {
		t.t.Fatal(err)
	}
	return events.ID(id)
}

// values are the guards of a stream by their keys.
func (t *Teller) values(stream events.Stream, g events.Guards) map[string]string {
	values := map[string]string{}
	if g.Pool.Present() {
		values["pools/"+string(g.Pool.Value.Space)+"/"+string(stream)] = encode(t, g.Pool.Value)
	}
	for id, grant := range g.Grants {
		values["grants/"+string(stream)+"/"+id.String()] = encode(t, grant.Value)
	}
	for address, held := range g.Held {
		values["held/"+string(stream)+"/"+address.String()] = encode(t, held.Value)
	}
	for name, host := range g.Hosts {
		values["hosts/"+name] = encode(t, host.Value)
	}
	return values
}

func encode[T events.Pool | events.Grant | events.HostGuard | events.Held](t *Teller, v T) string {
	t.t.Helper()
	value, err := events.EncodeGuard(v)
	if err != nil {
		t.t.Fatal(err)
	}
	return string(value)
}

func (t *Teller) put(ops ...clientv3.Op) int64 {
	t.t.Helper()
	resp, err := t.client.Txn(context.Background()).Then(ops...).Commit()
	if err != nil {
		t.t.Fatal(err)
	}
	return resp.Header.Revision
}
