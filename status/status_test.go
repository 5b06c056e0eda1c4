// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/status"
)

func metrics(pools ...actor.Stats) *status.Metrics {
	return status.NewMetrics("1.2.3", func() []actor.Stats { return pools }, func() int64 { return 40 })
}

func TestMetrics(t *testing.T) {
	m := metrics(
		actor.Stats{
			ID: events.ID{15: 1}, Held: 3, Revision: 41, Latest: 44,
			Pool: events.Pool{Space: events.Local, Name: "web", Subnet: netip.MustParsePrefix("10.50.0.0/24")},
		},
		actor.Stats{ID: events.ID{15: 2}, Pool: events.Pool{Space: events.Local, Subnet: netip.MustParsePrefix("fd00::/48")}},
	)
	m.Requested("RequestAddress", "ok", 2*time.Millisecond)
	m.Requested("RequestAddress", "exhausted", time.Millisecond)
	m.Committed(3, time.Millisecond)
	m.Conflicted()
	m.Asked("/api/v1/who", http.StatusNotFound)

	if problems, err := testutil.GatherAndLint(m.Registry); err != nil || len(problems) > 0 {
		t.Errorf("the metrics' names: %v %v", problems, err)
	}
	want := `
# HELP ipamlog_api_requests_total Questions to the API, by what was asked and by the status of the answer.
# TYPE ipamlog_api_requests_total counter
ipamlog_api_requests_total{route="/api/v1/who",status="404"} 1
# HELP ipamlog_commit_conflicts_total Commits that lost a race against another host and were decided again.
# TYPE ipamlog_commit_conflicts_total counter
ipamlog_commit_conflicts_total 1
# HELP ipamlog_log_revision The store's revision, or the newest that this host has seen while the store does not answer.
# TYPE ipamlog_log_revision gauge
ipamlog_log_revision 44
# HELP ipamlog_pool_held_addresses Addresses of a pool that are held, by any host.
# TYPE ipamlog_pool_held_addresses gauge
ipamlog_pool_held_addresses{name="",pool="00000000000000000000000002",space="local",subnet="fd00::/48"} 0
ipamlog_pool_held_addresses{name="web",pool="00000000000000000000000001",space="local",subnet="10.50.0.0/24"} 3
# HELP ipamlog_pool_usable_addresses Addresses that a pool gives out on its own; approximate beyond 2^53.
# TYPE ipamlog_pool_usable_addresses gauge
ipamlog_pool_usable_addresses{name="",pool="00000000000000000000000002",space="local",subnet="fd00::/48"} 1.2089258196146292e+24
ipamlog_pool_usable_addresses{name="web",pool="00000000000000000000000001",space="local",subnet="10.50.0.0/24"} 254
# HELP ipamlog_pool_watch_lag_revisions How far this host's view of a pool is behind the store, in revisions.
# TYPE ipamlog_pool_watch_lag_revisions gauge
ipamlog_pool_watch_lag_revisions{name="",pool="00000000000000000000000002",space="local",subnet="fd00::/48"} 44
ipamlog_pool_watch_lag_revisions{name="web",pool="00000000000000000000000001",space="local",subnet="10.50.0.0/24"} 3
# HELP ipamlog_requests_total Requests of Docker, by call and by what became of them.
# TYPE ipamlog_requests_total counter
ipamlog_requests_total{call="RequestAddress",outcome="exhausted"} 1
ipamlog_requests_total{call="RequestAddress",outcome="ok"} 1
`
	err := testutil.GatherAndCompare(m.Registry, strings.NewReader(want),
		"ipamlog_api_requests_total", "ipamlog_commit_conflicts_total", "ipamlog_log_revision", "ipamlog_pool_held_addresses",
		"ipamlog_pool_usable_addresses", "ipamlog_pool_watch_lag_revisions", "ipamlog_requests_total")
	if err != nil {
		t.Error(err)
	}
}

func TestHandler(t *testing.T) {
	var notReady error
	server := httptest.NewServer(status.Handler(metrics(), func() error { return notReady }, http.NotFoundHandler()))
	defer server.Close()
	tests := []struct {
		name, method, path string
		notReady           error
		status             int
		says               string
	}{
		{"it lives", "GET", "/healthz", nil, http.StatusOK, "ok"},
		{"it lives though it is not ready", "GET", "/healthz", errors.New("no store"), http.StatusOK, "ok"},
		{"it is ready", "GET", "/readyz", nil, http.StatusOK, "ready"},
		{"it is ready, asked for the head alone", "HEAD", "/readyz", nil, http.StatusOK, ""},
		{"it is not ready", "GET", "/readyz", errors.New("no store"), http.StatusServiceUnavailable, "no store"},
		{"figures", "GET", "/metrics", nil, http.StatusOK, `ipamlog_build_info{version="1.2.3"} 1`},
		{"nothing is written here", "POST", "/metrics", nil, http.StatusMethodNotAllowed, ""},
		{"nothing else is here", "GET", "/", nil, http.StatusNotFound, "there is nothing at this path: ask /metrics, /healthz or /readyz, or what /api/v1/openapi.yaml describes\n"},
		{"nor there", "HEAD", "/metric", nil, http.StatusNotFound, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			notReady = test.notReady
			request, err := http.NewRequestWithContext(t.Context(), test.method, server.URL+test.path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != test.status || !strings.Contains(string(body), test.says) {
				t.Errorf("%d %s, want %d with %q", resp.StatusCode, body, test.status, test.says)
			}
		})
	}
}
