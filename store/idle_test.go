// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/config"
	"github.com/ipamlog/ipamlog/store"
)

// TestDial_idle: on a connection on which nothing is asked and nothing watched no ping
// is sent. Etcd takes none there: after three it ends the connection as one with too
// many, and gRPC writes that to standard error.
func TestDial_idle(t *testing.T) {
	t.Parallel()
	dir, server := daemon(t)
	p := overhear(t, filepath.Join(dir, "wire"), strings.TrimPrefix(server.Endpoint(), "unix://"))
	client, err := store.Dial(config.Global{ClusterStore: []string{"unix://" + filepath.Join(dir, "wire")}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Get(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	answered := time.Now()
	// gRPC sends none more often than every 10 s, whatever it is told.
	time.Sleep(12 * time.Second)
	for _, at := range p.pings() {
		// One that measures the line comes with the answer.
		if later := at.Sub(answered); later > time.Second {
			t.Errorf("a ping %v after the last answer", later)
		}
	}
	if p.frames() == 0 {
		t.Error("nothing was overheard")
	}
}

// wire is what a client sends on its connections.
type wire struct {
	mu   sync.Mutex
	seen int
	ping []time.Time
}

func (w *wire) pings() []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]time.Time(nil), w.ping...)
}

func (w *wire) frames() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

// overhear passes on what comes to one unix socket to another, and looks at the frames.
func overhear(t *testing.T, at, to string) *wire {
	t.Helper()
	listener, err := net.Listen("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{}
	var all sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", to)
			if err != nil {
				_ = conn.Close()
				continue
			}
			all.Go(func() {
				_, _ = io.Copy(conn, server)
				_ = conn.Close()
			})
			all.Go(func() {
				w.carry(server, conn)
				_ = server.Close()
			})
		}
	})
	return w
}

// carry passes the client's preface on, and then frame after frame (RFC 9113, 3.4 and
// 4.1).
func (w *wire) carry(to io.Writer, from io.Reader) {
	if _, err := io.CopyN(to, from, 24); err != nil {
		return
	}
	for {
		head := make([]byte, 9)
		if _, err := io.ReadFull(from, head); err != nil {
			return
		}
		const ping, ack = 6, 1
		w.mu.Lock()
		w.seen++
		if head[3] == ping && head[4]&ack == 0 {
			w.ping = append(w.ping, time.Now())
		}
		w.mu.Unlock()
		if _, err := to.Write(head); err != nil {
			return
		}
		if _, err := io.CopyN(to, from, int64(binary.BigEndian.Uint32(append([]byte{0}, head[:3]...)))); err != nil {
			return
		}
	}
}
