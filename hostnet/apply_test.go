// SPDX-License-Identifier: Apache-2.0

package hostnet_test

import (
	"context"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/hostnet"
)

// The machines that the tests of applying a plan are about.
var machines = map[string]struct {
	commands []string
	files    map[string]string
	wish     func(*hostnet.Wishes)
	networks []engine.Network
}{
	"the host's own address": {
		commands: []string{
			"addr add 10.50.0.5/24 brd + dev eth0",
			"route add default via 10.50.0.1 dev eth0",
		},
		files: map[string]string{"/etc/sysconfig/network-scripts/ifcfg-eth0": "DEVICE=eth0\nIPADDR=10.50.0.5"},
	},
	"another address, both families, many routes": {
		commands: []string{
			"addr add 10.50.0.77/24 brd + dev eth0",
			"addr add 10.50.0.78/24 dev eth0 label eth0:1",
			"addr add 192.0.2.9/28 dev eth0 valid_lft 4000 preferred_lft 3000",
			"-6 addr add fd00:50::77/64 dev eth0 nodad",
			"-6 addr add fd00:50::78/64 dev eth0",
			"route add default via 10.50.0.1 dev eth0 metric 100 proto dhcp src 10.50.0.77",
			"route add default via 10.50.0.2 dev eth0 metric 200",
			"route add 203.0.113.0/24 via 10.50.0.3 dev eth0 mtu 1300 advmss 1200",
			"route add 198.51.100.0/24 dev eth0 scope link",
			"route add default via 10.50.0.9 dev eth0 table 77",
			"route add 192.0.2.200 via 10.99.99.1 dev eth0 onlink",
			"-6 route add default via fd00:50::1 dev eth0",
			"-6 route add fd00:51::/64 via fe80::1 dev eth0 metric 50",
		},
		files: map[string]string{
			"/run/systemd/netif/links/ETH0": "ADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/10-lan.network\nDNS=10.50.0.2 10.50.0.3\n",
			"/etc/systemd/network/10-lan":   "x",
		},
	},
	"routes that someone else made": {
		commands: []string{
			"addr add 10.50.0.77/24 dev eth0 noprefixroute",
			"route add 10.50.0.0/24 dev eth0 proto kernel scope link src 10.50.0.77 metric 100",
			"route add default via 10.50.0.1 dev eth0 metric 100",
		},
	},
	"its own address, whose route someone else made": {
		commands: []string{
			"addr add 10.50.0.5/24 brd + dev eth0 noprefixroute",
			"route add 10.50.0.0/24 dev eth0 proto kernel scope link src 10.50.0.5 metric 100",
			"route add default via 10.50.0.1 dev eth0 metric 100",
		},
	},
	"its own address, with a metric": {
		commands: []string{
			"addr add 10.50.0.5/24 brd + dev eth0 metric 100",
			"-6 addr add fd00:50::77/64 dev eth0 metric 99",
			"route add default via 10.50.0.1 dev eth0 metric 100",
		},
	},
	"addresses with metrics": {
		commands: []string{
			"addr add 10.50.0.77/24 brd + dev eth0 metric 100",
			"addr add 10.50.0.78/24 dev eth0 metric 101",
			"addr add 192.0.2.9 peer 192.0.2.8 dev eth0 metric 102",
			"route add default via 10.50.0.1 dev eth0 metric 100",
		},
	},
	"no address in the subnet": {
		commands: []string{"addr add 192.0.2.77/24 brd + dev eth0", "route add default via 192.0.2.1 dev eth0"},
		wish:     func(w *hostnet.Wishes) { w.Uplink = "eth0" },
	},
	"a new device": {
		commands: []string{"route add 192.0.2.0/24 dev lan0"},
		wish:     func(w *hostnet.Wishes) { w.Uplink = "eth0" },
	},
	"a bridge of the user's": {
		commands: []string{
			"link add br0 address 02:00:00:00:00:05 type bridge",
			"link set eth0 master br0",
			"link set br0 up",
			"addr add 10.50.0.5/24 dev br0",
			"route add default via 10.50.0.1 dev br0",
		},
	},
	"a bridge that Docker made after a boot": {
		commands: []string{
			"addr add 10.50.0.5/24 brd + dev eth0",
			"route add default via 10.50.0.1 dev eth0",
			"link add br0 address 02:00:00:00:00:09 type bridge",
			"link set br0 up",
			"addr add 10.50.0.5/24 brd + dev br0",
			"link add veth1 type veth peer name inner", "link set inner up", "link set veth1 master br0 up",
		},
		networks: []engine.Network{mynet()},
	},
	"a multipath route": {
		commands: []string{
			"addr add 10.50.0.5/24 dev eth0",
			"link add eth1 type veth peer name lan1", "link set lan1 up", "link set eth1 up",
			"addr add 10.51.0.5/24 dev eth1",
			"route add 203.0.113.0/24 nexthop via 10.50.0.1 dev eth0 nexthop via 10.51.0.1 dev eth1",
		},
		wish: func(w *hostnet.Wishes) { w.Uplink = "eth0" },
	},
}

// forEach runs a test on each of the machines.
func forEach(t *testing.T, test func(t *testing.T, m *machine, w hostnet.Wishes)) {
	t.Helper()
	for name, c := range machines {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, c.commands...)
			index, _, _ := strings.Cut(ip(t, "-o link show eth0"), ":")
			for path, text := range c.files {
				m.write(t, strings.ReplaceAll(path, "ETH0", index), text)
			}
			m.write(t, "/etc/systemd/network/.keep", "")
			m.docker.networks = slices.Clone(c.networks)
			w := wishes()
			if c.wish != nil {
				c.wish(&w)
			}
			test(t, m, w)
		})
	}
}

// What a plan promises is so afterwards, and a second run finds nothing to do.
func TestApply(t *testing.T) {
	forEach(t, func(t *testing.T, m *machine, w hostnet.Wishes) {
		before, p := m.settled(t), m.plan(t, w)
		bridgeBefore, uplinkBefore := m.links(t)
		var told []string
		if err := m.Apply(t.Context(), p, func(s hostnet.Step, stage hostnet.Stage) {
			if stage != hostnet.Done {
				t.Errorf("%s: stage %v", s, stage)
			}
			told = append(told, s.String())
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(lines(p), told); diff != "" {
			t.Error(diff)
		}
		t.Logf("the plan:\n%s", strings.Join(told, "\n"))

		facts, err := m.Inspect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		bridge, uplink := m.links(t)
		if !bridge.Up || uplink.Bridge != bridge.Index || bridge.MAC.String() != "02:00:00:00:00:05" || bridge.MTU != 1500 {
			t.Errorf("bridge %+v, uplink %+v", bridge, uplink)
		}
		if first := bridge.Addresses[0]; first.IPNet.String() != "10.50.0.5/24" {
			t.Errorf("the first address of the bridge is %s, which Docker would remove", first)
		}
		for _, a := range uplink.Addresses {
			if !a.IP.IsLinkLocalUnicast() {
				t.Errorf("the uplink still has %s", a)
			}
		}
		for _, r := range facts.Routes {
			if r.LinkIndex == uplink.Index && !r.Dst.IP.IsLinkLocalUnicast() {
				t.Errorf("the uplink still has the route %s", r)
			}
		}
		// Each route is there as it was, but for its device.
		for _, family := range []struct{ before, after []string }{
			{before.Routes4, elements(t, ip(t, "-j -4 route show table all"))},
			{before.Routes6, elements(t, ip(t, "-j -6 route show table all"))},
		} {
			for _, r := range family.before {
				moved := strings.ReplaceAll(r, `"dev": "eth0"`, `"dev": "br0"`)
				if !slices.Contains(family.after, moved) && !strings.Contains(r, `"protocol": "kernel"`) {
					t.Errorf("there is no longer the route %s", r)
				}
			}
		}
		// Each address is there as it was, and the host's own with its route.
		for _, a := range slices.Concat(uplinkBefore.Addresses, bridgeBefore.Addresses) {
			of, _ := netip.AddrFromSlice(a.IP)
			if of.IsLinkLocalUnicast() {
				continue
			}
			i := slices.IndexFunc(bridge.Addresses, func(b netlink.Addr) bool { return b.IP.Equal(a.IP) })
			if i < 0 {
				t.Errorf("the bridge lacks %s", a)
				continue
			}
			if b := bridge.Addresses[i]; b.Flags&unix.IFA_F_NOPREFIXROUTE != a.Flags&unix.IFA_F_NOPREFIXROUTE {
				t.Errorf("%s has flags %#x, and had %#x", b, b.Flags, a.Flags)
			}
			if got, want := bridge.Metrics[of], uplinkBefore.Metrics[of]; got != want {
				t.Errorf("%s has metric %d, and had %d", of, got, want)
			}
		}
		if !strings.Contains(ip(t, "route show 10.50.0.0/24 dev br0"), " src 10.50.0.5 ") {
			t.Errorf("the host's address does not lead to its subnet: %s", ip(t, "route"))
		}
		if len(m.docker.networks) != 1 {
			t.Errorf("Docker's networks: %+v", m.docker.networks)
		}
		if again := m.plan(t, w); len(again.Steps) > 0 {
			t.Errorf("a second run would %q", lines(again))
		}
	})
}

// Before each change, what is sent to a neighbour leaves by the uplink, or by the
// bridge of which that is a port.
func TestApply_reachable(t *testing.T) {
	forEach(t, func(t *testing.T, m *machine, w hostnet.Wishes) {
		const neighbour = "route get 10.50.0.9"
		p := m.plan(t, w)
		if out, err := exec.Command("ip", strings.Fields(neighbour)...).CombinedOutput(); err != nil {
			t.Logf("nothing reaches it at the start: %s", out)
			return
		}
		m.Obstruct(func(change string) error {
			way := ip(t, neighbour)
			if !strings.Contains(way, "dev eth0") && !strings.Contains(ip(t, "link show eth0"), "master br0") {
				t.Errorf("before the change: %s: packets are lost: %s", change, way)
			}
			return nil
		})
		if err := m.Apply(t.Context(), p, quiet); err != nil {
			t.Fatal(err)
		}
	})
}

// A route that is made while the uplink moves would be lost: the move is undone.
func TestApply_routeMeanwhile(t *testing.T) {
	m := newMachine(t, machines["the host's own address"].commands...)
	before, p := m.settled(t), m.plan(t, wishes())
	m.Obstruct(func(change string) error {
		if change == "remove 10.50.0.5/24 from eth0" {
			ip(t, "-6 route add fd00:77::/64 dev eth0")
		}
		return nil
	})
	err := m.Apply(t.Context(), p, quiet)
	if err == nil || !strings.HasPrefix(err.Error(), "the route fd00:77::/64 is still over eth0: ") || errors.Is(err, hostnet.ErrLeft) {
		t.Errorf("%v", err)
	}
	ip(t, "-6 route del fd00:77::/64 dev eth0")
	m.same(t, before)
}

// A run that fails undoes nothing that another did.
func TestApply_beside(t *testing.T) {
	m := newMachine(t, "addr add 10.50.0.77/24 brd + dev eth0", "route add default via 10.50.0.1 dev eth0")
	var second *hostnet.Plan
	p := m.plan(t, wishes())
	if err := m.Apply(t.Context(), p, func(s hostnet.Step, _ hostnet.Stage) {
		if s == p.Steps[0] {
			second = m.plan(t, wishes())
		}
	}); err != nil {
		t.Fatal(err)
	}
	after := m.settled(t)
	refusal := errors.New("there is one already")
	m.docker.refusal = refusal
	if err := m.Apply(t.Context(), second, quiet); !errors.Is(err, refusal) {
		t.Errorf("%v", err)
	}
	m.same(t, after)
}

// Docker may have made what nobody heard of.
func TestApply_uncertain(t *testing.T) {
	for name, c := range map[string]struct {
		refusal error
		left    bool
		want    string
	}{
		"too slow": {refusal: context.DeadlineExceeded, left: true, want: "Docker did not answer within 1m30s, and may still do it: look at `docker network ls`; all else is as it was before"},
		"it died": {
			refusal: errors.Mark(errors.New("lost"), engine.ErrUncertain), left: true,
			want: "Docker may have made the network: look at `docker network ls`: lost; all else is as it was before",
		},
		"refused": {refusal: errors.New("no"), want: "no; all is as it was before"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, machines["the host's own address"].commands...)
			before := m.settled(t)
			m.docker.refusal = c.refusal
			err := m.Apply(t.Context(), m.plan(t, wishes()), quiet)
			if err == nil || err.Error() != c.want || errors.Is(err, hostnet.ErrLeft) != c.left {
				t.Errorf("%v", err)
			}
			m.same(t, before)
		})
	}
}

// Each change in turn fails, and the machine is as it was.
func TestApply_failing(t *testing.T) {
	failure := errors.New("no luck")
	forEach(t, func(t *testing.T, m *machine, w hostnet.Wishes) {
		before := m.settled(t)
		for nth := 0; ; nth++ {
			count, what := 0, ""
			m.Obstruct(func(change string) error {
				if count++; count-1 == nth {
					what = change
					return failure
				}
				return nil
			})
			done := map[string]int{}
			err := m.Apply(t.Context(), m.plan(t, w), func(s hostnet.Step, stage hostnet.Stage) {
				done[s.String()] += 1 - 2*int(stage)
			})
			if what == "" {
				if err != nil {
					t.Errorf("nothing was in the way: %v", err)
				}
				break
			}
			if !errors.Is(err, failure) || !strings.HasSuffix(err.Error(), "; all is as it was before") {
				t.Errorf("failing to %s: %v", what, err)
			}
			for s, n := range done {
				if n != 0 {
					t.Errorf("failing to %s: %s was done and undone, %+d", what, s, n)
				}
			}
			m.same(t, before)
			if t.Failed() {
				t.Fatalf("after failing to %s", what)
			}
		}
	})
}

// The program is killed again and again, each time one change later; the next run
// goes on from there, and one brings all to its end.
func TestApply_killed(t *testing.T) {
	forEach(t, func(t *testing.T, m *machine, w hostnet.Wishes) {
		killed := errors.New("killed")
		for life := 1; ; life++ {
			p := m.plan(t, w)
			if len(p.Steps) == 0 {
				break
			}
			left := life
			m.Obstruct(func(string) error {
				if left--; left < 0 {
					return killed // from now on: it can undo nothing either
				}
				return nil
			})
			_ = m.Apply(t.Context(), p, quiet)
			if life > 100 {
				t.Fatalf("no end in sight: %q", lines(p))
			}
		}
		if got := ip(t, "-br -4 addr show eth0"); strings.Contains(got, "10.50.0") {
			t.Errorf("the uplink still has addresses: %s", got)
		}
		if got := ip(t, "-br -4 addr show br0"); !strings.Contains(got, "10.50.0.5/24") {
			t.Errorf("the bridge has no address: %s", got)
		}
	})
}

func TestApply_interrupted(t *testing.T) {
	m := newMachine(t, machines["the host's own address"].commands...)
	before, p := m.settled(t), m.plan(t, wishes())
	ctx, cancel := context.WithCancel(t.Context())
	err := m.Apply(ctx, p, func(s hostnet.Step, _ hostnet.Stage) {
		if s == p.Steps[1] {
			cancel()
		}
	})
	if err == nil || err.Error() != "interrupted before all was done; all is as it was before" || errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	m.same(t, before)
}

// What could not be undone is named, and all else is undone.
func TestApply_notUndone(t *testing.T) {
	m := newMachine(t, machines["the host's own address"].commands...)
	m.Obstruct(func(change string) error {
		if change == "make eth0 a port of br0" || change == "remove the Docker network" {
			return errors.Newf("no luck with: %s", change)
		}
		return nil
	})
	err := m.Apply(t.Context(), m.plan(t, wishes()), quiet)
	if err == nil || !strings.Contains(err.Error(), "mend by hand what could not be undone: create the Docker network mynet: ") || !strings.Contains(err.Error(), "make eth0 a port") {
		t.Errorf("%v", err)
	}
	if !errors.Is(err, hostnet.ErrLeft) {
		t.Error("it does not say that something is left")
	}
	if got := ip(t, "-br link"); strings.Contains(got, "br0") {
		t.Errorf("the bridge is left: %s", got)
	}
}

// A part of a step that could not be undone is left too.
func TestApply_partNotUndone(t *testing.T) {
	m := newMachine(t, machines["the host's own address"].commands...)
	m.Obstruct(func(change string) error {
		if change == "bring up br0" || change == "remove br0" {
			return errors.Newf("no luck with: %s", change)
		}
		return nil
	})
	err := m.Apply(t.Context(), m.plan(t, wishes()), quiet)
	if !errors.Is(err, hostnet.ErrLeft) || !strings.HasSuffix(err.Error(), "mend that by hand); all else is as it was before") {
		t.Errorf("%v", err)
	}
}

// All that was done can be undone later too.
func TestUndo(t *testing.T) {
	forEach(t, func(t *testing.T, m *machine, w hostnet.Wishes) {
		before, p := m.settled(t), m.plan(t, w)
		if err := m.Apply(t.Context(), p, quiet); err != nil {
			t.Fatal(err)
		}
		if err := m.Undo(p, errors.New("regret"), quiet); err == nil || err.Error() != "regret; all is as it was before" {
			t.Errorf("%v", err)
		}
		m.same(t, before)
	})
}

// A route by a nexthop object looks like any, and cannot be moved like any.
func TestInspect_nexthops(t *testing.T) {
	m := newMachine(t, "addr add 10.50.0.5/24 dev eth0", "nexthop add id 7 via 10.50.0.1 dev eth0", "nexthop add id 8 group 7", "route add default nhid 7")
	f, err := m.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p, err := hostnet.NewPlan(f, wishes()); err == nil || !strings.Contains(err.Error(), "`ip nexthop del id 7`") || strings.Contains(err.Error(), "8") {
		t.Errorf("%v, %v", p, err)
	}
}

// A socket that a killed plugin left behind announces none.
func TestInspect_drivers(t *testing.T) {
	m := newMachine(t)
	const path = "/run/docker/plugins/"
	for _, name := range []string{"dead", "alive"} {
		listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(m.root, path, name+".sock"), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		listener.SetUnlinkOnClose(false)
		if name == "alive" {
			defer listener.Close()
			continue
		}
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
	}
	facts, err := m.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"alive", "ipamlog"}; !slices.Equal(facts.Drivers, want) {
		t.Errorf("the plugins are %q, want %q", facts.Drivers, want)
	}
}

// What configures the uplink is read, wherever networkd has it.
func TestInspect_networkd(t *testing.T) {
	m := newMachine(t)
	index, _, _ := strings.Cut(ip(t, "-o link show eth0"), ":")
	const path, text = "/run/systemd/network/10-netplan-eth0.network", "[Network]\nDNS=10.50.0.2\n"
	m.write(t, path, text)
	m.write(t, "/run/systemd/netif/links/"+index, "ADMIN_STATE=configured\nNETWORK_FILE="+path+"\nNETWORK_FILE_DROPINS=\"/a.d/b.conf:/a.d/c.conf\"\n")
	facts, err := m.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, uplink := m.links(t)
	if want := []string{"/a.d/b.conf", "/a.d/c.conf"}; facts.Files[path] != text || !slices.Equal(uplink.NetworkdDropIns, want) {
		t.Errorf("files %q, drop-ins %q", facts.Files, uplink.NetworkdDropIns)
	}
}

func TestLock(t *testing.T) {
	m := newMachine(t)
	unlock, err := m.Lock()
	if err != nil {
		t.Fatal(err)
	}
	other, err := hostnet.Open(m.root, m.docker)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Lock(); !errors.Is(err, hostnet.ErrBusy) || err.Error() != "another create-network is running here: wait for it" {
		t.Errorf("beside another: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if unlock, err = other.Lock(); err != nil {
		t.Fatalf("after another: %v", err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}

func TestAddressIn(t *testing.T) {
	m := newMachine(t, "addr add 192.0.2.9/28 dev eth0", "addr add 10.50.0.77/24 dev eth0", "route add default via 10.50.0.1")
	f, err := m.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for subnet, want := range map[string]string{"10.50.0.0/24": "10.50.0.77", "10.50.0.0/16": "invalid IP", "192.0.2.0/28": "192.0.2.9"} {
		if got := f.AddressIn(netip.MustParsePrefix(subnet), wishes()); got.String() != want {
			t.Errorf("in %s: %s, want %s", subnet, got, want)
		}
	}
}
