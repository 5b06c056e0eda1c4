// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/ipamlog/ipamlog/operator"
	"github.com/ipamlog/ipamlog/render"
)

// What others wrote into the log, a name or a reason, does not reach a terminal as
// it is.
func TestReport_escapes(t *testing.T) {
	var stdout, stderr bytes.Buffer
	s := session{out: render.NewOutput(&stdout, render.FormatTable, true), stderr: &stderr}
	err := s.report(operator.Outcome{Said: []string{"it was c1\x1b[2J\nand more"}, Notes: []string{"\x1b]0;x\a"}}, nil)
	if err != nil || stdout.String() != `it was c1\x1b[2J\nand more`+"\n" || stderr.String() != `ipamlog: note: \x1b]0;x\a`+"\n" {
		t.Errorf("%v, %q, %q", err, stdout.String(), stderr.String())
	}
	stderr.Reset()
	if warn(&stderr, "key %s", "a\rb"); stderr.String() != `ipamlog: warning: key a\rb`+"\n" {
		t.Errorf("%q", stderr.String())
	}
	stderr.Reset()
	if s.note("key %s", "a\vb"); stderr.String() != `key a\vb`+"\n" {
		t.Errorf("%q", stderr.String())
	}
}

// The machine knows its own addresses, and no others.
func TestDeviceWith(t *testing.T) {
	for addr, want := range map[string]string{"127.0.0.1": "lo", "192.0.2.1": "", "2001:db8::1": ""} {
		if name, err := deviceWith(netip.MustParseAddr(addr)); err != nil || name != want {
			t.Errorf("%s: %q, %v", addr, name, err)
		}
	}
}

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
