// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/ipamlog/ipamlog/status"
)

func TestMain(m *testing.M) {
	// So net/http gives a client the time to read why it was refused.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// authority signs certificates, and writes them as PEM files into its directory.
type authority struct {
	dir    string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert = &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	a.key = newKey(t)
	a.cert = a.sign(t, a.cert, "ca", a.key)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// issue writes name.pem and name.key, and returns the serial number.
func (a *authority) issue(t *testing.T, name string) int64 {
	t.Helper()
	a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, name, newKey(t))
	return a.serial
}

func (a *authority) sign(t *testing.T, template *x509.Certificate, name string, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	a.serial++
	template.SerialNumber = big.NewInt(a.serial)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(a.path(file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// serve runs a server that answers with the client's verified name, and returns its
// address.
func serve(t *testing.T, security *tls.Config, log zerolog.Logger) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := status.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
		}
		name := "nobody"
		if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
			name = r.TLS.VerifiedChains[0][0].Subject.CommonName
		}
		fmt.Fprint(w, name)
	}), security, log)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// ask returns the answer and the serial number of the certificate shown.
func (a *authority) ask(t *testing.T, address, client string, highest uint16) (body string, serial int64, err error) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	config := &tls.Config{RootCAs: roots, MaxVersion: highest, MinVersion: tls.VersionTLS10}
	if client != "" {
		cert, err := tls.LoadX509KeyPair(a.path(client+".pem"), a.path(client+".key"))
		if err != nil {
			t.Fatal(err)
		}
		// Shown whatever authorities the server names.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("https://" + address)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		return "", 0, err
	}
	return text.String(), resp.TLS.PeerCertificates[0].SerialNumber.Int64(), nil
}

func TestTLS(t *testing.T) {
	ours, other := newAuthority(t), newAuthority(t)
	first := ours.issue(t, "server")
	ours.issue(t, "alice")
	other.issue(t, "mallory")
	for _, file := range []string{"mallory.pem", "mallory.key"} {
		if err := os.Rename(other.path(file), ours.path(file)); err != nil {
			t.Fatal(err)
		}
	}
	var log syncBuffer
	security, err := status.TLS(status.Files{Cert: ours.path("server.pem"), Key: ours.path("server.key"), ClientCA: ours.path("ca.pem")}, zerolog.New(&log))
	if err != nil {
		t.Fatal(err)
	}
	address := serve(t, security, zerolog.Nop())
	for _, test := range []struct {
		name, client string
		highest      uint16
		want         string // empty: refused
	}{
		{"no certificate", "", tls.VersionTLS13, "nobody"},
		{"certificate", "alice", tls.VersionTLS13, "alice"},
		{"certificate, TLS 1.2", "alice", tls.VersionTLS12, "alice"},
		{"another authority's", "mallory", tls.VersionTLS13, ""},
		{"TLS 1.1", "", tls.VersionTLS11, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			body, serial, err := ours.ask(t, address, test.client, test.highest)
			if (err != nil) != (test.want == "") || body != test.want || err == nil && serial != first {
				t.Errorf("%q, %d, %v", body, serial, err)
			}
		})
	}

	// A new certificate counts at once; a broken one changes nothing.
	second := ours.issue(t, "server")
	if body, serial, err := ours.ask(t, address, "alice", tls.VersionTLS13); err != nil || body != "alice" || serial != second {
		t.Errorf("a new certificate: %q, %d, %v", body, serial, err)
	}
	if err := os.WriteFile(ours.path("server.pem"), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, serial, err := ours.ask(t, address, "", tls.VersionTLS13); err != nil || serial != second {
		t.Errorf("a broken certificate: %d, %v", serial, err)
	}
	if !strings.Contains(log.String(), "the former certificates are used until this is mended") {
		t.Errorf("the log does not tell: %s", log.String())
	}
	// So does another authority of clients.
	ours.issue(t, "server")
	raw, err := os.ReadFile(other.path("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ours.path("ca.pem"), append(raw, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	if body, _, err := ours.ask(t, address, "mallory", tls.VersionTLS13); err != nil || body != "mallory" {
		t.Errorf("the other authority: %q, %v", body, err)
	}
	if body, _, err := ours.ask(t, address, "alice", tls.VersionTLS13); err == nil {
		t.Errorf("the former authority still counts: %q", body)
	}
}

func TestTLS_refused(t *testing.T) {
	a := newAuthority(t)
	a.issue(t, "server")
	a.issue(t, "other")
	good := status.Files{Cert: a.path("server.pem"), Key: a.path("server.key")}
	for name, test := range map[string]struct {
		change func(*status.Files)
		want   string
	}{
		"no certificate":  {func(f *status.Files) { f.Cert = a.path("none") }, "mend --listen-cert or --listen-key"},
		"another's key":   {func(f *status.Files) { f.Key = a.path("other.key") }, "mend --listen-cert or --listen-key"},
		"no authority":    {func(f *status.Files) { f.ClientCA = a.path("none") }, "mend --listen-client-ca"},
		"empty authority": {func(f *status.Files) { f.ClientCA = a.path("server.key") }, "name the authority's PEM file with --listen-client-ca"},
	} {
		files := good
		test.change(&files)
		if _, err := status.TLS(files, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if security, err := status.TLS(status.Files{}, zerolog.Nop()); security != nil || err != nil {
		t.Errorf("without files: %v, %v", security, err)
	}
}

// A header longer than any of ours is refused, and what a client does wrong stays
// out of the log.
func TestServer_header(t *testing.T) {
	var log syncBuffer
	address := serve(t, nil, zerolog.New(&log).Level(zerolog.InfoLevel))
	request, err := http.NewRequest(http.MethodGet, "http://"+address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Long", strings.Repeat("x", 64<<10))
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge || log.String() != "" {
		t.Errorf("%s, log %q", resp.Status, log.String())
	}
}

// Who keeps connections open on which nothing happens keeps nobody out, whether it
// has asked before or never; who has too many at work keeps out itself alone.
func TestServer_crowded(t *testing.T) {
	const from1, from2 = "127.0.0.1", "127.0.0.2"
	dial := func(t *testing.T, from, address string) net.Conn {
		t.Helper()
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	ask := func(conn net.Conn) error {
		if _, err := fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			return err
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return errors.CombineErrors(err, resp.Body.Close())
	}
	for name, test := range map[string]struct {
		busy func(*testing.T, net.Conn)
		own  bool // one more of the same client is sure to be answered
	}{
		"never asked": {func(*testing.T, net.Conn) {}, true},
		"kept alive": {func(t *testing.T, conn net.Conn) {
			t.Helper()
			if err := ask(conn); err != nil {
				t.Fatal(err)
			}
		}, true},
		"half a request": {func(t *testing.T, conn net.Conn) {
			t.Helper()
			if _, err := fmt.Fprint(conn, "GET / HTTP/1.1\r\n"); err != nil {
				t.Fatal(err)
			}
		}, true},
		"being answered": {func(t *testing.T, conn net.Conn) {
			t.Helper()
			if _, err := fmt.Fprint(conn, "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			address := serve(t, nil, zerolog.Nop())
			for range 300 {
				test.busy(t, dial(t, from1, address))
			}
			if err := ask(dial(t, from2, address)); err != nil {
				t.Errorf("another client is kept out: %v", err)
			}
			if err := ask(dial(t, from1, address)); test.own && err != nil {
				t.Errorf("the same client is kept out: %v", err)
			}
		})
	}
}
