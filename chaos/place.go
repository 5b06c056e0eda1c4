// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/errors"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/lab"
)

const hosts = 3

// place is where it all happens.
type place struct {
	cluster  *lab.Cluster
	stations []*station
	etcd     *clientv3.Client // from a host that nothing happens to
	log      *etcdlog.Log
}

// station is a host with a daemon, which reaches each member of the cluster through
// a relay.
type station struct {
	host   *lab.Host
	daemon *lab.Daemon
	relays []*lab.Relay
	hit    sync.Mutex // held while something happens to the daemon
}

// build makes the place. It lasts as long as t.
func build(t lab.T) *place {
	t.Helper()
	dir, err := os.MkdirTemp("", "ipamlog-chaos-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("%v", err)
		}
	})
	flags, set := os.LookupEnv("GOFLAGS")
	t.Cleanup(func() {
		if err := restoreFlags(flags, set); err != nil {
			t.Errorf("%v", err)
		}
	})
	if err := bendClocks(dir); err != nil {
		t.Fatal(err)
	}
	l := lab.New(t)
	p := &place{cluster: l.StartCluster(3)}
	for i := range hosts {
		s, err := p.station(t, l.Host(fmt.Sprintf("h%d", i+1)))
		if err != nil {
			t.Fatal(err)
		}
		p.stations = append(p.stations, s)
	}
	if p.etcd, err = dial(l.Host("judge"), p.cluster.Endpoints()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.etcd.Close(); err != nil {
			t.Errorf("%v", err)
		}
	})
	p.log = etcdlog.New(p.etcd, etcdlog.DefaultPrefix)
	return p
}

func restoreFlags(flags string, set bool) error {
	if set {
		return os.Setenv("GOFLAGS", flags)
	}
	return os.Unsetenv("GOFLAGS")
}

func (p *place) station(t lab.T, h *lab.Host) (*station, error) {
	s := &station{host: h}
	var endpoints []string
	for _, m := range p.cluster.Members {
		r, err := h.Relay(strings.TrimPrefix(m.Endpoint(), "http://"))
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() {
			if err := r.Close(); err != nil {
				t.Errorf("%v", err)
			}
		})
		s.relays = append(s.relays, r)
		endpoints = append(endpoints, "http://"+r.Addr())
	}
	if err := s.shift(0); err != nil {
		return nil, err
	}
	s.daemon = h.Daemon("--cluster-store", strings.Join(endpoints, ","), "--engine", "off", "--listen", "off")
	return s, s.daemon.Start()
}

// dial connects to the cluster as a process on a host would.
func dial(from *lab.Host, endpoints []string) (*clientv3.Client, error) {
	c, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, Logger: zap.NewNop(), DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 3 * time.Second,
		MaxCallRecvMsgSize: 1 << 30,
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return from.Dial(ctx, "tcp", strings.TrimPrefix(address, "http://"))
		})},
	})
	return c, errors.Wrap(err, "connect to the cluster")
}

// socket is where clients find the station's daemon.
func (s *station) socket() string { return filepath.Join(s.host.PluginDir(), "ipamlog.sock") }

// kill ends the daemon as kill -9 does. Its log is put aside, so that what looks for
// the next daemon's words need not read all that was ever said; the last two lives'
// are there.
func (s *station) kill() error {
	if err := s.daemon.Kill(); err != nil {
		return err
	}
	dir := filepath.Dir(s.host.Dir()) // whose logs the lab prints should the run fail
	return errors.Wrap(os.Rename(filepath.Join(dir, "ipamlog.log"), filepath.Join(dir, "before.log")), "put a log aside")
}
