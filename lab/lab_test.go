// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/lab"
)

func TestHostsShareALayer2(t *testing.T) {
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
