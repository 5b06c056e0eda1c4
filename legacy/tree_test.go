// SPDX-License-Identifier: Apache-2.0

package legacy_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/legacy"
)

// However the keys of a site contradict each other: what is assigned is held, what
// a host has is in no range of containers', and the three formats read the same.
func TestContradictions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		address := rapid.Custom(func(t *rapid.T) string {
			// Half of them outside the subnet of 10.0.0.0/26, and few enough to meet.
			return fmt.Sprintf("10.0.0.%d", rapid.IntRange(0, 127).Draw(t, "address"))
		})
		keys := map[string]string{
			"/talkingdata/containers/10.0.0.0/config": `{"Ipnet":"10.0.0.0","Mask":"26"}`,
			"/talkingdata/hosts/config":               fmt.Sprintf(`{"Subnet":"10.0.0.0/26","Gateway":%q}`, address.Draw(t, "router")),
		}
		held, hosts := map[string]bool{}, map[string]bool{}
		for _, place := range []string{"containers/10.0.0.0/pool/", "containers/10.0.0.0/assigned/", "hosts/pool/", "hosts/assigned/"} {
			for _, a := range rapid.SliceOf(address).Draw(t, place) {
				keys["/talkingdata/"+place+a] = ""
				inside := netip.MustParsePrefix("10.0.0.0/26").Contains(netip.MustParseAddr(a))
				held[a] = held[a] || inside && strings.Contains(place, "assigned")
				hosts[a] = hosts[a] || inside && strings.HasPrefix(place, "hosts")
			}
		}

		dump, err := legacy.Read(strings.NewReader(asAPI2(t, keys)))
		if err != nil {
			t.Fatal(err)
		}
		check(t, dump)
		if len(dump.Pools) != 1 {
			t.Fatalf("%d pools", len(dump.Pools))
		}
		pool := dump.Pools[0]
		var containers netipx.IPSetBuilder
		for _, r := range pool.Ranges {
			containers.AddRange(r)
		}
		ranges, err := containers.IPSet()
		if err != nil {
			t.Fatal(err)
		}
		for a := range keysOf(held) {
			i := slices.IndexFunc(pool.Held, func(h legacy.Holding) bool { return h.Address.String() == a })
			if i < 0 {
				t.Errorf("%s is assigned but not held", a)
			} else if _, host := keys["/talkingdata/hosts/assigned/"+a]; host != (pool.Held[i].Kind == legacy.Host) {
				t.Errorf("%s is held by a %s", a, pool.Held[i].Kind)
			}
		}
		if len(keysOf(held)) != len(pool.Held) {
			t.Errorf("%d are held, not %d", len(pool.Held), len(keysOf(held)))
		}
		for a := range keysOf(hosts) {
			_, container := keys["/talkingdata/containers/10.0.0.0/assigned/"+a]
			_, host := keys["/talkingdata/hosts/assigned/"+a]
			if ranges.Contains(netip.MustParseAddr(a)) && (host || !container) {
				t.Errorf("%s is the hosts' but given to containers", a)
			}
		}

		for format, text := range map[string]string{"API 3": asAPI3(t, keys), "lines": asLines(keys)} {
			other, err := legacy.Read(strings.NewReader(text))
			if err != nil {
				t.Fatalf("%s: %v", format, err)
			}
			if diff := cmp.Diff(told(dump), told(other)); diff != "" {
				t.Fatalf("%s reads otherwise: -API 2 +%s\n%s", format, format, diff)
			}
		}
	})
}

// keysOf are the keys that are true.
func keysOf(set map[string]bool) map[string]bool {
	set = maps.Clone(set)
	maps.DeleteFunc(set, func(_ string, in bool) bool { return !in })
	return set
}

func asAPI2(t failer, keys map[string]string) string {
	t.Helper()
	type node struct {
		Key   string  `json:"key"`
		Value *string `json:"value,omitempty"`
		Dir   bool    `json:"dir,omitempty"`
		Nodes []node  `json:"nodes,omitempty"`
	}
	root := node{Key: "/talkingdata", Dir: true}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		root.Nodes = append(root.Nodes, node{Key: key, Value: new(keys[key])})
	}
	text, err := json.Marshal(map[string]any{"action": "get", "node": root})
	if err != nil {
		t.Errorf("%v", err)
	}
	return string(text)
}

func asAPI3(t failer, keys map[string]string) string {
	t.Helper()
	var kvs []map[string]any
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		kvs = append(kvs, map[string]any{"key": []byte(key), "value": []byte(keys[key])})
	}
	text, err := json.Marshal(map[string]any{"header": map[string]any{"revision": 5}, "kvs": kvs, "count": len(kvs)})
	if err != nil {
		t.Errorf("%v", err)
	}
	return string(text)
}

func asLines(keys map[string]string) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		b.WriteString(key + "\n" + keys[key] + "\n")
	}
	return b.String()
}
