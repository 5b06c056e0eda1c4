// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"context"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ipamlog/ipamlog/engine"
)

// Facts are what a machine is like at one moment, as far as a plan depends on it.
type Facts struct {
	Links    []Link
	Routes   []netlink.Route  // of all tables but the local one
	Networks []engine.Network // Docker's, without their endpoints
	// Files are the network configuration files that matter, by path.
	Files map[string]string
	// NetworkdDir says whether systemd-networkd has its directory here.
	NetworkdDir bool
	// Drivers are the plugins that a file of Docker's or a socket announces on
	// which somebody listens.
	Drivers []string
}

// Link is one network device.
type Link struct {
	Index  int
	Name   string
	Kind   string // such as bridge or veth; device for a physical one
	MAC    net.HardwareAddr
	MTU    int // bytes
	Up     bool
	Bridge int // index of the bridge it is a port of; 0: none
	Parent int // index of the device it stands on; 0: none

	Ethernet bool
	Wireless bool
	// NetworkManager manages the device.
	NetworkManager bool
	// Networkd is the file by which systemd-networkd configures the device;
	// empty: it does not.
	Networkd string
	// NetworkdDropIns are files that change what that one says.
	NetworkdDropIns []string
	// DNS are the name servers that systemd-networkd knows for the device.
	DNS []string

	Addresses []netlink.Addr // in the kernel's order
	// Metrics are those of the routes that come with an address, where whoever
	// made the address chose one.
	Metrics map[netip.Addr]uint32
	// Nexthops are the numbers of the nexthop objects over the device.
	Nexthops []uint32
}

// Inspect gathers the facts. It changes nothing, and needs no privileges but
// those to ask Docker.
func (m *Machine) Inspect(ctx context.Context) (Facts, error) {
	var (
		f   Facts
		err error
	)
	if f.Networks, err = m.docker.Networks(ctx); err != nil {
		return f, err
	}
	if f.Links, err = m.links(); err != nil {
		return f, err
	}
	if f.Routes, err = m.routes(); err != nil {
		return f, err
	}
	if f.Files, err = m.configuration(f.Links); err != nil {
		return f, err
	}
	f.NetworkdDir, f.Drivers = m.exists(networkdDir), m.drivers()
	return f, nil
}

func (m *Machine) links() ([]Link, error) {
	var list []netlink.Link
	err := undisturbed(func() (err error) {
		list, err = m.handle.LinkList()
		return err
	})
	if err != nil {
		return nil, errors.Wrap(err, "list the machine's network devices")
	}
	metrics, err := m.metrics()
	if err != nil {
		return nil, err
	}
	nexthops, err := m.nexthops()
	if err != nil {
		return nil, err
	}
	links := make([]Link, len(list))
	for i, l := range list {
		a := l.Attrs()
		links[i] = Link{
			Index: a.Index, Name: a.Name, Kind: l.Type(), MAC: a.HardwareAddr, MTU: a.MTU,
			Up: a.Flags&net.FlagUp != 0, Bridge: a.MasterIndex, Parent: a.ParentIndex,
			Metrics: metrics[a.Index], Nexthops: nexthops[a.Index],
			Ethernet: a.EncapType == "ether", Wireless: m.exists("sys/class/net", a.Name, "phy80211"),
		}
		m.tellManagers(&links[i])
		err := undisturbed(func() (err error) {
			links[i].Addresses, err = m.handle.AddrList(l, netlink.FAMILY_ALL)
			return err
		})
		if err != nil {
			return nil, errors.Wrapf(err, "list the addresses of %s", a.Name)
		}
	}
	return links, nil
}

// tellManagers finds out who else configures the device, from the state that
// each keeps for itself.
func (m *Machine) tellManagers(l *Link) {
	index := strconv.Itoa(l.Index)
	manager := m.keys("run/NetworkManager/devices", index)
	l.NetworkManager = manager["managed"] == "true" || manager["managed"] == "1"
	networkd := m.keys("run/systemd/netif/links", index)
	if networkd["ADMIN_STATE"] != "unmanaged" {
		l.Networkd, l.DNS = networkd["NETWORK_FILE"], strings.Fields(networkd["DNS"])
		l.NetworkdDropIns = strings.FieldsFunc(strings.Trim(networkd["NETWORK_FILE_DROPINS"], `"`), func(r rune) bool { return r == ':' || r == ' ' })
	}
}

func (m *Machine) routes() ([]netlink.Route, error) {
	var list []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		var some []netlink.Route
		err := undisturbed(func() (err error) {
			some, err = m.handle.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
			return err
		})
		if err != nil {
			return nil, errors.Wrap(err, "list the machine's routes")
		}
		list = append(list, some...)
	}
	return slices.DeleteFunc(list, func(r netlink.Route) bool { return r.Table == unix.RT_TABLE_LOCAL }), nil
}

// undisturbed asks the kernel again when what it listed changed meanwhile.
func undisturbed(ask func() error) error {
	err := ask()
	for range 10 {
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
		err = ask()
	}
	return err
}

// configuration reads the files of which a plan may change one, and those by
// which networkd configures the devices.
func (m *Machine) configuration(links []Link) (map[string]string, error) {
	files := map[string]string{}
	for _, l := range links {
		if l.Networkd == "" {
			continue
		}
		if text, err := os.ReadFile(filepath.Join(m.root, l.Networkd)); err == nil { // else the plan says what it lacks
			files[l.Networkd] = string(text)
		}
	}
	for _, pattern := range []string{filepath.Join(ifcfgDir, ifcfgPrefix+"*"), filepath.Join(networkdDir, networkdPrefix+"*")} {
		paths, err := filepath.Glob(filepath.Join(m.root, pattern))
		if err != nil {
			return nil, errors.Wrap(err, "look for the network's configuration")
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, errors.Wrap(err, "read the network's configuration")
			}
			files[filepath.Join(filepath.Dir(pattern), filepath.Base(path))] = string(text)
		}
	}
	return files, nil
}

// drivers looks where Docker looks for plugins.
func (m *Machine) drivers() []string {
	var names []string
	for _, pattern := range []string{
		"run/docker/plugins/*.sock", "run/docker/plugins/*/*.sock",
		"etc/docker/plugins/*.spec", "etc/docker/plugins/*.json", "usr/lib/docker/plugins/*.spec", "usr/lib/docker/plugins/*.json",
	} {
		paths, _ := filepath.Glob(filepath.Join(m.root, pattern)) // fails for a bad pattern alone
		for _, path := range paths {
			if isDead(path) {
				continue
			}
			names = append(names, strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)))
		}
	}
	return names
}

// isDead says whether a path is a socket that nobody listens on any more, as a
// plugin leaves behind that was killed.
func isDead(path string) bool {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Type() != fs.ModeSocket {
		return false
	}
	conn, err := net.DialTimeout("unix", path, pluginPatience)
	if err == nil {
		_ = conn.Close() // nothing was said
	}
	return errors.Is(err, unix.ECONNREFUSED)
}

// pluginPatience is how long it may take to reach a plugin.
const pluginPatience = 2 * time.Second

func (m *Machine) exists(path ...string) bool {
	_, err := os.Stat(filepath.Join(m.root, filepath.Join(path...)))
	return err == nil
}

// keys reads a file of KEY=value lines; one that is not there has none.
func (m *Machine) keys(path ...string) map[string]string {
	text, err := os.ReadFile(filepath.Join(m.root, filepath.Join(path...)))
	if err != nil {
		return nil
	}
	keys := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			keys[key] = value
		}
	}
	return keys
}

// AddressIn is the address that the machine has in a subnet on the uplink or
// the bridge of these wishes: on the bridge, Docker would take any but that one
// away. Zero if there is none.
func (f Facts) AddressIn(subnet netip.Prefix, w Wishes) netip.Addr {
	var links []Link
	if bridge, ok := f.named(w.Bridge); ok {
		links = append(links, bridge)
	}
	if uplink, err := f.uplink(w); err == nil {
		links = append(links, uplink)
	}
	for _, l := range links {
		for _, a := range l.Addresses {
			if p := prefixOf(a); p.Masked() == subnet {
				return p.Addr()
			}
		}
	}
	return netip.Addr{}
}

func (f Facts) named(name string) (Link, bool) {
	return f.find(func(l Link) bool { return l.Name == name })
}

func (f Facts) indexed(index int) (Link, bool) {
	return f.find(func(l Link) bool { return l.Index == index })
}

func (f Facts) find(is func(Link) bool) (Link, bool) {
	i := slices.IndexFunc(f.Links, is)
	if i < 0 {
		return Link{}, false
	}
	return f.Links[i], true
}

// network is Docker's of that name, and whether there is one.
func (f Facts) network(name string) (engine.Network, bool) {
	i := slices.IndexFunc(f.Networks, func(n engine.Network) bool { return n.Name == name })
	if i < 0 {
		return engine.Network{}, false
	}
	return f.Networks[i], true
}

// ports are those of a bridge.
func (f Facts) ports(bridge Link) []Link {
	return slices.DeleteFunc(slices.Clone(f.Links), func(l Link) bool { return l.Bridge != bridge.Index })
}

// defaultRoute is the IPv4 default route that packets take, and whether there is
// one.
func (f Facts) defaultRoute() (netlink.Route, bool) {
	var best *netlink.Route
	for _, r := range f.Routes {
		if r.Family == netlink.FAMILY_V4 && r.Table == unix.RT_TABLE_MAIN && isDefault(r) && r.Type == unix.RTN_UNICAST && (best == nil || r.Priority < best.Priority) {
			best = &r
		}
	}
	if best == nil {
		return netlink.Route{}, false
	}
	return *best, true
}

func isDefault(r netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	length, _ := r.Dst.Mask.Size()
	return length == 0
}

func prefixOf(a netlink.Addr) netip.Prefix {
	ip, _ := netip.AddrFromSlice(a.IP)
	length, _ := a.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), length)
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
