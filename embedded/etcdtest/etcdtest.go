// SPDX-License-Identifier: Apache-2.0

// Package etcdtest gives a test an etcd of its own: a real one, in this process,
// behind a unix socket in a short temporary directory, that gives up durability
// for speed. All of it is gone when the test ends.
package etcdtest

import (
	"os"
	"testing"

	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ipamlog/ipamlog/embedded"
)

// Server is an etcd of one member. Its methods belong to the test's goroutine.
type Server struct {
	tb     testing.TB
	dir    string
	etcd   *embedded.Server // nil while stopped
	client *clientv3.Client
}

// Start returns a server that takes writes. It ends with the test.
func Start(tb testing.TB) *Server {
	tb.Helper()
	// Not tb.TempDir: a long test's name does not fit into a socket's path.
	dir, err := os.MkdirTemp("", "etcd")
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{tb: tb, dir: dir}
	tb.Cleanup(func() {
		s.Stop()
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	s.Restart()
	s.client = Dial(tb, s.Endpoint())
	return s
}

// Endpoint is where a client reaches the server, also after a restart.
func (s *Server) Endpoint() string { return embedded.Endpoint(s.dir) }

// Client is a client of the server. It lives as long as the test does, through
// every restart.
func (s *Server) Client() *clientv3.Client { return s.client }

// Stop ends the server and keeps its data. It does nothing to a stopped one.
func (s *Server) Stop() {
	if s.etcd != nil {
		s.etcd.Close()
		s.etcd = nil
	}
}

// Restart starts the server on the data it left, after stopping it if need be.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Stop()
	var err error
	s.etcd, err = embedded.Start(s.tb.Context(), embedded.Options{Dir: s.dir, TickMs: 10, NoFsync: true, Log: zerolog.Nop()})
	if err != nil {
		s.tb.Fatal(err)
	}
}

// Dial returns a client that is closed when the test ends.
func Dial(tb testing.TB, endpoints ...string) *clientv3.Client {
	tb.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := client.Close(); err != nil {
			tb.Log(err)
		}
	})
	return client
}
