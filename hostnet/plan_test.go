// SPDX-License-Identifier: Apache-2.0

package hostnet_test

import (
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/hostnet"
)

var update = flag.Bool("update", false, "write the golden files anew")

// A machine on paper: eth0 has 10.50.0.5/24 and the default route.
func paper(change ...func(*hostnet.Facts)) hostnet.Facts {
	f := hostnet.Facts{
		Links: []hostnet.Link{
			{Index: 1, Name: "lo", Kind: "device", MTU: 65536, Up: true},
			{Index: 2, Name: "eth0", Kind: "device", MAC: mac(5), MTU: 1500, Up: true, Ethernet: true, Addresses: []netlink.Addr{address("10.50.0.5/24")}},
			{Index: 3, Name: "eth1", Kind: "device", MAC: mac(6), MTU: 9000, Up: true, Ethernet: true},
		},
		Routes:  []netlink.Route{connected(2, "10.50.0.0/24", "10.50.0.5"), byDefault(2, "10.50.0.1")},
		Files:   map[string]string{},
		Drivers: []string{"ipamlog"}, NetworkdDir: true,
	}
	for _, c := range change {
		c(&f)
	}
	return f
}

func mac(last byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, last} }

func address(text string) netlink.Addr {
	a, err := netlink.ParseAddr(text)
	if err != nil {
		panic(err)
	}
	return *a
}

// leased is an address that DHCP gave for an hour.
func leased(text string) netlink.Addr {
	a := address(text)
	a.ValidLft = 3600
	return a
}

func subnet(text string) *net.IPNet {
	p := netip.MustParsePrefix(text)
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func connected(link int, dst, src string) netlink.Route {
	return netlink.Route{
		LinkIndex: link, Dst: subnet(dst), Src: net.ParseIP(src), Family: netlink.FAMILY_V4,
		Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST, Protocol: unix.RTPROT_KERNEL, Scope: netlink.SCOPE_LINK,
	}
}

func byDefault(link int, gateway string) netlink.Route {
	return netlink.Route{
		LinkIndex: link, Dst: subnet("0.0.0.0/0"), Gw: net.ParseIP(gateway), Family: netlink.FAMILY_V4,
		Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST, Protocol: unix.RTPROT_STATIC,
	}
}

// bridged is the machine after create-network.
func bridged(f *hostnet.Facts) {
	f.Links[1].Addresses, f.Links[1].Bridge = nil, 4
	f.Links = append(f.Links,
		hostnet.Link{Index: 4, Name: "br0", Kind: "bridge", MAC: mac(5), MTU: 1500, Up: true, Ethernet: true, Addresses: []netlink.Addr{address("10.50.0.5/24")}},
		hostnet.Link{Index: 5, Name: "veth1", Kind: "veth", MAC: mac(1), MTU: 1500, Up: true, Ethernet: true, Bridge: 4},
	)
	f.Routes = []netlink.Route{connected(4, "10.50.0.0/24", "10.50.0.5"), byDefault(4, "10.50.0.1")}
	f.Networks = []engine.Network{mynet()}
}

// rebooted is the machine when Docker made the bridge after a boot: eth0 is no
// port of it.
func rebooted(f *hostnet.Facts) {
	eth0 := f.Links[1]
	bridged(f)
	f.Links[1], f.Links[3].MAC = eth0, mac(9)
	f.Routes = []netlink.Route{connected(2, "10.50.0.0/24", "10.50.0.5"), byDefault(2, "10.50.0.1"), connected(4, "10.50.0.0/24", "10.50.0.5")}
}

func mynet() engine.Network {
	return engine.Network{
		ID: "1", Name: "mynet", Driver: "bridge",
		Options: map[string]string{
			"com.docker.network.bridge.name": "br0", "com.docker.network.bridge.enable_icc": "true",
			"com.docker.network.bridge.enable_ip_masquerade": "false", "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
			"com.docker.network.driver.mtu": "1500",
		},
		IPAM: engine.IPAM{Driver: "ipamlog", Pools: []engine.Pool{{
			Subnet: netip.MustParsePrefix("10.50.0.0/24"), Gateway: netip.MustParseAddr("10.50.0.5"),
			Auxiliary: map[string]netip.Addr{"DefaultGatewayIPv4": netip.MustParseAddr("10.50.0.1")},
		}}},
	}
}

func TestNewPlan_refused(t *testing.T) {
	for name, c := range map[string]struct {
		facts func(*hostnet.Facts)
		wish  func(*hostnet.Wishes)
		want  string
	}{
		"no such uplink": {wish: func(w *hostnet.Wishes) { w.Uplink = "eth7" }, want: "there is no device eth7: name one of eth0, eth1 with --uplink"},
		"no default":     {facts: func(f *hostnet.Facts) { f.Routes = nil }, want: "there is no default route that would tell the uplink: name one of eth0, eth1 with --uplink"},
		"another bridge": {facts: bridged, wish: func(w *hostnet.Wishes) { w.Bridge = "br1" }, want: "the default route leads over the bridge br0: use that with --bridge br0, or name a device with --uplink"},
		"another's port": {facts: bridged, wish: func(w *hostnet.Wishes) { w.Bridge, w.Uplink, w.Network = "br1", "eth0", "n" }, want: "eth0 is a port of br0 already: use that with --bridge br0, or choose another --uplink; and br0 has 10.50.0.5: remove it there, or choose another --ip"},
		"part of a bond": {facts: func(f *hostnet.Facts) { f.Links[1].Bridge = 3; f.Links[2].Kind = "bond" }, want: "eth0 belongs to eth1: choose --uplink eth1"},
		"wireless":       {facts: func(f *hostnet.Facts) { f.Links[1].Wireless = true }, want: "eth0 is wireless, and access points do not take frames of others than the station itself: choose a wired --uplink"},
		"a tunnel":       {facts: func(f *hostnet.Facts) { f.Links[1].Ethernet = false }, want: "eth0 is not an Ethernet device: choose another --uplink"},
		"macvlan on it":  {facts: func(f *hostnet.Facts) { f.Links[2].Parent, f.Links[2].Kind = 2, "macvlan" }, want: "eth1 stands on eth0, which then cannot join a bridge: remove it, or choose another --uplink"},
		"a Docker network on it": {facts: func(f *hostnet.Facts) {
			f.Networks = []engine.Network{{Name: "lan", Driver: "macvlan", Options: map[string]string{"parent": "eth0"}}, {Name: "other", Driver: "ipvlan", Options: map[string]string{"parent": "eth1"}}}
		}, want: "the Docker network lan (macvlan) stands on eth0, which then cannot join a bridge: remove it with `docker network rm lan`, or choose another --uplink"},
		"a bridge as uplink": {facts: func(f *hostnet.Facts) { f.Links[2].Kind = "bridge" }, wish: func(w *hostnet.Wishes) { w.Uplink = "eth1" }, want: "eth1 is a bridge, which cannot be a port of another: use it with --bridge eth1 and one of its ports as --uplink, or choose another --uplink; and eth0 has 10.50.0.5: remove it there, or choose another --ip"},
		"a VLAN of the bridge": {facts: func(f *hostnet.Facts) {
			bridged(f)
			f.Links[2].Name, f.Links[2].Kind, f.Links[2].Parent = "br0.7", "vlan", 4
			f.Links[4].Bridge = 0
			f.Links[1].Bridge = 0
		}, wish: func(w *hostnet.Wishes) { w.Uplink = "br0.7" }, want: "br0.7 stands on the bridge br0, and cannot be its uplink: choose another --bridge or --uplink"},
		"a lease that the default route needs": {facts: func(f *hostnet.Facts) {
			f.Links[1].Networkd, f.Links[1].Addresses = "/etc/systemd/network/10-lan.network", []netlink.Addr{leased("192.0.2.9/28")}
			f.Routes = []netlink.Route{byDefault(2, "192.0.2.1")}
		}, wish: func(w *hostnet.Wishes) { w.Uplink = "eth0" }, want: "the route default via 192.0.2.1 needs 192.0.2.9/28, which DHCP gave, and br0 would not have it after the next boot: make that address static first, or choose --persist none"},
		"a lease that a route comes from": {facts: func(f *hostnet.Facts) {
			f.Files["/etc/sysconfig/network-scripts/ifcfg-eth0"] = "BOOTPROTO=dhcp\n"
			f.Links[1].Addresses = []netlink.Addr{leased("10.50.0.77/24")}
			f.Routes[1].Src = net.ParseIP("10.50.0.77")
		}, want: "the route default via 10.50.0.1 needs 10.50.0.77/24, which DHCP gave, and br0 would not have it after the next boot: make that address static first, or choose --persist none"},
		"bridge = uplink": {wish: func(w *hostnet.Wishes) { w.Bridge, w.Uplink = "eth0", "eth0" }, want: "eth0 cannot be its own uplink: choose another --bridge or --uplink; and eth0 exists and is not a bridge: choose another --bridge"},
		"not a bridge":    {wish: func(w *hostnet.Wishes) { w.Bridge = "eth1" }, want: "eth1 exists and is not a bridge: choose another --bridge"},
		"other ports": {facts: func(f *hostnet.Facts) {
			f.Links[2].Bridge = 4
			f.Links = append(f.Links, hostnet.Link{Index: 4, Name: "br0", Kind: "bridge", Up: true})
		}, want: "the bridge br0 has other ports (eth1), which eth0 would be joined with: choose another --bridge"},
		"other ports beside Docker's": {facts: func(f *hostnet.Facts) {
			rebooted(f)
			f.Links[2].Bridge = 4
		}, want: "the bridge br0 has other ports (eth1, veth1), which eth0 would be joined with: choose another --bridge"},
		"containers' ports of another network": {facts: func(f *hostnet.Facts) {
			rebooted(f)
			f.Networks[0].Options["com.docker.network.bridge.name"] = "br7"
		}, want: "the bridge br0 has other ports (veth1), which eth0 would be joined with: choose another --bridge; and there is a Docker network mynet with com.docker.network.bridge.name=br7, not br0: remove it with `docker network rm mynet`, or choose another --name"},
		"Docker would take an address away": {
			facts: bridged, wish: func(w *hostnet.Wishes) { w.Address = netip.MustParsePrefix("10.50.0.9/24"); w.Network = "n" },
			want: "br0 has 10.50.0.5/24 before 10.50.0.9/24, and Docker would take it away: use it with --ip 10.50.0.5, or remove it; and the Docker network mynet is on br0 already: take it with --name mynet, or choose another --bridge",
		},
		"elsewhere":      {facts: func(f *hostnet.Facts) { f.Links[2].Addresses = []netlink.Addr{address("10.50.0.5/24")} }, want: "eth1 has 10.50.0.5: remove it there, or choose another --ip"},
		"another prefix": {facts: func(f *hostnet.Facts) { f.Links[1].Addresses = []netlink.Addr{address("10.50.0.5/16")} }, want: "eth0 has 10.50.0.5/16, and the addresses of hosts are in 10.50.0.0/24: give both the same subnet, here or with host-range"},
		"another subnet": {
			facts: func(f *hostnet.Facts) { f.Links[1].Addresses = []netlink.Addr{address("10.51.0.5/24")} },
			want:  "eth0, by which the default route leads, has no address in 10.50.0.0/24: name the device towards that with --uplink, eth0 if it is so",
		},
		"too large": {wish: func(w *hostnet.Wishes) { w.MTU = 1501 }, want: "eth0 carries packets of 1500 bytes at most: choose a --mtu up to that"},
		"too small": {wish: func(w *hostnet.Wishes) { w.MTU = 1 }, want: "an MTU of 1 cannot be: choose a --mtu from 68 to 65535"},
		"no plugin": {facts: func(f *hostnet.Facts) { f.Drivers = []string{"other"} }, want: "no plugin ipamlog answers Docker here: start `ipamlog serve` first"},
		"another subnet of the network": {facts: func(f *hostnet.Facts) {
			n := mynet()
			n.IPAM.Pools[0].Subnet = netip.MustParsePrefix("10.0.0.0/8")
			f.Networks = append(f.Networks, n)
		}, want: "there is a Docker network mynet with subnet 10.0.0.0/8, not 10.50.0.0/24: remove it with `docker network rm mynet`, or choose another --name"},
		"another driver of the network, and a bridge that does not tell its uplink": {
			facts: func(f *hostnet.Facts) {
				bridged(f)
				f.Links[1].MAC, f.Networks[0].IPAM.Driver = mac(7), "talkingdata"
			},
			want: "there is a Docker network mynet with IPAM driver talkingdata: remove it with `docker network rm mynet`, or choose another --name",
		},
		"nexthop objects": {
			facts: func(f *hostnet.Facts) { f.Links[1].Nexthops = []uint32{7} },
			want:  "eth0 has the nexthop object 7, and routes by such cannot be moved: make them with plain gateways and remove it with `ip nexthop del id 7`, or choose another --uplink",
		},
		"another MTU of the network": {
			facts: bridged, wish: func(w *hostnet.Wishes) { w.MTU = 1400 },
			want: "there is a Docker network mynet with com.docker.network.driver.mtu=1500, not 1400: remove it with `docker network rm mynet`, or choose another --name",
		},
		"another router of the network": {
			facts: bridged, wish: func(w *hostnet.Wishes) { w.Router = netip.Addr{} },
			want: "there is a Docker network mynet with router 10.50.0.1, not none: remove it with `docker network rm mynet`, or choose another --name",
		},
		"IPv6":           {wish: func(w *hostnet.Wishes) { w.Address = netip.MustParsePrefix("fd00::5/64") }, want: "the host's address is fd00::5/64, and create-network is for IPv4: set the addresses of hosts with host-range"},
		"router outside": {wish: func(w *hostnet.Wishes) { w.Router = netip.MustParseAddr("10.51.0.1") }, want: "the router 10.51.0.1 is not in the subnet 10.50.0.0/24: mend it with host-range --gateway"},
		"router itself":  {wish: func(w *hostnet.Wishes) { w.Router = netip.MustParseAddr("10.50.0.5") }, want: "10.50.0.5 is the router's address: choose another --ip for this host"},
		"bridge's name":  {wish: func(w *hostnet.Wishes) { w.Bridge = "a bridge of mine" }, want: `"a bridge of mine" cannot be a device's name: choose a --bridge of 1 to 15 characters such as br0`},
		"no ifcfg":       {wish: func(w *hostnet.Wishes) { w.Persist = hostnet.PersistIfcfg }, want: "there is no /etc/sysconfig/network-scripts/ifcfg-eth0, so network scripts do not configure eth0: choose another --persist"},
		"ifcfg of another": {
			facts: func(f *hostnet.Facts) { f.Files["/etc/sysconfig/network-scripts/ifcfg-eth0"] = "BRIDGE=\"br9\"\n" },
			want:  "/etc/sysconfig/network-scripts/ifcfg-eth0 has eth0 in the bridge br9: use that with --bridge br9, or choose --persist none",
		},
		"ifcfg-br0 of another": {facts: func(f *hostnet.Facts) {
			f.Files["/etc/sysconfig/network-scripts/ifcfg-eth0"] = "BRIDGE=br0\n"
			f.Files["/etc/sysconfig/network-scripts/ifcfg-br0"] = "DEVICE=br0\nIPADDR=10.50.0.55\n"
		}, want: "/etc/sysconfig/network-scripts/ifcfg-br0 exists and lacks IPADDR=10.50.0.5: remove it, or choose --persist none"},
		"no networkd": {
			facts: func(f *hostnet.Facts) { f.NetworkdDir = false }, wish: func(w *hostnet.Wishes) { w.Persist = hostnet.PersistNetworkd },
			want: "there is no /etc/systemd/network, so systemd-networkd does not configure this machine: choose another --persist",
		},
		"a tunnel that networkd would forget": {
			facts: func(f *hostnet.Facts) { f.Links[2].Parent, f.Links[2].Kind = 2, "vxlan" }, wish: func(w *hostnet.Wishes) { w.Persist = hostnet.PersistNetworkd },
			want: "eth1 stands on eth0, and would not do so after the next boot: choose --persist none, and write what is to be read then",
		},
		"a file that lacks a VLAN": {
			facts: func(f *hostnet.Facts) {
				f.Links[2].Parent, f.Links[2].Kind = 2, "vlan"
				f.Files["/etc/systemd/network/00-ipamlog-eth0.network"] = "[Match]\nName=eth0\n\n[Network]\nBridge=br0\n"
			},
			wish: func(w *hostnet.Wishes) { w.Persist = hostnet.PersistNetworkd },
			want: "/etc/systemd/network/00-ipamlog-eth0.network exists and lacks VLAN=eth1: remove it, or choose --persist none",
		},
		"networkd reads another first": {
			facts: func(f *hostnet.Facts) { f.Links[1].Networkd = "/run/systemd/network/00-first.network" },
			want:  "/run/systemd/network/00-first.network comes before /etc/systemd/network/00-ipamlog-eth0.network, so systemd-networkd would not read that: rename it",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := wishes()
			if c.wish != nil {
				c.wish(&w)
			}
			f := paper()
			if c.facts != nil {
				c.facts(&f)
			}
			p, err := hostnet.NewPlan(f, w)
			if err == nil {
				t.Fatalf("planned %q", lines(p))
			}
			if err.Error() != c.want {
				t.Errorf("refused with\n%s\nwant\n%s", err, c.want)
			}
		})
	}
}

func TestNewPlan_warnings(t *testing.T) {
	for name, c := range map[string]struct {
		facts func(*hostnet.Facts)
		wish  func(*hostnet.Wishes)
		want  string
	}{
		"nothing persists":         {want: "neither network scripts nor systemd-networkd configure eth0"},
		"NetworkManager":           {facts: func(f *hostnet.Facts) { f.Links[1].NetworkManager = true }, want: "`nmcli device set eth0 managed no` and `nmcli device set br0 managed no`"},
		"networkd":                 {facts: func(f *hostnet.Facts) { f.Links[1].Networkd = "/etc/systemd/network/10-lan.network" }, wish: func(w *hostnet.Wishes) { w.Persist = hostnet.PersistNone }, want: "systemd-networkd manages eth0 by 10-lan.network and may undo this: choose --persist networkd"},
		"file that cannot be read": {facts: func(f *hostnet.Facts) { f.Links[1].Networkd = "/etc/systemd/network/10-lan.network" }, want: "/etc/systemd/network/10-lan.network cannot be read, and what it says of DNS, Domains and NTP is not written for br0: add that to /etc/systemd/network/00-ipamlog-br0.network by hand"},
		"drop-ins": {facts: func(f *hostnet.Facts) {
			f.Links[1].Networkd, f.Links[1].NetworkdDropIns = "/etc/systemd/network/10-lan.network", []string{"/etc/systemd/network/10-lan.network.d/dns.conf"}
			f.Files["/etc/systemd/network/10-lan.network"] = "[Network]\n"
		}, want: "what dns.conf says beside 10-lan.network is not written for br0: add it to /etc/systemd/network/00-ipamlog-br0.network by hand where it matters"},
		"down":            {facts: func(f *hostnet.Facts) { f.Links[1].Up = false }, want: "eth0 is down: bring it up with `ip link set eth0 up`"},
		"DHCP":            {facts: func(f *hostnet.Facts) { f.Links[1].Addresses[0].ValidLft = 3600 }, want: "eth0 was given 10.50.0.5 by DHCP"},
		"another address": {wish: func(w *hostnet.Wishes) { w.Address = netip.MustParsePrefix("10.50.0.9/24") }, want: "new connections of this machine will come from 10.50.0.9, no longer from 10.50.0.5"},
		"in it twice":     {facts: func(f *hostnet.Facts) { f.Links[2].Addresses = []netlink.Addr{address("10.50.0.6/24")} }, want: "eth1 is in 10.50.0.0/24 too"},
	} {
		t.Run(name, func(t *testing.T) {
			w := wishes()
			if c.wish != nil {
				c.wish(&w)
			}
			f := paper()
			if c.facts != nil {
				c.facts(&f)
			}
			p, err := hostnet.NewPlan(f, w)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(p.Warnings, func(s string) bool { return strings.Contains(s, c.want) }) {
				t.Errorf("warned of %q", p.Warnings)
			}
		})
	}
}

// All is as wished: nothing to do, with containers running too.
func TestNewPlan_nothing(t *testing.T) {
	for name, change := range map[string]func(*hostnet.Wishes){
		"as before":             func(*hostnet.Wishes) {},
		"named uplink":          func(w *hostnet.Wishes) { w.Uplink = "eth0" },
		"the network's own MTU": func(w *hostnet.Wishes) { w.MTU = 1500 },
	} {
		w := wishes()
		change(&w)
		p, err := hostnet.NewPlan(paper(bridged), w)
		if err != nil || len(p.Steps) > 0 {
			t.Errorf("%s: %v, %v", name, p, err)
		} else if p.Uplink != "eth0" {
			t.Errorf("%s: the uplink is %s", name, p.Uplink)
		}
	}
}

// Of a bridge that Docker made after a boot, the uplink is what is missing.
func TestNewPlan_rebooted(t *testing.T) {
	p, err := hostnet.NewPlan(paper(rebooted), wishes())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"give br0 the hardware address of eth0, 02:00:00:00:00:05", "move eth0 into br0, with 10.50.0.5/24, the route default via 10.50.0.1"}
	if diff := cmp.Diff(want, lines(p)); diff != "" {
		t.Error(diff)
	}
}

// A machine whose files are ours is one that networkd configures, whether or not
// it has read them yet.
func TestNewPlan_ourFiles(t *testing.T) {
	f, w := paper(), wishes()
	w.Persist = hostnet.PersistNetworkd
	p, err := hostnet.NewPlan(f, w)
	if err != nil {
		t.Fatal(err)
	}
	bridged(&f)
	for _, s := range p.Steps {
		if file, ok := s.(*hostnet.WriteFile); ok {
			f.Files[file.Path] = file.Content
		}
	}
	p, err = hostnet.NewPlan(f, wishes())
	if err != nil {
		t.Fatal(err)
	}
	if p.Persist != hostnet.PersistNetworkd || len(p.Steps) > 0 || len(p.Warnings) > 0 {
		t.Errorf("persist %q, steps %q, warnings %q", p.Persist, lines(p), p.Warnings)
	}
}

// The files for the next boot.
func TestNewPlan_files(t *testing.T) {
	scripts := func(f *hostnet.Facts) {
		f.Files["/etc/sysconfig/network-scripts/ifcfg-eth0"] = "TYPE=Ethernet\nDEVICE=eth0\nIPADDR=10.50.0.5"
	}
	networkd := func(f *hostnet.Facts) {
		f.Links[1].Networkd, f.Links[1].DNS = "/etc/systemd/network/10-lan.network", []string{"10.50.0.2", "10.50.0.3"}
	}
	more := func(f *hostnet.Facts) {
		f.Links[1].Addresses = []netlink.Addr{address("10.50.0.77/24"), address("192.0.2.9/28"), address("fd00::78/64"), address("fd00::77/64"), address("fe80::1/64")}
		static := byDefault(2, "10.50.0.3")
		static.Dst, static.Priority, static.Table = subnet("203.0.113.0/24"), 50, 7
		f.Routes = append(f.Routes, static)
	}
	for name, c := range map[string]struct {
		facts []func(*hostnet.Facts)
		wish  func(*hostnet.Wishes)
	}{
		"ifcfg":                   {facts: []func(*hostnet.Facts){scripts}},
		"ifcfg-more":              {facts: []func(*hostnet.Facts){scripts, more}},
		"ifcfg-no-router":         {facts: []func(*hostnet.Facts){scripts, func(f *hostnet.Facts) { f.Routes = nil }}, wish: func(w *hostnet.Wishes) { w.Router, w.Uplink = netip.Addr{}, "eth0" }},
		"ifcfg-default-elsewhere": {facts: []func(*hostnet.Facts){scripts, func(f *hostnet.Facts) { f.Routes[1].LinkIndex = 3 }}, wish: func(w *hostnet.Wishes) { w.Uplink = "eth0" }},
		"ifcfg-wide":              {facts: []func(*hostnet.Facts){scripts, func(f *hostnet.Facts) { f.Links[1].Addresses = nil }}, wish: func(w *hostnet.Wishes) { w.Address = netip.MustParsePrefix("10.50.3.5/20") }},
		"networkd":                {facts: []func(*hostnet.Facts){networkd}},
		"networkd-more":           {facts: []func(*hostnet.Facts){networkd, more}},
		"networkd-vlans": {facts: []func(*hostnet.Facts){networkd, func(f *hostnet.Facts) {
			f.Links[1].MTU = 9000
			f.Links[2].Parent = 2
			for i, name := range []string{"eth0.9", "eth0.7"} {
				f.Links = append(f.Links, hostnet.Link{Index: 8 + i, Name: name, Kind: "vlan", Parent: 2, Up: true, Ethernet: true, MTU: 9000, MAC: mac(5)})
			}
			f.Links[2].Kind = "veth" // the other end of the cable, in a test's machine
		}}},
		"ifcfg-dns": {facts: []func(*hostnet.Facts){scripts, func(f *hostnet.Facts) {
			f.Files["/etc/sysconfig/network-scripts/ifcfg-eth0"] += "\nDNS1=10.50.0.2\n DNS2=10.50.0.3\nDNSSEC=yes\nDOMAIN=\"example.org example.com\"\nSEARCH=example.net\n"
		}}},
		"networkd-dns": {facts: []func(*hostnet.Facts){networkd, func(f *hostnet.Facts) {
			f.Files["/etc/systemd/network/10-lan.network"] = "[Match]\nName=eth0\n[Network]\nDNS=192.0.2.1\nDNS=\nDNS = 10.50.0.3\\\n  192.0.2.53\nDomains=example.org ~example.com\n# NTP=192.0.2.2\nNTP=192.0.2.1\n[Route]\nNTP=192.0.2.3\n"
		}}},
		"networkd-first-route": {facts: []func(*hostnet.Facts){networkd, func(f *hostnet.Facts) { f.Routes = nil }}, wish: func(w *hostnet.Wishes) { w.Uplink = "eth0" }},
	} {
		t.Run(name, func(t *testing.T) {
			w := wishes()
			if c.wish != nil {
				c.wish(&w)
			}
			f := paper(c.facts...)
			p, err := hostnet.NewPlan(f, w)
			if err != nil {
				t.Fatal(err)
			}
			var text strings.Builder
			for _, s := range p.Steps {
				if file, ok := s.(*hostnet.WriteFile); ok {
					fmt.Fprintf(&text, "-- %s: %s --\n%s", file.Path, file, file.Content)
					if !strings.HasSuffix(file.Content, "\n") {
						fmt.Fprint(&text, "(no line break)\n")
					}
					f.Files[file.Path] = file.Content
				}
			}
			golden(t, name, text.String())
			// Once they are there, nothing is written again.
			p, err = hostnet.NewPlan(f, w)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range p.Steps {
				if file, ok := s.(*hostnet.WriteFile); ok {
					t.Errorf("again: %s", file)
				}
			}
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}

// Whatever a machine is like, a plan is made or refused with a sentence, leaves
// the facts alone, and does not depend on their order.
func TestNewPlan_any(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := paper()
		if rapid.Bool().Draw(t, "bridged") {
			bridged(&f)
		}
		for range rapid.IntRange(0, 4).Draw(t, "changes") {
			l := &f.Links[rapid.IntRange(0, len(f.Links)-1).Draw(t, "link")]
			switch rapid.IntRange(0, 6).Draw(t, "change") {
			case 0:
				l.Bridge = rapid.IntRange(0, 9).Draw(t, "bridge")
			case 1:
				l.Addresses = append(slices.Clone(l.Addresses), address(fmt.Sprintf("10.50.%d.%d/%d", rapid.IntRange(0, 1).Draw(t, "net"), rapid.IntRange(1, 9).Draw(t, "host"), rapid.IntRange(15, 32).Draw(t, "bits"))))
			case 2:
				l.Addresses = append(slices.Clone(l.Addresses), address("fd00::1/64"))
			case 3:
				f.Routes = append(f.Routes, byDefault(rapid.IntRange(0, 9).Draw(t, "over"), "10.50.0.1"))
			case 4:
				l.Kind = rapid.SampledFrom([]string{"bridge", "bond", "macvlan", "veth"}).Draw(t, "kind")
			case 5:
				f.Networks = nil
			case 6:
				f.Routes = nil
			}
		}
		w := wishes()
		w.Uplink = rapid.SampledFrom([]string{"", "eth0", "eth1", "br0"}).Draw(t, "uplink")
		before := fmt.Sprintf("%+v", f)
		p, err := hostnet.NewPlan(f, w)
		if after := fmt.Sprintf("%+v", f); after != before {
			t.Fatalf("the facts were changed:\n%s\n%s", before, after)
		}
		if err != nil {
			if !strings.Contains(err.Error(), ": ") {
				t.Fatalf("no advice: %v", err)
			}
			return
		}
		if p.Uplink == p.Bridge {
			t.Fatalf("%+v", p)
		}
	})
}
