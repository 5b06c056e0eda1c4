// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"net"
	"sync"
	"time"

	"github.com/cockroachdb/errors"
)

// relayPatience is how long a relay tries to reach its target for a connection.
const relayPatience = 3 * time.Second

// Relay passes the connections that a host's own programs make to it on to
// somewhere in the lab, and can lose what passes. What cuts the host off, cuts the
// relay off. Its methods may be called from any goroutine.
type Relay struct {
	host   *Host
	target string
	ln     net.Listener
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	flow sync.RWMutex // held for reading while something is passed on

	mu    sync.Mutex
	links map[*link]bool
	word  []byte        // what a request holds whose answer is lost; nil: none is
	after time.Duration // and how long after it the connection is reset
	lost  int
}

// link is one connection and its continuation.
type link struct {
	near, far net.Conn

	mu   sync.Mutex
	deaf bool // what comes back is thrown away
}

// Relay starts a relay to an address of the lab, such as 198.18.0.3:2379, on the
// host's loopback, where [Relay.Addr] is. [Relay.Close] ends it.
func (h *Host) Relay(target string) (*Relay, error) {
	ln, err := h.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Relay{host: h, target: target, ln: ln, links: map[*link]bool{}}
	r.ctx, r.cancel = context.WithCancel(h.lab.ctx)
	r.wg.Go(r.accept)
	return r, nil
}

// Addr is where the host's programs find the relay.
func (r *Relay) Addr() string { return r.ln.Addr().String() }

// LoseAnswer loses the answer to the next request that holds a word: the request is
// passed on, from then on nothing that comes back is, and some time after it the
// connection is reset. A request that the network happens to cut in the middle of
// the word is not noticed, and the next one is.
func (r *Relay) LoseAnswer(word string, after time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.word, r.after = []byte(word), after
}

// Lost is how many requests have been left without their answer.
func (r *Relay) Lost() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// Reset resets all connections there are.
func (r *Relay) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for l := range r.links {
		l.reset()
	}
}

// Stall passes nothing on for a while, and then what has gathered.
func (r *Relay) Stall(d time.Duration) {
	r.flow.Lock()
	defer r.flow.Unlock()
	select {
	case <-time.After(d):
	case <-r.ctx.Done():
	}
}

// Close ends the relay and all its connections.
func (r *Relay) Close() error {
	r.cancel()
	err := r.ln.Close()
	r.Reset()
	r.wg.Wait()
	return errors.Wrap(err, "close a relay")
}

func (r *Relay) accept() {
	for {
		near, err := r.ln.Accept()
		if err != nil {
			return
		}
		r.wg.Go(func() { r.serve(near) })
	}
}

func (r *Relay) serve(near net.Conn) {
	ctx, cancel := context.WithTimeout(r.ctx, relayPatience)
	defer cancel()
	far, err := r.host.Dial(ctx, "tcp", r.target)
	if err != nil {
		_ = near.Close()
		return
	}
	l := &link{near: near, far: far}
	defer l.reset()
	r.mu.Lock()
	r.links[l] = true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.links, l)
	}()
	if r.ctx.Err() != nil {
		return // closed before the link was known
	}
	var back sync.WaitGroup
	back.Go(func() {
		defer l.reset()
		r.pass(near, far, func([]byte) bool { return !l.isDeaf() })
	})
	r.pass(far, near, func(data []byte) bool {
		r.strike(l, data)
		return true
	})
	l.reset()
	back.Wait()
}

// pass copies from one connection to the other what it may, until one of them ends.
func (r *Relay) pass(to, from net.Conn, may func([]byte) bool) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		r.flow.RLock()
		if may(buffer[:n]) {
			_, err = to.Write(buffer[:n])
		}
		r.flow.RUnlock()
		if err != nil {
			return
		}
	}
}

// strike makes a link deaf when the request is the one whose answer is to be lost.
func (r *Relay) strike(l *link, request []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.word == nil || !bytes.Contains(request, r.word) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deaf {
		return
	}
	l.deaf = true
	r.word = nil
	r.lost++
	time.AfterFunc(r.after, l.reset)
}

func (l *link) isDeaf() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deaf
}

// reset ends both connections at once, without what is still on its way.
func (l *link) reset() {
	for _, c := range []net.Conn{l.near, l.far} {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // fails only on one that is closed
		}
		_ = c.Close()
	}
}
