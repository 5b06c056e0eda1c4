// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipamlog/ipamlog/lab"
)

// TestAPI asks the daemon of one host from another: in the clear it answers none
// but a question after its health, over TLS whoever has a token.
func TestAPI(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	b := l.Host("b")
	a := newSite(t, l, "a", "--engine", "off", "--listen", "0.0.0.0:9477")
	a.start(t)
	asked := func(t *testing.T, want string, args ...string) {
		t.Helper()
		got := b.MustExec(t, "curl", append([]string{"-sS", "--max-time", "30", "--resolve", "example.com:9477:" + a.Addr().String(), "-w", "\n%{http_code}"}, args...)...)
		if !strings.HasSuffix(strings.TrimSpace(got), want) {
			t.Errorf("curl %q: %s, want %s", args, got, want)
		}
	}
	asked(t, "200", "http://example.com:9477/readyz")
	asked(t, "403", "http://example.com:9477/api/v1/pools")
	a.stop(t)

	const token = "not-a-secret-0123456789"
	files := map[string][]byte{"tokens": []byte("# b\n" + token + "\n")}
	files["cert.pem"], files["key.pem"] = exampleCom(t)
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(a.Dir(), name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ca := filepath.Join(b.Dir(), "ca.pem")
	if err := os.WriteFile(ca, files["cert.pem"], 0o600); err != nil {
		t.Fatal(err)
	}
	a = &site{Host: a.Host}
	a.daemon = a.Daemon("--data-dir", a.dataDir(), "--engine", "off", "--listen", "0.0.0.0:9477",
		"--listen-cert", filepath.Join(a.Dir(), "cert.pem"), "--listen-key", filepath.Join(a.Dir(), "key.pem"),
		"--listen-token-file", filepath.Join(a.Dir(), "tokens"))
	a.start(t)
	const pools = "https://example.com:9477/api/v1/pools"
	asked(t, "[]\n\n200", "--cacert", ca, "-H", "Authorization: Bearer "+token, pools)
	asked(t, "401", "--cacert", ca, pools)
	asked(t, "401", "--cacert", ca, "-H", "Authorization: Bearer "+token+"0", pools)
	asked(t, "200", "--cacert", ca, "https://example.com:9477/healthz")
	asked(t, "400", "http://example.com:9477/api/v1/pools")
	a.stop(t)
}

// exampleCom is the certificate for example.com that Go has for tests, and its key.
func exampleCom(t *testing.T) (cert, key []byte) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	defer server.Close()
	pair := server.TLS.Certificates[0]
	raw, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}
