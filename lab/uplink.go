// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net/netip"

	"github.com/cockroachdb/errors"
)

// Addr is the host's IPv4 address on the shared layer 2, on its device eth0.
func (h *Host) Addr() netip.Addr { return wireAddr4(h.number) }

// Addr6 is the host's IPv6 address on the shared layer 2, on its device eth0.
func (h *Host) Addr6() netip.Addr { return wireAddr6(h.number) }

// AddAddress gives eth0 one more address, which lasts until the next reboot.
// What becomes of eth0, its addresses and its routes is the test's to decide:
// nothing of the lab reaches a host through them.
func (h *Host) AddAddress(address netip.Prefix) error {
	command := []string{"addr", "add", address.String(), "dev", "eth0"}
	if address.Addr().Is6() {
		command = append(command, "nodad") // or it could not be used for a second
	}
	_, err := h.Exec("ip", command...)
	return errors.Wrap(err, "add an address")
}

// SetGateway makes a router the host's default route, until the next reboot.
func (h *Host) SetGateway(router netip.Addr) error {
	_, err := h.Exec("ip", "route", "replace", "default", "via", router.String())
	return errors.Wrap(err, "set the default route")
}

// Router adds a host without an engine, named router, that has these addresses
// on the shared layer 2 and passes packets on between their subnets.
func (l *Lab) Router(addresses ...netip.Prefix) *Host {
	l.t.Helper()
	h := l.Host("router")
	for _, family := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if _, err := h.Exec("sh", "-c", "echo 1 >/proc/sys/net/"+family); err != nil {
			l.t.Fatal(err)
		}
	}
	for _, a := range addresses {
		if err := h.AddAddress(a); err != nil {
			l.t.Fatal(err)
		}
	}
	return h
}

// Unplug cuts the host off from the shared layer 2 until [Host.Plug].
func (h *Host) Unplug() error { return h.lab.wire.setPort(h.number, "down") }

// Plug ends what [Host.Unplug] began. Packets pass when it returns.
func (h *Host) Plug() error {
	if err := h.lab.wire.setPort(h.number, "up"); err != nil {
		return err
	}
	return h.lab.wire.awaitPort(h.lab.ctx, h.number)
}

func (h *Host) configureNetwork() error {
	for _, c := range [][]string{
		{"link", "set", "lo", "up"},
		{"addr", "add", fmt.Sprintf("%s/%d", h.Addr(), wirePrefix4.Bits()), "dev", "eth0"},
		{"addr", "add", fmt.Sprintf("%s/%d", h.Addr6(), wirePrefix6.Bits()), "dev", "eth0", "nodad"},
		{"link", "set", "eth0", "up"},
	} {
		if _, err := h.init.exec(h.lab.ctx, "ip", c...); err != nil {
			return err
		}
	}
	return h.lab.wire.awaitPort(h.lab.ctx, h.number)
}
