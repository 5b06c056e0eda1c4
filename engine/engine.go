// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"net/http"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

var (
	// ErrUnreachable marks an error of asking an engine that does not answer,
	// or not to this user.
	ErrUnreachable = errors.New("the engine does not answer")
	// ErrNoNetwork marks an error about a network that does not exist.
	ErrNoNetwork = errors.New("no such network")
	// ErrNetworkExists marks an error of making a network whose name is taken.
	ErrNetworkExists = errors.New("the network exists")
	// ErrUncertain marks an error of asking an engine for a change that it may
	// have made: the connection was lost before its answer was there.
	ErrUncertain = errors.New("the engine's answer is lost")
)

// Engine is a Docker engine. Its methods may be called from any goroutine, and
// wait until the engine answers or the context ends.
type Engine struct {
	address   string
	client    *client.Client
	transport *http.Transport
}

// Open returns the engine at an address such as unix:///var/run/docker.sock or
// tcp://host:port. It does not ask it anything yet. For an https address it
// takes certificates from the directory $DOCKER_CERT_PATH, as docker does.
func Open(address string) (*Engine, error) {
	scheme, place, _ := strings.Cut(address, "://")
	host := address
	if scheme == "http" || scheme == "https" {
		host = "tcp://" + place
	} else {
		scheme = strings.Replace(scheme, "tcp", "http", 1)
	}
	transport, err := newTransport(scheme, place)
	if err != nil {
		return nil, err
	}
	c, err := client.New(
		client.WithUserAgent("ipamlog"),
		client.WithHost(host),
		client.WithHTTPClient(&http.Client{Transport: mending{transport}, CheckRedirect: client.CheckRedirect}),
		client.WithScheme(strings.Replace(scheme, "unix", "http", 1)),
	)
	if err != nil {
		return nil, errors.Wrapf(err, "%q cannot be Docker's API, name it as unix:///var/run/docker.sock or tcp://host:port", address)
	}
	return &Engine{address: address, client: c, transport: transport}, nil
}

// Close lets go of the connections to the engine.
func (e *Engine) Close() error {
	e.transport.CloseIdleConnections()
	return errors.Wrap(e.client.Close(), "close the connection to the engine")
}

// Version says which version the engine has, such as 20.10.24.
func (e *Engine) Version(ctx context.Context) (string, error) {
	v, err := e.client.ServerVersion(ctx, client.ServerVersionOptions{})
	return v.Version, e.explain(err, "ask for its version")
}

// explain makes an error of the client one that says what to do.
func (e *Engine) explain(err error, what string) error {
	switch {
	case err == nil:
		return nil
	case client.IsErrConnectionFailed(err) && strings.Contains(err.Error(), "permission denied"):
		return errors.Mark(errors.Newf("this user may not ask Docker at %s: run this as root", e.address), ErrUnreachable)
	case client.IsErrConnectionFailed(err):
		return errors.Mark(errors.Newf("there is no Docker at %s: start it, or name its address with --engine", e.address), ErrUnreachable)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		late := errors.Newf("%s: Docker at %s did not answer in time", what, e.address)
		return errors.Mark(errors.WithSecondaryError(late, err), context.DeadlineExceeded)
	case errors.Is(err, context.Canceled):
		return errors.Wrap(err, what)
	}
	said := err.Error()
	for _, noise := range []string{"Error response from daemon: ", "remote: "} {
		said = strings.TrimPrefix(said, noise)
	}
	refused := errors.WithSecondaryError(errors.Newf("%s: Docker says: %s", what, said), err)
	switch {
	case errdefs.IsNotFound(err):
		return errors.Mark(refused, ErrNoNetwork)
	case errdefs.IsConflict(err):
		return errors.Mark(refused, ErrNetworkExists)
	}
	return refused
}
