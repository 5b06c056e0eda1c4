// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/api"
)

const (
	alice = "alice-0123456789abcdef"
	bob   = "bob-0123456789abcdef0"
)

func tokenFile(t testing.TB, mode os.FileMode, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func tokens(t testing.TB, lines ...string) *api.Tokens {
	t.Helper()
	known, err := api.ReadTokens(tokenFile(t, 0o600, lines...), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return known
}

func TestAccess(t *testing.T) {
	known := tokens(t, "# alice", alice, "", bob)
	type a = api.Access
	verified := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{}}}}
	shown := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{}}}
	for _, test := range []struct {
		name          string
		access        a
		host, bearing string
		security      *tls.ConnectionState
		status        int
		says          string
	}{
		{"nobody by default", a{}, "", "", nil, 403, "give --listen-cert and --listen-key, and --listen-token-file or --listen-client-ca"},
		{"local", a{Local: true}, "127.0.0.1:9477", "", nil, 200, ""},
		{"local by name", a{Local: true}, "LocalHost.:9477", "", nil, 200, ""},
		{"local, IPv6", a{Local: true}, "[::1]:9477", "", nil, 200, ""},
		{"local, mapped", a{Local: true}, "[::ffff:127.0.0.2]", "", nil, 200, ""},
		{"rebound", a{Local: true}, "evil.example:9477", "", nil, 403, "asked for as localhost or 127.0.0.1"},
		{"rebound to look local", a{Local: true}, "localhost.evil.example", "", nil, 403, "asked for as"},
		{"rebound to look like an address", a{Local: true}, "127.0.0.1.evil.example", "", nil, 403, "asked for as"},
		{"no name at all", a{Local: true}, "", "", nil, 403, "asked for as"},
		{"another address", a{Local: true}, "10.0.0.1:9477", "", nil, 403, "asked for as"},
		{"local, TLS", a{Local: true, Encrypted: true}, "localhost", "", shown, 200, ""},
		{"local, no token", a{Local: true, Tokens: known}, "localhost", "", nil, 401, "Authorization: Bearer TOKEN"},
		{"local, token", a{Local: true, Tokens: known}, "localhost", "Bearer " + alice, nil, 200, ""},
		{"token through a proxy", a{Local: true, Tokens: known}, "ipam.example", "bearer  " + bob, nil, 200, ""},
		{"wrong token", a{Local: true, Tokens: known}, "localhost", "Bearer " + alice + "x", nil, 401, "this token is not one of"},
		{"beginning of a token", a{Local: true, Tokens: known}, "localhost", "Bearer " + alice[:20], nil, 401, "this token is not one of"},
		{"a comment is no token", a{Local: true, Tokens: known}, "localhost", "Bearer # alice", nil, 401, ""},
		{"the empty token", a{Local: true, Tokens: known}, "localhost", "Bearer ", nil, 401, ""},
		{"token as a password", a{Local: true, Tokens: known}, "localhost", "Basic " + alice, nil, 401, ""},
		{"open to all", a{Encrypted: true}, "ipam.example", "", nil, 403, "give --listen-token-file or --listen-client-ca"},
		{"token in the clear", a{Tokens: known}, "ipam.example", "Bearer " + alice, nil, 403, "without TLS: give --listen-cert and --listen-key"},
		{"token over TLS", a{Encrypted: true, Tokens: known}, "ipam.example", "Bearer " + alice, shown, 200, ""},
		{"certificate", a{Encrypted: true, Certificates: true}, "ipam.example", "", verified, 200, ""},
		{"no certificate", a{Encrypted: true, Certificates: true}, "ipam.example", "", &tls.ConnectionState{}, 403, "show a client certificate"},
		{"unverified certificate", a{Encrypted: true, Certificates: true}, "ipam.example", "", shown, 403, "show a client certificate"},
		{"a chain that nobody asked for", a{Encrypted: true, Tokens: known}, "ipam.example", "", verified, 401, ""},
		{"token for want of a certificate", a{Encrypted: true, Certificates: true, Tokens: known}, "ipam.example", "Bearer " + bob, shown, 200, ""},
		{"neither", a{Encrypted: true, Certificates: true, Tokens: known}, "ipam.example", "", shown, 401, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := server(nil, api.Options{Access: test.access})
			for _, path := range []string{"/api/v1/version", "/api/v1/openapi.yaml", "/api/v1/who", "/api/", "/api/v1/nowhere"} {
				r := httptest.NewRequest(http.MethodGet, path, http.NoBody)
				r.Host, r.TLS = test.host, test.security
				if test.bearing != "" {
					r.Header.Set("Authorization", test.bearing)
				}
				w := httptest.NewRecorder()
				s.ServeHTTP(w, r)
				if test.status == http.StatusOK && (w.Code == http.StatusUnauthorized || w.Code == http.StatusForbidden) ||
					test.status != http.StatusOK && (w.Code != test.status || !strings.Contains(w.Body.String(), test.says)) {
					t.Errorf("%s: %d %s", path, w.Code, w.Body)
				}
				if (w.Header().Get("WWW-Authenticate") != "") != (w.Code == http.StatusUnauthorized) {
					t.Errorf("%s: %v", path, w.Header())
				}
			}
		})
	}
}

func TestIsLocal(t *testing.T) {
	for address, want := range map[string]bool{"127.0.0.1": true, "127.9.9.9": true, "::1": true, "0.0.0.0": false, "::": false, "10.0.0.1": false, "": false} {
		if got := api.IsLocal(&net.TCPAddr{IP: net.ParseIP(address)}); got != want {
			t.Errorf("%q: %v", address, got)
		}
	}
	if api.IsLocal(&net.UnixAddr{}) {
		t.Error("a socket of another kind is taken for a loopback one")
	}
}

// The file counts as it is now, and no token of it is ever told.
func TestTokens_readAgain(t *testing.T) {
	var log bytes.Buffer
	path := tokenFile(t, 0o644, alice)
	known, err := api.ReadTokens(path, zerolog.New(&log))
	if err != nil {
		t.Fatal(err)
	}
	knows := func(token string, want, readable bool) {
		t.Helper()
		got, err := known.Know(token)
		if got != want || (err == nil) != readable {
			t.Errorf("%s: %v, %v", token, got, err)
		}
	}
	replace := func(lines ...string) {
		t.Helper()
		if err := os.Rename(tokenFile(t, 0o600, lines...), path); err != nil {
			t.Fatal(err)
		}
	}
	knows(alice, true, true)
	knows(bob, false, true)
	replace(bob)
	knows(alice, false, true)
	knows(bob, true, true)
	replace("short")
	knows(bob, false, false)
	knows("short", false, false)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	knows(bob, false, false)
	knows(bob, false, false)
	if w := get(server(nil, api.Options{Access: api.Access{Local: true, Tokens: known}}), "/api/v1/version", "Authorization", "Bearer "+bob); w.Code != http.StatusServiceUnavailable {
		t.Errorf("without a file: %d %s", w.Code, w.Body)
	}
	replace(alice, bob)
	knows(alice, true, true)
	if strings.Contains(log.String(), alice) || strings.Contains(log.String(), bob) || strings.Contains(log.String(), "short\"") {
		t.Errorf("the log shows a token: %s", log.String())
	}
	for _, want := range []string{"chmod 600", "the tokens were read again", "fewer than 16 characters", "no such file"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q: %s", want, log.String())
		}
	}
	if n := strings.Count(log.String(), "no such file"); n != 1 {
		t.Errorf("one trouble is told %d times", n)
	}
}

func TestReadTokens_refused(t *testing.T) {
	for name, test := range map[string]struct {
		lines []string
		want  string
	}{
		"short":      {[]string{alice, "hunter2"}, "line 2 of FILE has fewer than 16 characters"},
		"none":       {[]string{"# nothing", ""}, "FILE has no token in it"},
		"space":      {[]string{"hunter2 with white space"}, "line 1 of FILE has white space"},
		"other":      {[]string{"hunter2hunter2hunter2ü"}, "line 1 of FILE has white space or other characters that a header cannot carry"},
		"very large": {[]string{strings.Repeat("hunter2", 200_000)}, "FILE is larger than 1048576 bytes"},
	} {
		path := tokenFile(t, 0o600, test.lines...)
		_, err := api.ReadTokens(path, zerolog.Nop())
		want := strings.ReplaceAll(test.want, "FILE", path)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "--listen-token-file") {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}
