// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/goleak"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/config"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/node"
	"github.com/ipamlog/ipamlog/store"
)

func TestMain(m *testing.M) {
	daemonOrTests()
	goleak.VerifyTestMain(m)
}

// nobody observes nothing.
type nobody struct{}

func (nobody) Committed(int, time.Duration) {}
func (nobody) Conflicted()                  {}

// settings are a daemon's on a data directory of its own, short enough for a
// socket's path.
func settings(t *testing.T, host string) config.Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "node")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return config.Config{
		Global: config.Global{Prefix: etcdlog.DefaultPrefix, DataDir: dir},
		Serve:  config.Serve{Host: host, Engine: config.Off, Listen: config.Off, Socket: filepath.Join(dir, "s")},
	}
}

// daemon is a node that has joined, and runs.
type daemon struct {
	*node.Node
	host *actor.Host
	stop func() // ends the host, but not the store
}

func start(t *testing.T, cfg config.Config, before ...func(*node.Node)) *daemon {
	t.Helper()
	n, err := node.Start(t.Context(), cfg, "test", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	for _, f := range before {
		f(n)
	}
	host, err := n.Join(t.Context(), nobody{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background()) //nolint:usetesting // it outlives the test, until its cleanup
	ended := make(chan error, 1)
	go func() { ended <- host.Run(ctx) }()
	stopped := false
	d := &daemon{Node: n, host: host, stop: func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		// Notes how far the store was seen, and returns since its context is over.
		if err := n.Remember(ctx, time.Hour); err != nil {
			t.Error(err)
		}
	}}
	t.Cleanup(d.stop)
	return d
}

// allocate opens a grant in pool "web" and takes an address, to see that all is
// well down to the store.
func (d *daemon) allocate(t *testing.T) {
	t.Helper()
	granted, err := d.host.RequestPool(t.Context(), actor.PoolRequest{
		Space: events.Local, Name: "web", Subnet: netip.MustParsePrefix("10.50.0.0/24"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.host.RequestAddress(t.Context(), granted.Ref, actor.AddressRequest{Asking: actor.AskGateway}); err != nil {
		t.Fatal(err)
	}
}

// join tries to start a daemon that is to be refused, and returns why it was.
func join(t *testing.T, cfg config.Config) error {
	t.Helper()
	n, err := node.Start(t.Context(), cfg, "test", zerolog.Nop())
	if err != nil {
		return err
	}
	defer n.Close()
	host, err := n.Join(t.Context(), nobody{})
	if err == nil {
		t.Fatalf("%s was let in as host %s", cfg.DataDir, host.Writer().Host())
	}
	return err
}

func TestNode_embedded(t *testing.T) {
	cfg := settings(t, "h1")
	d := start(t, cfg)
	d.allocate(t)
	if err := d.Ready(); err != nil {
		t.Errorf("ready: %v", err)
	}
	id := d.Store()
	d.stop()
	if d.Ready() == nil {
		t.Error("it is ready though its host has ended")
	}
	d.Close()

	again := start(t, cfg)
	if again.Store() != id {
		t.Errorf("store %s after a restart, %s before", again.Store(), id)
	}
	if got := again.host.Writer().Incarnation(); got != 2 {
		t.Errorf("incarnation %d at the second start, want 2", got)
	}
	again.allocate(t)
}

// startCluster runs an etcd of one member on loopback, with TLS and client
// certificates, and returns its endpoint.
func startCluster(t *testing.T, ca *authority, dir string) *embed.Etcd {
	t.Helper()
	ca.issue(t, "etcd")
	cfg := embed.NewConfig()
	cfg.Dir, cfg.LogLevel, cfg.LogOutputs = dir, "fatal", []string{os.DevNull}
	cfg.UnsafeNoFsync, cfg.TickMs, cfg.ElectionMs = true, 10, 100
	cfg.BcryptCost = 4 // the race detector makes passwords that are well kept a matter of seconds
	local := url.URL{Scheme: "https", Host: "127.0.0.1:0"}
	peer := url.URL{Scheme: "unix", Host: filepath.Base(dir) + ".peer:0"}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{local}, []url.URL{local}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ClientTLSInfo.CertFile, cfg.ClientTLSInfo.KeyFile = ca.path("etcd.pem"), ca.path("etcd.key")
	cfg.ClientTLSInfo.TrustedCAFile, cfg.ClientTLSInfo.ClientCertAuth = ca.path("ca.pem"), true
	t.Chdir(t.TempDir()) // where the peer's socket goes
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	<-e.Server.ReadyNotify()
	return e
}

// TestNode_cluster walks through what a cluster with TLS and users demands.
func TestNode_cluster(t *testing.T) {
	ca := newAuthority(t)
	ca.issue(t, "h1")
	etcd := startCluster(t, ca, t.TempDir())
	cfg := settings(t, "h1")
	cfg.ClusterStore = []string{"https://" + etcd.Clients[0].Addr().String()}
	cfg.CACert, cfg.Cert, cfg.Key = ca.path("ca.pem"), ca.path("h1.pem"), ca.path("h1.key")

	admin, err := store.Dial(cfg.Global)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close() })
	enableUsers(t, admin)

	cfg.User, cfg.Password = "writer", "pw"
	d := start(t, cfg)
	d.allocate(t)
	d.stop()
	d.Close()

	wrong := cfg
	wrong.Password = "other"
	if err := join(t, wrong); !strings.Contains(err.Error(), "authentication failed") {
		t.Errorf("with a wrong password: %v", err)
	}
	reader := cfg
	reader.User = "reader"
	if err := join(t, reader); !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("with a reader's credentials: %v", err)
	}
}

// enableUsers makes a user who may write below the prefix, and one who may read.
func enableUsers(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	end := clientv3.GetPrefixRangeEnd(etcdlog.DefaultPrefix)
	for user, access := range map[string]clientv3.PermissionType{
		"writer": clientv3.PermissionType(clientv3.PermReadWrite), "reader": clientv3.PermissionType(clientv3.PermRead),
	} {
		_, err := c.UserAdd(ctx, user, "pw")
		must(err)
		_, err = c.RoleAdd(ctx, user)
		must(err)
		_, err = c.RoleGrantPermission(ctx, user, etcdlog.DefaultPrefix, end, access)
		must(err)
		_, err = c.UserGrantRole(ctx, user, user)
		must(err)
	}
	_, err := c.UserAdd(ctx, "root", "root")
	must(err)
	_, err = c.UserGrantRole(ctx, "root", "root")
	must(err)
	_, err = c.AuthEnable(ctx)
	must(err)
}

func TestNode_refused(t *testing.T) {
	first := settings(t, "h1")
	d := start(t, first)
	d.allocate(t)

	t.Run("a second daemon on the data directory", func(t *testing.T) {
		if err := join(t, first); !strings.Contains(err.Error(), "in use by process") {
			t.Error(err)
		}
	})
	cluster := func(t *testing.T, host string) config.Config {
		cfg := settings(t, host)
		cfg.ClusterStore = []string{"unix://" + filepath.Join(first.DataDir, "etcd", "socket")}
		return cfg
	}
	t.Run("a second daemon of the host", func(t *testing.T) {
		// The first is this very process, which a daemon takes for itself: let
		// it be another one that is alive.
		sleeper := exec.Command("sleep", "60")
		if err := sleeper.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = sleeper.Process.Kill(), sleeper.Wait() }()
		other := cluster(t, "h2")
		client, err := store.Dial(other.Global)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = client.Close() }()
		pretend(t, client, "h2", etcdlog.Presence{
			Machine: machine(t), Boot: boot(t), PIDSpace: pidSpace(t), PID: sleeper.Process.Pid, Started: started(t, sleeper.Process.Pid),
		})
		if err := join(t, other); !errors.Is(err, etcdlog.ErrHostAlive) {
			t.Error(err)
		}
	})
	t.Run("a killed daemon in another container", func(t *testing.T) {
		// Nothing tells that it is dead but its lease, which is waited for.
		other := cluster(t, "h6")
		client, err := store.Dial(other.Global)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = client.Close() }()
		lease := pretend(t, client, "h6", etcdlog.Presence{Machine: machine(t), Boot: boot(t), PIDSpace: "elsewhere", PID: 1})
		n, err := node.Start(t.Context(), other, "test", zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.Close)
		joined := make(chan error, 1)
		go func() {
			host, err := n.Join(t.Context(), nobody{})
			if err == nil {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				err = host.Run(ctx)
			}
			joined <- err
		}()
		select {
		case err := <-joined:
			t.Fatalf("it did not wait: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
		if _, err := client.Revoke(t.Context(), lease); err != nil {
			t.Fatal(err)
		}
		if err := <-joined; err != nil {
			t.Error(err)
		}
	})
	t.Run("another machine under the name", func(t *testing.T) {
		other := cluster(t, "h3")
		client, err := store.Dial(other.Global)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = client.Close() }()
		pretend(t, client, "h3", etcdlog.Presence{Machine: "0123456789abcdef0123456789abcdef", Boot: "b"})
		if err := join(t, other); !errors.Is(err, etcdlog.ErrOtherMachine) {
			t.Error(err)
		}
	})
	t.Run("another store behind the address", func(t *testing.T) {
		known := cluster(t, "h4")
		moved := start(t, known)
		moved.allocate(t)
		moved.stop()
		moved.Close()
		elsewhere := settings(t, "h5")
		start(t, elsewhere)
		known.ClusterStore = []string{"unix://" + filepath.Join(elsewhere.DataDir, "etcd", "socket")}
		if err := join(t, known); !errors.Is(err, etcdlog.ErrOtherStore) {
			t.Error(err)
		}
	})
}

// pretend makes another process the daemon of a host.
func pretend(t *testing.T, client *clientv3.Client, host string, p etcdlog.Presence) clientv3.LeaseID {
	t.Helper()
	lease, err := client.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	log := etcdlog.New(client, etcdlog.DefaultPrefix)
	if _, err := log.Join(t.Context(), host, p, lease.ID, func(etcdlog.Presence) bool { return false }); err != nil {
		t.Fatal(err)
	}
	return lease.ID
}

func pidSpace(t *testing.T) string {
	t.Helper()
	space, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	return space
}

// started is when a process began, as proc(5) has it in field 22 of its stat.
func started(t *testing.T, pid int) string {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(stat))[21]
}

func machine(t *testing.T) string {
	t.Helper()
	id, err := actor.ReadIdentity("h", "test")
	if err != nil {
		t.Fatal(err)
	}
	return id.Machine
}

func boot(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

// TestNode_storeAway starts a daemon before its store is there: it waits, says
// why it is not ready, and joins once the store answers.
func TestNode_storeAway(t *testing.T) {
	place := settings(t, "store")
	cfg := settings(t, "h1")
	cfg.ClusterStore = []string{"unix://" + filepath.Join(place.DataDir, "etcd", "socket")}
	n, err := node.Start(t.Context(), cfg, "test", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	joined := make(chan *actor.Host, 1)
	go func() {
		host, err := n.Join(t.Context(), nobody{})
		if err != nil {
			t.Error(err)
		}
		joined <- host
	}()
	if err := n.Ready(); !errors.Is(err, node.ErrStarting) {
		t.Errorf("without a store: %v", err)
	}
	start(t, place)
	host := <-joined
	if host == nil {
		t.Fatal("it did not join")
	}
	if err := n.Ready(); err != nil {
		t.Errorf("with its store: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := host.Run(ctx); err != nil {
		t.Error(err)
	}
}
