// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/demo/engine"
)

// docker plays a Docker Engine: it prints what a user would have typed, asks the
// daemon what an engine would ask, and prints what it was told.
type docker struct {
	conn       *engine.Conn
	api        *engine.API
	out        io.Writer
	pools      map[string]string   // PoolIDs by the network's name
	networks   map[string]string   // IDs by the network's name
	containers map[string]string   // IDs by the container's name
	running    map[string]endpoint // by the container's name
	starts     int
}

// endpoint is what a running container has.
type endpoint struct{ network, address string }

func newDocker(conn *engine.Conn, api *engine.API, out io.Writer) *docker {
	return &docker{
		conn: conn, api: api, out: out,
		pools: map[string]string{}, networks: map[string]string{}, containers: map[string]string{}, running: map[string]endpoint{},
	}
}

// serveAPI serves the API of the engine that docker plays.
func serveAPI(dir string) (*engine.API, func(), error) {
	socket, err := net.Listen("unix", engineSocket(dir))
	if err != nil {
		return nil, nil, errors.Wrap(err, "play an engine")
	}
	api, ended := engine.NewAPI(), make(chan struct{})
	server := &http.Server{Handler: api, ReadHeaderTimeout: startPatience}
	go func() {
		defer close(ended)
		_ = server.Serve(socket) // until it is closed
	}()
	return api, func() {
		_ = server.Close()
		<-ended
	}, nil
}

func (d *docker) show(line, outcome string) {
	fmt.Fprintf(d.out, "  %-71s %s\n", line, outcome)
}

// createNetwork asks for a pool and its gateway.
func (d *docker) createNetwork(name, subnet string) error {
	line := fmt.Sprintf("docker network create --ipam-driver ipamlog --subnet %s --ipam-opt pool=%s %s", subnet, name, name)
	options := map[string]string{"pool": name}
	pool, err := d.conn.CreatePool(subnet, options)
	if err != nil {
		return errors.Wrap(err, line)
	}
	gateway, err := d.conn.Gateway(pool)
	if err != nil {
		return errors.Wrap(err, line)
	}
	bare, _, _ := strings.Cut(gateway, "/")
	d.pools[name], d.networks[name] = pool, d.api.CreateNetwork(name, driver, subnet, bare, options)
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
	d.containers[name] = d.api.Run(name, image, map[string]string{"com.docker.compose.project": "shop"})
	return d.start(line+" --name "+name+" "+image, network, name, address)
}

// startAgain starts a container that was stopped.
func (d *docker) startAgain(network, name string) error {
	return d.start("docker start "+name, network, name, "")
}

func (d *docker) start(line, network, name, address string) error {
	d.starts++
	mac := fmt.Sprintf("02:42:0a:00:00:%02x", d.starts)
	got, err := d.conn.Endpoint(d.pools[network], name, mac, address)
	if err != nil {
		return errors.Wrap(err, line)
	}
	prefix, err := netip.ParsePrefix(got)
	if err != nil {
		return errors.Wrap(err, line)
	}
	d.api.Connect(d.networks[network], d.containers[name], mac, prefix)
	d.running[name] = endpoint{network, prefix.Addr().String()}
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
	d.api.Disconnect(d.networks[e.network], d.containers[name])
	if err := d.conn.Release(d.pools[e.network], e.address); err != nil {
		return errors.Wrapf(err, "docker stop %s", name)
	}
	delete(d.running, name)
	d.show("docker stop "+name, e.address+" is given back")
	return nil
}
