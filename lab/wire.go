// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
)

// The networks of the shared layer 2. 198.18.0.0/15 is set apart for
// laboratories (RFC 2544), so no test will want it for its containers.
var (
	wirePrefix4 = netip.MustParsePrefix("198.18.0.0/24")
	wirePrefix6 = netip.MustParsePrefix("fd00:198:18::/64")
)

func wireAddr4(host int) netip.Addr {
	a := wirePrefix4.Addr().As4()
	a[3] = byte(host + 1)
	return netip.AddrFrom4(a)
}

func wireAddr6(host int) netip.Addr {
	a := wirePrefix6.Addr().As16()
	a[15] = byte(host + 1)
	return netip.AddrFrom16(a)
}

// wire is the shared layer 2: a network namespace with a bridge in it, one
// port for each host, and an address for the test.
type wire struct{ ns namespaces }

func newWire() (*wire, error) {
	ns, err := newNetwork()
	if err != nil {
		return nil, err
	}
	w := &wire{ns}
	err = w.ip(
		"link set lo up",
		"link add br0 type bridge",
		fmt.Sprintf("addr add %s/%d dev br0", wireAddr4(0), wirePrefix4.Bits()),
		fmt.Sprintf("addr add %s/%d dev br0 nodad", wireAddr6(0), wirePrefix6.Bits()),
		"link set br0 up",
	)
	if err != nil {
		return nil, errors.CombineErrors(errors.Wrap(err, "make the shared layer 2"), ns.close())
	}
	return w, nil
}

func portName(host int) string { return fmt.Sprintf("port%d", host) }

// plug joins the network namespace of a process to the bridge, where the other
// end of the cable appears as eth0.
func (w *wire) plug(host, pid int) error {
	port := portName(host)
	return errors.Wrap(w.ip(
		fmt.Sprintf("link add %s type veth peer name eth0 netns %d", port, pid),
		fmt.Sprintf("link set %s master br0 up", port),
	), "plug the host in")
}

// unplug removes the cable of a host that is gone. The kernel does so too, but
// in its own time, and until then the old eth0 answers for its addresses.
func (w *wire) unplug(host int) error {
	err := w.ip("link del " + portName(host))
	if w.ip("link show "+portName(host)) != nil {
		return nil //nolint:nilerr // it is gone, whoever removed it
	}
	return errors.Wrap(err, "unplug the host")
}

func (w *wire) setPort(host int, state string) error {
	return errors.Wrapf(w.ip("link set "+portName(host)+" "+state), "set the host's link %s", state)
}

// awaitPort waits until the bridge forwards what it gets from the port: some
// time after both of its ends were set up, and until then packets get lost.
func (w *wire) awaitPort(ctx context.Context, host int) error {
	err := poll(ctx, 30*time.Second, func() bool {
		out, err := w.run("-d -o link show " + portName(host))
		return err == nil && strings.Contains(out, "state UP") && strings.Contains(out, "state forwarding")
	})
	return errors.Wrap(err, "wait for the host's link")
}

func (w *wire) ip(commands ...string) error {
	for _, c := range commands {
		if _, err := w.run(c); err != nil {
			return err
		}
	}
	return nil
}

func (w *wire) run(command string) (out string, err error) {
	err = w.ns.do(func() (err error) {
		out, err = output(exec.Command("ip", strings.Fields(command)...), (*exec.Cmd).Run)
		return err
	})
	return out, err
}

func (w *wire) close() error { return w.ns.close() }

// Listen serves the hosts from the test itself: a listener on the shared layer
// 2, where the test has the address [Lab.Addr]. Network and address are those
// of [net.Listen], the address without names to look up.
func (l *Lab) Listen(network, address string) (net.Listener, error) {
	return listen(l.wire.ns, network, address)
}

// Listen listens inside the network of the host, as a process on it would.
// Network and address are those of [net.Listen], the address without names to
// look up.
func (h *Host) Listen(network, address string) (net.Listener, error) {
	ns, err := h.namespaces()
	if err != nil {
		return nil, err
	}
	return listen(ns.network(), network, address)
}

// Dial connects from inside the network of the host, as a process on it would;
// it fits the DialContext of [net/http.Transport]. The address must be without
// names to look up.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	ns, err := h.namespaces()
	if err != nil {
		return nil, err
	}
	var c net.Conn
	err = ns.network().do(func() (err error) {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return errors.Wrapf(err, "dial from host %s", h.name)
	})
	return c, err
}

func listen(ns namespaces, network, address string) (net.Listener, error) {
	var ln net.Listener
	err := ns.do(func() (err error) {
		ln, err = net.Listen(network, address)
		return errors.Wrap(err, "listen in the lab")
	})
	return ln, err
}
