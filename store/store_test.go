// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/ipamlog/ipamlog/config"
	"github.com/ipamlog/ipamlog/embedded"
	"github.com/ipamlog/ipamlog/store"
)

// shortDir is a directory whose path leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ipl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func daemon(t *testing.T) (dir string, server *embedded.Server) {
	t.Helper()
	dir = shortDir(t)
	server, err := embedded.Start(t.Context(), embedded.Options{Dir: dir, Log: zerolog.Nop(), TickMs: 10, NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return dir, server
}

// use dials and asks one thing.
func use(t *testing.T, cfg config.Global) error {
	t.Helper()
	client, err := store.Dial(cfg)
	if err != nil {
		return err
	}
	defer client.Close()
	store.Patient(client, time.Second)
	_, err = client.Get(t.Context(), "x")
	return store.Explain(err, client)
}

func TestDial_embedded(t *testing.T) {
	dir, server := daemon(t)
	if err := use(t, config.Global{DataDir: dir}); err != nil {
		t.Error(err)
	}
	server.Close()
	for name, dir := range map[string]string{"closed": dir, "never was": filepath.Join(dir, "nothing")} {
		err := use(t, config.Global{DataDir: dir})
		if !errors.Is(err, store.ErrNoDaemon) || !strings.Contains(err.Error(), "ipamlog serve") || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDial_user(t *testing.T) {
	dir := shortDir(t)
	at := url.URL{Scheme: "unix", Path: filepath.Join(dir, "socket")}
	startEtcd(t, dir, at, transport.TLSInfo{})
	cluster := []string{at.String()}
	ctx := t.Context()
	client, err := store.Dial(config.Global{ClusterStore: cluster})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, step := range []func() error{
		func() error { _, err := client.RoleAdd(ctx, "root"); return err },
		func() error { _, err := client.UserAdd(ctx, "root", "s3cret"); return err },
		func() error { _, err := client.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := client.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if err := use(t, config.Global{ClusterStore: cluster, User: "root", Password: "s3cret"}); err != nil {
		t.Error(err)
	}
	if err := use(t, config.Global{ClusterStore: cluster, User: "root", Password: "wrong"}); err == nil || store.Silent(err) || !strings.HasPrefix(err.Error(), "log in to etcd at unix://") || !strings.HasSuffix(err.Error(), ": etcd does not know its user (etcdserver: authentication failed, invalid user ID or password): see that --user, and the password in --password-file or IPAMLOG_PASSWORD, are right") || strings.Contains(err.Error(), "wrong") {
		t.Errorf("with a wrong password: %v", err)
	}
	if err := use(t, config.Global{ClusterStore: cluster}); err == nil || store.Silent(err) || !strings.HasPrefix(err.Error(), "etcd does not know its user (etcdserver: user name is empty): ") {
		t.Errorf("without a user: %v", err)
	}
}

// A store that takes connections and never answers is not waited for.
func TestPatient(t *testing.T) {
	path := filepath.Join(shortDir(t), "deaf")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := store.Dial(config.Global{ClusterStore: []string{"unix://" + path}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	store.Patient(client, 50*time.Millisecond)
	ctx := t.Context()
	for name, ask := range map[string]func() error{
		"get":    func() error { _, err := client.Get(ctx, "x"); return err },
		"put":    func() error { _, err := client.Put(ctx, "x", "y"); return err },
		"delete": func() error { _, err := client.Delete(ctx, "x"); return err },
		"do":     func() error { _, err := client.Do(ctx, clientv3.OpGet("x")); return err },
		"txn": func() error {
			_, err := client.Txn(ctx).If(clientv3.Compare(clientv3.Version("x"), "=", 0)).Then(clientv3.OpGet("x")).Else(clientv3.OpGet("y")).Commit()
			return err
		},
	} {
		began := time.Now()
		err := ask()
		if !store.Silent(err) || time.Since(began) > 10*time.Second {
			t.Errorf("%s: after %s: %v", name, time.Since(began), err)
		}
		if text := store.Explain(err, client).Error(); text != "etcd at unix://"+path+" does not answer (no answer in time): see that it runs, and that --cluster-store names it" {
			t.Errorf("%s: %s", name, text)
		}
	}
	if err := store.Explain(nil, client); err != nil {
		t.Error(err)
	}
	if err := errors.New("no"); !errors.Is(store.Explain(err, client), err) {
		t.Error("another error was explained away")
	}
}

func TestDial_tls(t *testing.T) {
	dir := shortDir(t)
	ca, caKey := certificate(t, dir, "ca", nil, nil)
	certificate(t, dir, "server", ca, caKey)
	certificate(t, dir, "client", ca, caKey)
	certificate(t, dir, "stranger", nil, nil)
	file := func(name string) string { return filepath.Join(dir, name) }
	endpoint := secureEtcd(t, dir, transport.TLSInfo{
		CertFile: file("server.pem"), KeyFile: file("server.key"), TrustedCAFile: file("ca.pem"), ClientCertAuth: true,
	})
	right := config.Global{ClusterStore: []string{endpoint}, CACert: file("ca.pem"), Cert: file("client.pem"), Key: file("client.key")}
	if err := use(t, right); err != nil {
		t.Error(err)
	}
	bare := right
	bare.ClusterStore = []string{strings.TrimPrefix(endpoint, "https://")}
	if err := use(t, bare); err != nil {
		t.Errorf("without the scheme: %v", err)
	}
	for name, c := range map[string]struct {
		spoil func(*config.Global)
		want  string
	}{
		"no client certificate": {func(c *config.Global) { c.Cert, c.Key = "", "" }, "does not answer ("},
		"another authority":     {func(c *config.Global) { c.CACert = file("stranger.pem") }, "x509: certificate signed by unknown authority)"},
		"the system's roots":    {func(c *config.Global) { c.CACert, c.Cert, c.Key = "", "", "" }, "x509: certificate signed by unknown authority)"},
		"no such file":          {func(c *config.Global) { c.CACert = file("none.pem") }, "see that --cacert, --cert and --key are the right files, they cannot be read: "},
	} {
		cfg := right
		c.spoil(&cfg)
		if err := use(t, cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// secureEtcd is an etcd on loopback that speaks TLS.
func secureEtcd(t *testing.T, dir string, security transport.TLSInfo) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := url.URL{Scheme: "https", Host: free.Addr().String()}
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	startEtcd(t, dir, at, security)
	return at.String()
}

// startEtcd is an etcd of one member that serves clients at an address.
func startEtcd(t *testing.T, dir string, at url.URL, security transport.TLSInfo) {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(dir, "etcd")
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{at}, []url.URL{at}
	cfg.ListenPeerUrls = nil
	cfg.AdvertisePeerUrls = []url.URL{{Scheme: "unix", Host: "no-peers"}}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ClientTLSInfo = security
	cfg.BcryptCost = 4 // the race detector makes passwords that are well kept a matter of seconds
	cfg.TickMs, cfg.ElectionMs, cfg.UnsafeNoFsync = 10, 50, true
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	<-etcd.Server.ReadyNotify()
}

// certificate writes name.pem and name.key, signed by the parent or by itself.
func certificate(t *testing.T, dir, name string, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: parent == nil,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}
