// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ipamlog/ipamlog/demo/engine"
)

// pool is one that all hosts share.
type pool struct {
	name    string
	subnet  netip.Prefix
	options map[string]string
	clients int // that share a network, on each host; one more has a network for itself
	each    int // containers that a client runs at most
}

// pools are small where addresses are to be fought for, and one is not.
func pools(crowd int) []*pool {
	return []*pool{
		{"lowest", netip.MustParsePrefix("10.201.0.0/28"), map[string]string{"quarantine": "0", "pick": "lowest"}, 3, 2},
		{"serial", netip.MustParsePrefix("10.202.0.0/28"), map[string]string{"quarantine": "0"}, 3, 2},
		{"random", netip.MustParsePrefix("10.203.0.0/27"), map[string]string{"quarantine": "1s", "pick": "random"}, 4, 3},
		{"rested", netip.MustParsePrefix("10.204.0.0/26"), map[string]string{"quarantine": "3s", "pick": "lowest"}, 6, 3},
		{"roomy", netip.MustParsePrefix("10.208.0.0/20"), nil, 12 * crowd, 8},
	}
}

// address is any of the pool's.
func (p *pool) address(random *rand.Rand) netip.Addr {
	size := 1<<(32-p.subnet.Bits()) - 2
	a := p.subnet.Addr().As4()
	n := 1 + random.IntN(size)
	a[2], a[3] = a[2]+byte(n>>8), a[3]+byte(n)
	return netip.AddrFrom4(a)
}

// network is one of a host's Docker networks: a grant, and those who ask through it.
// It is made and removed over and over.
type network struct {
	clients []*client // the first one creates and removes it

	grant   string        // the PoolID; empty: there is none
	running [][]container // by client: left for the end
}

// networks are those of all hosts.
func networks(p *place, l *load, seed uint64, crowd int) []*network {
	var all []*network
	number := 0
	for _, s := range p.stations {
		for _, pool := range pools(crowd) {
			for _, size := range []int{pool.clients, 1} {
				n := &network{}
				for range size {
					number++
					n.clients = append(n.clients, &client{load: l, number: number, station: s, pool: pool, random: rand.New(rand.NewPCG(seed, uint64(1000+number)))})
				}
				all = append(all, n)
			}
		}
	}
	return all
}

// live makes the network, uses it for a while, gives back all it has and removes it,
// over and over. When ctx ends, what runs is left running.
func (n *network) live(ctx context.Context) {
	for ctx.Err() == nil {
		n.create(ctx)
		first := n.clients[0]
		if n.grant == "" {
			return
		}
		life, end := context.WithTimeout(ctx, 3*time.Second+time.Duration(first.random.Int64N(int64(20*time.Second))))
		n.use(life)
		end()
		if ctx.Err() == nil {
			n.remove(ctx)
		}
	}
}

// use lets all clients run containers until ctx ends.
func (n *network) use(ctx context.Context) {
	n.running = make([][]container, len(n.clients))
	var all sync.WaitGroup
	for i, c := range n.clients {
		all.Go(func() { n.running[i] = c.serve(ctx, n.grant, len(n.clients) == 1) })
	}
	all.Wait()
}

// create asks for the network's grant until it is told of one, or ctx ends.
func (n *network) create(ctx context.Context) {
	c := n.clients[0]
	options := map[string]string{"pool": c.pool.name}
	maps.Copy(options, c.pool.options)
	for n.grant == "" && ctx.Err() == nil {
		c.call(call{Verb: open}, func(conn *engine.Conn, _ *call) (err error) {
			n.grant, err = conn.CreatePool(c.pool.subnet.String(), options)
			return err
		}, func(outcome) {})
		c.pause(ctx, 20*time.Millisecond)
	}
}

// remove gives everything back, then the grant, which gives back what leaked: what
// was given to somebody who never heard of it, or whose release got lost.
func (n *network) remove(ctx context.Context) {
	var all sync.WaitGroup
	for i, c := range n.clients {
		all.Go(func() {
			for _, one := range n.running[i] {
				c.stop(ctx, n.grant, one, len(n.clients) == 1)
			}
		})
	}
	all.Wait()
	n.running = nil
	n.clients[0].giveUp(n.grant)
	n.grant = ""
}

// giveUp gives a grant back, until the daemon says that it is.
func (c *client) giveUp(grant string) {
	for {
		o := c.call(call{Verb: shut}, func(conn *engine.Conn, _ *call) error { return conn.ReleasePool(grant) }, func(outcome) {})
		if o == answered {
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-c.over:
			return
		}
	}
}

func (n *network) leave() {
	for c := range slices.Values(n.clients) {
		c.leave()
	}
}
