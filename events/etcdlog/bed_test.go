// SPDX-License-Identifier: Apache-2.0

package etcdlog_test

import (
	"context"
	"iter"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

var (
	equate = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}
	subnet = netip.MustParsePrefix("10.0.0.0/16")
)

func address(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }

// bed is a log with a host on it, and a pool that the host has a grant of.
type bed struct {
	tb     testing.TB
	client *clientv3.Client
	log    *etcdlog.Log
	w      *etcdlog.Writer
	pool   events.ID
	grant  events.ID
}

func newBed(tb testing.TB, client *clientv3.Client) *bed {
	tb.Helper()
	log := etcdlog.New(client, etcdlog.DefaultPrefix)
	b := &bed{tb: tb, client: client, log: log, w: join(tb, log, "h1"), pool: log.Clock.NewID(), grant: log.Clock.NewID()}
	b.append(created(), events.GrantOpened{Grant: b.grant, Host: "h1"})
	return b
}

func startBed(tb testing.TB) *bed {
	tb.Helper()
	return newBed(tb, etcdtest.Start(tb).Client())
}

// by is the same pool in the hands of another writer.
func (b *bed) by(w *etcdlog.Writer) *bed {
	other := *b
	other.w, other.log = w, w.Log()
	return &other
}

func created() events.PoolCreated {
	return events.PoolCreated{Space: events.Local, Name: "web", Subnet: subnet, Policy: events.DefaultPolicy()}
}

func (b *bed) allocate(n int) events.AddressAllocated {
	return events.AddressAllocated{Allocation: b.log.Clock.NewID(), Address: address(n), Kind: events.Endpoint, Host: b.w.Host(), Grant: b.grant}
}

func (b *bed) share(n int) events.AddressAllocated {
	e := b.allocate(n)
	e.Kind, e.Shared = events.Gateway, true
	return e
}

func release(a events.AddressAllocated, why events.Reason) events.AddressReleased {
	return events.AddressReleased{Allocation: a.Allocation, Address: a.Address, Reason: why}
}

// propose makes a proposal that rests on the guards as they are now.
func (b *bed) propose(list ...events.Event) etcdlog.Proposal {
	b.tb.Helper()
	seen, revision := b.guards()
	return etcdlog.Proposal{ID: b.log.Clock.NewID(), Stream: events.PoolStream(b.pool), Events: list, Seen: seen, CatalogueAt: revision}
}

func (b *bed) append(list ...events.Event) events.Record {
	b.tb.Helper()
	r, err := b.w.Append(within(b.tb, 20*time.Second), b.propose(list...))
	if err != nil {
		b.tb.Fatal(err)
	}
	return r
}

func (b *bed) guards() (events.Guards, int64) {
	b.tb.Helper()
	g, revision, err := b.log.Guards(within(b.tb, 20*time.Second), events.Local, b.pool)
	if err != nil {
		b.tb.Fatal(err)
	}
	return g, revision
}

// records is the pool's whole stream.
func (b *bed) records() []events.Record {
	b.tb.Helper()
	records, _, err := b.log.Read(within(b.tb, 20*time.Second), 0, nil, events.PoolStream(b.pool))
	if err != nil {
		b.tb.Fatal(err)
	}
	return records
}

// agree checks that the log alone gives the guards.
func (b *bed) agree() {
	b.tb.Helper()
	folded := events.NewGuards()
	for _, r := range b.records() {
		if err := folded.Apply(r); err != nil {
			b.tb.Fatal(err)
		}
	}
	g, _ := b.guards()
	if diff := cmp.Diff(folded, g, equate); diff != "" {
		b.tb.Errorf("log and guards disagree (-log +guards):\n%s", diff)
	}
}

// raw is what stands in etcd below a part of the prefix.
func (b *bed) raw(below string) map[string]string {
	b.tb.Helper()
	resp, err := b.client.Get(within(b.tb, 20*time.Second), etcdlog.DefaultPrefix+below, clientv3.WithPrefix())
	if err != nil {
		b.tb.Fatal(err)
	}
	found := map[string]string{}
	for _, kv := range resp.Kvs {
		found[strings.TrimPrefix(string(kv.Key), etcdlog.DefaultPrefix)] = string(kv.Value)
	}
	return found
}

func lease(tb testing.TB, client *clientv3.Client) clientv3.LeaseID {
	tb.Helper()
	resp, err := client.Grant(within(tb, 20*time.Second), 600)
	if err != nil {
		tb.Fatal(err)
	}
	return resp.ID
}

func alive(etcdlog.Presence) bool { return false }
func dead(etcdlog.Presence) bool  { return true }

func join(tb testing.TB, log *etcdlog.Log, host string) *etcdlog.Writer {
	tb.Helper()
	client := etcdlog.ClientOf(log)
	w, err := log.Join(within(tb, 20*time.Second), host, etcdlog.Presence{Machine: "machine-of-" + host, PID: 1, Version: "test"}, lease(tb, client), alive)
	if err != nil {
		tb.Fatal(err)
	}
	return w
}

func within(tb testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(tb.Context(), d)
	tb.Cleanup(cancel)
	return ctx
}

// eventually polls a condition that something else makes true.
func eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			tb.Fatalf("never came: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// addresses are the first n of the subnet.
func addresses(n int) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for i := range n {
			if !yield(address(i)) {
				return
			}
		}
	}
}
