// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/lab"
)

func container(t *testing.T, h *lab.Host, name string) lab.Container {
	t.Helper()
	c, err := h.Container(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestEngine takes one engine through its life: a network, two containers that
// see each other, and each way to end.
func TestEngine(t *testing.T) {
	t.Parallel()
	h := lab.New(t).Host("a")
	began := time.Now()
	lab.StartEngines(t, h)
	t.Logf("the engine started in %v", time.Since(began))

	h.MustDocker(t, "network", "create", "--ipv6", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64", "n")
	for _, name := range []string{"c1", "c2"} {
		h.MustDocker(t, "run", "-d", "--name", name, "--network", "n", lab.Image)
	}
	addresses := container(t, h, "c2").NetworkSettings.Networks["n"]
	for _, a := range []netip.Addr{addresses.IPAddress, addresses.GlobalIPv6Address} {
		h.MustDocker(t, "exec", "c1", "ping", "-c1", "-W5", a.String())
	}
	n, err := h.Network("n")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := n.IPAM.Config[0].Subnet, netip.MustParsePrefix("10.1.0.0/24"); got != want {
		t.Errorf("the subnet is %v, want %v", got, want)
	}
	if got, want := n.Containers[container(t, h, "c2").ID].IPv4Address, netip.PrefixFrom(addresses.IPAddress, 24); got != want {
		t.Errorf("c2 has %v by its network and %v by itself", got, want)
	}

	t.Run("killed", func(t *testing.T) {
		if err := h.KillEngine(); err != nil {
			t.Fatal(err)
		}
		h.MustExec(t, "pgrep", "-f", "sleep 2147483647") // containers outlive it
		lab.StartEngines(t, h)
		if c := container(t, h, "c1"); c.State.Running {
			t.Error("the next engine took c1 for its own")
		}
		if out, err := h.Exec("pgrep", "-f", "sleep 2147483647"); err == nil {
			t.Errorf("the next engine left processes behind: %s", out)
		}
	})
	t.Run("stopped", func(t *testing.T) {
		h.MustDocker(t, "start", "c1")
		if err := h.StopEngine(); err != nil {
			t.Fatal(err)
		}
		if err := h.StartEngine("--live-restore"); err != nil {
			t.Fatal(err)
		}
		if c := container(t, h, "c1"); c.State.Running {
			t.Error("c1 was not stopped")
		}
	})
	t.Run("killed with live-restore", func(t *testing.T) {
		h.MustDocker(t, "start", "c1")
		before := container(t, h, "c1")
		if err := h.KillEngine(); err != nil {
			t.Fatal(err)
		}
		if err := h.StartEngine("--live-restore"); err != nil {
			t.Fatal(err)
		}
		if after := container(t, h, "c1"); !after.State.Running || after.State.Pid != before.State.Pid {
			t.Errorf("c1 did not survive: %+v, then %+v", before.State, after.State)
		}
	})
	t.Run("power cut", func(t *testing.T) {
		if err := h.Reboot(); err != nil {
			t.Fatal(err)
		}
		lab.StartEngines(t, h)
		if c := container(t, h, "c1"); c.State.Running {
			t.Error("c1 survived")
		}
		h.MustDocker(t, "start", "c1", "c2")
		h.MustDocker(t, "exec", "c1", "ping", "-c1", "-W5", container(t, h, "c2").NetworkSettings.Networks["n"].IPAddress.String())
	})
}

// TestEnginesShareALayer2 lets containers of two engines meet over macvlan.
func TestEnginesShareALayer2(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	hosts := []*lab.Host{l.Host("a"), l.Host("b")}
	lab.StartEngines(t, hosts...)
	for i, address := range []string{"10.2.0.11", "10.2.0.12"} {
		h := hosts[i]
		h.MustDocker(t, "network", "create", "--driver", "macvlan", "-o", "parent=eth0",
			"--ipv6", "--subnet", "10.2.0.0/24", "--subnet", "fd00:2::/64", "n")
		h.MustDocker(t, "run", "-d", "--name", "meeter", "--network", "n", "--ip", address, "--ip6", "fd00:2::"+address[len(address)-2:], lab.Image)
	}
	for _, target := range []string{"10.2.0.12", "fd00:2::12"} {
		hosts[0].MustDocker(t, "exec", "meeter", "ping", "-c1", "-W5", target)
	}
	for _, h := range hosts {
		containers, err := h.Containers()
		if err != nil {
			t.Fatal(err)
		}
		if len(containers) != 1 || containers[0].Name != "/meeter" {
			t.Errorf("host %s has %+v, want its own meeter only", h.Name(), containers)
		}
		networks, err := h.Networks()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(networks, func(n lab.Network) bool { return n.Name == "n" && n.Driver == "macvlan" }) {
			t.Errorf("host %s has %+v, want n among them", h.Name(), networks)
		}
	}
}

// TestPluginDir has the engine find a socket in the plugin directory.
func TestPluginDir(t *testing.T) {
	t.Parallel()
	h := lab.New(t).Host("a")
	ln, err := net.Listen("unix", filepath.Join(h.PluginDir(), "probe.sock"))
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 10)
	plugin := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		w.Write([]byte(`{"Implements":["Nothing"]}`))
	})}
	served := make(chan error)
	go func() { served <- plugin.Serve(ln) }()
	t.Cleanup(func() {
		plugin.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	lab.StartEngines(t, h)
	if out, err := h.Docker("network", "create", "--ipam-driver", "probe", "n"); err == nil {
		t.Errorf("a plugin that implements nothing made network %s", out)
	}
	select {
	case path := <-asked:
		if path != "/Plugin.Activate" {
			t.Errorf("asked for %s first", path)
		}
	default:
		t.Error("the engine did not ask the plugin")
	}
}
