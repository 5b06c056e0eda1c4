// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/x509"
	"net"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/credentials"

	"github.com/ipamlog/ipamlog/config"
)

// Certificates and passwords are renewed on disk under a daemon that runs on for
// months: each new connection, and each new login, reads its files again.

// renewing are TLS credentials that read the certificates, the authority's too, for
// every connection. Files that are just being replaced fail it, and it is tried
// again.
type renewing struct {
	credentials.TransportCredentials // made of the files as they were at first
	files                            transport.TLSInfo
}

// security returns what TLS needs; nil where none is asked for.
func security(cfg config.Global, endpoints []string) (credentials.TransportCredentials, error) {
	given := cfg.CACert != "" || cfg.Cert != ""
	wanted := given || slices.ContainsFunc(endpoints, func(e string) bool { return strings.HasPrefix(e, "https://") })
	for _, e := range endpoints {
		switch plain := strings.HasPrefix(e, "http://"); {
		case plain && given:
			return nil, errors.Newf("%s is an address without TLS, and certificates are given: write https://, or leave --cacert, --cert and --key out", e)
		case plain && wanted:
			return nil, errors.Newf("%s is an address without TLS, and another has it: write https:// before all of --cluster-store, or before none", e)
		}
	}
	// The first address decides: see etcd's Client.credentialsForEndpoint.
	if !wanted || strings.HasPrefix(endpoints[0], "unix://") {
		return nil, nil
	}
	r := renewing{files: transport.TLSInfo{TrustedCAFile: cfg.CACert, CertFile: cfg.Cert, KeyFile: cfg.Key, Logger: zap.NewNop()}}
	var err error
	r.TransportCredentials, err = r.read()
	return r, err
}

func (r renewing) read() (credentials.TransportCredentials, error) {
	now, err := r.files.ClientConfig()
	if err != nil {
		return nil, errors.Wrap(err, "see that --cacert, --cert and --key are the right files, they cannot be read")
	}
	if now.RootCAs != nil && now.RootCAs.Equal(x509.NewCertPool()) {
		return nil, errors.Newf("read the certificates for etcd: %s has none in it, name another with --cacert", r.files.TrustedCAFile)
	}
	return credentials.NewTLS(now), nil
}

func (r renewing) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	now, err := r.read()
	if err != nil {
		return nil, nil, err
	}
	return now.ClientHandshake(ctx, authority, conn)
}

func (r renewing) Clone() credentials.TransportCredentials { return r }

// renewedPassword logs in with the password that the file holds by then.
type renewedPassword struct {
	clientv3.Auth
	file string
}

func (a renewedPassword) Authenticate(ctx context.Context, name, password string) (*clientv3.AuthenticateResponse, error) {
	if now, err := config.ReadPassword(a.file); err == nil {
		password = string(now) // else the one that was right before
	}
	return a.Auth.Authenticate(ctx, name, password)
}
