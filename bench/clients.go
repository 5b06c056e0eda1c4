// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ipamlog/ipamlog/demo/engine"
)

// container asks the daemon for an address and gives it back.
type container struct {
	*engine.Conn
	pool   string
	number int
	starts uint32
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

// start asks for an address. Like Docker it comes with another MAC every time.
func (c *container) start() (string, error) {
	c.starts++
	mac := fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", byte(c.number>>8), byte(c.number),
		byte(c.starts>>16), byte(c.starts>>8), byte(c.starts))
	prefix, err := c.Endpoint(c.pool, fmt.Sprintf("container-%d", c.number), mac, "")
	address, _, _ := strings.Cut(prefix, "/")
	return address, err
}

// putter puts values straight into etcd, each under a new key.
type putter struct {
	etcd  *clientv3.Client
	own   bool // the connection is this putter's to close
	key   string
	count int
	value string
}

// puttersEach is how many putters share a connection: etcd was a tenth faster or
// more so than with a connection for each, and shall be measured at its best.
const puttersEach = 8

// newPutters makes n putters.
func newPutters(etcd, value string, n int) ([]client, error) {
	clients := make([]client, 0, n)
	var shared *clientv3.Client
	for i := range n {
		own := i%puttersEach == 0
		if own {
			var err error
			if shared, err = dial(etcd); err != nil {
				return nil, errors.CombineErrors(err, closeAll(clients))
			}
		}
		key := fmt.Sprintf("/bench/%d", time.Now().UnixNano())
		clients = append(clients, &putter{etcd: shared, own: own, key: key, value: value})
	}
	return clients, nil
}

func dial(etcd string) (*clientv3.Client, error) {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd}, Logger: zap.NewNop()})
	return c, errors.Wrap(err, "connect to etcd")
}

func (p *putter) turn(ctx context.Context) (int, time.Duration, error) {
	p.count++
	begun := time.Now()
	_, err := p.etcd.Put(ctx, fmt.Sprintf("%s/%08d", p.key, p.count), p.value)
	return 1, time.Since(begun), errors.Wrap(err, "put into etcd")
}

// Close ends the putter's connection, for those who share it too.
func (p *putter) Close() error {
	if !p.own {
		return nil
	}
	return errors.Wrap(p.etcd.Close(), "leave etcd")
}

func closeAll(clients []client) error {
	var err error
	for _, c := range clients {
		err = errors.CombineErrors(err, c.Close())
	}
	return err
}
