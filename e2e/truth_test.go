// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// driver is the name under which Docker knows us.
const driver = "ipamlog"

// fact is one address in use: by whom, in which pool.
type fact struct {
	Pool    string // its name, if it has one
	Subnet  netip.Prefix
	Address netip.Addr
	Kind    string // endpoint, gateway or auxiliary
	Host    string
	MAC     string // of endpoints
}

func byAddress(a, b fact) int {
	return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Pool, b.Pool), cmp.Compare(a.Subnet.String(), b.Subnet.String()),
		cmp.Compare(a.Host, b.Host), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.MAC, b.MAC))
}

// place is what can be used by one alone.
func (f fact) place() fact { return fact{Pool: f.Pool, Subnet: f.Subnet, Address: f.Address} }

// holding is one as ipamlog prints it, as far as is promised and Docker knows.
type holding struct {
	Allocation   string
	Address      netip.Addr
	Pool         *string
	Subnet       netip.Prefix
	Space        string
	Kind         string
	Host         *string
	MAC          *string
	Endpoint     *string
	From         time.Time
	To           *time.Time
	FromRevision int64  `json:"from_revision"`
	ToRevision   *int64 `json:"to_revision"`
	End          *string
}

func (h holding) fact() fact {
	return fact{deref(h.Pool), h.Subnet, h.Address, h.Kind, deref(h.Host), deref(h.MAC)}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func factsOf(holdings []holding) []fact {
	facts := make([]fact, 0, len(holdings))
	for _, h := range holdings {
		facts = append(facts, h.fact())
	}
	slices.SortFunc(facts, byAddress)
	return facts
}

// pool is one as ipamlog pools prints it.
type pool struct {
	ID     string
	Name   *string
	Subnet netip.Prefix
	Held   int
	Hosts  []string
}

// key is what Docker knows a pool by.
func (p pool) key() fact { return fact{Pool: deref(p.Name), Subnet: p.Subnet} }

// dockerSays lists what the host's engine uses: addresses, and pools.
func (s *site) dockerSays(t *testing.T) (used []fact, pools []fact) {
	t.Helper()
	networks, err := s.Networks()
	if err != nil {
		t.Fatal(err)
	}
	byID := map[string][]fact{}
	for _, n := range networks {
		if n.IPAM.Driver != driver {
			continue
		}
		for _, c := range n.IPAM.Config {
			in := fact{Pool: n.IPAM.Options["pool"], Subnet: c.Subnet, Host: s.Name()}
			byID[n.ID] = append(byID[n.ID], in)
			pools = append(pools, fact{Pool: in.Pool, Subnet: in.Subnet})
			add := func(kind string, address netip.Addr) {
				in.Kind, in.Address = kind, address
				used = append(used, in)
			}
			add("gateway", s.gateway(t, n.ID, n.Driver, c.Subnet, c.Gateway))
			for _, text := range c.AuxiliaryAddresses {
				add("auxiliary", parse(t, text))
			}
		}
	}
	containers, err := s.Containers()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range containers {
		if !c.State.Running {
			continue // after a crash, engines show what one had when it still ran
		}
		for _, e := range c.NetworkSettings.Networks {
			for _, address := range []netip.Addr{e.IPAddress, e.GlobalIPv6Address} {
				for _, in := range byID[e.NetworkID] {
					if in.Subnet.Contains(address) {
						in.Kind, in.Address, in.MAC = "endpoint", address, e.MacAddress
						used = append(used, in)
					}
				}
			}
		}
	}
	slices.SortFunc(used, byAddress)
	return used, pools
}

// gateway is what the network was told, and what its bridge has.
func (s *site) gateway(t *testing.T, network, driver string, subnet netip.Prefix, told string) netip.Addr {
	t.Helper()
	var named netip.Addr
	if told != "" {
		address, _, _ := strings.Cut(told, "/") // engines write it with and without
		named = parse(t, address)
	}
	if driver != "bridge" {
		return named
	}
	links := decode[[]struct {
		Addresses []struct {
			Local netip.Addr
		} `json:"addr_info"`
	}](t, s.MustExec(t, "ip", "-json", "address", "show", "dev", "br-"+network[:12]))
	for _, a := range links[0].Addresses {
		if subnet.Contains(a.Local) {
			if named.IsValid() && named != a.Local {
				t.Errorf("the bridge of network %s has %v, and its gateway is %v", network, a.Local, named)
			}
			return a.Local
		}
	}
	t.Errorf("the bridge of network %s has no address in %v", network, subnet)
	return named
}

func parse(t *testing.T, text string) netip.Addr {
	t.Helper()
	address, err := netip.ParseAddr(text)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// logSays lists what the store holds, after making sure that the present and
// the past tell the same.
func (s *site) logSays(t *testing.T) (holdings []holding, pools []pool) {
	t.Helper()
	pools = ask[[]pool](t, s, "pools")
	for _, p := range pools {
		held := ask[[]holding](t, s, "holders", p.ID)
		addresses := map[netip.Addr]bool{}
		for _, h := range held {
			addresses[h.Address] = true
		}
		if p.Held != len(addresses) {
			t.Errorf("pool %v %v: pools counts %d addresses held, holders lists %d", deref(p.Name), p.Subnet, p.Held, len(addresses))
		}
		holdings = append(holdings, held...)
	}
	rebuilt := ask[[]holding](t, s, "replay")
	for _, list := range [][]holding{holdings, rebuilt} {
		slices.SortFunc(list, func(a, b holding) int {
			return cmp.Or(cmp.Compare(a.Allocation, b.Allocation), byAddress(a.fact(), b.fact()))
		})
	}
	if d := diff(holdings, rebuilt); d != "" {
		t.Errorf("holders and replay differ (-holders +replay):\n%s", d)
	}
	return holdings, pools
}

var comparing = gocmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}

// diff is how two lists differ; empty if they do not.
func diff[T any](a, b []T) string { return gocmp.Diff(a, b, comparing) }

// agree fails the test unless the log holds exactly what Docker uses, on all
// hosts that share a store together. It returns that.
func agree(t *testing.T, sites ...*site) []fact {
	t.Helper()
	var used, networks []fact
	for _, s := range sites {
		u, n := s.dockerSays(t)
		used, networks = append(used, u...), append(networks, n...)
	}
	slices.SortFunc(used, byAddress)
	slices.SortFunc(networks, byAddress)
	networks = slices.Compact(networks)
	for _, s := range sites {
		holdings, pools := s.logSays(t)
		if d := diff(used, factsOf(holdings)); d != "" {
			t.Errorf("Docker and the log, read on host %s, differ (-docker +log):\n%s", s.Name(), d)
		}
		keys := []fact{}
		for _, p := range pools {
			keys = append(keys, p.key())
		}
		slices.SortFunc(keys, byAddress)
		if d := diff(networks, keys); d != "" {
			t.Errorf("the networks and the pools, read on host %s, differ (-docker +log):\n%s", s.Name(), d)
		}
	}
	return used
}

// sound fails the test unless all that Docker uses is held by who uses it, and
// by no other. It returns what is held and not used: releases that were lost.
func sound(t *testing.T, sites ...*site) (lost []fact) {
	t.Helper()
	user := map[fact]fact{}
	var used []fact
	for _, s := range sites {
		u, _ := s.dockerSays(t)
		used = append(used, u...)
	}
	for _, f := range used {
		other, twice := user[f.place()]
		if twice && (f.Kind != "gateway" || other.Kind != "gateway") {
			t.Errorf("two have %v: %+v and %+v", f.Address, other, f)
		}
		user[f.place()] = f
	}
	holdings, _ := sites[0].logSays(t)
	held := factsOf(holdings)
	for _, f := range used {
		if i := slices.Index(held, f); i >= 0 {
			held = slices.Delete(held, i, i+1)
		} else {
			t.Errorf("Docker uses %+v, and it is not held", f)
		}
	}
	return held
}

// reportLost tells of releases that the engine lost. That they come back is a
// matter of looking at the engine, and not of what is tested here.
func reportLost(t *testing.T, lost []fact) {
	t.Helper()
	for _, f := range lost {
		t.Logf("held, and used by nobody: %+v", f)
	}
}
