// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/lab"
)

func TestHostsShareALayer2(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	a, b := l.Host("a"), l.Host("b")
	if got := b.MustExec(t, "hostname"); got != "b" {
		t.Errorf("hostname is %q, want b", got)
	}
	a.MustExec(t, "busybox", "ping", "-c1", "-W5", b.Addr().String())
	a.MustExec(t, "busybox", "ping", "-c1", "-W5", b.Addr6().String())

	if err := b.Unplug(); err != nil {
		t.Fatal(err)
	}
	if out, err := a.Exec("busybox", "ping", "-c1", "-W1", b.Addr().String()); err == nil {
		t.Errorf("an unplugged host answers: %s", out)
	}
	if err := b.Plug(); err != nil {
		t.Fatal(err)
	}
	a.MustExec(t, "busybox", "ping", "-c1", "-W5", b.Addr().String())
}

// TestHostsAreMachines looks for what makes each a machine of its own.
func TestHostsAreMachines(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	a, b := l.Host("a"), l.Host("b")
	read := func(h *lab.Host) map[string]string {
		ids := map[string]string{}
		for _, file := range []string{"/etc/machine-id", "/proc/sys/kernel/random/boot_id", "/etc/hostname"} {
			if ids[file] = h.MustExec(t, "cat", file); ids[file] == "" {
				t.Errorf("%s of host %s is empty", file, h.Name())
			}
		}
		return ids
	}
	first, other := read(a), read(b)
	for file, id := range first {
		if other[file] == id {
			t.Errorf("both hosts have %q in %s", id, file)
		}
	}
	for _, dir := range []string{"/etc", "/var/lib"} {
		a.MustExec(t, "touch", dir+"/of-a")
		if _, err := b.Exec("test", "-e", dir+"/of-a"); err == nil {
			t.Errorf("the hosts share %s", dir)
		}
	}

	if err := a.Reboot(); err != nil {
		t.Fatal(err)
	}
	a.MustExec(t, "test", "-e", "/etc/of-a", "-a", "-e", "/var/lib/of-a")
	again := read(a)
	for file, id := range first {
		if changes := file == "/proc/sys/kernel/random/boot_id"; (again[file] != id) != changes {
			t.Errorf("after a reboot %s has %q, and had %q", file, again[file], id)
		}
	}
}

// TestRouter has hosts in two subnets meet through the one between.
func TestRouter(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	l.Router(netip.MustParsePrefix("10.8.0.1/24"), netip.MustParsePrefix("10.9.0.1/24"), netip.MustParsePrefix("fd00:8::1/64"))
	a, b := l.Host("a"), l.Host("b")
	for h, n := range map[*lab.Host]string{a: "10.8.0", b: "10.9.0"} {
		if err := h.AddAddress(netip.MustParsePrefix(n + ".2/24")); err != nil {
			t.Fatal(err)
		}
		if err := h.SetGateway(netip.MustParseAddr(n + ".1")); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.AddAddress(netip.MustParsePrefix("fd00:8::2/64")); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"10.8.0.1", "fd00:8::1", "10.9.0.2"} {
		a.MustExec(t, "busybox", "ping", "-c1", "-W5", target)
	}

	t.Run("eth0 in a bridge", func(t *testing.T) {
		for _, c := range []string{
			"link add br0 type bridge", "link set br0 up", "addr flush dev eth0", "link set eth0 master br0", "addr add 10.8.0.2/24 dev br0",
		} {
			a.MustExec(t, "ip", strings.Fields(c)...)
		}
		if err := a.SetGateway(netip.MustParseAddr("10.8.0.1")); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			a.MustExec(t, "busybox", "ping", "-c1", "-W5", "10.9.0.2")
			if err := a.Unplug(); err != nil {
				t.Fatal(err)
			}
			if err := a.Plug(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestLabsAreApart has two labs at the same time, with the same names and
// addresses in them.
func TestLabsAreApart(t *testing.T) {
	for range 2 {
		l := lab.New(t)
		h := l.Host("a")
		own, err := l.Listen("tcp", net.JoinHostPort(l.Addr().String(), "700"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { own.Close() })
		hosts, err := h.Listen("tcp", "127.0.0.1:700")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { hosts.Close() })
		for _, ln := range []net.Listener{own, hosts} {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			c, err := h.Dial(ctx, "tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(s, "hello"); err != nil {
				t.Error(err)
			}
			s.Close()
			if said, err := io.ReadAll(c); err != nil || string(said) != "hello" {
				t.Errorf("read %q, %v through %v", said, err, ln.Addr())
			}
		}
	}
}

func TestProcessIsOfItsHost(t *testing.T) {
	h := lab.New(t).Host("a")
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command("sh", "-c", `trap 'hostname; exit 7' TERM; echo up; while :; do read x; done`)
	cmd.Stdout = in
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	p, err := h.Start(cmd)
	in.Close()
	if err != nil {
		t.Fatal(err)
	}
	up := make([]byte, 3)
	if _, err := io.ReadFull(out, up); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := p.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("ended with %v, want exit status 7", err)
	}
	if rest, err := io.ReadAll(out); err != nil || string(rest) != "a\n" {
		t.Errorf("it said %q, %v, want the name of its host", rest, err)
	}
}

func TestReboot(t *testing.T) {
	t.Parallel()
	h := lab.New(t).Host("a")
	p, err := h.Start(exec.Command("sleep", "1000"))
	if err != nil {
		t.Fatal(err)
	}
	lost, kept := filepath.Join(h.PluginDir(), "lost"), filepath.Join(h.Dir(), "kept")
	for _, f := range []string{lost, kept} {
		h.MustExec(t, "touch", f)
	}
	h.MustExec(t, "mkdir", "/run/somewhere")
	if err := h.Reboot(); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err == nil {
		t.Error("a process ended well through a power cut")
	}
	if out, err := h.Exec("ls", "/run/somewhere"); err == nil {
		t.Errorf("/run survived: %s", out)
	}
	if _, err := os.Stat(lost); err == nil {
		t.Error("the plugin directory survived")
	}
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("the disk did not survive: %v", err)
	}
	h.MustExec(t, "busybox", "ping", "-c1", "-W5", h.Addr().String())
}
