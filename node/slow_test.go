// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/embedded/etcdtest"
)

// lag stands between a daemon and its store, and brings each answer late.
type lag struct {
	socket string
	ln     net.Listener
	late   atomic.Int64 // nanoseconds
	wg     sync.WaitGroup
	ended  chan struct{}

	mu    sync.Mutex
	conns []net.Conn
}

func newLag(t *testing.T, endpoint string) *lag {
	t.Helper()
	l := &lag{socket: filepath.Join(shortDir(t), "s"), ended: make(chan struct{})}
	var err error
	if l.ln, err = net.Listen("unix", l.socket); err != nil {
		t.Fatal(err)
	}
	l.wg.Go(func() { l.accept(strings.TrimPrefix(endpoint, "unix://")) })
	t.Cleanup(func() {
		close(l.ended)
		_ = l.ln.Close()
		l.cut()
		l.wg.Wait()
	})
	return l
}

func (l *lag) endpoint() string { return "unix://" + l.socket }

// cut ends all connections.
func (l *lag) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.conns = nil
}

func (l *lag) accept(backend string) {
	for {
		client, err := l.ln.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", backend)
		if err != nil {
			_ = client.Close()
			continue
		}
		l.mu.Lock()
		l.conns = append(l.conns, client, server)
		l.mu.Unlock()
		l.wg.Go(func() { l.carry(server, client, new(atomic.Int64)) })
		l.wg.Go(func() { l.carry(client, server, &l.late) })
	}
}

// carry brings what comes from one side to the other, each piece in its order and so
// much later.
func (l *lag) carry(to, from net.Conn, late *atomic.Int64) {
	type piece struct {
		due  time.Time
		data []byte
	}
	way := make(chan piece, 1<<12)
	l.wg.Go(func() {
		defer func() { _ = to.Close() }()
		for p := range way {
			select {
			case <-time.After(time.Until(p.due)):
			case <-l.ended:
			}
			if _, err := to.Write(p.data); err != nil {
				_ = from.Close()
			}
		}
	})
	defer close(way)
	for {
		buffer := make([]byte, 64<<10)
		n, err := from.Read(buffer)
		if n > 0 {
			way <- piece{time.Now().Add(time.Duration(late.Load())), buffer[:n]}
		}
		if err != nil {
			return
		}
	}
}

// TestSlowStore has a store that answers late, and later than anybody waits. What is
// refused is asked again, as Docker does; nobody ends up with two addresses, and no
// address with two.
func TestSlowStore(t *testing.T) {
	t.Parallel()
	for _, late := range []time.Duration{300 * time.Millisecond, 1500 * time.Millisecond, 4 * time.Second} {
		t.Run(late.String(), func(t *testing.T) {
			t.Parallel()
			etcd := etcdtest.Start(t)
			slow := newLag(t, etcd.Endpoint())
			d := serve(t, "h1", slow.endpoint())
			d.grant()
			const endpoints = 12
			early := d.gets(endpoints)

			slow.late.Store(int64(late))
			var asking sync.WaitGroup
			first := make([]netip.Addr, endpoints)
			for n := range first {
				asking.Go(func() {
					for range 2 { // the second is the engine's, which heard nothing or a refusal
						got, said := d.ask(n)
						switch {
						case said == "" && first[n].IsValid() && got != first[n]:
							t.Errorf("endpoint %d was given %s, and then %s", n, first[n], got)
						case said == "":
							first[n] = got
						case strings.ContainsAny(said, "\n") || !strings.HasSuffix(said, ": check that etcd is up and has a leader, then try again"):
							t.Errorf("refused: %q", said)
						}
					}
				})
			}
			asking.Go(func() { d.frees(early) })
			asking.Wait()

			slow.late.Store(0)
			have := map[int]netip.Addr{}
			answered := 0
			for n := range first {
				have[n] = d.gets(n)
				if first[n].IsValid() {
					answered++
					if have[n] != first[n] {
						t.Errorf("endpoint %d was given %s, and then %s", n, first[n], have[n])
					}
				}
			}
			t.Logf("%d of %d were answered while answers came %v late", answered, endpoints, late)
			holds(t, etcd.Client(), have)
		})
	}
}
