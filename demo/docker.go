// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"io"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/demo/engine"
)

// docker plays a Docker Engine: it prints what a user would have typed, asks the
// daemon what an engine would ask, and prints what it was told.
type docker struct {
	conn     *engine.Conn
	out      io.Writer
	networks map[string]string   // PoolIDs by name
	running  map[string]endpoint // by the container's name
	starts   int
}

// endpoint is what a running container has.
type endpoint struct{ network, address string }

func newDocker(conn *engine.Conn, out io.Writer) *docker {
	return &docker{conn: conn, out: out, networks: map[string]string{}, running: map[string]endpoint{}}
}

func (d *docker) show(line, outcome string) {
	fmt.Fprintf(d.out, "  %-71s %s\n", line, outcome)
}

// createNetwork asks for a pool and its gateway.
func (d *docker) createNetwork(name, subnet string) error {
	line := fmt.Sprintf("docker network create --ipam-driver ipamlog --subnet %s --ipam-opt pool=%s %s", subnet, name, name)
	pool, err := d.conn.CreatePool(subnet, map[string]string{"pool": name})
	if err != nil {
		return errors.Wrap(err, line)
	}
	gateway, err := d.conn.Gateway(pool)
	if err != nil {
		return errors.Wrap(err, line)
	}
	d.networks[name] = pool
	d.show(line, "gateway "+gateway)
	return nil
}

// run starts a container; address is that of --ip, or empty. Like Docker it
// comes with a MAC that it has never had before.
func (d *docker) run(network, name, image, address string) error {
	line := "docker run --network " + network
	if address != "" {
		line += " --ip " + address
	}
	return d.start(line+" --name "+name+" "+image, network, name, address)
}

// startAgain starts a container that was stopped.
func (d *docker) startAgain(network, name string) error {
	return d.start("docker start "+name, network, name, "")
}

func (d *docker) start(line, network, name, address string) error {
	d.starts++
	got, err := d.conn.Endpoint(d.networks[network], name, fmt.Sprintf("02:42:0a:00:00:%02x", d.starts), address)
	if err != nil {
		return errors.Wrap(err, line)
	}
	bare, _, _ := strings.Cut(got, "/")
	d.running[name] = endpoint{network, bare}
	d.show(line, got)
	return nil
}

// refused starts a container that there is no address for.
func (d *docker) refused(network, name, image string) error {
	err := d.run(network, name, image, "")
	var refusal *engine.RefusalError
	if !errors.As(err, &refusal) {
		return errors.Newf("%s was to be refused an address, and was not (%v): report this", name, err)
	}
	d.show("docker run --network "+network+" --name "+name+" "+image, "refused:")
	fmt.Fprintf(d.out, "    %s\n", refusal.Sentence)
	return nil
}

// stop stops a container: Docker gives its address back.
func (d *docker) stop(name string) error {
	e := d.running[name]
	if err := d.conn.Release(d.networks[e.network], e.address); err != nil {
		return errors.Wrapf(err, "docker stop %s", name)
	}
	delete(d.running, name)
	d.show("docker stop "+name, e.address+" is given back")
	return nil
}
