// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
	"go4.org/netipx"
)

// drafts are subnets with all that a tree says of them, contradictions included.
type drafts map[netip.Prefix]*draft

type draft struct {
	subnet    netip.Prefix
	source    string
	free      []netip.Addr
	held      []claim
	hostsFree []netip.Addr
	hostsHeld []netip.Addr
	routers   []netip.Addr
}

// dump brings together what belongs to one subnet, and settles it.
func (t *tree) dump() (Dump, error) {
	sources := t.sources()
	if len(sources) > 1 {
		return Dump{}, errors.Newf("the dump has the networks of %s: dump and import one at a time", strings.Join(sources, " and "))
	}
	dump := Dump{Source: sources[0]}
	var w warnings
	all := drafts{}
	for _, key := range slices.Sorted(maps.Keys(t.nets)) {
		n := t.nets[key]
		if n.config == "" && len(n.free)+len(n.held) == 0 {
			continue // what was left of a network that is gone
		}
		subnet, err := n.subnet()
		if err != nil {
			return Dump{}, err
		}
		if subnet.Addr().String() != n.name {
			w.add("%s: taken as %s, as its mask says", n.key, subnet)
		}
		d := all.of(subnet, n.source)
		d.free = append(d.free, n.free...)
		d.held = append(d.held, n.held...)
	}
	t.hosts.distribute(all, &w)
	for subnet := range all {
		dump.Pools = append(dump.Pools, Pool{Space: "local", Subnet: subnet})
	}
	if len(dump.Pools) == 0 {
		return Dump{}, errors.New("the dump has no address in it: look whether the program stored one, or used another etcd")
	}
	sortPools(dump.Pools)
	for i := range dump.Pools {
		all[dump.Pools[i].Subnet].settle(&dump.Pools[i], &w)
	}
	w.overlaps(dump.Pools)
	if len(t.odd) > 0 {
		slices.Sort(t.odd)
		w.add("passed over, as no key of %s looks so: %s", dump.Source, some(t.odd))
	}
	dump.Warnings = w.list
	return dump, nil
}

func (all drafts) of(subnet netip.Prefix, source string) *draft {
	d := all[subnet]
	if d == nil {
		d = &draft{subnet: subnet, source: source}
		all[subnet] = d
	}
	return d
}

// narrowest finds the smallest subnet that contains an address.
func (all drafts) narrowest(a netip.Addr) *draft {
	for bits := a.BitLen(); bits >= 0; bits-- {
		if d := all[netip.PrefixFrom(a, bits).Masked()]; d != nil {
			return d
		}
	}
	return nil
}

// distribute puts hosts' addresses into the subnets of containers that could get
// them, and makes subnets for the others. Where the hosts' mask is not the
// containers', the containers' counts, as theirs is what addresses come out of.
func (h *hosts) distribute(all drafts, w *warnings) {
	h.agree()
	containers := slices.SortedFunc(maps.Keys(all), netip.Prefix.Compare)
	for _, config := range h.configs {
		i := slices.IndexFunc(containers, config.subnet.Overlaps)
		if all[config.subnet] == nil && i >= 0 {
			w.add("%s: the hosts are in %s, but containers in %s: only what both have in common is imported, so correct the mask that is wrong and dump again", config.key, config.subnet, containers[i])
		} else {
			all.of(config.subnet, h.source)
		}
	}
	for _, config := range h.configs {
		router, err := parseAddr(config.gateway)
		switch d := all.narrowest(router); {
		case err != nil:
			w.add("%s: no router is imported, as Gateway %s", config.key, err)
		case !config.subnet.Contains(router):
			w.add("%s: the router %s is not in %s and is left out: name the right one with host-range --gateway after the import", config.key, router, config.subnet)
		case d == nil:
			w.add("%s: the router %s is in no subnet of containers and is left out: name one with host-range --gateway after the import", config.key, router)
		default:
			d.routers = append(d.routers, router)
		}
	}
	var lost []netip.Addr
	for _, a := range h.free {
		if d := all.narrowest(a); d != nil {
			d.hostsFree = append(d.hostsFree, a)
		} else {
			lost = append(lost, a)
		}
	}
	for _, a := range h.held {
		if d := all.narrowest(a); d != nil {
			d.hostsHeld = append(d.hostsHeld, a)
		} else {
			lost = append(lost, a)
		}
	}
	if len(lost) > 0 {
		w.add("hosts' addresses not imported, as they are in no subnet: %s", some(spelled(setOf(lost...))))
	}
}

// agree keeps of configurations that say the same one: july has one for each host.
func (h *hosts) agree() {
	slices.SortFunc(h.configs, func(a, b hostConfig) int { return strings.Compare(a.key, b.key) })
	seen := map[hostConfig]bool{}
	h.configs = slices.DeleteFunc(h.configs, func(c hostConfig) bool {
		c.key = ""
		again := seen[c]
		seen[c] = true
		return again
	})
}

// settle takes, of every contradiction, the side on which no address is given out
// twice, and says so.
func (d *draft) settle(p *Pool, w *warnings) {
	d.cut(w)
	var (
		free       = setOf(d.free...)
		hosts      = setOf(d.hostsHeld...)
		forHosts   = setOf(d.hostsFree...)
		containers = d.containers()
		special    = ends(d.subnet)
	)
	w.about(d.subnet, "free and held at once, taken as held", common(forHosts, hosts))
	if d.source != Skylark { // whose later versions leave an address in the pool while it is held
		w.about(d.subnet, "free and held at once, taken as held", common(free, containers))
	}
	w.about(d.subnet, "meant for hosts and for containers, left to the hosts", common(without(free, containers), union(hosts, forHosts)))
	w.about(d.subnet, "meant for hosts but held by containers, taken as held and no longer for hosts", common(forHosts, without(containers, hosts)))
	w.about(d.subnet, "held by a host and by a container, imported as the host's", common(hosts, containers))
	w.about(d.subnet, "the network's own address, left out of the ranges", common(special, union(free, forHosts)))
	w.about(d.subnet, "the network's own address, but held", common(special, union(hosts, containers)))

	held := holdings{}
	d.holdContainers(held, w)
	for _, a := range d.hostsHeld {
		h := Holding{Address: a, Kind: Host}
		if _, ok := held[a]; ok {
			h.Note = "also held by a container"
		}
		held[a] = h
	}
	p.Held = held.sorted()

	p.Router = d.router(union(free, containers), containers, w)
	taken := union(special, setOf(p.Router))
	p.HostRanges = without(union(hosts, forHosts), taken, without(containers, hosts)).Ranges()
	p.Ranges = without(union(free, containers), taken, hosts, without(forHosts, containers)).Ranges()
	if len(p.Ranges) == 0 {
		w.add("%s: no range is left for containers, so after the import they get any address that is not the hosts': narrow it with ip-range", d.subnet)
	}
}

// cut takes out what the subnet does not have. The hosts' addresses were put into
// it because it has them.
func (d *draft) cut(w *warnings) {
	var free, held []netip.Addr
	d.free = slices.DeleteFunc(d.free, func(a netip.Addr) bool {
		if d.subnet.Contains(a) {
			return false
		}
		free = append(free, a)
		return true
	})
	d.held = slices.DeleteFunc(d.held, func(c claim) bool {
		if d.subnet.Contains(c.address) {
			return false
		}
		held = append(held, c.address)
		return true
	})
	w.about(d.subnet, "outside the subnet, left out of the ranges", setOf(free...))
	w.about(d.subnet, "outside the subnet, not imported although held, so correct the mask if it is too long and dump again", setOf(held...))
}

func (d *draft) containers() *netipx.IPSet {
	list := make([]netip.Addr, 0, len(d.held))
	for _, c := range d.held {
		list = append(list, c.address)
	}
	return setOf(list...)
}

// holdContainers makes one holding of all claims to an address. It names a host
// only where no other claims it.
func (d *draft) holdContainers(held holdings, w *warnings) {
	slices.SortFunc(d.held, func(a, b claim) int { return strings.Compare(a.host, b.host) })
	var contested []netip.Addr
	claimants := map[netip.Addr][]string{}
	for _, c := range d.held {
		h, ok := held[c.address]
		if !ok {
			h = Holding{Address: c.address, Kind: Endpoint}
		}
		if h.Note == "" {
			h.Note = c.note
		}
		names := claimants[c.address]
		if c.host != "" && !slices.Contains(names, c.host) {
			names = append(names, c.host)
			claimants[c.address] = names
			h.Host = c.host
		}
		if len(names) > 1 {
			h.Host, h.Note = "", "claimed by the hosts "+strings.Join(names, ", ")
			contested = append(contested, c.address)
		}
		held[c.address] = h
	}
	w.about(d.subnet, "claimed by several hosts, imported without one", setOf(contested...))
}

// router is the one that the hosts' configurations agree on.
func (d *draft) router(given, containers *netipx.IPSet, w *warnings) netip.Addr {
	slices.SortFunc(d.routers, netip.Addr.Compare)
	routers := slices.Compact(d.routers)
	if len(routers) == 0 {
		return netip.Addr{}
	}
	router := routers[0]
	switch {
	case len(routers) > 1:
		w.about(d.subnet, "several routers, of which none is imported: name the right one with host-range --gateway after the import", setOf(routers...))
		return netip.Addr{}
	case containers.Contains(router):
		w.about(d.subnet, "the router's address, but held by a container: stop that container", setOf(router))
	case given.Contains(router):
		w.about(d.subnet, "the router's address, left out of the ranges", setOf(router))
	}
	return router
}
