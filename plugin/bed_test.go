// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/plugin"
)

const patience = 30 * time.Second

// bed is a plugin on its socket, with a host and a store behind it.
type bed struct {
	tb     testing.TB
	log    *etcdlog.Log
	host   *actor.Host
	server *plugin.Server
	seen   *observer
	socket string
	http   *http.Client
	stop   func() // ends the host; more than once is harmless
}

// newBed starts all of it. Before is told of the bed before the server serves.
func newBed(tb testing.TB, before ...func(*bed)) *bed {
	tb.Helper()
	s := etcdtest.Start(tb)
	b := &bed{tb: tb, log: etcdlog.New(s.Client(), etcdlog.DefaultPrefix), seen: &observer{outcomes: map[string]int{}}}
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	var err error
	b.host, err = actor.Join(ctx, actor.Options{
		Client: s.Client(), Log: b.log, Identity: actor.Identity{Host: "h1", Machine: "machine", Version: "test"},
		Blocks:   []actor.Block{{Base: netip.MustParsePrefix("10.128.0.0/16"), Bits: 24}, {Base: netip.MustParsePrefix("fd00:1::/48"), Bits: 64}},
		Routes:   func() ([]netip.Prefix, error) { return nil, nil },
		Observer: b.seen,
	})
	if err != nil {
		tb.Fatal(err)
	}
	running, end := context.WithCancel(context.WithoutCancel(tb.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := b.host.Run(running); err != nil {
			tb.Error(err)
		}
	}()
	b.stop = sync.OnceFunc(func() { end(); <-ended })
	tb.Cleanup(b.stop)
	driver := plugin.NewDriver(nil)
	driver.Attach(b.host)
	b.server = plugin.NewServer(driver, b.seen, zerolog.Nop())
	for _, f := range before {
		f(b)
	}
	b.socket, b.http = serve(tb, b.server)
	return b
}

// serve serves until the test ends, and returns a client.
func serve(tb testing.TB, s *plugin.Server) (string, *http.Client) {
	tb.Helper()
	dir, err := os.MkdirTemp("", "plugin")
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(dir, "ipamlog.sock")
	l, err := plugin.Listen(path, "")
	if err != nil {
		tb.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	tb.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			tb.Error(err)
		}
		if err := <-served; err != nil {
			tb.Error(err)
		}
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			tb.Errorf("the socket is left: %v", err)
		}
		_ = os.RemoveAll(dir)
	})
	return path, &http.Client{Transport: transport}
}

// post calls as Docker does: no content type, an empty body for "".
func (b *bed) post(call, body string) (int, string) {
	b.tb.Helper()
	return send(b.tb, b.http, http.MethodPost, call, body)
}

func send(tb testing.TB, client *http.Client, method, call, body string) (int, string) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), method, "http://plugin.moby.localhost"+call, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Accept", "application/vnd.docker.plugins.v1.2+json")
	resp, err := client.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	if kind := resp.Header.Get("Content-Type"); kind != "application/vnd.docker.plugins.v1.2+json" {
		tb.Errorf("%s answers with content type %q", call, kind)
	}
	return resp.StatusCode, strings.TrimSpace(string(answer))
}

// ask posts what must succeed, and reads a field of the answer.
func (b *bed) ask(call, body, field string) string {
	b.tb.Helper()
	status, answer := b.post(call, body)
	fields := map[string]any{}
	if err := json.Unmarshal([]byte(answer), &fields); err != nil || status != http.StatusOK || fields["Error"] != nil {
		b.tb.Fatalf("%s %s: %d %s", call, body, status, answer)
	}
	value, _ := fields[field].(string)
	return value
}

// pool opens a grant.
func (b *bed) pool(subnet string) (poolID string, ref actor.Ref) {
	b.tb.Helper()
	poolID = b.ask("/IpamDriver.RequestPool", `{"AddressSpace":"ipamlog-local","Pool":"`+subnet+`","SubPool":"","Options":{},"V6":false}`, "PoolID")
	ref, err := plugin.ParsePoolID(poolID)
	if err != nil {
		b.tb.Fatal(err)
	}
	return poolID, ref
}

// held counts what is held in a pool.
func (b *bed) held(ref actor.Ref) int {
	b.tb.Helper()
	g, _, err := b.log.Guards(b.tb.Context(), ref.Space, ref.Pool)
	if err != nil {
		b.tb.Fatal(err)
	}
	return len(g.Held)
}

// released counts the releases of a pool's stream for a reason.
func (b *bed) released(ref actor.Ref, why events.Reason) int {
	b.tb.Helper()
	records, _, err := b.log.Read(b.tb.Context(), 0, nil, events.PoolStream(ref.Pool))
	if err != nil {
		b.tb.Fatal(err)
	}
	n := 0
	for _, r := range records {
		for _, e := range r.Events {
			if released, ok := e.(events.AddressReleased); ok && released.Reason == why {
				n++
			}
		}
	}
	return n
}

func eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("never came: %s", what)
		}
	}
}

// observer counts outcomes, and holds back the news of commits when told to.
type observer struct {
	mu       sync.Mutex
	outcomes map[string]int
	hold     chan struct{} // not nil: commits wait until it is closed
	held     int
}

// Requested implements [plugin.Observer].
func (o *observer) Requested(call, outcome string, _ time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.outcomes[call+" "+outcome]++
}

func (o *observer) count(what string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.outcomes[what]
}

// Committed implements [actor.Observer].
func (o *observer) Committed(int, time.Duration) {
	o.mu.Lock()
	hold := o.hold
	if hold != nil {
		o.held++
	}
	o.mu.Unlock()
	if hold != nil {
		<-hold
	}
}

// holdBack makes the news of commits wait until it is called again.
func (o *observer) holdBack() (release func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	hold := make(chan struct{})
	o.hold = hold
	return sync.OnceFunc(func() {
		o.mu.Lock()
		o.hold = nil
		o.mu.Unlock()
		close(hold)
	})
}

func (o *observer) holding() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.held
}

// Conflicted implements [actor.Observer].
func (*observer) Conflicted() {}
