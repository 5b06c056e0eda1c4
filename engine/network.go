// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// Network is a network of the engine.
type Network struct {
	ID      string    // given by the engine
	Name    string    // names are not unique; IDs are
	Created time.Time // by the engine's clock; zero: it does not say
	Driver  string    // such as bridge or macvlan
	Options map[string]string
	IPAM    IPAM
	// ConfigOnly says that it is no network but the settings of others, which name it.
	ConfigOnly bool
	// Endpoints are what is attached, ordered by ID. A list of networks does
	// not tell them.
	Endpoints []Endpoint
}

// IPAM is how the addresses of a network are managed.
type IPAM struct {
	Driver  string
	Options map[string]string
	Pools   []Pool // one for each subnet
}

// Pool is one subnet of a network. What was not named is zero.
type Pool struct {
	Subnet    netip.Prefix
	Range     netip.Prefix
	Gateway   netip.Addr
	Auxiliary map[string]netip.Addr
}

// Endpoint is one attachment of a container to a network.
type Endpoint struct {
	ID        string
	Container string // its ID; empty where there is none: not yet, not any more, or it is Swarm's load balancer
	Name      string // the container's; it may be the one it was started with
	MAC       net.HardwareAddr
	Addresses []netip.Prefix // one for each family it has
}

// Networks lists the networks, without their endpoints.
func (e *Engine) Networks(ctx context.Context) ([]Network, error) {
	list, err := e.client.NetworkList(ctx, client.NetworkListOptions{})
	if err != nil {
		return nil, e.explain(err, "list the networks")
	}
	networks := make([]Network, 0, len(list.Items))
	for _, n := range list.Items {
		one := toNetwork(n.Network)
		if n.Scope == "swarm" && n.ConfigFrom.Network != "" {
			// A manager lists it as the swarm knows it: without the addresses, which are
			// each node's own.
			one, err = e.Network(ctx, n.ID)
			if one.Endpoints = nil; errors.Is(err, ErrNoNetwork) {
				continue
			}
			if err != nil {
				return nil, err
			}
		}
		networks = append(networks, one)
	}
	return networks, nil
}

// Network tells of one network, by its ID or name, with its endpoints. If there
// is none, the error is marked [ErrNoNetwork].
func (e *Engine) Network(ctx context.Context, id string) (Network, error) {
	answer, err := e.client.NetworkInspect(ctx, id, client.NetworkInspectOptions{})
	if err != nil {
		return Network{}, e.explain(err, "inspect network "+id)
	}
	n := toNetwork(answer.Network.Network)
	for container, c := range answer.Network.Containers {
		if strings.HasPrefix(container, "ep-") || strings.HasPrefix(container, "lb-") {
			container = ""
		}
		n.Endpoints = append(n.Endpoints, Endpoint{
			ID: c.EndpointID, Container: container, Name: c.Name, MAC: net.HardwareAddr(c.MacAddress),
			Addresses: slices.DeleteFunc([]netip.Prefix{c.IPv4Address, c.IPv6Address}, func(p netip.Prefix) bool { return !p.IsValid() }),
		})
	}
	slices.SortFunc(n.Endpoints, func(a, b Endpoint) int { return strings.Compare(a.ID, b.ID) })
	return n, nil
}

// CreateNetwork makes a network and returns its ID. It asks the IPAM driver for
// all that the network names. If there is one of that name, the error is marked
// [ErrNetworkExists]; if it may have been made all the same, [ErrUncertain], or
// with the context's error.
func (e *Engine) CreateNetwork(ctx context.Context, n Network) (id string, err error) {
	// Engines before 25 take a second network of the same name.
	there, err := e.Networks(ctx)
	if err != nil {
		return "", err
	}
	if slices.ContainsFunc(there, func(o Network) bool { return o.Name == n.Name }) {
		return "", errors.Mark(errors.Newf("there is a Docker network %s already", n.Name), ErrNetworkExists)
	}
	ipam := &network.IPAM{Driver: n.IPAM.Driver, Options: n.IPAM.Options}
	for _, p := range n.IPAM.Pools {
		ipam.Config = append(ipam.Config, network.IPAMConfig{Subnet: p.Subnet, IPRange: p.Range, Gateway: p.Gateway, AuxAddress: p.Auxiliary})
	}
	made, err := e.client.NetworkCreate(ctx, n.Name, client.NetworkCreateOptions{Driver: n.Driver, IPAM: ipam, Options: n.Options})
	what := "create Docker network " + n.Name
	if lost(err) {
		return "", errors.Mark(errors.WithSecondaryError(errors.Newf("%s: the connection to Docker was lost", what), err), ErrUncertain)
	}
	return made.ID, e.explain(err, what)
}

// lost says whether a connection ended amid an exchange: the client says of one
// that it could not make what is not of these.
func lost(err error) bool {
	return errors.IsAny(err, io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE)
}

// RemoveNetwork removes a network by its ID or name; one that is gone already
// is no error.
func (e *Engine) RemoveNetwork(ctx context.Context, id string) error {
	_, err := e.client.NetworkRemove(ctx, id, client.NetworkRemoveOptions{})
	if err := e.explain(err, "remove Docker network "+id); !errors.Is(err, ErrNoNetwork) {
		return err
	}
	return nil
}

func toNetwork(n network.Network) Network {
	ours := Network{
		ID: n.ID, Name: n.Name, Created: n.Created, Driver: n.Driver, Options: maps.Clone(n.Options),
		IPAM: IPAM{Driver: n.IPAM.Driver, Options: maps.Clone(n.IPAM.Options)}, ConfigOnly: n.ConfigOnly,
	}
	for _, c := range n.IPAM.Config {
		ours.IPAM.Pools = append(ours.IPAM.Pools, Pool{Subnet: c.Subnet, Range: c.IPRange, Gateway: c.Gateway, Auxiliary: c.AuxAddress})
	}
	return ours
}
