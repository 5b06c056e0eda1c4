// SPDX-License-Identifier: Apache-2.0

package legacy_test

import (
	"strings"
	"testing"

	"github.com/ipamlog/ipamlog/legacy"
)

// Small dumps, and what has to be in what is read out of them.
func TestReadings(t *testing.T) {
	const (
		net24  = `/talkingdata/containers/10.0.0.0/config` + "\n" + `{"Ipnet":"10.0.0.0","Mask":"24"}` + "\n"
		free2  = "/talkingdata/containers/10.0.0.0/pool/10.0.0.2\n\n"
		hosts  = `/talkingdata/hosts/config` + "\n" + `{"Subnet":"10.0.0.0/24","Gateway":"10.0.0.1"}` + "\n"
		inEach = `{"Name":"a","Driver":"bridge","Scope":"local","IPAM":{"Config":[{"Subnet":"10.0.0.0/24"`
	)
	for name, test := range map[string]struct {
		dump string
		says []string
		not  string
	}{
		"lines of another system": {
			dump: "\xef\xbb\xbf" + strings.ReplaceAll(net24+free2, "\n", "\r\n"),
			says: []string{"pool local \"\" 10.0.0.0/24\n  range 10.0.0.2-10.0.0.2\n"},
		},
		"lines between": {
			dump: "warning: deprecated\n" + net24 + free2,
			says: []string{"1 lines are neither", "-w json"},
		},
		"keys without the first slash": {
			dump: strings.ReplaceAll(net24+free2, "/talkingdata", "talkingdata"),
			says: []string{"range 10.0.0.2-10.0.0.2"},
		},
		"numbers, not letters, order addresses": {
			dump: net24 + free2 + "/talkingdata/containers/10.0.0.0/pool/10.0.0.10\n\n/talkingdata/containers/10.0.0.0/pool/10.0.0.9\n\n",
			says: []string{"range 10.0.0.2-10.0.0.2\n  range 10.0.0.9-10.0.0.10\n"},
		},
		"hosts and no containers": {
			dump: hosts + "/talkingdata/hosts/assigned/10.0.0.4\n\n",
			says: []string{"router 10.0.0.1", "host 10.0.0.4", "no range is left for containers"},
		},
		"a router that a container holds": {
			dump: hosts + net24 + free2 + "/talkingdata/containers/10.0.0.0/assigned/10.0.0.1\n\n",
			says: []string{"router 10.0.0.1", "endpoint 10.0.0.1", "stop that container"},
		},
		"a router that containers could get": {
			dump: hosts + net24 + free2 + "/talkingdata/containers/10.0.0.0/pool/10.0.0.1\n\n",
			says: []string{"range 10.0.0.2-10.0.0.2\n", "the router's address, left out"},
		},
		"a gateway that is none": {
			dump: strings.Replace(hosts, `"10.0.0.1"`, `""`, 1) + net24 + free2,
			says: []string{"no router is imported"},
			not:  "router 1",
		},
		"a broadcast address that is held": {
			dump: net24 + free2 + "/talkingdata/containers/10.0.0.0/assigned/10.0.0.255\n\n",
			says: []string{"endpoint 10.0.0.255", "the network's own address, but held: 10.0.0.255"},
			not:  "range 10.0.0.255",
		},
		"a subnet of two has no broadcast": {
			dump: strings.Replace(net24, `"24"`, `"31"`, 1) + "/talkingdata/containers/10.0.0.0/pool/10.0.0.1\n\n",
			says: []string{"range 10.0.0.1-10.0.0.1"},
		},
		"a network that does not start where its key says": {
			dump: strings.ReplaceAll(net24, "10.0.0.0", "10.0.0.8") + free2 + net24,
			says: []string{"/talkingdata/containers/10.0.0.8: taken as 10.0.0.0/24", "range 10.0.0.2-10.0.0.2"},
		},
		"subnets in each other": {
			dump: net24 + free2 + "/talkingdata/containers/10.0.0.128/config\n{\"Mask\":\"25\"}\n",
			says: []string{"10.0.0.0/24 and 10.0.0.128/25 overlap"},
		},
		"july's hosts where they once were": {
			dump: hosts + "/talkingdata/hosts/pool/10.0.0.3\n\n" + strings.ReplaceAll(net24+free2, "talkingdata", "jdjr"),
			says: []string{"source july", "hosts 10.0.0.3-10.0.0.3"},
		},
		"july's routers that differ": {
			dump: "/jdjr/hosts/config/10.0.0.3\n{\"Subnet\":\"10.0.0.0/24\",\"Gateway\":\"10.0.0.1\"}\n" +
				"/jdjr/hosts/config/10.0.0.4\n{\"Subnet\":\"10.0.0.0/24\",\"Gateway\":\"10.0.0.2\"}\n",
			says: []string{"several routers, of which none is imported", "10.0.0.1-10.0.0.2"},
			not:  "router 1",
		},
		"july's hosts agree on what is wrong": {
			dump: "/jdjr/hosts/config/10.0.0.3\n{\"Subnet\":\"10.0.0.0/24\",\"Gateway\":\"10.0.9.1\"}\n" +
				"/jdjr/hosts/config/10.0.0.4\n{\"Subnet\":\"10.0.0.0/24\",\"Gateway\":\"10.0.9.1\"}\n",
			says: []string{"/jdjr/hosts/config/10.0.0.3: the router 10.0.9.1 is not in 10.0.0.0/24"},
			not:  "/jdjr/hosts/config/10.0.0.4",
		},
		"a state swan does not know is held": {
			dump: "swan/network/10.0.0.0/config\n{\"mask\":24}\nswan/network/10.0.0.0/pool/10.0.0.7\n?\n",
			says: []string{"source swan", "endpoint 10.0.0.7"},
		},
		"skylark's host in an old and a new place": {
			dump: "/skylark/networks/10.0.0.0/config\n{\"Mask\":\"24\"}\n/skylark/networks/10.0.0.0/assigned/10.0.0.7\n\n" +
				"/skylark/networks/10.0.0.0/assigned/h1/10.0.0.7\n\n",
			says: []string{"endpoint 10.0.0.7 host=h1\n"},
			not:  "warning",
		},
		"more keys than a sentence takes": {
			dump: net24 + free2 + func() string {
				var b strings.Builder
				for _, letter := range "abcdefgh" {
					b.WriteString("/talkingdata/containers/10.0.0.0/pool/" + string(letter) + "\n\n")
				}
				return b.String()
			}(),
			says: []string{"pool/f and 2 more"},
		},
		"one network by itself": {
			dump: inEach + `,"Gateway":"10.0.0.1/24"}]}}`,
			says: []string{"gateway 10.0.0.1 (network a)"},
			not:  "router",
		},
		"networks of one subnet": {
			dump: `[` + inEach + `,"IPRange":"10.0.0.0/28","Gateway":"10.0.0.1"}]},"Containers":{"1":{"Name":"x","IPv4Address":"10.0.0.2/24"}}},` +
				inEach + `,"IPRange":"10.0.0.64/28","Gateway":"10.0.0.2"}]},"Containers":{"2":{"Name":"y","IPv4Address":"10.0.0.2/24"}}}]`,
			says: []string{
				"range 10.0.0.1-10.0.0.15\n  range 10.0.0.64-10.0.0.79\n", "endpoint 10.0.0.2 endpoint=x",
				"10.0.0.2 is held by x and by the gateway of network a", "10.0.0.2 is held by x and by y",
			},
		},
		"a network that uses all of the subnet": {
			dump: `[` + inEach + `,"IPRange":"10.0.0.0/28"}]}},` + inEach + `}]}}]`,
			says: []string{"10.0.0.0/24"},
			not:  "range",
		},
		"a range outside": {
			dump: inEach + `,"IPRange":"10.1.0.0/28"}]}}`,
			says: []string{`its range "10.1.0.0/28" is not in 10.0.0.0/24`},
		},
		"two real routers": {
			dump: strings.ReplaceAll(`[`+inEach+`,"Gateway":"10.0.0.1"}]}},`+inEach+`,"Gateway":"10.0.0.2"}]}}]`, "bridge", "macvlan"),
			says: []string{"router 10.0.0.1\n", "has the router 10.0.0.2"},
		},
		"an address that is none": {
			dump: inEach + `,"Gateway":"fe80::1%eth0"}]},"Containers":{"1":{"Name":"x","IPv4Address":"?","MacAddress":"?"}}}`,
			says: []string{"the gateway address is passed over", "zone", `"?" is no address`},
		},
		"kvipamdriver's range that is none": {
			dump: consul(t, "config/Local", `{"Subnets":{"Local/10.0.0.0/24":{"RefCount":1},"Local/10.0.0.0/24/10.1.0.0/25":{"RefCount":1}}}`,
				"data/Local/10.0.0.0/24", bitmap(t, 256, 0, 8)),
			says: []string{"the range 10.1.0.0/25 is not in the subnet"},
		},
		"kvipamdriver's space of old": {
			dump: consul(t, "config/GlobalDefault", `{"Subnets":{"GlobalDefault/10.0.0.0/30":{"RefCount":1}}}`,
				"data/GlobalDefault/10.0.0.0/30", bitmap(t, 4, 0xffffffff, 1)), // the bits past the end are nobody's
			says: []string{"pool global \"\" 10.0.0.0/30\n  endpoint 10.0.0.1 ", "endpoint 10.0.0.2 "},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dump, err := legacy.Read(strings.NewReader(test.dump))
			if err != nil {
				t.Fatal(err)
			}
			check(t, dump)
			got := told(dump)
			for _, part := range test.says {
				if !strings.Contains(got, part) {
					t.Errorf("there is no %q in\n%s", part, got)
				}
			}
			if test.not != "" && strings.Contains(got, test.not) {
				t.Errorf("there is a %q in\n%s", test.not, got)
			}
		})
	}
}
