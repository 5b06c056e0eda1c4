// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/plugin"
)

func ranges(list ...string) []netipx.IPRange {
	var parsed []netipx.IPRange
	for _, text := range list {
		parsed = append(parsed, netipx.MustParseIPRange(text))
	}
	return parsed
}

func TestRequestPoolIsRead(t *testing.T) {
	type options = map[string]string
	subnet := netip.MustParsePrefix("10.1.0.0/24")
	for name, tt := range map[string]struct {
		space, pool, sub string
		v6               bool
		options          options
		want             actor.PoolRequest
		refused          string // what the refusal says; the sentinel is by option or not
	}{
		"nothing":                  {want: actor.PoolRequest{}},
		"null options":             {options: nil, want: actor.PoolRequest{}},
		"IPv6":                     {v6: true, want: actor.PoolRequest{V6: true}},
		"a subnet":                 {pool: "10.1.0.0/24", want: actor.PoolRequest{Subnet: subnet}},
		"the subnet says family":   {pool: "fd00::/64", want: actor.PoolRequest{Subnet: netip.MustParsePrefix("fd00::/64"), V6: true}},
		"a range":                  {pool: "10.1.0.0/24", sub: "10.1.0.64/26", want: actor.PoolRequest{Subnet: subnet, Range: netip.MustParsePrefix("10.1.0.64/26")}},
		"a range with host bits":   {pool: "10.1.0.0/24", sub: "10.1.0.70/26", want: actor.PoolRequest{Subnet: subnet, Range: netip.MustParsePrefix("10.1.0.64/26")}},
		"any of a length":          {pool: "0.0.0.0/26", want: actor.PoolRequest{Bits: 26}},
		"any of a length, IPv6":    {pool: "::/64", want: actor.PoolRequest{Bits: 64, V6: true}},
		"the swarm's":              {space: plugin.GlobalSpace, want: actor.PoolRequest{Space: events.Global}},
		"pool":                     {options: options{"pool": "web-1.A_b"}, want: actor.PoolRequest{Name: "web-1.A_b"}},
		"gateway":                  {options: options{"gateway": "auto"}, want: actor.PoolRequest{Wish: actor.Wish{Gateway: new(events.GatewayAuto)}}},
		"pick serial":              {options: options{"pick": "serial"}, want: actor.PoolRequest{Wish: actor.Wish{Pick: new(events.PickSerial)}}},
		"pick lowest":              {options: options{"pick": "lowest"}, want: actor.PoolRequest{Wish: actor.Wish{Pick: new(events.PickLowest)}}},
		"pick random":              {options: options{"pick": "random"}, want: actor.PoolRequest{Wish: actor.Wish{Pick: new(events.PickRandom)}}},
		"quarantine":               {options: options{"quarantine": "90s"}, want: actor.PoolRequest{Wish: actor.Wish{Quarantine: new(events.Seconds(90))}}},
		"quarantine in minutes":    {options: options{"quarantine": "5m"}, want: actor.PoolRequest{Wish: actor.Wish{Quarantine: new(events.Seconds(300))}}},
		"no quarantine":            {options: options{"quarantine": "0"}, want: actor.PoolRequest{Wish: actor.Wish{Quarantine: new(events.Seconds(0))}}},
		"a day of it":              {options: options{"quarantine": "24h"}, want: actor.PoolRequest{Wish: actor.Wish{Quarantine: new(events.Seconds(86400))}}},
		"prefix":                   {options: options{"prefix": "26"}, want: actor.PoolRequest{Bits: 26}},
		"prefix, IPv6":             {v6: true, options: options{"prefix": "80"}, want: actor.PoolRequest{V6: true, Bits: 80}},
		"prefix, IPv4's":           {v6: true, pool: "fd00::/64", options: options{"prefix": "26"}, want: actor.PoolRequest{Subnet: netip.MustParsePrefix("fd00::/64"), V6: true}},
		"prefix, as the subnet's":  {pool: "10.1.0.0/24", options: options{"prefix": "24"}, want: actor.PoolRequest{Subnet: subnet}},
		"Docker's own":             {options: options{"com.docker.network.ipam.serial": "true"}, want: actor.PoolRequest{}},
		"several":                  {options: options{"pool": "web", "pick": "lowest"}, want: actor.PoolRequest{Name: "web", Wish: actor.Wish{Pick: new(events.PickLowest)}}},
		"another space":            {space: "LocalDefault", refused: "is neither ipamlog-local nor ipamlog-global"},
		"no subnet at all":         {pool: "nonsense", refused: `"nonsense" is not a subnet such as 10.1.0.0/24`},
		"an address":               {pool: "10.1.0.0", refused: "is not a subnet"},
		"host bits":                {pool: "10.1.0.1/24", refused: "it should be 10.1.0.0/24"},
		"everything":               {pool: "0.0.0.0/0", refused: "is no subnet"},
		"loopback":                 {pool: "127.0.0.0/8", refused: "no container can have an address of 127.0.0.0/8"},
		"loopback, IPv6":           {pool: "::1/128", refused: "no container can have an address"},
		"multicast":                {pool: "224.0.0.0/8", refused: "no container can have an address"},
		"multicast, IPv6":          {pool: "ff02::/64", refused: "no container can have an address"},
		"IPv4 in IPv6":             {pool: "::ffff:10.1.0.0/120", refused: "is not a subnet"},
		"a range without a subnet": {sub: "10.1.0.0/26", refused: "needs a --subnet"},
		"a range beside a length":  {pool: "0.0.0.0/24", sub: "10.1.0.0/26", refused: "needs a --subnet"},
		"a range outside":          {pool: "10.1.0.0/24", sub: "10.2.0.0/26", refused: "is not a part of 10.1.0.0/24"},
		"a range too wide":         {pool: "10.1.0.0/24", sub: "10.1.0.0/16", refused: "is not a part of"},
		"a range that is none":     {pool: "10.1.0.0/24", sub: "x", refused: "is not a part of"},
		"an empty name":            {options: options{"pool": ""}, refused: "--ipam-opt pool=: "},
		"a name with a slash":      {options: options{"pool": "a/b"}, refused: "--ipam-opt pool=a/b: a pool's name has"},
		"a long name":              {options: options{"pool": strings.Repeat("x", 129)}, refused: "1 to 128"},
		"a gateway mode of all":    {options: options{"gateway": "shared"}, want: actor.PoolRequest{Wish: actor.Wish{Gateway: new(events.GatewayShared)}}},
		"another gateway mode":     {options: options{"gateway": "mine"}, refused: "--ipam-opt gateway=mine: use auto, shared, host or none"},
		"sticky":                   {options: options{"sticky": "mac"}, want: actor.PoolRequest{Wish: actor.Wish{Sticky: new(events.StickyMAC)}}},
		"sticky to nothing":        {options: options{"sticky": "host"}, refused: "--ipam-opt sticky=host: use name or mac"},
		"ranges, out of order":     {options: options{"range": "10.1.0.30-10.1.0.39,10.1.0.5，10.1.0.8/31 10.1.0.38-10.1.0.50"}, want: actor.PoolRequest{Wish: actor.Wish{Ranges: ranges("10.1.0.5-10.1.0.5", "10.1.0.8-10.1.0.9", "10.1.0.30-10.1.0.50")}}},
		"ranges of both families":  {v6: true, options: options{"exclude": "10.1.0.5,fd00::5-fd00::9"}, want: actor.PoolRequest{V6: true, Wish: actor.Wish{Exclude: ranges("fd00::5-fd00::9")}}},
		"a range reversed":         {options: options{"range": "10.1.0.9-10.1.0.5"}, refused: "--ipam-opt range=10.1.0.9-10.1.0.5: 10.1.0.9-10.1.0.5 ends before it begins"},
		"a range over families":    {options: options{"range": "10.1.0.9-fd00::5"}, refused: "different families"},
		"no range at all":          {options: options{"exclude": " , "}, refused: "name ranges such as"},
		"a range of words":         {options: options{"exclude": "router"}, refused: `"router" is no range`},
		"another pick":             {options: options{"pick": "Lowest"}, refused: "use serial, lowest or random"},
		"a negative rest":          {options: options{"quarantine": "-1s"}, refused: "use a time in whole seconds"},
		"half a second of rest":    {options: options{"quarantine": "500ms"}, refused: "use a time in whole seconds"},
		"a rest without a unit":    {options: options{"quarantine": "60"}, refused: "use a time in whole seconds"},
		"an endless rest":          {options: options{"quarantine": "25h"}, refused: "use a time in whole seconds"},
		"a prefix too long":        {options: options{"prefix": "31"}, refused: "use the length of a subnet"},
		"a prefix too short":       {options: options{"prefix": "7"}, refused: "use the length of a subnet"},
		"a prefix that is none":    {options: options{"prefix": "/24"}, refused: "use the length of a subnet"},
		"a prefix too long, IPv6":  {v6: true, options: options{"prefix": "127"}, refused: "use the length of a subnet"},
		"prefix, not the subnet's": {pool: "10.1.0.0/24", options: options{"prefix": "26"}, refused: "the subnet 10.1.0.0/24 has another length"},
		"an option that is none":   {options: options{"poool": "web"}, refused: "no such option, use pool, gateway, range, exclude, pick, quarantine, sticky or prefix"},
	} {
		t.Run(name, func(t *testing.T) {
			space := plugin.LocalSpace
			if tt.space != "" {
				space = tt.space
			}
			got, err := plugin.ReadPoolRequest(&ipam.RequestPoolRequest{AddressSpace: space, Pool: tt.pool, SubPool: tt.sub, V6: tt.v6, Options: tt.options})
			if tt.refused != "" {
				if !errors.IsAny(err, plugin.ErrRequest, plugin.ErrOption) || !strings.Contains(err.Error(), tt.refused) {
					t.Errorf("got %+v, %v", got, err)
				}
				return
			}
			if tt.want.Space == "" {
				tt.want.Space = events.Local
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.Prefix{}, netipx.IPRange{}), cmpopts.IgnoreUnexported(actor.PoolRequest{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
