// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/plugin"
)

// quiet is an observer that is told in vain.
type quiet struct{}

// Requested implements [plugin.Observer].
func (quiet) Requested(string, string, time.Duration) {}

// sentence reads the refusal of an answer, under the name Docker looks for it.
func sentence(tb testing.TB, status int, answer string) string {
	tb.Helper()
	var body struct{ Error, Err string }
	if err := json.Unmarshal([]byte(answer), &body); err != nil {
		tb.Fatalf("%d %q is no JSON: %v", status, answer, err)
	}
	said, other := body.Error, body.Err
	if status != http.StatusOK {
		said, other = other, said
	}
	if said == "" || other != "" {
		tb.Errorf("%d %s: Docker would not find the refusal", status, answer)
	}
	return said
}

func TestWhatIsNoRequest(t *testing.T) {
	t.Parallel()
	_, client := serve(t, plugin.NewServer(plugin.NewDriver(nil), quiet{}, zerolog.Nop()))
	large := `{"PoolID":"` + strings.Repeat("x", plugin.MaxBody) + `"}`
	for _, tt := range []struct {
		name, method, call, body string
		status                   int
		says                     string
	}{
		{"an unknown call", "POST", "/IpamDriver.Invent", `{}`, 404, "knows no such call"},
		{"no call", "POST", "/", `{}`, 404, "knows no such call"},
		{"another driver's", "POST", "/NetworkDriver.GetCapabilities", `{}`, 404, "knows no such call"},
		{"GET", "GET", "/IpamDriver.GetCapabilities", "", 405, "POST"},
		{"PUT", "PUT", "/IpamDriver.RequestPool", `{}`, 405, "POST"},
		{"nothing", "POST", "/IpamDriver.RequestPool", "", 400, "the body is empty"},
		{"half", "POST", "/IpamDriver.RequestPool", `{"Pool":`, 400, "unexpected end"},
		{"no JSON", "POST", "/IpamDriver.ReleasePool", "hello", 400, "the body is no JSON (invalid character"},
		{"more behind it", "POST", "/IpamDriver.ReleasePool", `{}{}`, 400, "invalid character"},
		{"a list", "POST", "/IpamDriver.RequestAddress", `[]`, 400, "the body is array: send a JSON object"},
		{"a number for a name", "POST", "/IpamDriver.RequestAddress", `{"PoolID":1}`, 400, "(PoolID cannot be number: see Docker's IPAM plugin protocol)"},
		{"too long", "POST", "/IpamDriver.ReleaseAddress", large, 413, "more than 65536 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, answer := send(t, client, tt.method, tt.call, tt.body)
			if said := sentence(t, status, answer); status != tt.status || !strings.Contains(said, tt.says) {
				t.Errorf("got %d %q, want %d and %q", status, said, tt.status, tt.says)
			}
		})
	}
	// What needs no store is answered before there is one, with and without a body.
	for _, body := range []string{"", "{}", "null", "whatever"} {
		for call, want := range map[string]string{
			"/Plugin.Activate":                    `{"Implements":["IpamDriver"]}`,
			"/IpamDriver.GetCapabilities":         `{"RequiresMACAddress":true}`,
			"/IpamDriver.GetDefaultAddressSpaces": `{"LocalDefaultAddressSpace":"ipamlog-local","GlobalDefaultAddressSpace":"ipamlog-global"}`,
		} {
			if status, answer := send(t, client, http.MethodPost, call, body); status != http.StatusOK || answer != want {
				t.Errorf("%s %q: %d %s", call, body, status, answer)
			}
		}
	}
}

// What needs the log is refused while the daemon has not joined it.
func TestStarting(t *testing.T) {
	t.Parallel()
	_, client := serve(t, plugin.NewServer(plugin.NewDriver(nil), quiet{}, zerolog.Nop()))
	begun := time.Now()
	status, answer := send(t, client, http.MethodPost, "/IpamDriver.RequestPool", `{"AddressSpace":"ipamlog-local"}`)
	if said := sentence(t, status, answer); status != http.StatusOK || !strings.HasPrefix(said, "Ipamlog is starting") && !strings.HasPrefix(said, "ipamlog is starting") {
		t.Errorf("%d %s", status, said)
	}
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("it took %s", took)
	}
}

// A fault in one request is answered, logged, and takes nothing else down.
func TestFaultIsGuarded(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := plugin.NewServer(plugin.NewDriver(nil), quiet{}, zerolog.New(&log))
	h := s.Guarded(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("what a pity") }))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/IpamDriver.RequestPool", nil))
	if said := sentence(t, w.Code, w.Body.String()); w.Code != http.StatusInternalServerError || strings.Contains(said, "pity") {
		t.Errorf("%d %s", w.Code, said)
	}
	if line := log.String(); !strings.Contains(line, "what a pity") || !strings.Contains(line, "/IpamDriver.RequestPool") || !strings.Contains(line, "server_test.go") {
		t.Errorf("logged: %s", line)
	}
	defer func() {
		if fault, _ := recover().(error); !errors.Is(fault, http.ErrAbortHandler) {
			t.Errorf("net/http's own way to end a request became %v", fault)
		}
	}()
	s.Guarded(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil))
}

// A client that does not come to an end is cut off, and nobody waits for it.
func TestSlowClient(t *testing.T) {
	t.Parallel()
	s := plugin.NewServer(plugin.NewDriver(nil), quiet{}, zerolog.Nop())
	s.SetReadPatience(500 * time.Millisecond)
	socket, client := serve(t, s)
	for name, begin := range map[string]string{
		"in the header": "POST /IpamDriver.RequestPool HTTP/1.1\r\nHost: x\r\n",
		"in the body":   "POST /IpamDriver.RequestPool HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"Pool\":",
		"at once":       "",
	} {
		conn := dial(t, socket)
		if _, err := io.WriteString(conn, begin); err != nil {
			t.Fatal(err)
		}
		if status, _ := send(t, client, http.MethodPost, "/IpamDriver.GetCapabilities", ""); status != http.StatusOK {
			t.Errorf("%s: others got %d", name, status)
		}
		if begin == "" {
			continue // a connection that asks nothing may stay
		}
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("%s: it was not cut off: %v", name, err)
		}
	}
}

// An answer may take longer than a client may take to ask.
func TestSlowAnswer(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(b *bed) { b.server.SetReadPatience(200 * time.Millisecond) })
	id, ref := b.pool("10.1.0.0/24")
	release := b.seen.holdBack()
	time.AfterFunc(time.Second, release)
	b.ask("/IpamDriver.RequestAddress", fmt.Sprintf(`{"PoolID":%q,"Address":"","Options":{}}`, id), "Address")
	if n := b.held(ref); n != 1 {
		t.Errorf("%d addresses held", n)
	}
}

func dial(tb testing.TB, socket string) net.Conn {
	tb.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

// A client hangs up while its commit is on the way: what was allocated for it is
// released again.
func TestClientHangsUp(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	id, ref := b.pool("10.1.0.0/24")
	body := fmt.Sprintf(`{"PoolID":%q,"Address":"","Options":{"com.docker.network.endpoint.macaddress":"02:00:00:00:00:01"}}`, id)
	release := b.seen.holdBack()
	defer release()
	conn := dial(t, b.socket)
	if _, err := fmt.Fprintf(conn, "POST /IpamDriver.RequestAddress HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the commit", func() bool { return b.seen.holding() > 0 && b.held(ref) == 1 })
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the request's end", func() bool { return b.seen.count("RequestAddress canceled") == 1 })
	release()
	eventually(t, "the compensation", func() bool { return b.released(ref, events.Compensated) == 1 })
	if n := b.held(ref); n != 0 {
		t.Errorf("%d addresses held", n)
	}
}

// deaf is a client that is gone when its answer comes.
type deaf struct{ http.ResponseWriter }

// Write implements [http.ResponseWriter].
func (deaf) Write([]byte) (int, error) { return 0, errors.New("nobody is there") }

// An answer that cannot be written is taken back, unless it was a repeat.
func TestAnswerIsLost(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	id, ref := b.pool("10.1.0.0/24")
	lose := func(call, body string) {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, call, strings.NewReader(body))
		b.server.Handler().ServeHTTP(deaf{httptest.NewRecorder()}, r)
	}
	ask := func(mac int) string {
		return fmt.Sprintf(`{"PoolID":%q,"Address":"","Options":{"com.docker.network.endpoint.macaddress":"02:00:00:00:00:%02x"}}`, id, mac)
	}
	lose("/IpamDriver.RequestAddress", ask(1))
	eventually(t, "the compensation", func() bool { return b.released(ref, events.Compensated) == 1 })
	if n := b.held(ref); n != 0 {
		t.Errorf("%d addresses held", n)
	}
	b.ask("/IpamDriver.RequestAddress", ask(2), "Address")
	lose("/IpamDriver.RequestAddress", ask(2)) // a repeat: the first answer arrived
	eventually(t, "a repeat", func() bool { return b.seen.count("RequestAddress repeat") == 1 })

	lose("/IpamDriver.RequestPool", `{"AddressSpace":"ipamlog-local","Pool":"10.2.0.0/24"}`)
	eventually(t, "the pool's end", func() bool {
		pools, _, err := b.log.Pools(t.Context())
		return err == nil && len(pools) == 1
	})
	lose("/IpamDriver.ReleaseAddress", fmt.Sprintf(`{"PoolID":%q,"Address":"10.1.0.200"}`, id)) // nothing to take back
	if n := b.held(ref); n != 1 {
		t.Errorf("%d addresses held", n)
	}
}

// The swarm's grant is one: that a manager did not hear of it again takes it from
// nobody.
func TestRepeatedGrantIsNotTakenBack(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	const request = `{"AddressSpace":"ipamlog-global","Pool":"10.1.0.0/24"}`
	id := b.ask("/IpamDriver.RequestPool", request, "PoolID")
	ref, err := plugin.ParsePoolID(id)
	if err != nil {
		t.Fatal(err)
	}
	b.ask("/IpamDriver.RequestAddress", fmt.Sprintf(`{"PoolID":%q,"Address":""}`, id), "Address")
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/IpamDriver.RequestPool", strings.NewReader(request))
	b.server.Handler().ServeHTTP(deaf{httptest.NewRecorder()}, r)
	b.stop() // which waits for what goes on behind the answers
	if n := b.held(ref); n != 1 {
		t.Errorf("%d addresses are held in the swarm's pool", n)
	}
	if n := b.released(ref, events.GrantEnded); n != 0 {
		t.Errorf("%d addresses were released with their grant", n)
	}
}

// Nor is the swarm's grant when the answer that opened it was lost: another manager
// may have been told of it meanwhile.
func TestCommonGrantIsNotTakenBack(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	const request = `{"AddressSpace":"ipamlog-global","Pool":"10.1.0.0/24"}`
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/IpamDriver.RequestPool", strings.NewReader(request))
	b.server.Handler().ServeHTTP(deaf{httptest.NewRecorder()}, r)
	ref, err := plugin.ParsePoolID(b.ask("/IpamDriver.RequestPool", request, "PoolID"))
	if err != nil {
		t.Fatal(err)
	}
	b.ask("/IpamDriver.RequestAddress", fmt.Sprintf(`{"PoolID":%q,"Address":""}`, b.ask("/IpamDriver.RequestPool", request, "PoolID")), "Address")
	b.stop()
	if n := b.held(ref); n != 1 {
		t.Errorf("%d addresses are held in the swarm's pool", n)
	}
	if n := b.released(ref, events.GrantEnded); n != 0 {
		t.Errorf("%d addresses were released with their grant", n)
	}
}

// Shutdown lets what is under way come to its end.
func TestShutdownWaits(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	id, _ := b.pool("10.1.0.0/24")
	release := b.seen.holdBack()
	defer release()
	answered := make(chan string, 1)
	go func() {
		_, answer := b.post("/IpamDriver.RequestAddress", fmt.Sprintf(`{"PoolID":%q,"Address":"","Options":{}}`, id))
		answered <- answer
	}()
	eventually(t, "the commit", func() bool { return b.seen.holding() > 0 })
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		ended <- b.server.Shutdown(ctx)
	}()
	eventually(t, "no more connections", func() bool {
		conn, err := net.Dial("unix", b.socket)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	release()
	if answer := <-answered; !strings.Contains(answer, `"Address":"10.1.0.1/24"`) {
		t.Errorf("got %s", answer)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Outcomes are counted by names that dashboards know.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	id, _ := b.pool("10.1.0.0/30")
	address := func(options string) {
		b.post("/IpamDriver.RequestAddress", fmt.Sprintf(`{"PoolID":%q,"Address":"","Options":{%s}}`, id, options))
	}
	address(`"com.docker.network.endpoint.macaddress":"02:00:00:00:00:01"`)
	address(`"com.docker.network.endpoint.macaddress":"02:00:00:00:00:01"`)
	address(`"com.docker.network.endpoint.name":"a"`)
	address(`"com.docker.network.endpoint.name":"b"`)
	b.post("/IpamDriver.RequestPool", "")
	b.stop()
	b.post("/IpamDriver.ReleasePool", fmt.Sprintf(`{"PoolID":%q}`, id))
	for what, n := range map[string]int{
		"RequestPool ok": 1, "RequestAddress ok": 2, "RequestAddress repeat": 1, "RequestAddress exhausted": 1,
		"RequestPool bad_request": 1, "ReleasePool stopping": 1,
	} {
		// Counted after it was answered.
		eventually(t, fmt.Sprintf("%d times %s", n, what), func() bool { return b.seen.count(what) == n })
	}
}
