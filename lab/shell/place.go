// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/lab"
)

// routerAddress is in the subnet that the greeting suggests.
var routerAddress = netip.MustParsePrefix("10.50.0.1/16")

// place is a lab with everything in it.
type place struct {
	engines []*lab.Host // whose names are h1 and on
	all     []inhabitant
	program string // ipamlog's path
	store   string // as --cluster-store has it
}

// inhabitant is a host and what it is there for.
type inhabitant struct {
	*lab.Host
	what string
	runs *lab.Service // nil if it needs nothing to run
}

// build makes the place. When ctx ends meanwhile, so does the visit, with the
// next step.
func build(ctx context.Context, v *lab.Visitor, hosts int) *place {
	v.Cleanup(func() {
		if err := lab.RemovePrograms(); err != nil {
			v.Errorf("%v", err)
		}
	})
	step := func(what string) {
		if ctx.Err() != nil {
			v.Logf("told to stop")
			runtime.Goexit() // nothing failed, so there is nothing to show
		}
		v.Logf("%s", what)
	}
	step("building ipamlog")
	ipamlog, err := lab.Ipamlog()
	if err != nil {
		v.Fatal(err)
	}
	p := &place{program: ipamlog.Path}

	l := lab.New(v)
	for i := range hosts {
		p.engines = append(p.engines, l.Host(fmt.Sprintf("h%d", i+1)))
	}
	step("starting an etcd cluster of three members")
	cluster := l.StartCluster(3)
	p.store = strings.Join(cluster.Endpoints(), ",")

	step(fmt.Sprintf("starting %d engines and daemons", hosts))
	var starting sync.WaitGroup
	errs := make([]error, hosts)
	for i, h := range p.engines {
		d := h.Daemon("--cluster-store", p.store)
		p.all = append(p.all, inhabitant{h, "engine and daemon", &d.Service})
		starting.Go(func() { errs[i] = errors.CombineErrors(d.Start(), h.StartEngine()) })
	}
	starting.Wait()
	if err := errors.Join(errs...); err != nil {
		v.Fatal(err)
	}
	for _, m := range cluster.Members {
		p.all = append(p.all, inhabitant{m.Host, "etcd", &m.Service})
	}
	p.all = append(p.all, inhabitant{l.Router(routerAddress), "router, " + routerAddress.String(), nil})
	if err := p.furnish(); err != nil {
		v.Fatal(err)
	}
	step("ready")
	return p
}

func (p *place) first() *lab.Host { return p.engines[0] }

// find finds a host by its name.
func (p *place) find(name string) (inhabitant, error) {
	var names []string
	for _, one := range p.all {
		if one.Name() == name {
			return one, nil
		}
		names = append(names, one.Name())
	}
	return inhabitant{}, errors.Newf("there is no host %q: name one of %s", name, strings.Join(names, ", "))
}

// hidden is a directory for what makes the lab's own commands work.
func (p *place) hidden() string { return filepath.Join(p.first().Dir(), ".lab") }

// commands is the directory of the commands a person finds on every host.
func (p *place) commands() string { return filepath.Join(p.hidden(), "bin") }

func (p *place) socket() string { return filepath.Join(p.hidden(), "socket") }

func (p *place) furnish() error {
	self, err := os.Executable()
	if err != nil {
		return errors.Wrap(err, "find this program")
	}
	if err := os.MkdirAll(p.commands(), 0o755); err != nil {
		return errors.Wrap(err, "make a directory for commands")
	}
	for name, program := range map[string]string{"ipamlog": p.program, nameOn: self, nameLab: self} {
		if err := os.Symlink(program, filepath.Join(p.commands(), name)); err != nil {
			return errors.Wrap(err, "make a command")
		}
	}
	return nil
}

// environment is that of every command a person runs on a host.
func (p *place) environment(h *lab.Host) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "IPAMLOG_") || strings.HasPrefix(v, "DOCKER_")
	})
	return append(env,
		"PATH="+p.commands()+":"+os.Getenv("PATH"),
		"DOCKER_HOST=unix:///run/docker.sock",
		"IPAMLOG_CLUSTER_STORE="+p.store,
		"HOME="+h.Dir(),
		"LAB_SOCKET="+p.socket(),
		"LAB_HOST="+h.Name(),
	)
}

// describe tells a person where they are.
func (p *place) describe() string {
	var b strings.Builder
	for _, one := range p.all {
		down := ""
		if one.runs != nil && !one.runs.Runs() {
			down = ", down"
		}
		fmt.Fprintf(&b, "  %-8s %-14v %s%s\n", one.Name(), one.Addr(), one.what, down)
	}
	return b.String()
}

// greet is what a person reads first.
func (p *place) greet() string {
	second := p.engines[min(1, len(p.engines)-1)]
	return fmt.Sprintf(`
This is host %[1]s of a lab on one layer 2:

%[2]s
Try:
  lan="docker network create --ipam-driver ipamlog --subnet %[4]v --gateway %[5]v -d macvlan -o parent=eth0 lan"
  $lan; on %[3]s $lan
  docker run -d --network lan --name c1 %[6]s
  on %[3]s docker run --rm --network lan %[6]s ping -c1 %[5]v
  ipamlog holders %[4]v
  on %[3]s                               a shell there
  lab                                 the hosts, and what is down
  lab kill etcd1; lab start etcd1     kill -9 its etcd, or its daemon; start it again
  lab cut %[3]s; lab plug %[3]s             pull its network cable; put it back
  exit                                all of this is gone

`, p.first().Name(), p.describe(), second.Name(), routerAddress.Masked(), routerAddress.Addr(), lab.Image)
}
