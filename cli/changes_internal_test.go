// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

// The engine is asked of all its networks, also while they go.
func TestDockerKnows(t *testing.T) {
	const web = `{"Name":"web","Id":"1","IPAM":{"Config":[{"Subnet":"10.0.0.0/24","Gateway":"10.0.0.1"}]},
		"Containers":{"c1":{"Name":"shop","EndpointID":"7","IPv4Address":"10.0.0.2/24"}}}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/_ping"):
			w.Header().Set("Api-Version", "1.41")
		case strings.HasSuffix(r.URL.Path, "/networks"):
			fmt.Fprint(w, `[{"Name":"gone","Id":"0"},`+web+`]`)
		case strings.HasSuffix(r.URL.Path, "/networks/1"):
			fmt.Fprint(w, web)
		default:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"message":"no such network"}`)
		}
	}))
	defer server.Close()
	for addr, want := range map[string]string{
		"10.0.0.1": "Docker network web, as its gateway",
		"10.0.0.2": "container shop on network web",
		"10.0.0.3": "",
	} {
		if use, err := docker(server.URL).Knows(t.Context(), netip.MustParseAddr(addr)); err != nil || use != want {
			t.Errorf("%s: %q, %v", addr, use, err)
		}
	}
	server.Close()
	if use, err := docker(server.URL).Knows(t.Context(), netip.MustParseAddr("10.0.0.1")); err == nil {
		t.Errorf("nobody was asked, who answered %q", use)
	}
}
