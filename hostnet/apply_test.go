// SPDX-License-Identifier: Apache-2.0

package hostnet_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"

	"github.com/ipamlog/ipamlog/hostnet"
)

// The machines that the tests of applying a plan are about.
var machines = map[string]struct {
	commands []string
	files    map[string]string
	wish     func(*hostnet.Wishes)
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
		var bridge, uplink hostnet.Link
		for _, l := range facts.Links {
			switch l.Name {
			case "br0":
				bridge = l
			case "eth0":
				uplink = l
			}
		}
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
		if len(m.docker.networks) != 1 {
			t.Errorf("Docker's networks: %+v", m.docker.networks)
		}
		if again := m.plan(t, w); len(again.Steps) > 0 {
			t.Errorf("a second run would %q", lines(again))
		}
	})
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
	if got := ip(t, "-br link"); strings.Contains(got, "br0") {
		t.Errorf("the bridge is left: %s", got)
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
