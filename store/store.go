// SPDX-License-Identifier: Apache-2.0

// Package store reaches the etcd that a configuration names: a cluster, or the
// embedded one of this host's daemon.
package store

import (
	"io/fs"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/errors"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/ipamlog/ipamlog/config"
	"github.com/ipamlog/ipamlog/embedded"
)

const (
	// loginTimeout bounds the first exchange with a store that asks for a user.
	loginTimeout = 5 * time.Second
	// A connection in use that is dead without having been closed is noticed after
	// both of these. Etcd takes a ping every 5 s, and none where nothing is asked or
	// watched: there it ends the connection after the third, as too many. Of a cluster's
	// connections all but one or two are idle most of the time.
	pingEvery   = 10 * time.Second
	pingTimeout = 3 * time.Second
)

// ErrNoDaemon marks the error about a data directory on which no daemon runs.
var ErrNoDaemon = errors.New("no daemon is running")

// Dial returns a client for the store that the configuration names. It says
// nothing by itself, on standard error or elsewhere. The caller closes it.
//
// A cluster is not waited for: the first use finds out whether it answers. For
// the embedded etcd it returns [ErrNoDaemon] when nobody is there.
func Dial(cfg config.Global) (*clientv3.Client, error) {
	endpoints := cfg.ClusterStore
	if len(endpoints) == 0 {
		endpoint := embedded.Endpoint(cfg.DataDir)
		if err := knock(endpoint, cfg.DataDir); err != nil {
			return nil, err
		}
		endpoints = []string{endpoint}
	}
	secured, err := security(cfg, endpoints)
	if err != nil {
		return nil, err
	}
	password := cfg.Password
	if cfg.PasswordFile != "" {
		if password, err = config.ReadPassword(cfg.PasswordFile); err != nil {
			return nil, err
		}
	}
	heard := &lastWords{}
	options := []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(heard.listen),
		// Docker waits: a store that is back must be found within seconds, not
		// after gRPC's two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: .2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 3 * time.Second,
		}),
	}
	if secured != nil {
		options = append(options, grpc.WithTransportCredentials(secured))
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            endpoints,
		Username:             cfg.User,
		Password:             string(password),
		DialTimeout:          loginTimeout,
		DialKeepAliveTime:    pingEvery,
		DialKeepAliveTimeout: pingTimeout,
		Logger:               zap.NewNop(),
		DialOptions:          options,
	})
	if err != nil && !Silent(err) {
		return nil, errors.Wrapf(Refused(err), "log in to etcd at %s", strings.Join(endpoints, ", "))
	}
	if err != nil {
		return nil, explain(heard.about(err), endpoints)
	}
	client.KV = patientKV{KV: client.KV, heard: heard}
	if cfg.PasswordFile != "" {
		client.Auth = renewedPassword{client.Auth, cfg.PasswordFile}
	}
	return client, nil
}

// knock finds out whether a daemon serves its embedded etcd.
func knock(endpoint, dir string) error {
	conn, err := net.DialTimeout("unix", strings.TrimPrefix(endpoint, "unix://"), time.Second)
	switch {
	case err == nil:
		return errors.Wrap(conn.Close(), "look for a daemon")
	case errors.Is(err, fs.ErrPermission):
		return errors.Newf("the data directory %s may not be opened by this user: run this as the user whose daemon it is, mostly root", dir)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
		return errors.Mark(errors.Newf("no daemon is running on this data directory (%s): start `ipamlog serve`, or name it with --data-dir, or name the cluster with --cluster-store", dir), ErrNoDaemon)
	}
	return errors.Wrapf(err, "look for a daemon on the data directory %s", dir)
}
