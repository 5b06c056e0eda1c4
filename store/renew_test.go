// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/client/pkg/v3/transport"

	"github.com/ipamlog/ipamlog/config"
)

// TestDial_sentences tries what a new user gets wrong.
func TestDial_sentences(t *testing.T) {
	dir := shortDir(t)
	ca, caKey := certificate(t, dir, "ca", nil, nil)
	certificate(t, dir, "server", ca, caKey)
	certificate(t, dir, "stranger", nil, nil)
	file := func(name string) string { return filepath.Join(dir, name) }
	secure := secureEtcd(t, dir, transport.TLSInfo{
		CertFile: file("server.pem"), KeyFile: file("server.key"), TrustedCAFile: file("ca.pem"), ClientCertAuth: true,
	})
	plain := httptest.NewServer(nil)
	defer plain.Close()
	half := file("half.pem")
	if err := os.WriteFile(half, []byte("-----BEGIN CERTIFICATE-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		cfg  config.Global
		want string // with %s for the address
	}{
		"nobody there": {
			config.Global{ClusterStore: []string{"127.0.0.1:1"}},
			"etcd at %s does not answer (Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused): see that it runs, and that --cluster-store names it",
		},
		"another web server": {
			config.Global{ClusterStore: []string{plain.URL}},
			"what answers at %s is no etcd, but some other web server: name etcd's address for clients, mostly of port 2379, in --cluster-store",
		},
		"TLS where there is none": {
			config.Global{ClusterStore: []string{"https" + strings.TrimPrefix(plain.URL, "http")}},
			"etcd at %s does not answer (authentication handshake failed: tls: first record does not look like a TLS handshake): it has no TLS there, so name it with http:// in --cluster-store",
		},
		"none where there is": {
			config.Global{ClusterStore: []string{"http" + strings.TrimPrefix(secure, "https")}},
			"it may want TLS, so name it with https:// in --cluster-store",
		},
		"none, with certificates": {
			config.Global{ClusterStore: []string{"http" + strings.TrimPrefix(secure, "https")}, CACert: file("ca.pem")},
			"%s is an address without TLS, and certificates are given: write https://, or leave --cacert, --cert and --key out",
		},
		"none for one of two": {
			config.Global{ClusterStore: []string{"http://10.0.0.2:2379", "https://10.0.0.1:2379"}},
			"http://10.0.0.2:2379 is an address without TLS, and another has it: write https:// before all of --cluster-store, or before none",
		},
		"another authority": {
			config.Global{ClusterStore: []string{secure}, CACert: file("stranger.pem"), Cert: file("server.pem"), Key: file("server.key")},
			"see that --cacert, --cert and --key are the right ones",
		},
		"no certificate": {
			config.Global{ClusterStore: []string{secure}, CACert: file("ca.pem")},
			"etcd at %s does not answer (", // what etcd says of it may be lost with the connection
		},
		"a certificate cut off": {
			config.Global{ClusterStore: []string{secure}, CACert: half},
			"half.pem has none in it, name another with --cacert",
		},
		"no password file": {
			config.Global{ClusterStore: []string{secure}, CACert: file("ca.pem"), User: "u", PasswordFile: file("none")},
			"the password file cannot be read; mend it or name another with --password-file: ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := use(t, tt.cfg)
			if err == nil {
				t.Fatal("it was let in")
			}
			said := err.Error()
			t.Log(said)
			if want := strings.ReplaceAll(tt.want, "%s", tt.cfg.ClusterStore[0]); !strings.Contains(said, want) || strings.ContainsAny(said, "\n\\") {
				t.Errorf("it says %q, and not %q", said, want)
			}
		})
	}
}
