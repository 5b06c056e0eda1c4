// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/moby/moby/client"

	"github.com/ipamlog/ipamlog/lab"
)

const (
	// network is the one that is measured, and home where its containers live that are
	// connected to it.
	network = "measured"
	home    = "home"
)

// side is one of those that are compared: a host and its engine.
type side struct {
	what   string
	host   *lab.Host
	engine *client.Client
	names  int // of containers, so far
}

// build makes the hosts, which last as long as the visit, and tells the engines'
// version.
func build(v *lab.Visitor) ([]*side, string, error) {
	l := lab.New(v)
	var sides []*side
	add := func(what, name string) *side {
		s := &side{what: what, host: l.Host(name)}
		sides = append(sides, s)
		return s
	}
	plain, alone, clustered := add("Docker's own driver", "plain"), add("ipamlog, embedded etcd", "alone"), add("ipamlog, cluster of 3", "clustered")
	cluster := l.StartCluster(3)
	for _, d := range []*lab.Daemon{
		alone.host.Daemon("--data-dir", filepath.Join(alone.host.Dir(), "d")),
		clustered.host.Daemon("--data-dir", filepath.Join(clustered.host.Dir(), "d"), "--cluster-store", strings.Join(cluster.Endpoints(), ",")),
	} {
		if err := d.Start(); err != nil {
			return nil, "", err
		}
	}
	lab.StartEngines(v, plain.host, alone.host, clustered.host)
	for _, s := range sides {
		driver := "ipamlog"
		if s == plain {
			driver = "default"
		}
		if err := s.open(v, driver); err != nil {
			return nil, "", err
		}
	}
	version, err := plain.host.Docker("version", "--format", "{{.Server.Version}}")
	return sides, version, err
}

// open makes the networks, and the containers that are connected to one of them.
func (s *side) open(v *lab.Visitor, driver string) error {
	var err error
	if s.engine, err = client.New(client.WithHost("unix://" + s.host.Socket())); err != nil {
		return errors.Wrap(err, "reach the engine")
	}
	v.Cleanup(func() { _ = s.engine.Close() })
	for _, args := range [][]string{
		{"network", "create", "--ipam-driver", driver, "--subnet", "10.80.0.0/16", network},
		{"network", "create", "--subnet", "10.81.0.0/24", home},
		{"run", "-d", "--name", home, "--network", home, lab.Image},
	} {
		if _, err := s.host.Docker(args...); err != nil {
			return err
		}
	}
	return nil
}
