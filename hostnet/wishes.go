// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/engine"
)

// Persist says how a machine is told to come up with the bridge again.
type Persist string

// The ways there are.
const (
	// PersistAuto is whatever configures the uplink now.
	PersistAuto Persist = ""
	// PersistIfcfg writes the network scripts' files in /etc/sysconfig.
	PersistIfcfg Persist = "ifcfg"
	// PersistNetworkd writes files for systemd-networkd.
	PersistNetworkd Persist = "networkd"
	// PersistNone writes nothing.
	PersistNone Persist = "none"
)

// Wishes are what a machine's network is to become.
type Wishes struct {
	// Address is the host's own, with the length of the subnet's prefix. IPv4.
	Address netip.Prefix
	// Router is the containers' default gateway; zero: it is the host itself.
	Router netip.Addr
	// Pool is the pool's name; empty: it has none.
	Pool string
	// Network is the Docker network's name.
	Network string
	// Bridge is the name of the device that is made, or taken if it exists.
	Bridge string
	// Uplink is the name of the device towards the shared layer 2; empty: that
	// of the default route.
	Uplink string
	// MTU is that of the containers, in bytes; 0: the uplink's.
	MTU int
	// Persist says what is written for the next boot.
	Persist Persist
	// Driver is what Docker calls the IPAM driver.
	Driver string
}

// Docker's names for what a bridge network can be told.
const (
	optionBridge     = "com.docker.network.bridge.name"
	optionICC        = "com.docker.network.bridge.enable_icc"
	optionMasquerade = "com.docker.network.bridge.enable_ip_masquerade"
	optionBinding    = "com.docker.network.bridge.host_binding_ipv4"
	optionMTU        = "com.docker.network.driver.mtu"

	// auxiliaryRouter is the auxiliary address that Docker's bridge driver makes
	// the containers' default gateway, in place of the bridge's own.
	auxiliaryRouter = "DefaultGatewayIPv4"
	optionPool      = "pool"
	// optionParent is the device that a macvlan or ipvlan network stands on.
	optionParent = "parent"
	bridgeDriver = "bridge"
)

// dockerNetwork is the network as Docker has to be asked for it. Frames between
// containers and other hosts only cross the bridge: no address is translated,
// and without enable_icc Docker's firewall would take them for containers that
// may not talk to each other.
func (w Wishes) dockerNetwork() engine.Network {
	pool := engine.Pool{Subnet: w.Address.Masked(), Gateway: w.Address.Addr()}
	if w.Router.IsValid() {
		pool.Auxiliary = map[string]netip.Addr{auxiliaryRouter: w.Router}
	}
	n := engine.Network{
		Name: w.Network, Driver: bridgeDriver,
		Options: map[string]string{
			optionBridge:     w.Bridge,
			optionICC:        "true",
			optionMasquerade: "false",
			optionBinding:    "0.0.0.0",
			optionMTU:        strconv.Itoa(w.MTU),
		},
		IPAM: engine.IPAM{Driver: w.Driver, Pools: []engine.Pool{pool}},
	}
	if w.Pool != "" {
		n.IPAM.Options = map[string]string{optionPool: w.Pool}
	}
	return n
}

// Check finds, of what a user chooses, what no machine could do.
func (w Wishes) Check() error {
	switch {
	case !isDeviceName(w.Bridge):
		return errors.Newf("%q cannot be a device's name: choose a --bridge of 1 to 15 characters such as br0", w.Bridge)
	case !networkName.MatchString(w.Network):
		return errors.Newf("%q cannot be the name of a Docker network: choose a --name of letters, digits and any of _ . - that starts with a letter or digit", w.Network)
	case w.MTU != 0 && (w.MTU < 68 || w.MTU > 65535):
		return errors.Newf("an MTU of %d cannot be: choose a --mtu from 68 to 65535", w.MTU)
	}
	return nil
}

// networkName is what Docker takes for one.
var networkName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// check finds what no machine could do.
func (w Wishes) check() error {
	switch {
	case !w.Address.IsValid() || !w.Address.Addr().Is4():
		return errors.Newf("the host's address is %s, and create-network is for IPv4: set the addresses of hosts with host-range", w.Address)
	case w.Router.IsValid() && !w.Address.Contains(w.Router):
		return errors.Newf("the router %s is not in the subnet %s: mend it with host-range --gateway", w.Router, w.Address.Masked())
	case w.Router == w.Address.Addr():
		return errors.Newf("%s is the router's address: choose another --ip for this host", w.Router)
	}
	return w.Check()
}

func isDeviceName(name string) bool {
	return name != "" && len(name) <= 15 && name != "." && name != ".." && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r == '/' || r == ':' || r > '~'
	})
}
