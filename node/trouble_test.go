// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/ipamlog/ipamlog/config"
	"github.com/ipamlog/ipamlog/embedded"
	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/store"
)

// TestFullStore has etcd run out of its quota, under a daemon and before another
// starts; and an operator make room as docs/operations.md says.
func TestFullStore(t *testing.T) {
	t.Parallel()
	etcd := startEtcd(t, shortDir(t), func(c *embed.Config) { c.QuotaBackendBytes = 8 << 20 })
	endpoint := etcd.Clients[0].Addr().String()
	admin := etcdtest.Dial(t, "unix://"+endpoint)
	d := serve(t, "h1", "unix://"+endpoint)
	d.grant()
	stays, leaves := d.gets(1), d.gets(2)

	ctx := t.Context()
	for i := 0; ; i++ {
		_, err := admin.Put(ctx, fmt.Sprintf("/somebody-else/%d", i), strings.Repeat("x", 256<<10))
		if errors.Is(err, rpctypes.ErrNoSpace) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	d.refuses(3, "The store is full (", "compact and defragment etcd", "`etcdctl alarm disarm`")
	if _, said := d.call("RequestPool", object{"AddressSpace": "ipamlog-local", "Pool": "10.51.0.0/24"}); !strings.Contains(said, "The store is full (") {
		t.Errorf("a pool: %q", said)
	}
	if got, said := d.ask(1); said != "" || got != stays {
		t.Errorf("what is held was answered with %s %q", got, said)
	}
	d.frees(leaves)
	if n := d.spooled(); n != 1 {
		t.Errorf("%d releases are spooled", n)
	}
	if err := d.node.Ready(); err == nil || !strings.Contains(err.Error(), "etcd is full: ") {
		t.Errorf("ready: %v", err)
	}
	// Refusals hold no address back, however many there are.
	for n := range 300 {
		if _, said := d.ask(1000 + n); !strings.Contains(said, "The store is full (") {
			t.Fatalf("after %d refusals: %q", n, said)
		}
	}
	late := serve(t, "h2", "unix://"+endpoint)
	late.eventually("a word about it", func() string {
		if strings.Contains(late.log.String(), "etcd is full (") {
			return ""
		}
		return fmt.Sprintf("it says %q, and of its readiness %v", late.log, late.node.Ready())
	})

	if _, err := admin.Delete(ctx, "/somebody-else/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	now, err := admin.Get(ctx, "any")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Defragment(ctx, "unix://"+endpoint); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil {
		t.Fatal(err)
	}
	have := map[int]netip.Addr{1: stays, 3: d.gets(3)}
	holds(t, admin, have)
	if err := d.node.Ready(); err != nil {
		t.Errorf("ready: %v", err)
	}
	d.eventually("an empty spool", func() string {
		if n := d.spooled(); n > 0 {
			return fmt.Sprint(n)
		}
		return ""
	})
	late.grant()
	have[4] = late.gets(4)
	holds(t, admin, have)
}

// TestCompactedStore has the store forget all but the present, again and again, under
// daemons that come back to it and a follower of the log.
func TestCompactedStore(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	client := etcd.Client()
	slow := newLag(t, etcd.Endpoint())
	a, b := serve(t, "h1", slow.endpoint()), serve(t, "h2", etcd.Endpoint())
	a.grant()
	b.grant()

	log := etcdlog.New(client, etcdlog.DefaultPrefix)
	journal, err := replay.Load(t.Context(), log, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	var mu sync.Mutex
	told := 0
	running.Go(func() {
		_ = journal.Follow(ctx, log, func(replay.Event) error {
			mu.Lock()
			defer mu.Unlock()
			told++
			return nil
		}, func(err error) { t.Log(err) })
	})
	running.Go(func() {
		for ctx.Err() == nil {
			if now, err := client.Get(ctx, "any"); err == nil {
				_, _ = client.Compact(ctx, now.Header.Revision)
			}
		}
	})

	have := map[int]netip.Addr{}
	want := 0
	for round := range 10 {
		slow.cut() // a comes back to a store that has forgotten what it missed
		for i, d := range []*served{b, a} {
			n := 2*round + i
			have[n] = d.gets(n)
			d.frees(have[n])
			have[n] = d.gets(n)
			want += 3
		}
	}
	holds(t, client, have)
	a.eventually("every event", func() string {
		mu.Lock()
		defer mu.Unlock()
		if told < want {
			return fmt.Sprintf("%d of %d were told", told, want)
		}
		return ""
	})
}

// TestRefusedUser takes the daemon's role away, and changes its password.
func TestRefusedUser(t *testing.T) {
	t.Parallel()
	etcd := startEtcd(t, shortDir(t), func(c *embed.Config) { c.AuthTokenTTL = 1 })
	endpoint := "unix://" + etcd.Clients[0].Addr().String()
	enableUsers(t, dial(t, config.Global{ClusterStore: []string{endpoint}}))
	admin := dial(t, config.Global{ClusterStore: []string{endpoint}, User: "root", Password: "root"})
	file := filepath.Join(shortDir(t), "password")
	write := func(password string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("pw")
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	d := serve(t, "h1", endpoint, func(c *config.Config) { c.User, c.Password, c.PasswordFile, c.Debug = "writer", "pw", file, true })
	d.grant()
	have := map[int]netip.Addr{1: d.gets(1)}
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()

	// A login ends after a second without use. What is asked then logs in again.
	for begun := time.Now(); time.Since(begun) < 2500*time.Millisecond; time.Sleep(1200 * time.Millisecond) {
		if got, said := d.ask(1); said != "" || got != have[1] {
			t.Errorf("%s %q", got, said)
		}
	}

	t.Log("the role is taken away")
	leaves := d.gets(2)
	must(admin.UserRevokeRole(ctx, "writer", "writer"))
	d.refuses(3, "The store refused (", "permission denied", "check the etcd user's permissions")
	d.frees(leaves)
	if n := d.spooled(); n != 1 {
		t.Errorf("%d releases are spooled", n)
	}
	must(admin.UserGrantRole(ctx, "writer", "writer"))
	have[3] = d.gets(3)
	holds(t, admin, have)

	t.Log("the password is another")
	leaves = d.gets(4)
	must(admin.UserChangePassword(ctx, "writer", "n3w-secret"))
	d.refuses(5, "The store refused (", "authentication failed", "check the etcd user's permissions")
	d.frees(leaves)
	write("n3w-secret")
	have[5] = d.gets(5)
	holds(t, admin, have)

	said := d.log.String()
	if n := strings.Count(said, "every user of this machine can read a secret"); n != 1 {
		t.Errorf("it warned %d times of a password that all can read", n)
	}
	for _, secret := range []string{"n3w-secret", `"pw"`} {
		if strings.Contains(said, secret) {
			t.Errorf("the log has %s", secret)
		}
	}
}

// TestRenewedCertificates replaces all certificates on disk, the authority's too, and
// has etcd come back with new ones that fit no old one.
func TestRenewedCertificates(t *testing.T) {
	t.Parallel()
	dir, ours := shortDir(t), newAuthority(t)
	ours.issue(t, "h1")
	at := url.URL{Scheme: "https", Host: "127.0.0.1:0"}
	secured := func(ca *authority) *embed.Etcd {
		ca.issue(t, "etcd")
		return startEtcd(t, dir, func(c *embed.Config) {
			c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{at}, []url.URL{at}
			c.ClientTLSInfo.CertFile, c.ClientTLSInfo.KeyFile = ca.path("etcd.pem"), ca.path("etcd.key")
			c.ClientTLSInfo.TrustedCAFile, c.ClientTLSInfo.ClientCertAuth = ca.path("ca.pem"), true
		})
	}
	etcd := secured(ours)
	at.Host = etcd.Clients[0].Addr().String()
	d := serve(t, "h1", at.String(), func(c *config.Config) {
		c.CACert, c.Cert, c.Key = ours.path("ca.pem"), ours.path("h1.pem"), ours.path("h1.key")
	})
	d.grant()
	have := map[int]netip.Addr{1: d.gets(1)}

	renewed := newAuthority(t)
	renewed.issue(t, "h1")
	etcd.Close()
	secured(renewed)
	d.refuses(2, "check that etcd is up")
	for _, name := range []string{"h1.key", "h1.pem", "ca.pem"} {
		raw, err := os.ReadFile(renewed.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(ours.path(name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	have[2] = d.gets(2)
	holds(t, dial(t, d.cfg.Global), have)
	d.stop() // before etcd, which would wait for it
}

// TestOlderStore puts an older copy of its own store under a daemon that runs, and
// under one that starts.
func TestOlderStore(t *testing.T) {
	t.Parallel()
	dir, copied := shortDir(t), shortDir(t)
	start := func() *embedded.Server {
		t.Helper()
		s, err := embedded.Start(t.Context(), embedded.Options{Dir: dir, TickMs: 10, NoFsync: true, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	etcd := start()
	d := serve(t, "h1", etcd.Endpoint())
	d.grant()
	d.gets(1)
	etcd.Close()
	if err := os.CopyFS(filepath.Join(copied, "etcd"), os.DirFS(filepath.Join(dir, "etcd"))); err != nil {
		t.Fatal(err)
	}
	etcd = start()
	leaves := d.gets(2)
	etcd.Close()
	if err := errors.CombineErrors(os.RemoveAll(filepath.Join(dir, "etcd")), os.Rename(filepath.Join(copied, "etcd"), filepath.Join(dir, "etcd"))); err != nil {
		t.Fatal(err)
	}
	etcd = start()
	// Docker may ask for an address first, or give one back. Either notices.
	d.eventually("a refusal of the older copy", func() string {
		if _, said := d.ask(3); !strings.Contains(said, "nother store is behind this address") && !strings.Contains(said, "stopping") {
			return "said " + said
		}
		return ""
	})
	d.frees(leaves)
	<-d.over
	if !errors.Is(d.why, etcdlog.ErrOtherStore) || !strings.HasPrefix(d.why.Error(), "another store is behind this address: ") {
		t.Errorf("it ended with: %v", d.why)
	}
	if n := d.spooled(); n != 1 {
		t.Errorf("%d releases are spooled", n)
	}
	d.stop()

	if err := join(t, d.cfg); !errors.Is(err, etcdlog.ErrOtherStore) {
		t.Errorf("another start: %v", err)
	}
	// As `ipamlog adopt --store` does.
	there, err := etcdlog.New(etcd.Client(), etcdlog.DefaultPrefix).Store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Remember(d.cfg.DataDir, etcdlog.Memory{Store: there.ID}); err != nil {
		t.Fatal(err)
	}
	again := serveOn(t, d.cfg)
	again.grant()
	again.gets(4)
	again.eventually("an empty spool", func() string {
		if n := again.spooled(); n > 0 {
			return fmt.Sprint(n)
		}
		return ""
	})
}

// TestAwayBeforeLogin starts a daemon, which has to log in, before its etcd is there.
func TestAwayBeforeLogin(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	d := serve(t, "h1", "unix://"+filepath.Join(dir, "client"), func(c *config.Config) { c.User, c.Password = "writer", "pw" })
	d.eventually("a word about it", func() string {
		if strings.Contains(d.log.String(), "does not answer (") {
			return ""
		}
		return fmt.Sprintf("it says %q", d.log)
	})
	if _, said := d.call("RequestPool", object{"AddressSpace": "ipamlog-local", "Pool": "10.50.0.0/24"}); said != "Ipamlog is starting and waits for its store: check that etcd is up, and ipamlog's log" {
		t.Errorf("said %q", said)
	}
	etcd := startEtcd(t, dir, nil)
	enableUsers(t, dial(t, config.Global{ClusterStore: []string{"unix://" + etcd.Clients[0].Addr().String()}}))
	d.grant()
	d.gets(1)
	d.stop() // before etcd, which would wait for it
}
