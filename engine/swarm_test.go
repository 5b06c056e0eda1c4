// SPDX-License-Identifier: Apache-2.0

package engine_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ipamlog/ipamlog/engine"
)

// A manager lists a network that is made of each node's own settings without these, as
// 20.10.24 was seen to, and inspects it with them.
func TestEngine_ofNodeSettings(t *testing.T) {
	const (
		listed = `{"Name":"lan","Id":"8rh","Scope":"swarm","Driver":"macvlan","IPAM":{"Driver":"","Options":null,"Config":[]},"ConfigFrom":{"Network":"lan-of-node"}}`
		gone   = `{"Name":"old","Id":"9zz","Scope":"swarm","Driver":"macvlan","IPAM":{"Driver":"","Options":null,"Config":[]},"ConfigFrom":{"Network":"lan-of-node"}}`
		whole  = `{"Name":"lan","Id":"8rh","Scope":"swarm","Driver":"macvlan","IPAM":{"Driver":"ipamlog/ipamlog:latest","Options":{"pool":"lan"},
			"Config":[{"Subnet":"10.70.0.0/24","Gateway":"10.70.0.254"}]},"ConfigFrom":{"Network":"lan-of-node"},
			"Containers":{"51e":{"Name":"lan.2","EndpointID":"32d","MacAddress":"02:42:06:e7:f0:13","IPv4Address":"10.70.0.1/24","IPv6Address":""}}}`
		settings = `{"Name":"lan-of-node","Id":"93e","Scope":"local","Driver":"null","IPAM":{"Driver":"ipamlog/ipamlog:latest","Options":{"pool":"lan"},
			"Config":[{"Subnet":"10.70.0.0/24","Gateway":"10.70.0.254"}]},"ConfigFrom":{"Network":""},"ConfigOnly":true}`
	)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, what, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		switch what {
		case "_ping", "": // in no version yet
			w.Header().Set("Api-Version", "1.41")
		case "networks":
			fmt.Fprintf(w, "[%s,%s,%s]", listed, gone, settings)
		case "networks/8rh":
			fmt.Fprint(w, whole)
		case "info":
			fmt.Fprint(w, `{"Swarm":{"NodeID":"","LocalNodeState":"inactive"}}`)
		default:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"message":"network not found"}`)
		}
	}))
	defer server.Close()
	e := open(t, server.URL)
	got, err := e.Networks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ipam := engine.IPAM{Driver: "ipamlog/ipamlog:latest", Options: map[string]string{"pool": "lan"}, Pools: []engine.Pool{{
		Subnet: netip.MustParsePrefix("10.70.0.0/24"), Gateway: netip.MustParseAddr("10.70.0.254"),
	}}}
	want := []engine.Network{
		{ID: "8rh", Name: "lan", Driver: "macvlan", IPAM: ipam},
		{ID: "93e", Name: "lan-of-node", Driver: "null", IPAM: ipam, ConfigOnly: true},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("the networks (-want +got):\n%s", diff)
	}
	if state, err := e.Swarm(t.Context()); state != "inactive" || err != nil {
		t.Errorf("in a swarm: %q, %v", state, err)
	}
}
