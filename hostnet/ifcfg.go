// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
)

// Network scripts (CentOS and the like) read one file for each device.
const (
	ifcfgDir    = "/etc/sysconfig/network-scripts"
	ifcfgPrefix = "ifcfg-"
)

func ifcfgPath(device string) string { return filepath.Join(ifcfgDir, ifcfgPrefix+device) }

func (p *planner) persistIfcfg() {
	path := ifcfgPath(p.uplink.Name)
	text, ok := p.facts.Files[path]
	if !ok {
		p.refuse("there is no %s, so network scripts do not configure %s: choose another --persist", path, p.uplink.Name)
		return
	}
	p.refuseLease(ifcfgPath(p.wishes.Bridge))
	p.wantFile(ifcfgPath(p.wishes.Bridge), p.ifcfg(), "DEVICE="+p.wishes.Bridge, "IPADDR="+p.wishes.Address.Addr().String())

	const key = "BRIDGE="
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), key); ok {
			if value = strings.Trim(value, `"'`); value != p.wishes.Bridge {
				p.refuse("%s has %s in the bridge %s: use that with --bridge %[3]s, or choose --persist none", path, p.uplink.Name, value)
			}
			return
		}
	}
	after := text
	if after != "" && !strings.HasSuffix(after, "\n") {
		after += "\n"
	}
	after += key + p.wishes.Bridge + "\n"
	p.add(&writeFile{Path: path, Content: after, Before: text, what: fmt.Sprintf("add %s%s to %s", key, p.wishes.Bridge, path)})
}

// ifcfg is the bridge's file. Down to its last line it is what oam-docker-ipam
// wrote, so that hosts it set up are recognised; further addresses and
// name servers, which that lost, stand after it.
func (p *planner) ifcfg() string {
	lines := []string{
		"DEVICE=" + p.wishes.Bridge,
		"TYPE=Bridge",
		"BOOTPROTO=static",
		"IPADDR=" + p.wishes.Address.Addr().String(),
	}
	addresses, _ := p.afterwards()
	if gateway := p.gateway(); gateway.IsValid() {
		lines = append(lines, "GATEWAY="+gateway.String())
	}
	lines = append(lines,
		"NETMASK="+dotted(p.wishes.Address),
		"ONBOOT=yes",
		"NOZEROCONF=yes",
		"IPV6INIT=no",
		"NM_CONTROLLED=no",
		"DELAY=0",
	)
	further := 0
	for _, a := range addresses {
		of := prefixOf(a)
		if !of.Addr().Is4() {
			p.warn("%s stays on %s until the next boot only: this does not write IPv6 to network scripts", of, p.wishes.Bridge)
			continue
		}
		further++
		lines = append(lines, fmt.Sprintf("IPADDR%d=%s", further, of.Addr()), fmt.Sprintf("NETMASK%d=%s", further, dotted(of)))
	}
	return strings.Join(append(lines, p.resolvingIfcfg()...), "\n")
}

// gateway is what the machine's default route over the bridge leads to; zero if
// that leads elsewhere.
func (p *planner) gateway() netip.Addr {
	r, ok := p.facts.defaultRoute()
	switch {
	case !ok:
		return p.wishes.Router
	case r.Gw != nil && (r.LinkIndex == p.uplink.Index || (p.bridged && r.LinkIndex == p.bridge.Index)):
		return addrOf(r.Gw)
	}
	return netip.Addr{}
}

func dotted(p netip.Prefix) string {
	return net.IP(net.CIDRMask(p.Bits(), p.Addr().BitLen())).String()
}
