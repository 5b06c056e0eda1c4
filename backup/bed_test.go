// SPDX-License-Identifier: Apache-2.0

package backup_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/backup"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/replay"
)

// tester is what rapid and testing have in common.
type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

var equate = gocmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}

// story is a host that writes a log below one prefix.
type story struct {
	t      tester
	ctx    context.Context //nolint:containedctx // a test's
	client *clientv3.Client
	log    *etcdlog.Log
	w      *etcdlog.Writer
	pools  []*pool
}

// pool is one with a grant of the host.
type pool struct{ id, grant events.ID }

// begin begins a log, or goes on with one.
func begin(ctx context.Context, t tester, client *clientv3.Client, prefix string) *story {
	t.Helper()
	s := &story{t: t, ctx: ctx, client: client, log: etcdlog.New(client, prefix)}
	if _, err := s.log.Found(ctx); err != nil {
		t.Fatal(err)
	}
	lease, err := client.Grant(ctx, 600)
	if err != nil {
		t.Fatal(err)
	}
	s.w, err = s.log.Join(ctx, "h1", etcdlog.Presence{Machine: "m1", PID: 1, Version: "test"}, lease.ID, func(etcdlog.Presence) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// leave takes the presence away, as the end of a daemon does.
func (s *story) leave() {
	s.t.Helper()
	if err := s.w.Leave(s.ctx); err != nil {
		s.t.Fatal(err)
	}
}

func (s *story) guards(p *pool) (events.Guards, int64) {
	s.t.Helper()
	g, revision, err := s.log.Guards(s.ctx, events.Local, p.id)
	if err != nil {
		s.t.Fatal(err)
	}
	return g, revision
}

func (s *story) append(p *pool, list ...events.Event) events.Record {
	s.t.Helper()
	seen, revision := s.guards(p)
	r, err := s.w.Append(s.ctx, etcdlog.Proposal{ID: s.log.Clock.NewID(), Stream: events.PoolStream(p.id), Events: list, Seen: seen, SeenAt: revision, CatalogueAt: revision})
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *story) create() *pool {
	s.t.Helper()
	p := &pool{s.log.Clock.NewID(), s.log.Clock.NewID()}
	s.append(p, events.PoolCreated{Space: events.Local, Name: fmt.Sprint("web", len(s.pools)), Subnet: netip.MustParsePrefix("10.0.0.0/16"), Policy: events.DefaultPolicy()},
		events.GrantOpened{Grant: p.grant, Host: "h1"})
	s.pools = append(s.pools, p)
	return p
}

// act does the next thing to an address of a pool, whatever fits.
func (s *story) act(p *pool, n int) {
	s.t.Helper()
	addr := netip.AddrFrom4([4]byte{10, 0, 1, byte(n)})
	seen, _ := s.guards(p)
	held := seen.Held[addr].Value
	switch {
	case len(held) == 0:
		s.append(p, events.AddressAllocated{Allocation: s.log.Clock.NewID(), Address: addr, Kind: events.Endpoint, Host: "h1", Grant: p.grant, MAC: events.MAC{2, 0x42, 10, 0, 1, byte(n)}})
	case n%3 == 0 && held[0].Suspected.IsZero():
		s.append(p, events.AddressSuspected{Allocation: held[0].ID, Address: addr})
	case n%3 == 1:
		s.append(p, events.AddressAttributed{Allocation: held[0].ID, Address: addr, Attribution: events.Attribution{ContainerID: "c0ffee", ContainerName: "<&\u2028\x1b>"}},
			events.AddressReleased{Allocation: held[0].ID, Address: addr, Reason: events.Released})
	default:
		s.append(p, events.AddressReleased{Allocation: held[0].ID, Address: addr, Reason: events.Released})
	}
}

func (s *story) records() []events.Record {
	s.t.Helper()
	records, _, err := s.log.Read(s.ctx, 0, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return records
}

// sound fails unless the log keeps its rules, and agrees with the guards.
func (s *story) sound() {
	s.t.Helper()
	report, _, err := replay.Verify(s.ctx, s.log, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range report.Findings {
		s.t.Errorf("%s: %s", f.Rule, f.What)
	}
}

// backUp writes a backup of the log.
func (s *story) backUp(path string) backup.Summary {
	s.t.Helper()
	snapshot, err := s.log.Snapshot(s.ctx, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	summary, err := backup.Save(s.ctx, path, true, snapshot, backup.Header{Version: "test", Time: time.Unix(0, 0).UTC(), Prefix: "/somewhere/"})
	if err != nil {
		s.t.Fatal(err)
	}
	return summary
}

// restore makes a log of a backup below another prefix.
func restore(ctx context.Context, t tester, client *clientv3.Client, path, prefix string) (*etcdlog.Log, etcdlog.Store) {
	t.Helper()
	log := etcdlog.New(client, prefix)
	store, err := restoreTo(ctx, log, path)
	if err != nil {
		t.Fatal(err)
	}
	return log, store
}

// restoreTo makes a log of a backup, or does not.
func restoreTo(ctx context.Context, log *etcdlog.Log, path string) (etcdlog.Store, error) {
	b, err := backup.Open(ctx, path)
	if err != nil {
		return etcdlog.Store{}, err
	}
	store, err := b.Restore(ctx, log, time.Unix(1e9, 0), nil)
	return store, errors.CombineErrors(err, b.Close())
}

// sameLog fails unless two logs hold the same records and heads.
func sameLog(ctx context.Context, t tester, want []events.Record, wantHeads map[events.Stream]etcdlog.Head, log *etcdlog.Log) {
	t.Helper()
	got, _, err := log.Read(ctx, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(want, got, equate); diff != "" {
		t.Fatalf("the records differ (-was +is):\n%s", diff)
	}
	heads, _, err := log.Heads(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(wantHeads, heads); diff != "" {
		t.Fatalf("the heads differ (-was +is):\n%s", diff)
	}
}

// raw is all that stands below a prefix, and below a part of it.
func raw(t *testing.T, client *clientv3.Client, prefix string) map[string]string {
	t.Helper()
	resp, err := client.Get(t.Context(), prefix, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, kv := range resp.Kvs {
		all[string(kv.Key[len(prefix):])] = string(kv.Value)
	}
	return all
}

// only are the keys of a kind.
func only(all map[string]string, kind string) map[string]string {
	some := map[string]string{}
	for key, value := range all {
		if len(key) > len(kind) && key[:len(kind)+1] == kind+"/" {
			some[key] = value
		}
	}
	return some
}

// fileOf is a small backup.
func fileOf(t *testing.T, client *clientv3.Client, prefix string) (string, []byte) {
	t.Helper()
	s := begin(t.Context(), t, client, prefix)
	p := s.create()
	for n := range 6 {
		s.act(p, n)
	}
	s.leave()
	path := filepath.Join(t.TempDir(), "log.zst")
	s.backUp(path)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, content
}

func read(content []byte) error {
	_, err := backup.Read(bytes.NewReader(content), nil)
	return err
}

func ordered(records []events.Record) bool {
	return slices.IsSortedFunc(records, func(a, b events.Record) int { return cmp.Compare(a.Revision, b.Revision) })
}
