// SPDX-License-Identifier: Apache-2.0

package hostnet_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"golang.org/x/sys/unix"
)

// neighbour is another machine at the other end of the uplink's cable.
type neighbour struct{ pid int }

// newNeighbour moves lan0 to a network namespace of its own, which lasts as long
// as a process does.
func newNeighbour(t *testing.T, commands ...string) neighbour {
	t.Helper()
	cmd := exec.Command("unshare", "--net", "sh", "-c", "echo ready; cat >/dev/null")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	if _, err := io.ReadAtLeast(stdout, make([]byte, 6), 6); err != nil {
		t.Fatal(err)
	}
	n := neighbour{cmd.Process.Pid}
	ip(t, fmt.Sprintf("link set lan0 netns %d", n.pid))
	for _, c := range append([]string{"link set lan0 up"}, commands...) {
		args := append([]string{"-t", fmt.Sprint(n.pid), "-n", "ip"}, strings.Fields(c)...)
		if out, err := exec.Command("nsenter", args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", c, err, out)
		}
	}
	return n
}

// do runs f on the neighbour: what it opens belongs there.
func (n neighbour) do(t *testing.T, f func() error) {
	t.Helper()
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with the goroutine
		result <- func() error {
			ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", n.pid))
			if err != nil {
				return err
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			return f()
		}()
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

// A connection over the uplink, as of somebody logged in, survives the move and
// its undoing, and what is sent each millisecond arrives.
func TestApply_connections(t *testing.T) {
	m := newMachine(t, "addr add 10.50.0.5/24 dev eth0", "route add default via 10.50.0.1")
	n := newNeighbour(t, "addr add 10.50.0.1/24 dev lan0", "addr add 192.0.2.1/32 dev lan0")

	listener, err := net.Listen("tcp4", "10.50.0.5:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	probes, err := net.ListenPacket("udp4", "10.50.0.5:0")
	if err != nil {
		t.Fatal(err)
	}
	var login, probe net.Conn
	n.do(t, func() (err error) {
		if login, err = net.Dial("tcp4", listener.Addr().String()); err != nil {
			return err
		}
		probe, err = (&net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1)}}).Dial("udp4", probes.LocalAddr().String())
		return err
	})
	defer login.Close()
	defer probe.Close()
	shell, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer shell.Close()

	var wg sync.WaitGroup
	// The machine sends back what it gets.
	wg.Go(func() {
		packet := make([]byte, 64)
		for {
			size, from, err := probes.ReadFrom(packet)
			if err != nil {
				return
			}
			_, _ = probes.WriteTo(packet[:size], from)
		}
	})
	stop := make(chan struct{})
	var (
		sent, received int
		last, gap      time.Duration
		begin          = time.Now()
	)
	wg.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				_, _ = probe.Write([]byte("probe"))
				sent++
			}
		}
	})
	var reader sync.WaitGroup
	reader.Go(func() {
		packet := make([]byte, 64)
		for {
			if _, err := probe.Read(packet); err != nil {
				return
			}
			received++
			now := time.Since(begin)
			gap, last = max(gap, now-last), now
		}
	})
	talk := func() {
		t.Helper()
		text := "is anybody there?"
		if _, err := shell.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, len(text))
		_ = login.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.ReadFull(login, answer); err != nil || string(answer) != text {
			t.Fatalf("the connection is lost: %v", err)
		}
	}
	talk()
	for range 10 {
		p := m.plan(t, wishes())
		if err := m.Apply(t.Context(), p, quiet); err != nil {
			t.Fatal(err)
		}
		talk()
		if err := m.Undo(p, errors.New("regret"), quiet); !strings.Contains(err.Error(), "all is as it was") {
			t.Fatal(err)
		}
		talk()
	}
	close(stop)
	_ = probe.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	reader.Wait()
	_ = probes.Close()
	wg.Wait()
	t.Logf("of %d packets, one a millisecond, %d were lost over 10 moves there and back; the longest silence was %v", sent, sent-received, gap)
	if lost := sent - received; lost > 200 || gap > 2*time.Second {
		t.Errorf("%d packets lost, %v of silence", lost, gap)
	}
}
