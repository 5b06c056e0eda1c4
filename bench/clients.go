// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/demo/engine"
	"github.com/ipamlog/ipamlog/events"
)

// container asks the daemon for an address and gives it back.
type container struct {
	*engine.Conn
	pool   string
	number int
}

// newContainers connects n containers, each over its own connection.
func newContainers(ctx context.Context, socket, pool string, n int) ([]client, error) {
	clients := make([]client, 0, n)
	for i := range n {
		conn, err := engine.Dial(ctx, socket)
		if err != nil {
			return nil, errors.CombineErrors(err, closeAll(clients))
		}
		clients = append(clients, &container{Conn: conn, pool: pool, number: i})
	}
	return clients, nil
}

// turn starts and stops the container once.
func (c *container) turn(context.Context) (int, time.Duration, error) {
	begun := time.Now()
	address, err := c.start()
	if err != nil {
		return 0, 0, err
	}
	took := time.Since(begun)
	return 2, took, c.Release(c.pool, address)
}

// start asks for an address.
func (c *container) start() (string, error) {
	prefix, err := c.Endpoint(c.pool, fmt.Sprintf("container-%d", c.number), nextMAC().String(), "")
	address, _, _ := strings.Cut(prefix, "/")
	return address, err
}

// caller does what a container does, without a socket between: it calls the actor.
type caller struct {
	host   *actor.Host
	grant  actor.Ref
	number int
}

func newCallers(host *actor.Host, grant actor.Ref, n int) []client {
	clients := make([]client, 0, n)
	for i := range n {
		clients = append(clients, &caller{host: host, grant: grant, number: i})
	}
	return clients
}

func (c *caller) turn(ctx context.Context) (int, time.Duration, error) {
	begun := time.Now()
	address, err := c.start(ctx)
	if err != nil {
		return 0, 0, err
	}
	took := time.Since(begun)
	_, err = c.host.ReleaseAddress(ctx, c.grant, address)
	return 2, took, err
}

func (c *caller) start(ctx context.Context) (netip.Addr, error) {
	answer, err := c.host.RequestAddress(ctx, c.grant, actor.AddressRequest{
		Asking: actor.AskEndpoint, MAC: nextMAC(), Endpoint: fmt.Sprintf("container-%d", c.number),
	})
	return answer.Address, err
}

// Close implements [client]: the host is not the caller's to end.
func (*caller) Close() error { return nil }

var macs atomic.Uint64

// nextMAC is one that nobody had: who comes with another's is answered as that one was.
func nextMAC() events.MAC {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], macs.Add(1))
	return events.MAC{2, b[3], b[4], b[5], b[6], b[7]}
}

func closeAll(clients []client) error {
	var err error
	for _, c := range clients {
		err = errors.CombineErrors(err, c.Close())
	}
	return err
}
