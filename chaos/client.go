// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/demo/engine"
	"github.com/ipamlog/ipamlog/events"
)

// In a hundred calls, so many are such.
const (
	hangUps   = 2  // the client does not wait for the answer
	wishes    = 10 // --ip
	abandoned = 20 // of those without an answer: it is not asked again
	repeats   = 3  // an ask for what the container has
)

// hangUpWithin is how long a client that hangs up may have waited.
const hangUpWithin = 15 * time.Millisecond

// load is what all clients of a run share.
type load struct {
	history *history
	ledger  *ledger
	faults  *faults
	// gate is held for reading during a call, and for writing while everybody holds
	// still.
	gate sync.RWMutex
	// over is closed when nobody waits for a daemon any more: then something is wrong
	// already.
	over chan struct{}
}

// client is an engine's one connection: it does one thing after the other.
type client struct {
	*load
	number  int
	station *station
	pool    *pool
	random  *rand.Rand
	conn    *engine.Conn
	started int // containers, ever
}

// container is one that runs.
type container struct {
	mac     events.MAC
	address netip.Addr
}

// serve starts and stops containers in a grant until ctx ends. solo says that the
// grant is this client's alone.
func (c *client) serve(ctx context.Context, grant string, solo bool) []container {
	var running []container
	for ctx.Err() == nil {
		switch n := len(running); {
		case n > 0 && c.chance(repeats):
			c.confirm(grant, running[c.random.IntN(n)])
		case c.random.IntN(c.pool.each) >= n:
			if one, ok := c.start(ctx, grant); ok {
				running = append(running, one)
			}
		default:
			i := c.random.IntN(n)
			c.stop(ctx, grant, running[i], solo)
			running = append(running[:i], running[i+1:]...)
		}
	}
	return running
}

// start asks for a container's address. A client that hears nothing mostly asks for
// the same again.
func (c *client) start(ctx context.Context, grant string) (container, bool) {
	c.started++
	one := container{mac: events.MAC{2, byte(c.number >> 8), byte(c.number), byte(c.started >> 16), byte(c.started >> 8), byte(c.started)}}
	var wish netip.Addr
	if c.chance(wishes) {
		wish = c.pool.address(c.random)
	}
	c.ledger.doubts(one.mac)
	for {
		got, o := c.ask(take, grant, one.mac, wish)
		switch o {
		case answered:
			one.address = got
			return one, true
		case refused:
			c.pause(ctx, 20*time.Millisecond)
			return one, false
		case unknown:
			if c.chance(abandoned) {
				return one, false
			}
		}
		if ctx.Err() != nil {
			return one, false
		}
	}
}

// confirm asks again for what a container has.
func (c *client) confirm(grant string, one container) {
	c.ask(keep, grant, one.mac, netip.Addr{})
}

// ask makes one RequestAddress.
func (c *client) ask(v verb, grant string, mac events.MAC, wish netip.Addr) (netip.Addr, outcome) {
	var got netip.Addr
	o := c.call(call{Verb: v, MAC: mac, Address: wish}, func(conn *engine.Conn, done *call) error {
		text := ""
		if wish.IsValid() {
			text = wish.String()
		}
		said, err := conn.Endpoint(grant, "", mac.String(), text)
		if err != nil {
			return err
		}
		prefix, err := netip.ParsePrefix(said)
		got, done.Address = prefix.Addr(), prefix.Addr()
		return err
	}, func(o outcome) {
		switch {
		case o == answered && v == take:
			c.ledger.told(mac, spot{c.pool.name, got})
		case o == unknown:
			c.ledger.lost(mac)
		}
	})
	return got, o
}

// stop gives a container's address back. As an engine does not, a client that shares
// the grant never does that again: by then the address may be another's. One that
// has the grant for itself does.
func (c *client) stop(ctx context.Context, grant string, one container, solo bool) {
	c.ledger.doubts(one.mac)
	for {
		o := c.call(call{Verb: give, MAC: one.mac, Address: one.address}, func(conn *engine.Conn, _ *call) error {
			return conn.Release(grant, one.address.String())
		}, func(o outcome) {
			if o == answered {
				c.ledger.done(one.mac)
			}
		})
		if o != unknown || !solo || ctx.Err() != nil {
			return
		}
	}
}

// call makes one call, once the daemon is there to hear it, and adds it to the
// history. settle is told the outcome before anybody may hold still.
func (c *client) call(about call, do func(*engine.Conn, *call) error, settle func(outcome)) outcome {
	about.Client, about.Host, about.Pool = c.number, c.station.host.Name(), c.pool.name
	for {
		c.gate.RLock()
		heard := c.connect()
		if heard {
			about = c.send(about, do)
			settle(about.Outcome)
		}
		c.gate.RUnlock()
		if heard {
			return about.Outcome
		}
		select {
		case <-time.After(20*time.Millisecond + time.Duration(c.random.Int64N(int64(30*time.Millisecond)))):
		case <-c.over:
			return unknown
		}
	}
}

// connect says whether the daemon is there.
func (c *client) connect() bool {
	if c.conn == nil {
		conn, err := engine.Dial(context.Background(), c.station.socket())
		if err != nil {
			return false
		}
		c.conn = conn
	}
	return true
}

func (c *client) send(about call, do func(*engine.Conn, *call) error) call {
	conn := c.conn
	if c.faults.on.Load() && c.chance(hangUps) {
		c.faults.count(hungUp)
		hangUp := time.AfterFunc(time.Duration(c.random.Int64N(int64(hangUpWithin))), func() { _ = conn.Close() })
		defer func() {
			if !hangUp.Stop() {
				c.leave()
			}
		}()
	}
	about.Begun = c.history.now()
	err := do(conn, &about)
	about.Ended = c.history.now()
	var refusal *engine.RefusalError
	switch {
	case err == nil:
		about.Outcome = answered
	case errors.As(err, &refusal):
		about.Outcome, about.Said = refused, refusal.Sentence
	default:
		about.Outcome, about.Said = unknown, err.Error()
		c.leave()
	}
	c.history.add(about)
	return about
}

// leave ends the connection.
func (c *client) leave() {
	if c.conn != nil {
		_ = c.conn.Close() // it may be broken already
		c.conn = nil
	}
}

func (c *client) chance(percent int) bool { return c.random.IntN(100) < percent }

// pause lets others go first.
func (c *client) pause(ctx context.Context, most time.Duration) {
	select {
	case <-time.After(time.Duration(c.random.Int64N(int64(most)))):
	case <-ctx.Done():
	}
}
