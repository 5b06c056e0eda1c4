// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"context"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/operator"
)

var equate = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netipx.IPRange{}), cmpopts.EquateEmpty()}

// patience is how long a test waits for what must come, on a machine as busy as any.
const patience = 2 * time.Minute

const machine = "machine-1"

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// addr is the zero address for "".
func addr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

// bed is a store, and the test's own look at it.
type bed struct {
	tb     testing.TB
	etcd   *etcdtest.Server
	client *clientv3.Client
	log    *etcdlog.Log
}

func newBed(tb testing.TB) *bed {
	tb.Helper()
	s := etcdtest.Start(tb)
	b := &bed{tb: tb, etcd: s, client: s.Client(), log: etcdlog.New(s.Client(), etcdlog.DefaultPrefix)}
	if _, err := b.log.Found(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return b
}

func (b *bed) ctx() context.Context {
	ctx, cancel := context.WithTimeout(b.tb.Context(), patience)
	b.tb.Cleanup(cancel)
	return ctx
}

// at is a person at a host.
func (b *bed) at(host string, change ...func(*operator.Options)) *operator.Operator {
	b.tb.Helper()
	options := operator.Options{Host: host, Version: "test", Machine: machine}
	for _, f := range change {
		f(&options)
	}
	log := etcdlog.New(b.client, etcdlog.DefaultPrefix)
	if _, err := log.Store(b.ctx()); err != nil {
		b.tb.Fatal(err)
	}
	o, err := operator.New(b.ctx(), log, options)
	if err != nil {
		b.tb.Fatal(err)
	}
	return o
}

func span(tb testing.TB, start, end string) operator.Range {
	tb.Helper()
	r, err := operator.ParseRange(start, end)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// done demands that a change was made, or was there already.
func done(tb testing.TB) func(operator.Outcome, error) operator.Outcome {
	return func(out operator.Outcome, err error) operator.Outcome {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return out
	}
}

// ranges lets containers have a range.
func (b *bed) ranges(pool, start, end string) operator.Outcome {
	b.tb.Helper()
	return done(b.tb)(b.at("h1").AddRange(b.ctx(), pool, span(b.tb, start, end), actor.Wish{}))
}

// hosts keeps a range for hosts.
func (b *bed) hosts(pool, start, end, router string) operator.Outcome {
	b.tb.Helper()
	return done(b.tb)(b.at("h1").AddHostRange(b.ctx(), pool, span(b.tb, start, end), addr(router)))
}

func (b *bed) reserve(pool, what string) operator.Outcome {
	b.tb.Helper()
	r, err := operator.ParseStretch(what)
	if err != nil {
		b.tb.Fatal(err)
	}
	return done(b.tb)(b.at("h1").Reserve(b.ctx(), pool, r, "test"))
}

// write commits events as a daemon would that saw the guards as they are.
func (b *bed) write(pool events.ID, list ...events.Event) {
	b.tb.Helper()
	w, err := b.log.Operator(b.ctx(), "h9", "test")
	if err != nil {
		b.tb.Fatal(err)
	}
	seen, revision := b.guards(pool)
	_, err = w.Append(b.ctx(), etcdlog.Proposal{ID: b.log.Clock.NewID(), Stream: events.PoolStream(pool), Seen: seen, CatalogueAt: revision, Events: list})
	if err != nil {
		b.tb.Fatal(err)
	}
}

// pool makes a pool as Docker does, with a grant of a host.
func (b *bed) pool(name, subnet, host string) (pool, grant events.ID) {
	b.tb.Helper()
	pool, grant = b.log.Clock.NewID(), b.log.Clock.NewID()
	b.write(pool,
		events.PoolCreated{Space: events.Local, Name: name, Subnet: prefix(subnet), Policy: events.DefaultPolicy()},
		events.GrantOpened{Grant: grant, Host: host})
	return pool, grant
}

// hold gives an address out, as long ago as it is said.
func (b *bed) hold(pool, grant events.ID, kind events.Kind, a, host, endpoint string, ago time.Duration) events.ID {
	b.tb.Helper()
	id := b.log.Clock.NewID()
	ms := uint64(id.Time().Add(-ago).UnixMilli()) //nolint:gosec // a time of this century
	for i := range 6 {
		id[i] = byte(ms >> (8 * (5 - i)))
	}
	b.write(pool, events.AddressAllocated{Allocation: id, Address: addr(a), Kind: kind, Host: host, Grant: grant, Endpoint: endpoint})
	return id
}

func (b *bed) guards(pool events.ID) (events.Guards, int64) {
	b.tb.Helper()
	g, revision, err := b.log.Guards(b.ctx(), events.Local, pool)
	if err == nil && !g.Pool.Present() {
		g, revision, err = b.log.Guards(b.ctx(), events.Global, pool)
	}
	if err != nil {
		b.tb.Fatal(err)
	}
	return g, revision
}

// layout is how a pool is divided, as text.
func (b *bed) layout(pool events.ID) string {
	b.tb.Helper()
	g, _ := b.guards(pool)
	if !g.Pool.Present() {
		return "gone"
	}
	var words []string
	for _, r := range g.Pool.Value.Ranges {
		words = append(words, r.String())
	}
	for _, r := range g.Pool.Value.HostRanges {
		words = append(words, "host:"+r.String())
	}
	for _, r := range g.Pool.Value.Exclude {
		words = append(words, "not:"+r.String())
	}
	if router := g.Pool.Value.Router; router.IsValid() {
		words = append(words, "router:"+router.String())
	}
	if !g.Pool.Value.Kept {
		words = append(words, "not kept")
	}
	return strings.Join(words, " ")
}

// held is who holds what in a pool, by kind, host and endpoint.
func (b *bed) held(pool events.ID) map[string]string {
	b.tb.Helper()
	g, _ := b.guards(pool)
	held := map[string]string{}
	for a, guard := range g.Held {
		for _, x := range guard.Value {
			held[a.String()] = strings.TrimSpace(held[a.String()] + " " + strings.Join(strings.Fields(x.Kind.String()+" "+x.Host+" "+x.Endpoint+" "+x.Why), " "))
		}
	}
	return held
}

// keys is all that stands in the store.
func (b *bed) keys() map[string]string {
	b.tb.Helper()
	resp, err := b.client.Get(b.ctx(), etcdlog.DefaultPrefix, clientv3.WithPrefix())
	if err != nil {
		b.tb.Fatal(err)
	}
	keys := map[string]string{}
	for _, kv := range resp.Kvs {
		keys[string(kv.Key)] = string(kv.Value)
	}
	return keys
}

// agree checks of every pool that the log alone gives its guards.
func (b *bed) agree() {
	b.tb.Helper()
	heads, _, err := b.log.Heads(b.ctx())
	if err != nil {
		b.tb.Fatal(err)
	}
	delete(heads, events.Catalogue)
	for stream := range heads {
		id, err := events.ParseID(string(stream))
		if err != nil {
			b.tb.Fatal(err)
		}
		records, _, err := b.log.Read(b.ctx(), 0, nil, stream)
		if err != nil {
			b.tb.Fatal(err)
		}
		folded := events.NewGuards()
		for _, r := range records {
			if err := folded.Apply(r); err != nil {
				b.tb.Fatal(err)
			}
		}
		now, _ := b.guards(id)
		if reflect.DeepEqual(folded, now) { // of thousands of addresses a diff takes seconds
			continue
		}
		if diff := cmp.Diff(folded, now, equate); diff != "" {
			b.tb.Errorf("log and guards of %s disagree (-log +guards):\n%s", stream, diff)
		}
	}
}

// refused demands an error with a text, marked or not, and that nothing was
// written.
func (b *bed) refused(before map[string]string, err error, mark error, text string) {
	b.tb.Helper()
	switch {
	case err == nil:
		b.tb.Error("it was not refused")
	case !strings.Contains(err.Error(), text):
		b.tb.Errorf("refused with %q, want %q", err, text)
	case strings.Contains(err.Error(), "\n"):
		b.tb.Errorf("more than a sentence: %q", err)
	}
	for _, m := range []error{operator.ErrInvalid, operator.ErrNotFound, operator.ErrAmbiguous} {
		if errors.Is(err, m) != (m == mark) { //nolint:errorlint // which mark is meant
			b.tb.Errorf("%v is marked %v: %t", err, m, errors.Is(err, m))
		}
	}
	if diff := cmp.Diff(before, b.keys()); diff != "" {
		b.tb.Errorf("something was written:\n%s", diff)
	}
}

// daemon runs a host until the test ends.
func (b *bed) daemon(name string) *actor.Host {
	b.tb.Helper()
	client := etcdtest.Dial(b.tb, b.etcd.Endpoint())
	h, err := actor.Join(b.ctx(), actor.Options{
		Client: client, Log: etcdlog.New(client, etcdlog.DefaultPrefix),
		Identity: actor.Identity{Host: name, Machine: machine, Version: "test"},
		Routes:   func() ([]netip.Prefix, error) { return nil, nil },
		Observer: deaf{},
		Logger:   zerolog.Nop(),
	})
	if err != nil {
		b.tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.tb.Context()))
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	b.tb.Cleanup(sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			b.tb.Error(err)
		}
	}))
	return h
}

// deaf implements [actor.Observer].
type deaf struct{}

func (deaf) Committed(int, time.Duration) {}
func (deaf) Conflicted()                  {}
