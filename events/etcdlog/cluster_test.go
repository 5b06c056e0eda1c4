// SPDX-License-Identifier: Apache-2.0

package etcdlog_test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/ipamlog/ipamlog/embedded/etcdtest"
)

// startCluster starts three members, which talk to each other over loopback and
// to clients over unix sockets.
func startCluster(t *testing.T) (members []*embed.Etcd, endpoints []string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "cluster")
	if err != nil {
		t.Fatal(err)
	}
	const n = 3
	var peers, list []string
	var held []net.Listener
	for i := range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		peers = append(peers, "http://"+ln.Addr().String())
		list = append(list, fmt.Sprintf("m%d=%s", i, peers[i]))
		endpoints = append(endpoints, "unix://"+filepath.Join(dir, fmt.Sprint("s", i)))
		held = append(held, ln) // until each has a port of its own
	}
	for _, ln := range held {
		_ = ln.Close()
	}
	for i := range n {
		cfg := embed.NewConfig()
		cfg.Name, cfg.Dir = fmt.Sprint("m", i), filepath.Join(dir, fmt.Sprint("d", i))
		cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
		cfg.TickMs, cfg.ElectionMs, cfg.UnsafeNoFsync = 50, 500, true
		cfg.ListenPeerUrls, cfg.ListenClientUrls = urls(t, peers[i]), urls(t, endpoints[i])
		cfg.AdvertisePeerUrls, cfg.AdvertiseClientUrls = cfg.ListenPeerUrls, cfg.ListenClientUrls
		cfg.InitialCluster = strings.Join(list, ",")
		m, err := embed.StartEtcd(cfg)
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, m)
	}
	t.Cleanup(func() {
		for _, m := range members {
			if !stopped(m) {
				m.Close()
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for _, m := range members {
		select {
		case <-m.Server.ReadyNotify():
		case <-time.After(30 * time.Second):
			t.Fatal("the cluster has no leader")
		}
	}
	return members, endpoints
}

func stopped(m *embed.Etcd) bool {
	select {
	case <-m.Server.StopNotify():
		return true
	default:
		return false
	}
}

func urls(t *testing.T, s string) []url.URL {
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return []url.URL{*u}
}

// TestLeaderChanges: appends and followers go on while the leader moves, and
// when the leader is gone.
func TestLeaderChanges(t *testing.T) {
	members, endpoints := startCluster(t)
	b := newBed(t, etcdtest.Dial(t, endpoints...))
	f := b.follow(etcdtest.Dial(t, endpoints...))
	eventually(t, "the guards", func() bool { return f.revision() > 0 })
	leader := func() *embed.Etcd {
		for _, m := range members {
			if !stopped(m) && m.Server.Leader() == m.Server.MemberID() {
				return m
			}
		}
		return nil
	}
	for n := range 6 {
		eventually(t, "a leader", func() bool { return leader() != nil })
		from := leader()
		for _, to := range members {
			if to == from {
				continue
			}
			if err := from.Server.MoveLeader(within(t, 10*time.Second), uint64(from.Server.MemberID()), uint64(to.Server.MemberID())); err != nil {
				t.Logf("the leader stayed: %v", err)
			}
			break
		}
		b.append(b.allocate(n))
	}
	f.catchesUp(b)

	eventually(t, "a leader", func() bool { return leader() != nil })
	leader().Close()
	b.append(b.allocate(100))
	b.append(b.allocate(101))
	f.catchesUp(b)
	b.agree()
	if snapshots, _ := f.told(); snapshots != 1 {
		t.Errorf("told of %d snapshots", snapshots)
	}
}
