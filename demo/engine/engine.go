// SPDX-License-Identifier: Apache-2.0

// Package engine speaks the plugin protocol as a Docker Engine 29 does, without
// being one: the same requests, the same headers, one connection that is kept.
//
// It is what shows a daemon off and what measures it, so it does little else
// than write a request and read the answer.
package engine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/docker/go-plugins-helpers/ipam"
)

// LocalSpace is the address space that an engine asks in for its own networks:
// what the driver answers to GetDefaultAddressSpaces.
const LocalSpace = "ipamlog-local"

// patience is how long a request may take: what Docker gives a plugin.
const patience = 30 * time.Second

// The options of a RequestAddress.
const (
	optionType  = "RequestAddressType"
	typeGateway = "com.docker.network.gateway"
	optionName  = "com.docker.network.endpoint.name"
	optionMAC   = "com.docker.network.endpoint.macaddress"
)

// RefusalError is what the driver said instead of an answer.
type RefusalError struct{ Sentence string }

// Error implements error.
func (r *RefusalError) Error() string { return r.Sentence }

// Conn is a connection to a plugin socket. Not safe for concurrent use: an
// engine that asks for several things at once has several.
type Conn struct {
	conn net.Conn
	in   *bufio.Reader
	out  bytes.Buffer
}

// Dial connects to a plugin socket.
func Dial(ctx context.Context, socket string) (*Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, errors.Wrap(err, "connect to the plugin socket")
	}
	return &Conn{conn: conn, in: bufio.NewReader(conn)}, nil
}

// Close ends the connection.
func (c *Conn) Close() error { return errors.Wrap(c.conn.Close(), "leave the plugin socket") }

// CreatePool asks for a pool, as `docker network create --subnet` does, and
// returns its PoolID.
func (c *Conn) CreatePool(subnet string, options map[string]string) (string, error) {
	var a ipam.RequestPoolResponse
	err := c.call("RequestPool", ipam.RequestPoolRequest{AddressSpace: LocalSpace, Pool: subnet, Options: options}, &a)
	return a.PoolID, err
}

// ReleasePool gives a pool back, as `docker network rm` does.
func (c *Conn) ReleasePool(pool string) error {
	return c.call("ReleasePool", ipam.ReleasePoolRequest{PoolID: pool}, nil)
}

// Gateway asks for a network's gateway, and returns it with its prefix length.
func (c *Conn) Gateway(pool string) (string, error) {
	return c.request(pool, "", map[string]string{optionType: typeGateway})
}

// Endpoint asks for a container's address, and returns it with its prefix
// length. address is that of `docker run --ip`, else empty.
func (c *Conn) Endpoint(pool, name, mac, address string) (string, error) {
	return c.request(pool, address, map[string]string{optionName: name, optionMAC: mac})
}

func (c *Conn) request(pool, address string, options map[string]string) (string, error) {
	var a ipam.RequestAddressResponse
	err := c.call("RequestAddress", ipam.RequestAddressRequest{PoolID: pool, Address: address, Options: options}, &a)
	return a.Address, err
}

// Release gives an address back. It is named without its prefix length.
func (c *Conn) Release(pool, address string) error {
	return c.call("ReleaseAddress", ipam.ReleaseAddressRequest{PoolID: pool, Address: address}, nil)
}

// answer is either of the two forms of a refusal, or neither.
type answer struct{ Error, Err string }

// call sends one request and reads its answer into a, which may be nil. It
// returns a [*RefusalError] when the driver said no.
func (c *Conn) call(name string, q, a any) error {
	body, err := json.Marshal(q)
	if err != nil {
		return errors.Wrapf(err, "write %s", name)
	}
	c.out.Reset()
	c.out.WriteString("POST /IpamDriver." + name + " HTTP/1.1\r\nHost: plugin.moby.localhost\r\nUser-Agent: Go-http-client/1.1\r\n" +
		"Content-Length: " + strconv.Itoa(len(body)) + "\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\n\r\n")
	c.out.Write(body)
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return errors.Wrapf(err, "send %s", name)
	}
	if _, err := c.conn.Write(c.out.Bytes()); err != nil {
		return errors.Wrapf(err, "send %s", name)
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return errors.Wrapf(err, "read the answer to %s", name)
	}
	said, err := io.ReadAll(resp.Body)
	if err = errors.CombineErrors(err, resp.Body.Close()); err != nil {
		return errors.Wrapf(err, "read the answer to %s", name)
	}
	if resp.StatusCode != http.StatusOK || bytes.Contains(said, []byte(`"Error":`)) {
		var refusal answer
		if err := json.Unmarshal(said, &refusal); err != nil {
			return errors.Wrapf(err, "read the refusal of %s (%s)", name, resp.Status)
		}
		return &RefusalError{Sentence: refusal.Error + refusal.Err}
	}
	if a == nil {
		return nil
	}
	return errors.Wrapf(json.Unmarshal(said, a), "read the answer to %s", name)
}
