// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// gate stands between one daemon and the store. Shut one way, nothing passes
// that way and nobody is told: what was sent arrives once it is open again.
type gate struct {
	socket string
	ln     net.Listener
	wg     sync.WaitGroup

	mu                sync.Mutex
	moved             *sync.Cond
	backend           string
	requests, answers bool // held back
	ended             bool
	conns             []net.Conn
}

func newGate(tb testing.TB, endpoint string) *gate {
	tb.Helper()
	dir, err := os.MkdirTemp("", "gate")
	if err != nil {
		tb.Fatal(err)
	}
	g := &gate{backend: strings.TrimPrefix(endpoint, "unix://"), socket: filepath.Join(dir, "s")}
	g.moved = sync.NewCond(&g.mu)
	if g.ln, err = net.Listen("unix", g.socket); err != nil {
		tb.Fatal(err)
	}
	g.wg.Go(g.accept)
	tb.Cleanup(func() {
		g.mu.Lock()
		g.ended = true
		for _, c := range g.conns {
			_ = c.Close()
		}
		g.mu.Unlock()
		g.moved.Broadcast()
		_ = g.ln.Close()
		g.wg.Wait()
		_ = os.RemoveAll(dir)
	})
	return g
}

func (g *gate) endpoint() string { return "unix://" + g.socket }

// shut holds back requests, answers or both.
func (g *gate) shut(requests, answers bool) {
	g.mu.Lock()
	g.requests, g.answers = requests, answers
	g.mu.Unlock()
	g.moved.Broadcast()
}

func (g *gate) open() { g.shut(false, false) }

// turn leads to another store from now on, and cuts what leads to the old one.
func (g *gate) turn(endpoint string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.backend = strings.TrimPrefix(endpoint, "unix://")
	for _, c := range g.conns {
		_ = c.Close()
	}
}

func (g *gate) accept() {
	for {
		client, err := g.ln.Accept()
		if err != nil {
			return
		}
		g.mu.Lock()
		backend := g.backend
		g.mu.Unlock()
		server, err := net.Dial("unix", backend)
		if err != nil {
			_ = client.Close()
			continue
		}
		g.mu.Lock()
		if g.ended {
			_, _ = client.Close(), server.Close()
		}
		g.conns = append(g.conns, client, server)
		g.mu.Unlock()
		g.wg.Go(func() { g.carry(server, client, func() bool { return g.requests }) })
		g.wg.Go(func() { g.carry(client, server, func() bool { return g.answers }) })
	}
}

func (g *gate) carry(to, from net.Conn, held func() bool) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		g.mu.Lock()
		for held() && !g.ended {
			g.moved.Wait()
		}
		g.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
