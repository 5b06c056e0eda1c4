// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/operator"
)

// docker is an engine that knows some addresses.
type docker map[string]string

// Knows implements [operator.Engine].
func (d docker) Knows(_ context.Context, a netip.Addr) (string, error) {
	if d == nil {
		return "", errors.New("there is no Docker")
	}
	return d[a.String()], nil
}

func asking(d docker) func(*operator.Options) {
	return func(o *operator.Options) { o.Engine = d }
}

// alive makes a host's daemon present.
func (b *bed) alive(host, machine string) {
	b.tb.Helper()
	lease, err := b.client.Grant(b.ctx(), 60)
	if err != nil {
		b.tb.Fatal(err)
	}
	dead := func(etcdlog.Presence) bool { return false }
	if _, err := b.log.Join(b.ctx(), host, etcdlog.Presence{Machine: machine, Version: "test"}, lease.ID, dead); err != nil {
		b.tb.Fatal(err)
	}
}

// world is a pool in which everybody holds something: h1 is this machine, h2 is
// alive, h3 is dead.
func (b *bed) world() events.ID {
	b.tb.Helper()
	b.alive("h1", machine)
	b.alive("h2", "machine-2")
	pool := b.hosts("", "10.0.0.4/24", "10.0.0.9/24", "10.0.0.1").ID
	grants := map[string]events.ID{}
	for _, host := range []string{"h1", "h2", "h3"} {
		grants[host] = b.log.Clock.NewID()
		b.write(pool, events.GrantOpened{Grant: grants[host], Host: host})
	}
	b.hold(pool, grants["h1"], events.Endpoint, "10.0.0.11", "h1", "c1", time.Hour)
	b.hold(pool, grants["h1"], events.Endpoint, "10.0.0.12", "h1", "young", 0)
	b.hold(pool, grants["h2"], events.Endpoint, "10.0.0.21", "h2", "c2", time.Hour)
	b.hold(pool, grants["h3"], events.Endpoint, "10.0.0.31", "h3", "c3", time.Hour)
	b.hold(pool, grants["h3"], events.Gateway, "10.0.0.32", "h3", "", time.Hour)
	b.hold(pool, events.ID{}, events.Host, "10.0.0.4", "h1", "", time.Hour)
	b.hold(pool, events.ID{}, events.Host, "10.0.0.5", "h3", "", time.Hour)
	b.hold(pool, events.ID{}, events.Host, "10.0.0.6", "", "", time.Hour)
	b.reserve("", "10.0.0.99")
	return pool
}

func releasing(tb testing.TB, text string, force bool) operator.Releasing {
	tb.Helper()
	r, err := operator.ParseReleasing(text)
	if err != nil {
		tb.Fatal(err)
	}
	r.Force = force
	return r
}

func TestRelease(t *testing.T) {
	b := newBed(t)
	pool := b.world()
	ip, host := (*operator.Operator).ReleaseIP, (*operator.Operator).ReleaseHost
	for _, c := range []struct {
		release func(*operator.Operator, context.Context, operator.Releasing) (operator.Outcome, error)
		ip      string
		force   bool
		engine  docker
		said    string
	}{
		{ip, "10.0.0.11", false, docker{}, "10.0.0.11 in pool 10.0.0.0/24 is free; it was held by endpoint c1 on host h1 since 20"},
		{ip, "10.0.0.12", true, nil, "held by endpoint young on host h1"},
		{ip, "10.0.0.21/24", true, nil, "held by endpoint c2 on host h2"},
		{ip, "10.0.0.31", false, nil, "held by endpoint c3 on host h3"},
		{ip, "10.0.0.32", true, nil, "held by gateway on host h3"},
		{host, "10.0.0.4/24", false, docker{"10.0.0.9": "another"}, "held by host h1"},
		{host, "10.0.0.5", false, nil, "held by host h3"},
		{host, "10.0.0.6", true, nil, "held by a host"},
	} {
		out := done(t)(c.release(b.at("h1", asking(c.engine)), b.ctx(), releasing(t, c.ip, c.force)))
		if !out.Changed || len(out.Said) != 1 || !strings.Contains(out.Said[0], c.said) {
			t.Errorf("%s: %+v", c.ip, out)
		}
		if unwatched := len(out.Notes) > 0 && strings.Contains(out.Notes[0], "no daemon of host h3 is running"); unwatched != (c.ip == "10.0.0.31" || c.ip == "10.0.0.5") {
			t.Errorf("%s: %+v", c.ip, out)
		}
	}
	if diff := cmp.Diff(map[string]string{"10.0.0.99": "reserved test"}, b.held(pool)); diff != "" {
		t.Error(diff)
	}
	b.agree()
}

func TestRelease_refused(t *testing.T) {
	b := newBed(t)
	b.world()
	for _, name := range []string{"one", "two"} {
		pool, grant := b.pool(name, "10.1.0.0/24", "h1")
		b.hold(pool, grant, events.Endpoint, "10.1.0.9", "h1", "c1", time.Hour)
	}
	ip, host := (*operator.Operator).ReleaseIP, (*operator.Operator).ReleaseHost
	for name, c := range map[string]struct {
		release func(*operator.Operator, context.Context, operator.Releasing) (operator.Outcome, error)
		ip      string
		engine  docker
		mark    error
		want    string
	}{
		"alive elsewhere":          {ip, "10.0.0.21", docker{}, nil, "10.0.0.21 is held by endpoint c2 on host h2, and host h2 is alive: run this there, or use --force"},
		"known here":               {ip, "10.0.0.11", docker{"10.0.0.11": "container c1 on network web"}, nil, "10.0.0.11 is in use by container c1 on network web"},
		"the engine is silent":     {ip, "10.0.0.11", nil, nil, "Docker cannot be asked whether it is in use (there is no Docker)"},
		"just given out":           {ip, "10.0.0.12", docker{}, nil, "ago, and that may still be starting"},
		"a gateway":                {ip, "10.0.0.32", docker{}, nil, "10.0.0.32 is held by gateway on host h3, and ends with its network"},
		"reserved":                 {ip, "10.0.0.99", docker{}, nil, "10.0.0.99 is reserved (test): give it back with ipamlog unreserve 10.0.0.99"},
		"a host's":                 {ip, "10.0.0.5", docker{}, nil, "for its bridge: give it back with ipamlog release-host --ip 10.0.0.5"},
		"nobody's":                 {ip, "10.0.0.100", docker{}, operator.ErrNotFound, "nobody holds 10.0.0.100: ipamlog history 10.0.0.100 tells who did"},
		"no pool's":                {ip, "10.9.0.1", docker{}, operator.ErrNotFound, "no pool has 10.9.0.1"},
		"of another length":        {ip, "10.0.0.11/20", docker{}, operator.ErrNotFound, "no pool is 10.0.0.0/20; 10.0.0.11 is in pool 10.0.0.0/24: write --ip 10.0.0.11"},
		"in two pools":             {ip, "10.1.0.9", docker{}, operator.ErrAmbiguous, "name one with --pool"},
		"a container's":            {host, "10.0.0.11", docker{}, nil, "and not by a host for its bridge: use ipamlog release-ip --ip 10.0.0.11"},
		"a reserved host":          {host, "10.0.0.99", docker{}, nil, "ipamlog unreserve"},
		"a host's that is known":   {host, "10.0.0.4", docker{"10.0.0.4": "Docker network mynet, as its gateway"}, nil, "10.0.0.4 is in use by Docker network mynet, as its gateway"},
		"a host's of nobody knows": {host, "10.0.0.6", docker{}, nil, "whose it is, the log does not know"},
	} {
		t.Run(name, func(t *testing.T) {
			b := *b
			b.tb = t
			before := b.keys()
			_, err := c.release(b.at("h1", asking(c.engine)), b.ctx(), releasing(t, c.ip, false))
			b.refused(before, err, c.mark, c.want)
		})
	}
	// Another machine under this name is another host.
	before := b.keys()
	_, err := b.at("h1", asking(docker{}), func(o *operator.Options) { o.Machine = "machine-3" }).ReleaseIP(b.ctx(), releasing(t, "10.0.0.11", false))
	b.refused(before, err, nil, "host h1 is alive: run this there")
	for _, text := range []string{"", "c1", "10.0.0.300", "::ffff:10.0.0.1"} {
		if _, err := operator.ParseReleasing(text); !errors.Is(err, operator.ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// The last holding of a pool that has neither grants nor a layout takes it along.
func TestRelease_retires(t *testing.T) {
	b := newBed(t)
	pool, grant := b.pool("", "10.0.0.0/24", "h3")
	b.hold(pool, events.ID{}, events.Host, "10.0.0.4", "h3", "", time.Hour)
	b.write(pool, events.GrantClosing{Grant: grant}, events.GrantClosed{Grant: grant})
	out := done(t)(b.at("h1").ReleaseHost(b.ctx(), releasing(t, "10.0.0.4", false)))
	if got := b.layout(pool); got != "gone" || len(out.Said) != 2 {
		t.Errorf("%s, %+v", got, out)
	}
	b.agree()
}

// A bridge that is left has its address, though Docker knows no network of it.
func TestReleaseHost_device(t *testing.T) {
	b := newBed(t)
	b.world()
	devices, deaf := map[string]string{"10.0.0.4": "br0"}, false
	asked := func(o *operator.Options) {
		o.Device = func(a netip.Addr) (string, error) {
			if deaf {
				return "", errors.New("no answer")
			}
			return devices[a.String()], nil
		}
	}
	before := b.keys()
	_, err := b.at("h1", asking(docker{}), asked).ReleaseHost(b.ctx(), releasing(t, "10.0.0.4", false))
	b.refused(before, err, nil, "this machine's device br0 has 10.0.0.4: remove it with ip link del br0 if it is a bridge that nothing uses, or use --force")
	deaf = true
	_, err = b.at("h1", asking(docker{}), asked).ReleaseHost(b.ctx(), releasing(t, "10.0.0.4", false))
	b.refused(before, err, nil, "cannot be asked whether one has 10.0.0.4 (no answer)")
	done(t)(b.at("h1", asking(docker{}), asked).ReleaseHost(b.ctx(), releasing(t, "10.0.0.5", false))) // another's
	done(t)(b.at("h1", asking(docker{}), asked).ReleaseHost(b.ctx(), releasing(t, "10.0.0.4", true)))
	b.agree()
}
