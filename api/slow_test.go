// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/api"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/replaytest"
)

// crowded is a history with a pool that has held more than small buffers between the
// server and a client take.
func crowded() *replay.History {
	timeline, revision := projection.NewTimeline(), int64(1)
	put := func(e events.Event) {
		revision++
		timeline.Apply(events.Record{Revision: revision, Commit: events.Commit{
			Stream: events.PoolStream(replaytest.Web), Host: "h1", Time: replaytest.Clock(0, int(revision)), Events: []events.Event{e},
		}})
	}
	put(events.PoolCreated{Space: events.Local, Name: "web", Subnet: netip.MustParsePrefix("10.0.0.0/8")})
	for i := range 3000 {
		id := replaytest.ID('A', 1)
		id[10], id[11], id[12] = byte(i>>16), byte(i>>8), byte(i)
		put(events.AddressAllocated{
			Allocation: id, Address: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), Kind: events.Endpoint, Host: "h1",
			Endpoint: fmt.Sprintf("%0300d", i),
		})
	}
	return replay.NewHistory(timeline, revision)
}

// small has the kernel keep little of what nobody reads.
func small(t *testing.T, conn net.Conn) {
	t.Helper()
	tcp, is := conn.(*net.TCPConn)
	if !is {
		t.Errorf("a connection is a %T", conn)
		return
	}
	if err := errors.CombineErrors(tcp.SetReadBuffer(4096), tcp.SetWriteBuffer(4096)); err != nil {
		t.Error(err)
	}
}

// Clients that do not read their answers keep nobody from asking; and one of them
// does not keep the others from long answers.
func TestServer_slow(t *testing.T) {
	h := crowded()
	s := api.NewServer(api.Options{Access: local})
	s.Attach(api.Source{Past: past(func(context.Context) (*replay.History, error) { return h, nil })})
	web := httptest.NewUnstartedServer(s)
	web.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		if state == http.StateNew {
			small(t, conn)
		}
	}
	web.Start()
	defer func() {
		web.CloseClientConnections()
		web.Close()
		eventually(t, "the slots are given back", s.Idle)
	}()
	const long = "/api/v1/history?subject=pool:web"
	for i := range 8 {
		conn, err := net.Dial("tcp", web.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		small(t, conn)
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", long); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the answer is being written", func() bool { return s.Writers() > i })
	}
	ask := func(from, target string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, target, http.NoBody).WithContext(t.Context())
		r.Host, r.RemoteAddr = "localhost", net.JoinHostPort(from, "1234")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	for _, test := range []struct {
		from, target string
		want         int
	}{
		{"127.0.0.1", "/api/v1/who?address=10.0.0.1", http.StatusOK},
		{"127.0.0.1", long, http.StatusServiceUnavailable},
		{"127.0.0.2", long, http.StatusOK},
		{"::1", long, http.StatusOK},
	} {
		begun := time.Now()
		if w := ask(test.from, test.target); w.Code != test.want {
			t.Errorf("%s asks %s after %v: %d %s", test.from, test.target, time.Since(begun), w.Code, strings.TrimSpace(w.Body.String()[:min(w.Body.Len(), 300)]))
		}
	}
}
