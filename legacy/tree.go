// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
)

// The trees of oam-docker-ipam and those that descend from it. Below its root,
// an address that is free is a key in pool, one that is held a key in assigned:
//
//	containers/NET/config          {"Ipnet":"172.16.16.0","Mask":"20"}
//	containers/NET/pool/ADDR
//	containers/NET/assigned/ADDR
//	hosts/config                   {"Subnet":"172.16.16.0/20","Gateway":"172.16.16.1"}
//	hosts/pool/ADDR
//	hosts/assigned/ADDR
//
// skylark says networks for containers and puts the host's name before an address
// that is assigned; july has a configuration for each host's address; swan has
// networks alone, and a value of 0 or 1 instead of two places.
var roots = []struct {
	path, source string
}{
	{"talkingdata", OAM},
	{"skylark", Skylark},
	{"jdjr", July},
	{"swan/network", Swan},
}

// split tells whose key it is, and what of it comes after the root.
func split(key string) (source string, rest []string, known bool) {
	key = strings.Trim(key, "/")
	for _, root := range roots {
		if key == root.path {
			return root.source, nil, true
		}
		if below, ok := strings.CutPrefix(key, root.path+"/"); ok {
			return root.source, strings.Split(below, "/"), true
		}
	}
	return "", nil, false
}

// tree is what the keys say, before it is known what fits together.
type tree struct {
	nets  map[string]*directory // by the key above them, so that two trees stay apart
	hosts hosts
	odd   []string // keys that are no key of theirs
}

// directory is one network of containers' addresses.
type directory struct {
	source, key string
	name        string // the network address, without a length
	config      string
	free        []netip.Addr
	held        []claim
}

// claim is an address that a store has as assigned.
type claim struct {
	address netip.Addr
	host    string
	note    string
}

// hosts are the addresses of the hosts' own bridges, of all subnets.
type hosts struct {
	source  string
	configs []hostConfig
	free    []netip.Addr
	held    []netip.Addr
}

// hostConfig is a subnet that hosts are in, and its router. Addresses without a
// configuration of their own are under the one that contains them.
type hostConfig struct {
	key     string
	subnet  netip.Prefix
	gateway string
}

func readTrees(entries []entry) (Dump, error) {
	t := tree{nets: map[string]*directory{}}
	known := false
	for _, e := range entries {
		source, rest, ok := split(e.key)
		if !ok {
			continue
		}
		known = true
		if err := t.take(source, rest, e); err != nil {
			return Dump{}, err
		}
	}
	if !known {
		return Dump{}, errors.New("the dump has no key of oam-docker-ipam (/talkingdata), skylark (/skylark), july (/jdjr) or swan (/swan/network): dump the tree of one of these")
	}
	return t.dump()
}

// take files a key. Directories, and keys that say nothing of addresses, are
// passed over.
func (t *tree) take(source string, rest []string, e entry) error {
	if source == Swan && len(rest) > 0 {
		return t.takeNet(source, rest, e)
	}
	if len(rest) < 2 {
		return nil
	}
	switch rest[0] {
	case "hosts":
		return t.takeHost(source, rest[1:], e)
	case "containers", "networks":
		if rest[1] == "domains" {
			return nil // july's names for DNS
		}
		return t.takeNet(source, rest[1:], e)
	case "pods", "container-domains":
		return nil
	}
	t.odd = append(t.odd, e.key)
	return nil
}

func (t *tree) takeNet(source string, rest []string, e entry) error {
	if len(rest) < 2 {
		return nil
	}
	if _, ok := t.address(rest[0], e.key); !ok {
		return nil
	}
	path := strings.Split(strings.Trim(e.key, "/"), "/")
	above := "/" + strings.Join(path[:len(path)-len(rest)+1], "/")
	n := t.nets[above]
	if n == nil {
		n = &directory{source: source, key: above, name: rest[0]}
		t.nets[above] = n
	}
	switch what, address := rest[1], rest[len(rest)-1]; {
	case what == "config" && len(rest) == 2:
		n.config = e.value
	case what == "wait", len(rest) == 2:
		// skylark's lock, or a directory.
	case what == "pool" && len(rest) == 3:
		return t.takeFree(n, address, e)
	case what == "assigned" && len(rest) <= 4:
		if a, ok := t.address(address, e.key); ok {
			c := claim{address: a}
			if len(rest) == 4 {
				c.host = rest[2]
			}
			if isContainer(e.value) {
				c.note = "container " + e.value
			}
			n.held = append(n.held, c)
		}
	default:
		t.odd = append(t.odd, e.key)
	}
	return nil
}

// takeFree files a key under pool. With swan it may be held nevertheless, and
// without its value nobody knows.
func (t *tree) takeFree(n *directory, address string, e entry) error {
	a, ok := t.address(address, e.key)
	switch {
	case !ok:
	case n.source == Swan && e.value == "":
		return errors.Newf("whether %s is held is the value of %s, which this dump does not have: dump values too, with %s", a, e.key, dumpCommand(Swan))
	case n.source == Swan && e.value != "0":
		n.held = append(n.held, claim{address: a})
	default:
		n.free = append(n.free, a)
	}
	return nil
}

// address reads an address out of a key. A key with none there is an odd one.
func (t *tree) address(text, key string) (netip.Addr, bool) {
	a, err := parseAddr(text)
	if err != nil {
		t.odd = append(t.odd, key)
	}
	return a, err == nil
}

func (t *tree) takeHost(source string, rest []string, e entry) error {
	t.hosts.source = source
	if rest[0] == "config" {
		return t.takeHostConfig(source, e)
	}
	if len(rest) != 2 || rest[0] != "pool" && rest[0] != "assigned" {
		if len(rest) > 1 {
			t.odd = append(t.odd, e.key)
		}
		return nil
	}
	a, ok := t.address(rest[1], e.key)
	switch {
	case !ok:
	case rest[0] == "pool":
		t.hosts.free = append(t.hosts.free, a)
	default:
		t.hosts.held = append(t.hosts.held, a)
	}
	return nil
}

func (t *tree) takeHostConfig(source string, e entry) error {
	if e.value == "" {
		return errors.Newf("the hosts' subnet and router are the value of %s, which this dump does not have: dump values too, with %s", e.key, dumpCommand(source))
	}
	var config struct {
		Subnet, Gateway string
	}
	if err := json.Unmarshal([]byte(e.value), &config); err != nil {
		return errors.Wrapf(err, "the value of %s is no configuration of %s, set it to {\"Subnet\":\"ADDRESS/LENGTH\",\"Gateway\":\"ADDRESS\"} and dump again", e.key, source)
	}
	subnet, err := parseSubnet(config.Subnet)
	if err != nil {
		return errors.Wrapf(err, "correct Subnet in the value of %s and dump again", e.key)
	}
	t.hosts.configs = append(t.hosts.configs, hostConfig{e.key, subnet, config.Gateway})
	return nil
}

// subnet puts the length to a net's address, which its key does not have.
func (n *directory) subnet() (netip.Prefix, error) {
	if n.config == "" {
		return netip.Prefix{}, errors.Newf("the mask of %s is the value of %s/config, which this dump does not have: dump values too, with %s; where the store has no such key, first set it to {\"Ipnet\":%q,\"Mask\":\"LENGTH\"}", n.name, n.key, dumpCommand(n.source), n.name)
	}
	var config struct {
		Mask json.Number // swan writes a number, the others a number in quotes
	}
	if err := json.Unmarshal([]byte(n.config), &config); err != nil {
		return netip.Prefix{}, errors.Wrapf(err, "the value of %s/config has no mask, correct it and dump again", n.key)
	}
	p, err := parseSubnet(n.name + "/" + config.Mask.String())
	if err != nil {
		return netip.Prefix{}, errors.Newf("the mask %q in the value of %s/config is not the length of a subnet: correct it and dump again", config.Mask, n.key)
	}
	return p, nil
}

// sources are the programs that the nets are of.
func (t *tree) sources() []string {
	var list []string
	for _, n := range t.nets {
		list = append(list, n.source)
	}
	if len(list) == 0 {
		list = append(list, t.hosts.source)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// isContainer reports the id of a container, which skylark notes for some.
func isContainer(text string) bool {
	return len(text) == 64 && strings.Trim(text, "0123456789abcdef") == ""
}

// dumpCommand says how to dump a program's tree with everything in it.
func dumpCommand(source string) string {
	for _, root := range roots {
		if root.source == source {
			return "curl -s 'http://ETCD:2379/v2/keys/" + root.path + "?recursive=true'"
		}
	}
	return ""
}
