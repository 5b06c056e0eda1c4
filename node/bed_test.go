// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/ipamlog/ipamlog/config"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/node"
	"github.com/ipamlog/ipamlog/plugin"
	"github.com/ipamlog/ipamlog/store"
)

// served is a daemon as Docker meets it: behind its socket, whatever its store does.
type served struct {
	tb     testing.TB
	cfg    config.Config
	node   *node.Node
	docker *http.Client
	pool   string // the PoolID of 10.50.0.0/24, once grant was called
	log    *journal
	over   chan struct{} // closed once its host has ended by itself
	why    error         // why it did
	stop   func()
}

// journal is what a daemon says.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements [io.Writer].
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// unwatched is an observer that is told in vain.
type unwatched struct{ nobody }

// Requested implements [plugin.Observer].
func (unwatched) Requested(string, string, time.Duration) {}

// serve starts a daemon on a store, and does not wait until that answers.
func serve(t *testing.T, host, endpoint string, change ...func(*config.Config)) *served {
	t.Helper()
	cfg := settings(t, host)
	cfg.ClusterStore = []string{endpoint}
	for _, f := range change {
		f(&cfg)
	}
	return serveOn(t, cfg)
}

func serveOn(t *testing.T, cfg config.Config) *served {
	t.Helper()
	d := &served{tb: t, cfg: cfg, log: &journal{}, over: make(chan struct{})}
	logger := zerolog.New(d.log).With().Timestamp().Logger()
	var err error
	if d.node, err = node.Start(t.Context(), cfg, "test", logger); err != nil {
		t.Fatal(err)
	}
	driver := plugin.NewDriver(d.node.Keeper())
	server := plugin.NewServer(driver, unwatched{}, logger)
	socket, err := plugin.Listen(cfg.Socket, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // it outlives the test, until its cleanup
	var running sync.WaitGroup
	running.Go(func() {
		if err := server.Serve(socket); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() {
		defer close(d.over)
		host, err := d.node.Join(ctx, unwatched{})
		if err != nil || host == nil {
			d.why = err
			logger.Error().Err(err).Msg("it could not join")
			return
		}
		driver.Attach(host)
		d.why = host.Run(ctx)
	})
	running.Go(func() { _ = d.node.Remember(ctx, time.Hour) })
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", cfg.Socket)
	}}
	d.docker = &http.Client{Transport: transport}
	d.stop = sync.OnceFunc(func() {
		if err := server.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		cancel()
		running.Wait()
		d.node.Close()
		transport.CloseIdleConnections()
	})
	t.Cleanup(func() {
		d.stop()
		if t.Failed() {
			t.Logf("the log of %s:\n%s", cfg.Host, d.log)
		}
	})
	return d
}

type object map[string]any

// call asks as Docker does. said is the refusal, in the daemon's words.
func (d *served) call(name string, request object) (answer struct{ PoolID, Address string }, said string) {
	d.tb.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		d.tb.Fatal(err)
	}
	post, err := http.NewRequestWithContext(d.tb.Context(), http.MethodPost, "http://plugin/IpamDriver."+name, bytes.NewReader(body))
	if err != nil {
		d.tb.Fatal(err)
	}
	response, err := d.docker.Do(post)
	if err != nil {
		d.tb.Errorf("%s: %v", name, err)
		return answer, "no answer"
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		d.tb.Errorf("%s: %v", name, err)
	}
	var refusal struct{ Error string }
	if err := errors.CombineErrors(json.Unmarshal(text, &answer), json.Unmarshal(text, &refusal)); err != nil {
		d.tb.Errorf("%s: %s: %v", name, text, err)
	}
	return answer, refusal.Error
}

// grant waits until the daemon serves, and has it open a grant with a router.
func (d *served) grant() {
	d.tb.Helper()
	d.eventually("a pool", func() string {
		answer, said := d.call("RequestPool", object{
			"AddressSpace": "ipamlog-local", "Pool": "10.50.0.0/24", "Options": object{"pool": "web", "quarantine": "0"},
		})
		d.pool = answer.PoolID
		return said
	})
	d.eventually("a router", func() string {
		_, said := d.call("RequestAddress", object{"PoolID": d.pool, "Address": "10.50.0.1", "Options": object{"RequestAddressType": "com.docker.network.gateway"}})
		return said
	})
}

// ask asks for an address for the n-th endpoint.
func (d *served) ask(n int) (netip.Addr, string) {
	d.tb.Helper()
	mac := net.HardwareAddr{2, 0, 0, 0, byte(n >> 8), byte(n)}
	answer, said := d.call("RequestAddress", object{"PoolID": d.pool, "Options": object{"com.docker.network.endpoint.macaddress": mac.String()}})
	if said != "" {
		return netip.Addr{}, said
	}
	prefix, err := netip.ParsePrefix(answer.Address)
	if err != nil {
		d.tb.Error(err)
	}
	return prefix.Addr(), ""
}

// gets asks until it is given an address.
func (d *served) gets(n int) netip.Addr {
	d.tb.Helper()
	var got netip.Addr
	d.eventually("an address", func() (said string) {
		got, said = d.ask(n)
		return said
	})
	return got
}

// frees releases an address, which never fails.
func (d *served) frees(addr netip.Addr) {
	d.tb.Helper()
	if _, said := d.call("ReleaseAddress", object{"PoolID": d.pool, "Address": addr.String()}); said != "" {
		d.tb.Errorf("a release was refused: %s", said)
	}
}

// eventually repeats what the store's trouble refuses, until nothing is said against
// it.
func (d *served) eventually(what string, attempt func() (said string)) {
	d.tb.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		said := attempt()
		if said == "" {
			return
		}
		if time.Now().After(deadline) {
			d.tb.Fatalf("never came: %s: %s", what, said)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// refuses checks that an allocation is refused in one sentence.
func (d *served) refuses(n int, words ...string) {
	d.tb.Helper()
	begun := time.Now()
	got, said := d.ask(n)
	if said == "" {
		d.tb.Errorf("endpoint %d was given %s", n, got)
		return
	}
	d.tb.Logf("after %v: %s", time.Since(begun).Round(time.Millisecond), said)
	for _, w := range append(words, ": ") {
		if !strings.Contains(said, w) {
			d.tb.Errorf("%q says nothing of %q", said, w)
		}
	}
	if strings.ContainsAny(said, "\n\r") || strings.HasSuffix(said, ".") {
		d.tb.Errorf("%q is not one sentence", said)
	}
}

// spooled is how many releases wait on the daemon's disk.
func (d *served) spooled() int { return int(testutil.ToFloat64(d.node.Collectors()[0])) }

var router = netip.MustParseAddr("10.50.0.1")

// holds checks that the store has these addresses held, beside the router's, and
// waits for those that are on their way out.
func holds(t *testing.T, client *clientv3.Client, want map[int]netip.Addr) {
	t.Helper()
	log := etcdlog.New(client, etcdlog.DefaultPrefix)
	var held []netip.Addr
	right := func() bool {
		held = nil
		pools, _, err := log.Pools(t.Context())
		if err != nil || len(pools) != 1 {
			t.Fatalf("%d pools, %v", len(pools), err)
		}
		guards, _, err := log.Guards(t.Context(), events.Local, pools[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		for addr, h := range guards.Held {
			if len(h.Value) != 1 && addr != router {
				t.Fatalf("%s is held by %+v", addr, h.Value)
			}
			held = append(held, addr)
		}
		distinct := map[netip.Addr]bool{router: true}
		for n, addr := range want {
			if distinct[addr] {
				t.Fatalf("%s of endpoint %d is another's too", addr, n)
			}
			distinct[addr] = true
			if !guards.Held[addr].Present() {
				t.Fatalf("%s of endpoint %d is not held", addr, n)
			}
		}
		return len(held) == len(distinct)
	}
	for deadline := time.Now().Add(time.Minute); !right(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("held are %v, and asked for %v", held, want)
		}
	}
}

// startEtcd runs an etcd behind a unix socket, or as changed.
func startEtcd(t *testing.T, dir string, change func(*embed.Config)) *embed.Etcd {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(dir, "data")
	at := url.URL{Scheme: "unix", Path: filepath.Join(dir, "client")}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{at}, []url.URL{at}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = nil, []url.URL{{Scheme: "unix", Host: "no-peers"}}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.TickMs, cfg.ElectionMs, cfg.UnsafeNoFsync, cfg.BcryptCost = 10, 50, true, 4
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	if change != nil {
		change(cfg)
	}
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-etcd.Server.StopNotify():
		default:
			etcd.Close()
		}
	})
	<-etcd.Server.ReadyNotify()
	return etcd
}

// shortDir is a directory whose path leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "node")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// dial returns a client of the test's own.
func dial(t *testing.T, cfg config.Global) *clientv3.Client {
	t.Helper()
	client, err := store.Dial(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}
