// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
)

// After a boot that did not bring the bridge back, Docker makes it: with the
// gateway of its network, a hardware address of its own, the containers that it
// starts again as ports, and no uplink. That bridge is ours to complete.

// madeByDocker says whether the bridge is the wished-for network's as Docker makes
// it, with nothing on it but the ends of containers' cables.
func (p *planner) madeByDocker() bool {
	n, ok := p.dockerNetwork()
	return ok && p.bridged && !p.inBridge() &&
		n.Driver == bridgeDriver && n.Options[optionBridge] == p.bridge.Name && n.IPAM.Driver == p.wishes.Driver &&
		!slices.ContainsFunc(p.facts.ports(p.bridge), func(l Link) bool { return l.Kind != "veth" })
}

// nameBridge gives a bridge the hardware address of its uplink to be.
type nameBridge struct {
	Bridge string
	Like   string // the uplink's name
	MAC    net.HardwareAddr
	Before net.HardwareAddr
}

func (s *nameBridge) String() string {
	return fmt.Sprintf("give %s the hardware address of %s, %s", s.Bridge, s.Like, s.MAC)
}

func (s *nameBridge) do(_ context.Context, m *Machine) error {
	return m.setHardwareAddress(s.Bridge, s.MAC)
}

func (s *nameBridge) undo(_ context.Context, m *Machine) error {
	return m.setHardwareAddress(s.Bridge, s.Before)
}

// nameLikeUplink is left out where anyone but Docker's containers may know the
// bridge by the address that it has.
func (p *planner) nameLikeUplink() {
	if p.madeByDocker() && !bytes.Equal(p.bridge.MAC, p.uplink.MAC) {
		p.add(&nameBridge{Bridge: p.bridge.Name, Like: p.uplink.Name, MAC: p.uplink.MAC, Before: p.bridge.MAC})
	}
}

// announcing has the kernel tell the neighbours on a device of a hardware address
// that changes meanwhile: containers would else talk to the old one for up to a
// minute. Where that cannot be asked for, they find out by themselves.
func announcing(device string, change func() error) error {
	path := filepath.Join("/proc/sys/net/ipv4/conf", device, "arp_notify")
	if before, err := os.ReadFile(path); err == nil && os.WriteFile(path, []byte("1"), 0) == nil {
		defer func() { _ = os.WriteFile(path, before, 0) }() // it does no harm if it stays
	}
	return change()
}
