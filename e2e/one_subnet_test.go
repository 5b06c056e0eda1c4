// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ipamlog/ipamlog/lab"
)

// What the README of oam-docker-ipam tells its users to type, as it stands there
// but for the program's name: the commas of most lists are full-width ones.
const (
	hostRange = `ipamlog --cluster-store=http://172.16.20.53:2379，http://172.16.20.54:2379，http://172.16.20.55:2379 host-range --ip-start 172.16.20.54/20 --ip-end 172.16.20.58/20 --gateway 172.16.16.1`
	ipRange   = `ipamlog --cluster-store=http://172.16.20.53:2379，http://172.16.20.54:2379，http://172.16.20.55:2379 ip-range --ip-start 172.16.21.100/20 --ip-end 172.16.21.200/20`
	server    = `nohup ipamlog --debug=true --cluster-store=http://172.16.20.53:2379,http://172.16.20.54:2379,http://172.16.20.55:2379 server 2>&1 >> /var/log/oam-docker-ipam.log &`
	network   = `ipamlog --cluster-store=http://172.16.20.53:2379，http://172.16.20.54:2379，http://172.16.20.55:2379 create-network --ip 172.16.20.54`
)

// The range for containers in those commands.
var containersFirst, containersLast = netip.MustParseAddr("172.16.21.100"), netip.MustParseAddr("172.16.21.200")

// pasted prepares what a person has pasted into a shell on a host.
func pasted(t *testing.T, text string) *exec.Cmd {
	t.Helper()
	ipamlog, err := lab.Ipamlog()
	if err != nil {
		t.Fatal(err)
	}
	shell := exec.Command("sh", "-c", text)
	shell.Env = slices.Concat(ipamlog.Env, []string{"PATH=" + filepath.Dir(ipamlog.Path) + ":/usr/sbin:/usr/bin:/sbin:/bin"})
	return shell
}

// types runs pasted text to its end.
func (s *site) types(t *testing.T, text string) outcome {
	t.Helper()
	return s.ends(t, pasted(t, text))
}

// TestOneSubnet has three hosts share a subnet as the users of oam-docker-ipam do,
// with the commands of its README, on a cluster of three members: dozens of
// containers start on all hosts at once, all reach all, and the last address is
// given out before one is refused.
func TestOneSubnet(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	router := netip.MustParsePrefix("172.16.16.1/20")
	l.Router(router)
	members := l.StartCluster(3).Members
	var sites []*site
	var hosts []*lab.Host
	for i, name := range []string{"a", "b", "c"} {
		s := newSite(t, l, name)
		s.store = []string{"--cluster-store", "http://172.16.20.53:2379,http://172.16.20.54:2379,http://172.16.20.55:2379"}
		if err := s.AddAddress(netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, 20, byte(54 + i)}), 20)); err != nil {
			t.Fatal(err)
		}
		if err := s.SetGateway(router.Addr()); err != nil {
			t.Fatal(err)
		}
		// The README has etcd on the hosts themselves, the lab beside them.
		for j, m := range members {
			s.MustExec(t, "iptables", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "--dport", "2379",
				"-d", fmt.Sprint("172.16.20.", 53+j), "-j", "DNAT", "--to-destination", m.Host.Addr().String()+":2379")
		}
		s.MustExec(t, "iptables", "-t", "nat", "-A", "POSTROUTING", "-p", "tcp", "--dport", "2379", "-j", "MASQUERADE")
		s.MustExec(t, "mount", "--bind", s.Dir(), "/var/log")
		sites, hosts = append(sites, s), append(hosts, s.Host)
	}
	onAll := func(what func(*site)) {
		var running sync.WaitGroup
		for _, s := range sites {
			running.Go(func() { what(s) })
		}
		running.Wait()
	}

	for _, command := range []string{hostRange, ipRange} {
		if o := sites[0].types(t, command); o.status != 0 {
			t.Fatalf("%s\nstatus %d: %s", command, o.status, o.stderr)
		}
	}
	for _, s := range sites {
		if _, err := s.Start(pasted(t, server+"\nwait")); err != nil {
			t.Fatal(err)
		}
		await(t, "the daemon to serve", func() (bool, error) {
			log, err := s.Exec("cat", "/var/log/oam-docker-ipam.log")
			return err == nil && strings.Contains(log, "is serving on"), nil
		})
	}
	lab.StartEngines(t, hosts...)
	for i, s := range sites {
		command := network
		if i > 0 {
			command = strings.TrimSuffix(network, " --ip 172.16.20.54") // the one it has
		}
		o := s.types(t, command)
		t.Logf("%s# %s\n%s%s", s.Name(), command, o.stdout, o.stderr)
		if o.status != 0 {
			t.Fatalf("status %d", o.status)
		}
	}

	const each = 8
	onAll(func(s *site) {
		var starting sync.WaitGroup
		for i := range 3 {
			starting.Go(func() {
				for j := i; j < each; j += 3 {
					if _, err := s.Docker("run", "-d", "--name", fmt.Sprint("c", j), "--network", "mynet", lab.Image); err != nil {
						t.Errorf("host %s: %v", s.Name(), err)
					}
				}
			})
		}
		starting.Wait()
	})
	if t.Failed() {
		t.FailNow()
	}
	containers := map[netip.Addr]string{}
	for _, s := range sites {
		for j := range each {
			addr, _ := s.addresses(t, fmt.Sprint("c", j), "mynet")
			if other, twice := containers[addr]; twice {
				t.Errorf("%s is in use by %s, and on host %s by c%d", addr, other, s.Name(), j)
			}
			if addr.Less(containersFirst) || containersLast.Less(addr) {
				t.Errorf("c%d on host %s has %s, which is not in the range", j, s.Name(), addr)
			}
			containers[addr] = fmt.Sprintf("c%d on host %s", j, s.Name())
		}
	}

	everybody := []string{router.Addr().String(), "172.16.20.54", "172.16.20.55", "172.16.20.56"}
	for addr := range containers {
		everybody = append(everybody, addr.String())
	}
	onAll(func(s *site) {
		for j := range each {
			// More than once: the kernel has one table of a thousand neighbours for
			// all namespaces, and everybody is everybody's.
			ping := "for a in " + strings.Join(everybody, " ") + "; do ping -c1 -W2 $a || ping -c1 -W5 $a || ping -c2 -W10 $a || lost=\"$lost $a\"; done >/dev/null; echo $lost"
			lost, err := s.Docker("exec", fmt.Sprint("c", j), "sh", "-c", ping)
			if err != nil || lost != "" {
				t.Errorf("c%d on host %s does not reach %q (%v)", j, s.Name(), strings.Fields(lost), err)
			}
		}
	})

	held := same(t, sites)
	for addr, who := range containers {
		if !slices.ContainsFunc(held, func(h holding) bool { return h.Address == addr && h.Kind == "endpoint" }) {
			t.Errorf("%s of %s is not held", addr, who)
		}
	}

	// What is left, quicker than by containers.
	var mu sync.Mutex
	rest := map[netip.Addr]bool{}
	pools := map[*site]string{}
	for _, s := range sites {
		answer, err := s.plugin(t).call(t.Context(), "RequestPool", object{"AddressSpace": "ipamlog-local", "Pool": "172.16.16.0/20"})
		if err != nil {
			t.Fatal(err)
		}
		pools[s] = answer.PoolID
	}
	onAll(func(s *site) {
		for {
			answer, err := s.plugin(t).call(t.Context(), "RequestAddress", object{"PoolID": pools[s]})
			if err != nil {
				if !strings.Contains(err.Error(), "No available addresses") || !strings.Contains(err.Error(), "172.16.21.100-172.16.21.200") {
					t.Errorf("host %s: %v", s.Name(), err)
				}
				return
			}
			mu.Lock()
			addr := netip.MustParsePrefix(answer.Address).Addr()
			if rest[addr] || containers[addr] != "" {
				t.Errorf("%s was given out twice", addr)
			}
			rest[addr] = true
			mu.Unlock()
		}
	})
	if got := len(rest) + len(containers); got != 101 {
		t.Errorf("%d addresses were given out of 101", got)
	}
	for _, s := range sites {
		s.refused(t, []string{"No available addresses", "172.16.21.100-172.16.21.200"}, "run", "--rm", "--network", "mynet", lab.Image, "true")
	}
	if held := same(t, sites); len(held) != 101+3+3 { // containers, bridges, and the router that each host named
		t.Errorf("%d are held, want 107", len(held))
	}

	for _, s := range sites {
		if _, err := s.plugin(t).call(t.Context(), "ReleasePool", object{"PoolID": pools[s]}); err != nil {
			t.Error(err)
		}
		s.removeAll(t)
		s.MustDocker(t, "network", "rm", "mynet")
	}
	for i, s := range sites {
		release := fmt.Sprintf("%s release-host --ip 172.16.20.%d", strings.Join(strings.Fields(network)[:2], " "), 54+i)
		if o := s.types(t, release); o.status != 1 || !strings.Contains(o.stderr, "br0") {
			t.Errorf("br0 has the address, and release-host says, with status %d: %s", o.status, o.stderr)
		}
		if o := s.types(t, release+" --force"); o.status != 0 {
			t.Errorf("status %d: %s", o.status, o.stderr)
		}
	}
	if left := same(t, sites); len(left) > 0 {
		t.Errorf("all was given back, and still held are %+v", left)
	}
}

// same asks every host who holds what, and fails the test unless all say the same.
func same(t *testing.T, sites []*site) []holding {
	t.Helper()
	first := ask[[]holding](t, sites[0], "holders", "172.16.16.0/20")
	for _, s := range sites[1:] {
		if d := diff(first, ask[[]holding](t, s, "holders", "172.16.16.0/20")); d != "" {
			t.Errorf("hosts %s and %s tell of other holders:\n%s", sites[0].Name(), s.Name(), d)
		}
	}
	return first
}
