// SPDX-License-Identifier: Apache-2.0

package attribution_test

import (
	"testing"

	"github.com/ipamlog/ipamlog/attribution"
	"github.com/ipamlog/ipamlog/engine"
)

func TestDriver_Ours(t *testing.T) {
	for _, c := range []struct {
		driver  attribution.Driver
		network engine.Network
		want    bool
	}{
		{"ipamlog", engine.Network{IPAM: engine.IPAM{Driver: "ipamlog"}}, true},
		{"ipamlog", engine.Network{IPAM: engine.IPAM{Driver: "other"}}, false},
		{"", engine.Network{IPAM: engine.IPAM{Driver: "ipamlog/ipamlog:latest"}}, true},
		{"", engine.Network{IPAM: engine.IPAM{Driver: "default"}}, false},
		{"", engine.Network{}, false},
		// The settings of other networks have what those have, and nothing is asked for them.
		{"", engine.Network{IPAM: engine.IPAM{Driver: "ipamlog/ipamlog:latest"}, ConfigOnly: true}, false},
		{"ipamlog", engine.Network{IPAM: engine.IPAM{Driver: "ipamlog"}, ConfigOnly: true}, false},
	} {
		if got := c.driver.Ours(c.network); got != c.want {
			t.Errorf("driver %q, network %+v: %t", c.driver, c.network, got)
		}
	}
}
