// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/config"
	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/node"
)

// TestFullness: each mark is told once, and again after it was fallen below by more than
// what comes and goes by itself.
func TestFullness(t *testing.T) {
	var f node.Fullness
	begun := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for i, step := range []struct {
		file, inUse int64 // of a quota of 1000
		passed      bool
		left        time.Duration
		bloated     bool
	}{
		{file: 300, inUse: 300},
		{file: 490, inUse: 490, left: 2*time.Hour + 41*time.Minute},
		{file: 500, inUse: 500, passed: true, left: 5 * time.Hour},
		{file: 520, inUse: 520, left: 6*time.Hour + 32*time.Minute},
		{file: 520, inUse: 490, left: 10*time.Hour + 44*time.Minute},  // a compaction
		{file: 520, inUse: 505, left: 12*time.Hour + 4*time.Minute},   // not again
		{file: 850, inUse: 850, passed: true, left: 98 * time.Minute}, // two marks at once are one word
		{file: 950, inUse: 400, bloated: true},                        // archived; the rate begins anew
		{file: 950, inUse: 400},
		{file: 500, inUse: 500, passed: true, left: 10 * time.Hour},
		{file: 950, inUse: 720, passed: true, left: 2*time.Hour + 37*time.Minute},
		{file: 1000, inUse: 1000, passed: true},
		{file: 1001, inUse: 1001},
	} {
		passed, left, bloated := f.Note(begun.Add(time.Duration(i)*time.Hour), step.file, step.inUse, 1000)
		if passed != step.passed || left.Truncate(time.Minute) != step.left || bloated != step.bloated {
			t.Errorf("step %d, %d of %d in use: told %v, left %v, bloated %v; want %v, %v, %v",
				i, step.inUse, step.file, passed, left, bloated, step.passed, step.left, step.bloated)
		}
	}
}

// TestFullness_grows: whatever the rate, a store that fills up is told of four times, from
// half on, and the days left are right where the rate is steady.
func TestFullness_grows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const quota = 8 << 30
		rate := rapid.Int64Range(quota/5000, quota/25).Draw(t, "bytes each ten minutes")
		var f node.Fullness
		at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
		var told []int64
		for used := int64(0); used < quota; used += rate {
			passed, left, bloated := f.Note(at, used, used, quota)
			if passed {
				told = append(told, used*100/quota)
			}
			if bloated {
				t.Fatalf("%d of %d is said to be mostly free", used, used)
			}
			if want := time.Duration(float64(quota-used) / float64(rate) * float64(10*time.Minute)); left != 0 && (left-want).Abs() > time.Minute {
				t.Fatalf("%v are left, not %v", left, want)
			}
			at = at.Add(10 * time.Minute)
		}
		if len(told) != 4 || told[0] < 50 || told[3] < 90 {
			t.Fatalf("told at %v percent", told)
		}
	})
}

func TestWarning(t *testing.T) {
	got := []string{
		node.Warning(52, 100, 0, false),
		node.Warning(70, 100, 5*time.Hour, false),
		node.Warning(80, 100, 25*time.Hour, true),
		node.Warning(91, 100, 300*time.Hour, true),
	}
	byHand := "move the old part of the log to an archive with `ipamlog archive`, or have the daemons do so with `ipamlog serve --archive-after`"
	shorter := "have a shorter --archive-after move more of the log to the archive, or raise etcd's --quota-backend-bytes"
	want := []string{
		"etcd is 52 % full, and takes no more writes when it is full: " + byHand,
		"etcd is 70 % full, and takes no more writes when it is full (in less than a day at the rate seen): " + byHand,
		"etcd is 80 % full, and takes no more writes when it is full (in a day at the rate seen): " + shorter,
		"etcd is 91 % full, and takes no more writes when it is full (in 12 days at the rate seen): " + shorter,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestWatchSize fills an etcd with a small quota under a daemon, and makes room again.
func TestWatchSize(t *testing.T) {
	t.Parallel()
	const quota = 16 << 20
	etcd := startEtcd(t, shortDir(t), func(c *embed.Config) { c.QuotaBackendBytes = quota })
	endpoint := "unix://" + etcd.Clients[0].Addr().String()
	admin := etcdtest.Dial(t, endpoint)
	d := serve(t, "h1", endpoint)
	if got := figures(t, d); len(got) > 0 {
		t.Errorf("before the first look there are figures: %v", got)
	}
	watchSize(t, d)
	d.eventually("figures", func() string {
		if got := figures(t, d); got["ipamlog_store_quota_bytes"] != quota || got["ipamlog_store_bytes_in_use"] <= 0 || got["ipamlog_store_bytes"] < got["ipamlog_store_bytes_in_use"] {
			return fmt.Sprint(got)
		}
		return ""
	})
	if said := d.log.String(); strings.Contains(said, "% full") {
		t.Errorf("an empty store: %s", said)
	}
	fill := func(key string, n int) {
		t.Helper()
		for i := range n {
			if _, err := admin.Put(t.Context(), fmt.Sprintf("/%s/%d", key, i), strings.Repeat("x", 256<<10)); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Each takes the file 290 kB: 34 are some 60 % of the quota.
	fill("first", 34)
	d.says(1, "% full")
	d.says(1, `"level":"warn"`, `"member":"`+endpoint+`"`, "`ipamlog archive`", `"quota_bytes":16777216`)
	fill("second", 8)
	d.says(2, "% full")

	now, err := admin.Delete(t.Context(), "/first/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Compact(t.Context(), now.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	d.eventually("room", func() string {
		// Pages come free with later writes.
		if _, err := admin.Put(t.Context(), "/nudge", ""); err != nil {
			return err.Error()
		}
		if got := figures(t, d); got["ipamlog_store_bytes_in_use"] > quota/3 {
			return fmt.Sprint(got)
		}
		return ""
	})
	before := strings.Count(d.log.String(), "% full")
	fill("first", 27)
	d.says(before+1, "% full")
}

// TestWatchSize_cluster: of several members the fullest counts, and one that is away is
// done without.
func TestWatchSize_cluster(t *testing.T) {
	t.Parallel()
	members, endpoints := startMembers(t, 32<<20, 8<<20, 32<<20)
	admin := etcdtest.Dial(t, endpoints[0])
	d := serve(t, "h1", endpoints[0], func(c *config.Config) { c.ClusterStore = endpoints })
	watchSize(t, d)
	d.eventually("the smallest quota", func() string {
		if got := figures(t, d); got["ipamlog_store_quota_bytes"] != 8<<20 {
			return fmt.Sprint(got)
		}
		return ""
	})
	for i := range 18 {
		if _, err := admin.Put(t.Context(), fmt.Sprintf("/a/%d", i), strings.Repeat("x", 256<<10)); err != nil {
			t.Fatal(err)
		}
	}
	d.eventually("a warning of that member", func() string { // more than one if it was looked at in between
		if !strings.Contains(d.log.String(), `"member":"`+endpoints[1]+`"`) {
			return "there is none"
		}
		return ""
	})

	members[1].Close()
	d.eventually("the others' quota", func() string {
		if got := figures(t, d); got["ipamlog_store_quota_bytes"] != 32<<20 {
			return fmt.Sprint(got)
		}
		return ""
	})
}

// TestWatchSize_untold: a store that does not answer to this is left alone, and the daemon
// says so to those who debug.
func TestWatchSize_untold(t *testing.T) {
	t.Parallel()
	etcd := startEtcd(t, shortDir(t), nil)
	d := serve(t, "h1", "unix://"+etcd.Clients[0].Addr().String())
	d.grant()
	etcd.Close()
	watchSize(t, d)
	d.eventually("a word", func() string {
		for line := range strings.Lines(d.log.String()) {
			if strings.Contains(line, "does not tell how full it is") {
				if !strings.Contains(line, `"level":"debug"`) {
					t.Errorf("it is said aloud: %s", line)
				}
				return ""
			}
		}
		return "nothing was said"
	})
	if got := figures(t, d); len(got) > 0 {
		t.Errorf("figures: %v", got)
	}
}

// TestWatchSize_role: a user who may only read and write below the prefix is told, too.
func TestWatchSize_role(t *testing.T) {
	ca := newAuthority(t)
	ca.issue(t, "h1")
	etcd := startCluster(t, ca, t.TempDir())
	secured := func(c *config.Config) {
		c.CACert, c.Cert, c.Key = ca.path("ca.pem"), ca.path("h1.pem"), ca.path("h1.key")
	}
	cfg := settings(t, "h1")
	cfg.ClusterStore = []string{"https://" + etcd.Clients[0].Addr().String()}
	secured(&cfg)
	enableUsers(t, dial(t, cfg.Global))
	d := serve(t, "h1", cfg.ClusterStore[0], secured, func(c *config.Config) { c.User, c.Password = "writer", "pw" })
	watchSize(t, d)
	d.eventually("figures", func() string {
		if got := figures(t, d); got["ipamlog_store_quota_bytes"] != 2<<30 { // etcd's default
			return fmt.Sprint(got)
		}
		return ""
	})
}

// says waits until so many lines hold all these words.
func (d *served) says(n int, words ...string) {
	d.tb.Helper()
	d.eventually(fmt.Sprintf("%d lines with %q", n, words), func() string {
		found := 0
		for line := range strings.Lines(d.log.String()) {
			all := true
			for _, w := range words {
				all = all && strings.Contains(line, w)
			}
			if all {
				found++
			}
		}
		if found != n {
			return fmt.Sprintf("there are %d", found)
		}
		return ""
	})
}

// watchSize has a daemon look at its store all the time.
func watchSize(t *testing.T, d *served) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var watching sync.WaitGroup
	watching.Go(func() { _ = d.node.WatchSize(ctx, 10*time.Millisecond) })
	t.Cleanup(func() {
		cancel()
		watching.Wait()
	})
}

// figures are the daemon's metrics of its store.
func figures(t *testing.T, d *served) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(d.node.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "ipamlog_store_") {
			found[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return found
}

// freePort is an address on loopback that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startMembers runs a member for each quota, and a client's unix socket for each.
func startMembers(t *testing.T, quotas ...int64) ([]*embed.Etcd, []string) {
	t.Helper()
	dir := shortDir(t)
	var cfgs []*embed.Config
	var all, endpoints []string
	for i, quota := range quotas {
		cfg := embed.NewConfig()
		cfg.Name = fmt.Sprintf("m%d", i)
		cfg.Dir = filepath.Join(dir, cfg.Name)
		serves := url.URL{Scheme: "unix", Path: filepath.Join(dir, fmt.Sprintf("c%d", i))}
		hears := url.URL{Scheme: "http", Host: freePort(t)} // members speak to no socket with a path
		cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{serves}, []url.URL{serves}
		cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{hears}, []url.URL{hears}
		cfg.TickMs, cfg.ElectionMs, cfg.UnsafeNoFsync, cfg.QuotaBackendBytes = 50, 500, true, quota
		cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
		cfgs = append(cfgs, cfg)
		all = append(all, cfg.Name+"="+hears.String())
		endpoints = append(endpoints, serves.String())
	}
	members := make([]*embed.Etcd, len(cfgs))
	for i, cfg := range cfgs {
		cfg.InitialCluster = strings.Join(all, ",")
		var err error
		if members[i], err = embed.StartEtcd(cfg); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			select {
			case <-members[i].Server.StopNotify():
			default:
				members[i].Close()
			}
		})
	}
	for _, m := range members {
		<-m.Server.ReadyNotify()
	}
	return members, endpoints
}
