// SPDX-License-Identifier: Apache-2.0

package status

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/cockroachdb/errors"
)

const (
	// maxConnections leaves the file descriptors to Docker, whoever connects here.
	maxConnections = 256
	// maxFromOne is how many of them one client may have, so that it leaves some to
	// the others.
	maxFromOne = 64
)

// crowd is a listener that bounds how many are connected. Who comes when there is no
// room takes the place of the one that has been idle for longest, or is turned away:
// it never waits behind connections on which nothing happens.
type crowd struct {
	net.Listener
	mu   sync.Mutex
	here map[*guest]bool
}

// guest is a connection.
type guest struct {
	net.Conn
	crowd *crowd
	from  netip.Prefix
	idle  time.Time // since when it asks nothing; zero: it is being answered
}

func newCrowd(l net.Listener) *crowd { return &crowd{Listener: l, here: map[*guest]bool{}} }

// Accept implements [net.Listener].
func (c *crowd) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err //nolint:wrapcheck // the server looks whether it is worth another try
		}
		g := &guest{Conn: conn, crowd: c, from: origin(conn.RemoteAddr()), idle: time.Now()}
		if c.admit(g) {
			return g, nil
		}
		_ = conn.Close()
	}
}

// origin is the client that an address is one of: of IPv6 one has as many as it
// likes.
func origin(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	address := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := address.BitLen()
	if address.Is6() {
		bits = 64
	}
	from, _ := address.Prefix(bits) // it has that many bits
	return from
}

// admit lets a guest in if there is room, or room can be made.
func (c *crowd) admit(g *guest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	same := func(o *guest) bool { return o.from == g.from }
	if c.full(maxFromOne, same) || c.full(maxConnections, func(*guest) bool { return true }) {
		return false
	}
	c.here[g] = true
	return true
}

// full says whether so many of those counted are here, and none can be sent away.
func (c *crowd) full(most int, counted func(*guest) bool) bool {
	n := 0
	var longest *guest
	for o := range c.here {
		if !counted(o) {
			continue
		}
		n++
		if !o.idle.IsZero() && (longest == nil || o.idle.Before(longest.idle)) {
			longest = o
		}
	}
	if n < most {
		return false
	}
	if longest == nil {
		return true
	}
	delete(c.here, longest)
	_ = longest.Conn.Close()
	return false
}

// changed is told by the server what becomes of a connection.
func (c *crowd) changed(conn net.Conn, state http.ConnState) {
	if secured, is := conn.(*tls.Conn); is {
		conn = secured.NetConn()
	}
	g, is := conn.(*guest)
	if !is {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateActive:
		g.idle = time.Time{}
	case http.StateIdle:
		g.idle = time.Now()
	default: // it came idle, and goes by Close
	}
}

// Close implements [net.Conn].
func (g *guest) Close() error {
	g.crowd.mu.Lock()
	delete(g.crowd.here, g)
	g.crowd.mu.Unlock()
	return errors.WithStack(g.Conn.Close())
}
