// SPDX-License-Identifier: Apache-2.0

package legacy_test

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/ipamlog/ipamlog/legacy"
)

// What cannot be read safely is refused with a sentence that says where, and what
// to do.
func TestRefusals(t *testing.T) {
	const site = `{"key":"/talkingdata/containers/10.0.0.0","dir":true,"nodes":[` +
		`{"key":"/talkingdata/containers/10.0.0.0/assigned/10.0.0.9","value":""}`
	for name, test := range map[string]struct {
		dump string
		says []string
	}{
		"nothing":              {" \n", []string{"empty", "run it again"}},
		"empty list":           {"[]", []string{"empty list"}},
		"not a dump":           {"Error: connection refused\n", []string{"neither JSON nor", "docs/migrating.md"}},
		"other JSON":           {`{"a":1}`, []string{"not known", "docs/migrating.md"}},
		"other list":           {`[1]`, []string{"not whole JSON"}},
		"list of all sorts":    {`[{"key":"a"},{"IPAM":{}}]`, []string{"not known"}},
		"cut off":              {`{"action":"get","node":{"key":"/talk`, []string{"not whole JSON", "dump it again"}},
		"cut off list":         {`[{"key":"a","value"`, []string{"not whole JSON"}},
		"etcd's error":         {`{"errorCode":100,"message":"Key not found","cause":"/talkingdata","index":5}`, []string{"Key not found", "/talkingdata", "etcdctl ls"}},
		"a part of the keys":   {`{"header":{},"kvs":[],"more":true,"count":9}`, []string{"--limit"}},
		"nothing under prefix": {`{"header":{"revision":7}}`, []string{"no key of oam-docker-ipam", "/skylark"}},
		"foreign keys":         {`{"node":{"key":"/coreos.com","value":"x"}}`, []string{"no key of oam-docker-ipam"}},
		"foreign Consul keys":  {`[{"Key":"docker/network/v1.0/ipam/default/config/","Value":null}]`, []string{"ipam/mysuperawesomeipam", "docker/network"}},
		"no addresses":         {`{"node":{"key":"/talkingdata","dir":true,"nodes":[]}}`, []string{"no key"}},
		"empty directories":    {`{"node":{"key":"/talkingdata/containers","dir":true,"nodes":[{"key":"/talkingdata/containers/10.0.0.0/config"}]}}`, []string{"no address in it"}},
		"no mask":              {site + "]}", []string{"/talkingdata/containers/10.0.0.0/config", "recursive=true", "first set it"}},
		"mask without value":   {site + `,{"key":"/talkingdata/containers/10.0.0.0/config"}]}`, []string{"mask of 10.0.0.0", "curl"}},
		"mask of 33":           {site + `,{"key":"/talkingdata/containers/10.0.0.0/config","value":"{\"Mask\":\"33\"}"}]}`, []string{`"33"`, "correct it"}},
		"mask of words":        {site + `,{"key":"/talkingdata/containers/10.0.0.0/config","value":"{\"Mask\":\"wide\"}"}]}`, []string{"has no mask", "correct it"}},
		"mask that is no JSON": {site + `,{"key":"/talkingdata/containers/10.0.0.0/config","value":"24"}]}`, []string{"has no mask"}},
		"names of keys alone": {
			"/talkingdata/containers/10.0.0.0/config\n\n/talkingdata/containers/10.0.0.0/pool/10.0.0.2\n\n",
			[]string{"mask of 10.0.0.0", "curl -s 'http://ETCD:2379/v2/keys/talkingdata?recursive=true'"},
		},
		"hosts without a configuration's value": {
			"/talkingdata/hosts/config\n/talkingdata/hosts/pool/10.0.0.2\n",
			[]string{"/talkingdata/hosts/config", "dump values too"},
		},
		"hosts' subnet": {
			`{"key":"/jdjr/hosts/config/10.0.0.9","value":"{\"Subnet\":\"10.0.0.0\"}"}`,
			[]string{"correct Subnet", "/jdjr/hosts/config/10.0.0.9"},
		},
		"hosts' configuration": {
			`{"key":"/talkingdata/hosts/config","value":"x"}`,
			[]string{"/talkingdata/hosts/config", "dump again"},
		},
		"swan without values": {
			"/swan/network/10.0.0.0/pool/10.0.0.7\n",
			[]string{"whether 10.0.0.7 is held", "/v2/keys/swan/network"},
		},
		"two programs": {
			`{"key":"/","nodes":[{"key":"/talkingdata/containers/10.0.0.0/pool/10.0.0.2"},{"key":"/skylark/networks/10.0.0.0/pool/10.0.0.2"}]}`,
			[]string{"oam-docker-ipam and skylark", "one at a time"},
		},
		"subnets without bitmaps": {
			consul(t, "config/Local", `{"Subnets":{"Local/10.0.0.0/24":{"RefCount":1}}}`),
			[]string{"docker/network"},
		},
		"a space that is no JSON": {
			consul(t, "config/Local", `x`),
			[]string{"config/Local", "dump it again"},
		},
		"a subnet that is none": {
			consul(t, "config/Local", `{"Subnets":{"Local/10.0.0.0":{}}}`),
			[]string{`"Local/10.0.0.0"`, "correct it"},
		},
		"a subnet that is too large": {
			consul(t, "config/Local", `{"Subnets":{"Local/fd00::/48":{}}}`, "data/Local/fd00::/48", bitmap(t, 0)),
			[]string{"fd00::/48", "larger"},
		},
		"a bitmap of another size": {
			consul(t, "config/Local", `{"Subnets":{"Local/10.0.0.0/24":{}}}`, "data/Local/10.0.0.0/24", bitmap(t, 512, 0, 16)),
			[]string{"512", "10.0.0.0/24", "256"},
		},
		"a bitmap that is short": {
			consul(t, "config/Local", `{"Subnets":{"Local/10.0.0.0/24":{}}}`, "data/Local/10.0.0.0/24", bitmap(t, 256, 0, 7)),
			[]string{"shorter", "data/Local/10.0.0.0/24", "backup"},
		},
		"a bitmap that is long": {
			consul(t, "config/Local", `{"Subnets":{"Local/10.0.0.0/24":{}}}`, "data/Local/10.0.0.0/24", bitmap(t, 256, 0, 9)),
			[]string{"longer"},
		},
		"a bitmap beyond all numbers": {
			consul(t, "config/Local", `{"Subnets":{"Local/10.0.0.0/24":{}}}`, "data/Local/10.0.0.0/24", bitmap(t, 256, 0, 1<<60)),
			[]string{"longer"},
		},
		"a bitmap that is cut off": {
			consul(t, "config/Local", `{"Subnets":{"Local/10.0.0.0/24":{}}}`, "data/Local/10.0.0.0/24", `{"sequence":"AAAA"}`),
			[]string{"no whole bitmap"},
		},
		"a whole /8 held": {
			consul(t, "config/Local", `{"Subnets":{"Local/10.0.0.0/8":{}}}`, "data/Local/10.0.0.0/8", bitmap(t, 1<<24, 0xffffffff, 1<<19)),
			[]string{"10.0.0.0/8", "16777216", "1048576"},
		},
		"a whole /64 held": {
			consul(t, "config/Local", `{"Subnets":{"Local/fd00::/64":{}}}`, "data/Local/fd00::/64", bitmap(t, 1<<64-1, 0xffffffff, 1<<59)),
			[]string{"fd00::/64", "1048576"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dump, err := legacy.Read(strings.NewReader(test.dump))
			if err == nil {
				t.Fatalf("read as\n%s", told(dump))
			}
			for _, part := range test.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}

// A list of names, as the documentation of old sites tells to make, has no masks.
func TestListOfNamesAsksForValues(t *testing.T) {
	dump, err := readFile(t, "oam-ls.txt")
	if err == nil {
		t.Fatalf("read as\n%s", told(dump))
	}
	if !strings.Contains(err.Error(), "curl -s 'http://ETCD:2379/v2/keys/talkingdata?recursive=true'") {
		t.Errorf("%q does not name the command", err)
	}
}

func TestTooLarge(t *testing.T) {
	_, err := legacy.Read(io.LimitReader(zeros{}, 64<<20+1))
	if err == nil || !strings.Contains(err.Error(), "64 MiB") {
		t.Errorf("got %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// consul writes keys of kvipamdriver as the HTTP API does.
func consul(t failer, pairs ...string) string {
	t.Helper()
	var list []map[string]any
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, map[string]any{
			"Key":   "docker/network/v1.0/ipam/mysuperawesomeipam/" + pairs[i] + "/",
			"Value": []byte(pairs[i+1]),
		})
	}
	text, err := json.Marshal(list)
	if err != nil {
		t.Errorf("%v", err)
	}
	return string(text)
}

// bitmap writes a bitmap of pairs of a block and how often it repeats.
func bitmap(t failer, size uint64, runs ...uint64) string {
	t.Helper()
	data := binary.BigEndian.AppendUint64(nil, size)
	data = binary.BigEndian.AppendUint64(data, 0)
	for i := 0; i < len(runs); i += 2 {
		data = binary.BigEndian.AppendUint32(data, uint32(runs[i]))
		data = binary.BigEndian.AppendUint64(data, runs[i+1])
	}
	return `{"id":"x","sequence":"` + base64.StdEncoding.EncodeToString(data) + `"}`
}
