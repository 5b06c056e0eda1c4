// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/ipamlog/ipamlog/lab"
)

// succeeds is [site.ipamlog] for a command that must.
func (s *site) succeeds(t *testing.T, args ...string) string {
	t.Helper()
	o := s.ipamlog(t, args...)
	if o.status != 0 {
		t.Fatalf("ipamlog %q: status %d: %s%s", args, o.status, o.stdout, o.stderr)
	}
	return o.stdout
}

// sharedNet is a subnet of which some addresses are kept for hosts, and the first is
// the router's.
type sharedNet struct{ base string }

func (l sharedNet) address(last int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprint(l.base, ".", last))
}
func (l sharedNet) prefix(last int) netip.Prefix { return netip.PrefixFrom(l.address(last), 24) }
func (l sharedNet) router() netip.Addr           { return l.address(1) }

// joining starts a host that has an address of the net and its default route
// there, and keeps the addresses 5 to 9 for hosts.
func joining(t *testing.T, l *lab.Lab, name string, on sharedNet, own int) *site {
	t.Helper()
	s := startSite(t, l, name)
	if err := s.AddAddress(on.prefix(own)); err != nil {
		t.Fatal(err)
	}
	if err := s.SetGateway(on.router()); err != nil {
		t.Fatal(err)
	}
	s.succeeds(t, "ip-range", "--ip-start", on.prefix(100).String(), "--ip-end", on.prefix(200).String())
	s.succeeds(t, "host-range", "--ip-start", on.prefix(5).String(), "--ip-end", on.prefix(9).String(), "--gateway", on.router().String())
	return s
}

// uplinkKept fails the test unless eth0 is in br0, with these addresses in this
// order and the default route.
func (s *site) uplinkKept(t *testing.T, when string, router netip.Addr, addresses ...string) {
	t.Helper()
	if got := strings.Fields(s.MustExec(t, "ip", "-br", "-4", "addr", "show", "br0"))[2:]; strings.Join(got, " ") != strings.Join(addresses, " ") {
		t.Errorf("%s br0 has %q, and had %q", when, got, addresses)
	}
	if got := s.MustExec(t, "ip", "-br", "link", "show", "master", "br0"); !strings.Contains(got, "eth0") {
		t.Errorf("%s eth0 is no port of br0: %s", when, got)
	}
	if got := s.MustExec(t, "ip", "route", "show", "default"); got != "default via "+router.String()+" dev br0" {
		t.Errorf("%s the default route is %q", when, got)
	}
}

// TestCreateNetwork joins two hosts to their nets, and takes each through what an
// engine goes through.
func TestCreateNetwork(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	router := l.Router(sharedNet{"10.70.0"}.prefix(1), sharedNet{"10.71.0"}.prefix(1))
	for name, c := range map[string]struct {
		host string
		lan  sharedNet
		own  int // on eth0 before
	}{
		"the address it has":            {"a", sharedNet{"10.70.0"}, 5},
		"an address beside that it has": {"b", sharedNet{"10.71.0"}, 77},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := joining(t, l, c.host, c.lan, c.own)
			after := []string{c.lan.prefix(5).String(), s.Addr().String() + "/24"}
			if c.own != 5 {
				after = append(after, c.lan.prefix(c.own).String())
			}
			// Somebody is logged in from beyond the router.
			login, shell := s.login(t, router, c.lan.address(c.own))

			foretold := s.succeeds(t, "create-network", "--dry-run")
			t.Logf("the plan:\n%s", foretold)
			if out, err := s.Exec("ip", "link", "show", "br0"); err == nil {
				t.Errorf("a dry run made %s", out)
			}
			if said := s.succeeds(t, "create-network"); said != foretold+"done: run containers with `docker run --network mynet`\n" {
				t.Errorf("it did\n%s\nand foretold\n%s", said, foretold)
			}
			s.uplinkKept(t, "after the move", c.lan.router(), after...)
			loggedIn(t, login, shell)

			n, err := s.Network("mynet")
			if err != nil {
				t.Fatal(err)
			}
			if got := n.IPAM.Config[0]; got.Gateway != c.lan.address(5).String() || got.AuxiliaryAddresses["DefaultGatewayIPv4"] != c.lan.router().String() {
				t.Errorf("Docker has %+v", got)
			}
			s.run(t, "c1", "mynet")
			if got := s.MustDocker(t, "exec", "c1", "ip", "route"); !strings.Contains(got, "default via "+c.lan.router().String()+" dev eth0") {
				t.Errorf("the routes of a container are %s", got)
			}
			c1, _ := s.addresses(t, "c1", "mynet")
			if c1.Less(c.lan.address(100)) {
				t.Errorf("a container has %s, which is not in the range for containers", c1)
			}
			for _, address := range []string{"10.70.0.1", "10.71.0.1", c.lan.address(5).String()} { // one is beyond the router
				s.ping(t, "c1", netip.MustParseAddr(address))
			}
			router.MustExec(t, "busybox", "ping", "-c1", "-W5", c1.String())

			const nothing = "nothing to do: Docker network mynet is on br0, which has "
			if said := s.succeeds(t, "create-network"); said != nothing+c.lan.prefix(5).String()+"\n" {
				t.Errorf("a second run says %s", said)
			}

			if err := s.StopEngine(); err != nil {
				t.Fatal(err)
			}
			s.uplinkKept(t, "after the engine's stop", c.lan.router(), after...)
			lab.StartEngines(t, s.Host)
			s.uplinkKept(t, "after the engine's start", c.lan.router(), after...)
			if err := s.KillEngine(); err != nil {
				t.Fatal(err)
			}
			lab.StartEngines(t, s.Host)
			s.uplinkKept(t, "after the engine's death", c.lan.router(), after...)
			s.MustDocker(t, "start", "c1")
			c1, _ = s.addresses(t, "c1", "mynet")
			router.MustExec(t, "busybox", "ping", "-c1", "-W5", c1.String())

			s.MustDocker(t, "rm", "-f", "c1")
			s.MustDocker(t, "network", "rm", "mynet")
			s.uplinkKept(t, "after the network's removal", c.lan.router(), after...)
			loggedIn(t, login, shell)

			// The address is the host's until an operator says otherwise.
			if said := s.succeeds(t, "create-network"); !strings.HasPrefix(said, "create the Docker network mynet: ") || strings.Count(said, "\n") != 2 {
				t.Errorf("with the network gone, it did\n%s", said)
			}
		})
	}
}

// TestCreateNetwork_refusedByDocker has Docker refuse the network: all is as it
// was, in the log too.
func TestCreateNetwork_refusedByDocker(t *testing.T) {
	t.Parallel()
	on := sharedNet{"10.70.0"}
	s := joining(t, lab.New(t), "a", on, 5)
	// Docker has two bridge networks neither of which it was asked for by us.
	s.MustDocker(t, "network", "create", "--subnet", "10.70.0.0/16", "other")
	state := func() string {
		return s.MustExec(t, "ip", "addr", "show", "eth0") + s.MustExec(t, "ip", "route") + s.ipamlog(t, "holders", "10.70.0.0/24", "-o", "jsonl").stdout
	}
	before := state()
	o := s.ipamlog(t, "create-network", "--uplink", "eth0")
	t.Logf("%s%s", o.stdout, o.stderr)
	if o.status != 1 || !strings.HasSuffix(o.stderr, "all is as it was before\n") || !strings.HasSuffix(o.stdout, "undone: take 10.70.0.5/24 for this host\n") {
		t.Errorf("status %d: %s%s", o.status, o.stdout, o.stderr)
	}
	if after := state(); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	if out, err := s.Exec("ip", "link", "show", "br0"); err == nil {
		t.Errorf("the bridge is left: %s", out)
	}
}

// TestCreateNetwork_order shows why a bridge on which another address of the
// subnet comes first is refused.
func TestCreateNetwork_order(t *testing.T) {
	t.Parallel()
	on := sharedNet{"10.70.0"}
	s := joining(t, lab.New(t), "a", on, 5)
	for _, c := range []string{"link add br0 type bridge", "link set br0 up", "addr add 10.70.0.77/24 dev br0", "addr add 10.70.0.6/24 dev br0"} {
		s.MustExec(t, "ip", strings.Fields(c)...)
	}
	// What would fail in the middle is refused before.
	s.MustDocker(t, "network", "create", "-d", "macvlan", "-o", "parent=eth0", "lan")
	if o := s.ipamlog(t, "create-network", "--uplink", "eth0", "--ip", "10.70.0.6"); o.status != 1 || !strings.Contains(o.stderr, "the Docker network lan (macvlan) stands on eth0") {
		t.Errorf("status %d: %s", o.status, o.stderr)
	}
	s.MustDocker(t, "network", "rm", "lan")
	o := s.ipamlog(t, "create-network", "--uplink", "eth0", "--ip", "10.70.0.6")
	if o.status != 1 || !strings.Contains(o.stderr, "br0 has 10.70.0.77/24 before 10.70.0.6/24, and Docker would take it away") {
		t.Errorf("status %d: %s", o.status, o.stderr)
	}
	s.MustDocker(t, "network", "create", "--subnet", "10.70.0.0/24", "--gateway", "10.70.0.6", "--opt", "com.docker.network.bridge.name=br0", "n")
	if got := s.MustExec(t, "ip", "-br", "-4", "addr", "show", "br0"); strings.Contains(got, "10.70.0.77") {
		t.Errorf("Docker leaves the first address alone: %s", got)
	}
	s.kill(t)
	o = s.ipamlog(t, "create-network", "--uplink", "eth0", "--ip", "10.70.0.6", "--bridge", "br1")
	if o.status != 1 || !strings.Contains(o.stderr, "start `ipamlog serve`") {
		t.Errorf("without a daemon: status %d: %s", o.status, o.stderr)
	}
}

// TestCreateNetwork_rebooted has Docker make the bridge after a boot, for a
// container that it starts again: create-network gives it the uplink.
func TestCreateNetwork_rebooted(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	on := sharedNet{"10.70.0"}
	router := l.Router(on.prefix(1))
	s := joining(t, l, "a", on, 5)
	s.succeeds(t, "create-network")
	mac := s.hardwareAddress(t, "eth0")
	s.run(t, "c1", "mynet", "--restart", "always")

	// The kernel forgets all but what something configures again, which is eth0.
	if err := s.StopEngine(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"link del br0", "addr add " + s.Addr().String() + "/24 dev eth0", "addr add " + on.prefix(5).String() + " dev eth0", "route add default via " + on.router().String() + " dev eth0"} {
		s.MustExec(t, "ip", strings.Fields(c)...)
	}
	lab.StartEngines(t, s.Host)
	await(t, "the container is started again", func() (bool, error) {
		out, err := s.Exec("ip", "-br", "link", "show", "master", "br0")
		return err == nil && strings.Contains(out, "veth"), nil
	})
	// The answer leaves by eth0 and is lost, but for the bridge's hardware address:
	// the container knows what is about to change.
	if out, err := s.Docker("exec", "c1", "ping", "-c1", "-W1", on.address(5).String()); err == nil {
		t.Errorf("nothing has to be healed: %s", out)
	}
	if got := s.MustDocker(t, "exec", "c1", "cat", "/proc/net/arp"); !strings.Contains(got, on.address(5).String()+" ") || strings.Contains(got, "00:00:00:00:00:00") {
		t.Errorf("the container does not know the bridge: %s", got)
	}

	t.Logf("it did\n%s", s.succeeds(t, "create-network"))
	s.uplinkKept(t, "after it was healed", on.router(), on.prefix(5).String(), s.Addr().String()+"/24")
	if got := s.hardwareAddress(t, "br0"); got != mac {
		t.Errorf("br0 has the hardware address %s, and eth0 %s", got, mac)
	}
	s.ping(t, "c1", on.address(5))
	s.ping(t, "c1", on.router())
	c1, _ := s.addresses(t, "c1", "mynet")
	router.MustExec(t, "busybox", "ping", "-c1", "-W5", c1.String())
	if said := s.succeeds(t, "create-network"); !strings.HasPrefix(said, "nothing to do: ") {
		t.Errorf("a second run says %s", said)
	}
}

func (s *site) hardwareAddress(t *testing.T, device string) string {
	t.Helper()
	return strings.Fields(s.MustExec(t, "ip", "-br", "link", "show", device))[2]
}

// login connects to an address of the host, as a person would who works there.
func (s *site) login(t *testing.T, from *lab.Host, to netip.Addr) (login, shell net.Conn) {
	t.Helper()
	listener, err := s.Listen("tcp", netip.AddrPortFrom(to, 22).String())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if login, err = from.Dial(t.Context(), "tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { login.Close() })
	if shell, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shell.Close() })
	return login, shell
}

// loggedIn fails the test unless both ends of a connection hear each other.
func loggedIn(t *testing.T, a, b net.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = a.Close() })()
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		if _, err := way[0].Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		if _, err := way[1].Read(make([]byte, 1)); err != nil {
			t.Fatalf("the connection is lost: %v", err)
		}
	}
}
