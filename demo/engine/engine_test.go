// SPDX-License-Identifier: Apache-2.0

package engine_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"

	"github.com/ipamlog/ipamlog/demo/engine"
)

// driver answers every request alike, and remembers the last one.
type driver struct {
	status       int
	answer       string
	call, asked  string
	accept, host string
}

func (d *driver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	d.call, d.asked, d.accept, d.host = r.URL.Path, string(body), r.Header.Get("Accept"), r.Host
	w.WriteHeader(d.status)
	for piece := range strings.SplitSeq(d.answer, " ") { // in chunks
		_, _ = io.WriteString(w, piece)
		_ = http.NewResponseController(w).Flush()
	}
}

// connect returns a connection to the driver.
func connect(t *testing.T, d *driver) *engine.Conn {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: d}}
	server.Start()
	t.Cleanup(server.Close)
	conn, err := engine.Dial(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestConnAsksAsDockerDoes(t *testing.T) {
	t.Parallel()
	d := &driver{status: http.StatusOK}
	conn := connect(t, d)
	for _, tt := range []struct {
		name, answer string
		call         func() (string, error)
		path, asked  string
		got          string
	}{
		{
			"a pool", `{"PoolID":"p","Pool":"10.1.0.0/24"}`,
			func() (string, error) { return conn.CreatePool("10.1.0.0/24", map[string]string{"pool": "web"}) },
			"/IpamDriver.RequestPool",
			`{"AddressSpace":"ipamlog-local","Pool":"10.1.0.0/24","SubPool":"","Options":{"pool":"web"},"V6":false}`, "p",
		},
		{
			"a gateway", `{"Address":"10.1.0.1/24", "Data":null}`,
			func() (string, error) { return conn.Gateway("p") },
			"/IpamDriver.RequestAddress",
			`{"PoolID":"p","Address":"","Options":{"RequestAddressType":"com.docker.network.gateway"}}`, "10.1.0.1/24",
		},
		{
			"an endpoint", `{"Address":"10.1.0.9/24"}`,
			func() (string, error) { return conn.Endpoint("p", "c1", "02:42:0a:00:00:01", "10.1.0.9") },
			"/IpamDriver.RequestAddress",
			`{"PoolID":"p","Address":"10.1.0.9","Options":{"com.docker.network.endpoint.macaddress":"02:42:0a:00:00:01","com.docker.network.endpoint.name":"c1"}}`, "10.1.0.9/24",
		},
		{
			"a release", `{}`,
			func() (string, error) { return "", conn.Release("p", "10.1.0.9") },
			"/IpamDriver.ReleaseAddress", `{"PoolID":"p","Address":"10.1.0.9"}`, "",
		},
		{
			"a pool's release", `{}`,
			func() (string, error) { return "", conn.ReleasePool("p") },
			"/IpamDriver.ReleasePool", `{"PoolID":"p"}`, "",
		},
	} { // one after the other, over one connection
		d.answer = tt.answer
		got, err := tt.call()
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if diff := cmp.Diff([]string{tt.path, tt.asked, tt.got}, []string{d.call, d.asked, got}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	if d.accept != "application/vnd.docker.plugins.v1.2+json" || d.host != "plugin.moby.localhost" {
		t.Errorf("it called itself %q and asked for %q", d.host, d.accept)
	}
}

func TestConnReadsRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		status   int
		answer   string
		sentence string // of a refusal; empty for another error
	}{
		{"in an answer", http.StatusOK, `{"Error":"no, more"}`, "no,more"},
		{"by status", http.StatusInternalServerError, `{"Err":"broken"}`, "broken"},
		{"no JSON", http.StatusBadRequest, "what?", ""},
		{"nothing", http.StatusOK, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := connect(t, &driver{status: tt.status, answer: tt.answer}).Gateway("p")
			var refusal *engine.RefusalError
			said := ""
			if errors.As(err, &refusal) {
				said = refusal.Sentence
			}
			if err == nil || said != tt.sentence {
				t.Errorf("got %v", err)
			}
		})
	}
}
