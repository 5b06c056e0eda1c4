// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ipamlog/ipamlog/config"
	"github.com/ipamlog/ipamlog/hostnet"
	"github.com/ipamlog/ipamlog/operator"
	"github.com/ipamlog/ipamlog/render"
)

// hosts has 10.50.0.9 for this host, and any other address of the range that is
// wished for.
type hosts struct {
	fresh   bool
	faster  bool // whether another host takes 10.50.0.9 at the last moment
	refuse  string
	taken   []string
	unable  error // to give back
	givenUp []string
}

func (h *hosts) Look(_ context.Context, pool string, wish netip.Addr) (operator.HostAddress, error) {
	a := operator.HostAddress{
		Address: netip.MustParseAddr("10.50.0.9"), Subnet: netip.MustParsePrefix("10.50.0.0/24"),
		PoolName: pool, Router: netip.MustParseAddr("10.50.0.1"), Fresh: h.fresh,
	}
	if wish.IsValid() {
		a.Address = wish
	}
	if wish.String() == h.refuse {
		return a, errors.Newf("%s is not kept for hosts", wish)
	}
	return a, nil
}

func (h *hosts) Take(ctx context.Context, pool string, wish netip.Addr) (operator.HostAddress, error) {
	a, err := h.Look(ctx, pool, wish)
	if h.faster {
		a.Address = a.Address.Next()
	}
	h.taken = append(h.taken, a.Address.String())
	return a, err
}

func (h *hosts) GiveBack(ctx context.Context, a operator.HostAddress) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	h.givenUp = append(h.givenUp, a.Address.String())
	return h.unable
}

// paper is a machine whose eth0 has an address and the default route.
type paper struct {
	address string
	failure error
	busy    bool
	locks   int // held
	applied *hostnet.Plan
}

func (p *paper) Lock() (func() error, error) {
	if p.busy {
		return nil, hostnet.ErrBusy
	}
	p.locks++
	return func() error {
		p.locks--
		return nil
	}, nil
}

func (p *paper) Inspect(context.Context) (hostnet.Facts, error) {
	a, err := netlink.ParseAddr(p.address)
	if err != nil {
		return hostnet.Facts{}, err
	}
	return hostnet.Facts{
		Links: []hostnet.Link{{
			Index: 2, Name: "eth0", Kind: "device", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 5}, MTU: 1500, Up: true, Ethernet: true,
			Addresses: []netlink.Addr{*a},
		}},
		Routes: []netlink.Route{{
			LinkIndex: 2, Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, Gw: net.IPv4(10, 50, 0, 1), Family: netlink.FAMILY_V4,
			Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST, Protocol: unix.RTPROT_STATIC,
		}},
		Drivers: []string{"ipamlog"},
	}, nil
}

func (p *paper) Apply(_ context.Context, plan *hostnet.Plan, tell func(hostnet.Step, hostnet.Stage)) error {
	if p.locks != 1 {
		return errors.New("another run may do the same now")
	}
	p.applied = plan
	for _, s := range plan.Steps {
		tell(s, hostnet.Done)
	}
	if p.failure != nil {
		tell(plan.Steps[0], hostnet.Undone)
	}
	return p.failure
}

func TestCreation(t *testing.T) {
	const (
		made  = "make the bridge br0 with the hardware address of eth0, 02:00:00:00:00:05\n"
		moved = "move eth0 into br0, with 10.50.0.5/24, the route default via 10.50.0.1\n"
		done  = "done: run containers with `docker run --network mynet`\n"
	)
	planOf := func(address string) string {
		return made + "put " + address + "/24 on br0\n" +
			"create the Docker network mynet: subnet 10.50.0.0/24, gateway " + address + ", router 10.50.0.1, MTU 1500\n" + moved
	}
	const noPersistence = "ipamlog: warning: neither network scripts nor systemd-networkd configure eth0, so nothing is written for the next boot: choose a --persist, or run this again after a boot\n"
	changed := func(from string) string {
		return "ipamlog: warning: new connections of this machine will come from " + from + ", no longer from 10.50.0.5, which stays on br0: keep it from containers with `ipamlog reserve 10.50.0.5`\n"
	}
	for name, c := range map[string]struct {
		creation       creation
		hosts          hosts
		machine        paper
		stdout, stderr string
		taken, givenUp string
		err            string
	}{
		"it keeps its address": {
			hosts: hosts{fresh: true}, stdout: "take 10.50.0.5/24 for this host\n" + planOf("10.50.0.5") + done, stderr: noPersistence, taken: "10.50.0.5",
		},
		"it has one in the log": {
			stdout: planOf("10.50.0.9") + done, stderr: noPersistence + changed("10.50.0.9"), taken: "10.50.0.9",
		},
		"a wish": {
			creation: creation{wish: netip.MustParseAddr("10.50.0.77"), pool: "lan"}, hosts: hosts{fresh: true},
			stdout: "take 10.50.0.77/24 for this host from pool lan\n" + strings.ReplaceAll(planOf("10.50.0.77"), ", MTU", ", pool lan, MTU") + done,
			stderr: noPersistence + changed("10.50.0.77"), taken: "10.50.0.77",
		},
		"it may not keep its address": {
			hosts:  hosts{fresh: true, refuse: "10.50.0.5"},
			stdout: "take 10.50.0.9/24 for this host\n" + planOf("10.50.0.9") + done,
			stderr: "ipamlog: warning: this machine does not keep 10.50.0.5, which it has: 10.50.0.5 is not kept for hosts\n" + noPersistence + changed("10.50.0.9"), taken: "10.50.0.9",
		},
		"another host is faster": {
			hosts:  hosts{fresh: true, refuse: "10.50.0.5", faster: true},
			stdout: "take 10.50.0.10/24 for this host\n" + planOf("10.50.0.10") + done,
			stderr: "ipamlog: warning: this machine does not keep 10.50.0.5, which it has: 10.50.0.5 is not kept for hosts\n" + noPersistence + changed("10.50.0.10"), taken: "10.50.0.10",
		},
		"a dry run": {
			creation: creation{dryRun: true}, hosts: hosts{fresh: true},
			stdout: "take 10.50.0.5/24 for this host\n" + planOf("10.50.0.5"), stderr: noPersistence + "nothing was done: this is what would be\n",
		},
		"refused": {
			hosts: hosts{fresh: true}, machine: paper{address: "10.50.0.5/16"},
			err: "eth0 has 10.50.0.5/16, and the addresses of hosts are in 10.50.0.0/24: give both the same subnet, here or with host-range",
		},
		"a wish that is refused": {
			creation: creation{wish: netip.MustParseAddr("10.50.0.77")}, hosts: hosts{refuse: "10.50.0.77"},
			err: "10.50.0.77 is not kept for hosts",
		},
		"a step fails": {
			hosts: hosts{fresh: true}, machine: paper{address: "10.50.0.5/24", failure: errors.New("no luck; all is as it was before")},
			stdout: "take 10.50.0.5/24 for this host\n" + planOf("10.50.0.5") + "undone: " + made + "undone: take 10.50.0.5/24 for this host\n",
			stderr: noPersistence, taken: "10.50.0.5", givenUp: "10.50.0.5", err: "no luck; all is as it was before",
		},
		"a step fails, and the address was its own": {
			hosts: hosts{fresh: false}, machine: paper{address: "10.50.0.5/24", failure: errors.New("no luck")},
			stdout: planOf("10.50.0.9") + "undone: " + made, stderr: noPersistence + changed("10.50.0.9"), taken: "10.50.0.9", err: "no luck",
		},
		"a step fails, and what the address is used by is left": {
			hosts: hosts{fresh: true}, machine: paper{address: "10.50.0.5/24", failure: errors.Mark(errors.New("mend by hand what could not be undone: this"), hostnet.ErrLeft)},
			stdout: "take 10.50.0.5/24 for this host\n" + planOf("10.50.0.5") + "undone: " + made, stderr: noPersistence, taken: "10.50.0.5",
			err: "this host keeps 10.50.0.5, which may be in use here: run this again, or give it back with `ipamlog release-host --ip 10.50.0.5` once nothing has it; after: mend by hand what could not be undone: this",
		},
		"another run": {
			hosts: hosts{fresh: true}, machine: paper{address: "10.50.0.5/24", busy: true}, err: hostnet.ErrBusy.Error(),
		},
		"a dry run beside another": {
			creation: creation{dryRun: true}, hosts: hosts{fresh: true}, machine: paper{address: "10.50.0.5/24", busy: true},
			stdout: "take 10.50.0.5/24 for this host\n" + planOf("10.50.0.5"), stderr: noPersistence + "nothing was done: this is what would be\n",
		},
		"the address cannot be given back": {
			hosts: hosts{fresh: true, unable: errors.New("etcd is away")}, machine: paper{address: "10.50.0.5/24", failure: errors.New("no luck")},
			stdout: "take 10.50.0.5/24 for this host\n" + planOf("10.50.0.5") + "undone: " + made, stderr: noPersistence, taken: "10.50.0.5", givenUp: "10.50.0.5",
			err: "10.50.0.5 is still held for this host: give it back with `ipamlog release-host --ip 10.50.0.5` (etcd is away); after: no luck",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			r := c.creation
			if c.machine.address == "" {
				c.machine.address = "10.50.0.5/24"
			}
			r.hosts, r.machine, r.stderr, r.out = &c.hosts, &c.machine, &stderr, render.NewOutput(&stdout, render.FormatTable, true)
			r.wishes = hostnet.Wishes{Network: "mynet", Bridge: "br0", Driver: "ipamlog"}
			err := r.run(t.Context())
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != c.err {
				t.Errorf("error %q, want %q", got, c.err)
			}
			if diff := cmp.Diff(c.stdout, stdout.String()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(c.stderr, stderr.String()); diff != "" {
				t.Error(diff)
			}
			if taken := strings.Join(c.hosts.taken, " "); taken != c.taken {
				t.Errorf("took %q, want %q", taken, c.taken)
			}
			if givenUp := strings.Join(c.hosts.givenUp, " "); givenUp != c.givenUp {
				t.Errorf("gave back %q, want %q", givenUp, c.givenUp)
			}
			if c.machine.locks != 0 {
				t.Error("no other run can start")
			}
			if c.taken == "" && c.machine.applied != nil {
				t.Error("it did something")
			}
		})
	}
}

func TestCreation_json(t *testing.T) {
	for _, dry := range []bool{true, false} {
		var stdout, stderr bytes.Buffer
		c := creation{
			dryRun: dry, hosts: &hosts{fresh: true}, machine: &paper{address: "10.50.0.5/24"}, stderr: &stderr, out: render.NewOutput(&stdout, render.FormatJSON, true),
			wishes: hostnet.Wishes{Network: "mynet", Bridge: "br0", Driver: "ipamlog"},
		}
		if err := c.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
			t.Fatalf("%v: %s", err, stdout.String())
		}
		if n := len(got["steps"].([]any)); n != 5 {
			t.Errorf("%d steps", n)
		}
		if n := len(got["warnings"].([]any)); n != 1 {
			t.Errorf("%d warnings", n)
		}
		delete(got, "steps")
		delete(got, "warnings")
		want := map[string]any{
			"address": "10.50.0.5", "subnet": "10.50.0.0/24", "router": "10.50.0.1", "pool": nil, "bridge": "br0", "uplink": "eth0", "network": "mynet",
			"mtu": 1500.0, "persist": "none", "dry_run": dry, "changed": true,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestCreateNetworkCommand_usage(t *testing.T) {
	for args, want := range map[string]string{
		"--ip 10.50.0.5/24":  `--ip "10.50.0.5/24" is no address: write one such as 172.16.16.9, without a prefix length`,
		"--persist netplan":  `--persist "netplan" is none of ifcfg, networkd and none`,
		"--mtu 67":           "an MTU of 67 cannot be: choose a --mtu from 68 to 65535",
		"--bridge br0/1":     `"br0/1" cannot be a device's name: choose a --bridge of 1 to 15 characters such as br0`,
		"--name -x":          `"-x" cannot be the name of a Docker network: choose a --name of letters, digits and any of _ . - that starts with a letter or digit`,
		"--name a/b":         `"a/b" cannot be the name of a Docker network: choose a --name of letters, digits and any of _ . - that starts with a letter or digit`,
		"--mtu large":        `--mtu cannot be "large": write a whole number`,
		"now":                "act create-network takes no arguments: see act create-network --help",
		"--engine off":       "create-network asks Docker, and --engine is off: name Docker's API with --engine",
		"--uplink eth0 --no": "unknown flag: --no: see act create-network --help",
	} {
		root := New(Build{}, &cobra.Command{Use: "act"})
		root.RemoveCommand(find(root, "create-network"))
		cmd := createNetworkCommand(func(*cobra.Command, config.Config) (hostAddresses, func() error, error) {
			t.Errorf("%s: the log was opened", args)
			return nil, nil, errors.New("no log here")
		})
		root.AddCommand(cmd)
		var stdout, stderr bytes.Buffer
		status := Run(t.Context(), root, append([]string{"create-network"}, strings.Fields(args)...), strings.NewReader(""), &stdout, &stderr)
		want = "ipamlog: " + strings.ReplaceAll(want, "act ", "ipamlog ") + "\n"
		if status != ExitUsage || stderr.String() != want {
			t.Errorf("%s: status %d: %s\nwant %s", args, status, stderr.String(), want)
		}
	}
}

func find(root *cobra.Command, name string) *cobra.Command {
	for _, c := range root.Commands() {
		if c.Name() == name {
			return c
		}
	}
	return &cobra.Command{}
}
