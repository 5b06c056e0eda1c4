// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/cockroachdb/errors"
)

// Network is what the engine says of a network.
type Network struct {
	ID         string
	Name       string
	Driver     string
	EnableIPv6 bool
	IPAM       struct {
		Driver  string
		Options map[string]string
		Config  []struct {
			Subnet             netip.Prefix
			IPRange            netip.Prefix // zero if none
			Gateway            string
			AuxiliaryAddresses map[string]string
		}
	}
	// Containers are the attached ones by container ID, or by "ep-" and an
	// endpoint ID where the engine has lost the container.
	Containers map[string]struct {
		Name        string
		EndpointID  string
		MacAddress  string
		IPv4Address netip.Prefix
		IPv6Address netip.Prefix // zero if none
	}
}

// Container is what the engine says of a container.
type Container struct {
	ID     string
	Name   string // with a slash before it
	Image  string // the image's ID
	Config struct {
		Image  string // as it was asked for
		Labels map[string]string
	}
	State struct {
		Running   bool
		Pid       int // on the host
		StartedAt time.Time
	}
	NetworkSettings struct {
		// Networks are the container's by network name. The addresses are zero
		// while it is stopped.
		Networks map[string]struct {
			NetworkID           string
			EndpointID          string
			MacAddress          string
			Gateway             string
			IPAddress           netip.Addr
			IPPrefixLen         int
			GlobalIPv6Address   netip.Addr
			GlobalIPv6PrefixLen int
		}
	}
}

// Network inspects one network, by name or ID.
func (h *Host) Network(name string) (Network, error) {
	return inspect[Network](h, "/networks/"+url.PathEscape(name))
}

// Networks inspects all networks of the engine, host and none included.
func (h *Host) Networks() ([]Network, error) {
	return inspectAll(h, "/networks", func(n Network) (Network, error) { return h.Network(n.ID) })
}

// Container inspects one container, by name or ID.
func (h *Host) Container(name string) (Container, error) {
	return inspect[Container](h, "/containers/"+url.PathEscape(name)+"/json")
}

// Containers inspects all containers of the engine, running or not.
func (h *Host) Containers() ([]Container, error) {
	return inspectAll(h, "/containers/json?all=1", func(c struct{ ID string }) (Container, error) { return h.Container(c.ID) })
}

// inspectAll asks again for each entry of a list: lists tell less.
func inspectAll[Entry, T any](h *Host, path string, detail func(Entry) (T, error)) ([]T, error) {
	entries, err := inspect[[]Entry](h, path)
	if err != nil {
		return nil, err
	}
	all := make([]T, len(entries))
	for i, e := range entries {
		if all[i], err = detail(e); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func inspect[T any](h *Host, path string) (T, error) {
	var v T
	r, err := h.client().Get("http://engine" + path)
	if err != nil {
		return v, errors.Wrapf(err, "ask the engine of host %s", h.name)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(r.Body, 4096))
		return v, errors.Newf("the engine of host %s answered %s to %s: %s", h.name, r.Status, path, text)
	}
	err = json.NewDecoder(r.Body).Decode(&v)
	return v, errors.Wrapf(err, "read the engine's answer to %s", path)
}

// client keeps no connections: the engine behind the socket comes and goes.
func (h *Host) client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", h.Socket())
		},
	}}
}
