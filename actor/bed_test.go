// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"context"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rs/zerolog"
	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

var equate = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netipx.IPRange{}), cmpopts.EquateEmpty()}

// patience is how long a test waits for what must come, on a machine as busy as any.
const patience = 2 * time.Minute

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

// bed is a store, and the test's own look at it.
type bed struct {
	tb   testing.TB
	etcd *etcdtest.Server
	log  *etcdlog.Log
}

func newBed(tb testing.TB) *bed {
	tb.Helper()
	s := etcdtest.Start(tb)
	return &bed{tb: tb, etcd: s, log: etcdlog.New(s.Client(), etcdlog.DefaultPrefix)}
}

// daemon is a host that runs, with a connection to the store of its own.
type daemon struct {
	*actor.Host
	bed  *bed
	seen *observer
	stop func() error // ends Run, and returns what it returned; more than once is harmless
}

// start joins as a host and runs it until the test ends.
func (b *bed) start(name string, change ...func(*actor.Options)) *daemon {
	b.tb.Helper()
	return b.startAt(b.etcd.Endpoint(), name, change...)
}

func (b *bed) startAt(endpoint, name string, change ...func(*actor.Options)) *daemon {
	b.tb.Helper()
	client := etcdtest.Dial(b.tb, endpoint)
	seen := &observer{}
	o := actor.Options{
		Client: client, Log: etcdlog.New(client, etcdlog.DefaultPrefix),
		Identity: actor.Identity{Host: name, Machine: "machine", Version: "test"},
		Blocks:   []actor.Block{{Base: prefix("10.128.0.0/16"), Bits: 24}, {Base: prefix("fd00:1::/48"), Bits: 64}},
		Routes:   func() ([]netip.Prefix, error) { return nil, nil },
		Observer: seen,
		Logger:   zerolog.New(zerolog.NewTestWriter(b.tb)).Level(zerolog.WarnLevel),
	}
	for _, f := range change {
		f(&o)
	}
	h, err := actor.Join(b.ctx(), o)
	if err != nil {
		b.tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.tb.Context()))
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	d := &daemon{Host: h, bed: b, seen: seen, stop: sync.OnceValue(func() error { cancel(); return <-ended })}
	b.tb.Cleanup(func() { _ = d.stop() })
	return d
}

func (b *bed) ctx() context.Context {
	ctx, cancel := context.WithTimeout(b.tb.Context(), patience)
	b.tb.Cleanup(cancel)
	return ctx
}

// pool opens a grant.
func (d *daemon) pool(r actor.PoolRequest) actor.Ref {
	d.bed.tb.Helper()
	if r.Space == "" {
		r.Space = events.Local
	}
	g, err := d.RequestPool(d.bed.ctx(), r)
	if err != nil {
		d.bed.tb.Fatal(err)
	}
	return g.Ref
}

func (d *daemon) subnet(s string) actor.Ref {
	d.bed.tb.Helper()
	return d.pool(actor.PoolRequest{Subnet: prefix(s)})
}

func (d *daemon) ask(ref actor.Ref, ask actor.AddressRequest) actor.Answer {
	d.bed.tb.Helper()
	a, err := d.RequestAddress(d.bed.ctx(), ref, ask)
	if err != nil {
		d.bed.tb.Fatal(err)
	}
	return a
}

func (d *daemon) release(ref actor.Ref, a netip.Addr) actor.Answer {
	d.bed.tb.Helper()
	released, err := d.ReleaseAddress(d.bed.ctx(), ref, a)
	if err != nil {
		d.bed.tb.Fatal(err)
	}
	return released
}

func (d *daemon) closeGrant(ref actor.Ref) {
	d.bed.tb.Helper()
	ctx := d.bed.ctx()
	_, err := d.ReleasePool(ctx, ref)
	// A busy machine takes longer than a request is waited for: then it is asked again.
	for errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		_, err = d.ReleasePool(ctx, ref)
	}
	if err != nil {
		d.bed.tb.Fatal(err)
	}
}

// endpoint asks as Docker does for a container.
func endpoint(n int) actor.AddressRequest {
	return actor.AddressRequest{Asking: actor.AskEndpoint, MAC: events.MAC{2, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)}}
}

func gateway(a string) actor.AddressRequest {
	ask := actor.AddressRequest{Asking: actor.AskGateway}
	if a != "" {
		ask.Address = addr(a)
	}
	return ask
}

func plain(a string) actor.AddressRequest { return actor.AddressRequest{Address: addr(a)} }

func (b *bed) guards(ref actor.Ref) events.Guards {
	b.tb.Helper()
	g, _, err := b.log.Guards(b.ctx(), ref.Space, ref.Pool)
	if err != nil {
		b.tb.Fatal(err)
	}
	return g
}

// held is who holds what in a pool, by the kinds of the allocations.
func (b *bed) held(ref actor.Ref) map[string][]string {
	b.tb.Helper()
	held := map[string][]string{}
	for a, guard := range b.guards(ref).Held {
		for _, allocation := range guard.Value {
			held[a.String()] = append(held[a.String()], allocation.Kind.String())
		}
	}
	return held
}

func (b *bed) records(ref actor.Ref) []events.Record {
	b.tb.Helper()
	records, _, err := b.log.Read(b.ctx(), 0, nil, events.PoolStream(ref.Pool))
	if err != nil {
		b.tb.Fatal(err)
	}
	return records
}

// count counts the events of a pool's stream that fit.
func (b *bed) count(ref actor.Ref, fits func(events.Event) bool) int {
	b.tb.Helper()
	n := 0
	for _, r := range b.records(ref) {
		for _, e := range r.Events {
			if fits(e) {
				n++
			}
		}
	}
	return n
}

// agree checks that the log alone gives the guards.
func (b *bed) agree(ref actor.Ref) {
	b.tb.Helper()
	folded := events.NewGuards()
	for _, r := range b.records(ref) {
		if err := folded.Apply(r); err != nil {
			b.tb.Fatal(err)
		}
	}
	guards := b.guards(ref)
	if reflect.DeepEqual(folded, guards) { // of thousands of addresses a diff takes seconds
		return
	}
	if diff := cmp.Diff(folded, guards, equate); diff != "" {
		b.tb.Errorf("log and guards disagree (-log +guards):\n%s", diff)
	}
}

// same checks what is held in a pool.
func (b *bed) same(ref actor.Ref, want map[string][]string) {
	b.tb.Helper()
	if diff := cmp.Diff(want, b.held(ref), equate); diff != "" {
		b.tb.Errorf("held (-want +got):\n%s", diff)
	}
}

func wantErr(tb testing.TB, err, want error) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Fatalf("got error %v, want %v", err, want)
	}
}

// eventually polls a condition that something else makes true.
func eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("never came: %s", what)
		}
	}
}

// observer counts what a host does with the store.
type observer struct {
	mu                          sync.Mutex
	commits, events, conflicted int
}

// Committed implements [actor.Observer].
func (o *observer) Committed(n int, _ time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.commits++
	o.events += n
}

// Conflicted implements [actor.Observer].
func (o *observer) Conflicted() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.conflicted++
}

func (o *observer) committed() (commits, events int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.commits, o.events
}

// proposalOf makes a proposal for a pool that rests on guards.
type poolEntry = etcdlog.PoolEntry

func proposalOf(b *bed, ref actor.Ref, seen events.Guards, list ...events.Event) etcdlog.Proposal {
	return etcdlog.Proposal{ID: b.log.Clock.NewID(), Stream: events.PoolStream(ref.Pool), Events: list, Seen: seen}
}

func bootID(tb testing.TB) string {
	tb.Helper()
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		tb.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}
