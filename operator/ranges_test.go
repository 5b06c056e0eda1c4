// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/operator"
)

func TestParseRange(t *testing.T) {
	for _, c := range []struct{ start, end, want string }{
		{"172.16.20.54/20", "172.16.20.58/20", "172.16.20.54-172.16.20.58 of 172.16.16.0/20"},
		{" 10.0.0.9/24", "10.0.0.100/24 ", "10.0.0.9-10.0.0.100 of 10.0.0.0/24"}, // by number, not by text
		{"10.0.0.9/24", "10.0.0.9/24", "10.0.0.9-10.0.0.9 of 10.0.0.0/24"},
		{"10.0.0.0/31", "10.0.0.1/31", "10.0.0.0-10.0.0.1 of 10.0.0.0/31"},
		{"fd00::5/64", "fd00::1:0/64", "fd00::5-fd00::1:0 of fd00::/64"},
		{"172.16.20.54/20", "172.16.40.58/20", "!--ip-start 172.16.20.54 is of 172.16.16.0/20 and --ip-end 172.16.40.58 of 172.16.32.0/20"},
		{"172.25.60.1/22", "172.25.60.9/24", "!of different lengths"},
		{"10.0.0.9/24", "10.0.0.8/24", "!write --ip-start 10.0.0.8/24 --ip-end 10.0.0.9/24"},
		{"172.25.60.0/22", "172.25.60.182/22", "!172.25.60.0 is the network or broadcast address of 172.25.60.0/22"},
		{"10.0.0.9/24", "10.0.0.255/24", "!10.0.0.255 is the network or broadcast address"},
		{"fd00::/64", "fd00::9/64", "!fd00:: is the subnet-router anycast address of fd00::/64"},
		{"fd00::9/128", "fd00::9/128", "!fd00::9/128 has no address that anybody could get: write the length that the subnet has, such as fd00::9/64"},
		{"10.0.0.9/32", "10.0.0.9/32", "10.0.0.9-10.0.0.9 of 10.0.0.9/32"},
		{"10.0.0.9/24", "fd00::1/24", "!of different families"},
		{"10.0.0.9", "10.0.0.10/24", "!lacks the length of its subnet: write it as 10.0.0.9/24"},
		{"127.0.0.1/8", "127.0.0.9/8", "!nobody can have on a network"},
		{"224.0.0.1/8", "224.0.0.9/8", "!nobody can have on a network"},
		{"10.0.0.9/24", "fd00::1", "!write it as fd00::1/64"},
		{"10.0.0.9/33", "10.0.0.10/24", "!--ip-start \"10.0.0.9/33\" is no address"},
		{"10.0.0.9/24", "", "!--ip-end \"\" is no address"},
		{"::ffff:10.0.0.9/120", "::ffff:10.0.0.10/120", "!is no address"},
	} {
		r, err := operator.ParseRange(c.start, c.end)
		if want, fails := strings.CutPrefix(c.want, "!"); fails {
			if !errors.Is(err, operator.ErrInvalid) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s to %s: %v, want %q", c.start, c.end, err, want)
			}
		} else if got := r.String() + " of " + r.Subnet.String(); err != nil || got != want {
			t.Errorf("%s to %s: %s, %v", c.start, c.end, got, err)
		}
	}
}

func TestParseStretch(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.9":            "10.0.0.9-10.0.0.9",
		"10.0.0.9-10.0.0.100": "10.0.0.9-10.0.0.100",
		"fd00::1 - fd00::9":   "fd00::1-fd00::9",
		"10.0.0.9-10.0.0.8":   "!write 10.0.0.8-10.0.0.9",
		"10.0.0.0/24":         "!neither an address nor a range",
		"10.0.0.9-fd00::1":    "!different families",
		"10.0.0.9-":           "!neither",
		"":                    "!neither",
		"::ffff:10.0.0.9":     "!neither",
		"fe80::1%eth0":        "!neither",
	} {
		r, err := operator.ParseStretch(text)
		if want, fails := strings.CutPrefix(want, "!"); fails {
			if !errors.Is(err, operator.ErrInvalid) || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v, want %q", text, err, want)
			}
		} else if err != nil || r.String() != want {
			t.Errorf("%q: %s, %v", text, r, err)
		}
	}
}

// Ranges add up, whatever comes first, and the same again writes nothing.
func TestRanges_addUp(t *testing.T) {
	b := newBed(t)
	first := b.ranges("", "10.0.0.100/24", "10.0.0.120/24")
	if !first.Changed || first.Pool != "10.0.0.0/24" {
		t.Errorf("%+v", first)
	}
	b.hosts("", "10.0.0.4/24", "10.0.0.6/24", "10.0.0.1")
	b.ranges("", "10.0.0.121/24", "10.0.0.130/24")
	b.ranges("10.0.0.0/24", "10.0.0.200/24", "10.0.0.210/24")
	b.hosts(first.ID.String(), "10.0.0.7/24", "10.0.0.7/24", "")
	want := "10.0.0.100-10.0.0.130 10.0.0.200-10.0.0.210 host:10.0.0.4-10.0.0.7 router:10.0.0.1"
	if got := b.layout(first.ID); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	before := b.keys()
	for _, again := range []operator.Outcome{b.ranges("", "10.0.0.110/24", "10.0.0.130/24"), b.hosts("", "10.0.0.4/24", "10.0.0.7/24", "10.0.0.1")} {
		if again.Changed || again.Revision != 0 || len(again.Said) != 1 || !strings.HasPrefix(again.Said[0], "nothing to do: ") {
			t.Errorf("%+v", again)
		}
	}
	if after := b.keys(); len(after) != len(before) {
		t.Errorf("%d keys were %d", len(after), len(before))
	}

	// The other way round, with the router in both, and a name.
	hosts := b.hosts("web", "10.0.0.1/24", "10.0.0.6/24", "10.0.0.1")
	containers := done(t)(b.at("h1").AddRange(b.ctx(), "web", span(t, "10.0.0.100/24", "10.0.0.120/24"), wish(t)))
	if hosts.ID != containers.ID || hosts.ID == first.ID || len(hosts.Notes) != 2 || len(containers.Notes) != 0 {
		t.Errorf("%+v, %+v", hosts, containers)
	}
	if got := b.layout(hosts.ID); got != "10.0.0.100-10.0.0.120 host:10.0.0.1-10.0.0.6 not:10.0.0.110-10.0.0.112 router:10.0.0.1" {
		t.Error(got)
	}
	b.agree()
}

// wish is what may be wished of a pool that exists with the default policy.
func wish(tb testing.TB) actor.Wish {
	tb.Helper()
	gateway := events.GatewayAuto
	return actor.Wish{Gateway: &gateway, Exclude: []netipx.IPRange{netipx.MustParseIPRange("10.0.0.110-10.0.0.112")}}
}

// A pool that Docker made is laid out as well, and what was given is taken away
// again until nothing is left.
func TestRanges_remove(t *testing.T) {
	b := newBed(t)
	pool, _ := b.pool("", "10.0.0.0/24", "h1")
	o, ctx := b.at("h1"), b.ctx()
	if out := b.ranges("", "10.0.0.10/24", "10.0.0.99/24"); out.ID != pool || len(out.Notes) != 1 {
		t.Errorf("%+v", out)
	}
	done(t)(o.RemoveRange(ctx, "", span(t, "10.0.0.40/24", "10.0.0.49/24"), false))
	if got := b.layout(pool); got != "10.0.0.10-10.0.0.39 10.0.0.50-10.0.0.99" {
		t.Error(got)
	}
	before := b.keys()
	_, err := o.RemoveRange(ctx, "", span(t, "10.0.0.1/24", "10.0.0.99/24"), false)
	b.refused(before, err, nil, "use --force")
	_, err = o.RemoveRange(ctx, "", span(t, "10.0.0.40/24", "10.0.0.49/24"), true)
	b.refused(before, err, operator.ErrNotFound, "its ranges are 10.0.0.10-10.0.0.39, 10.0.0.50-10.0.0.99")
	done(t)(o.RemoveRange(ctx, "", span(t, "10.0.0.1/24", "10.0.0.99/24"), true))
	if got := b.layout(pool); got != "not kept" {
		t.Error(got)
	}

	// What only an operator wanted is gone with his word.
	made := b.hosts("mine", "10.0.0.4/24", "10.0.0.6/24", "10.0.0.1").ID
	b.ranges("mine", "10.0.0.10/24", "10.0.0.20/24")
	done(t)(o.RemoveHostRange(ctx, "mine", span(t, "10.0.0.4/24", "10.0.0.6/24")))
	if got := b.layout(made); got != "10.0.0.10-10.0.0.20 router:10.0.0.1" {
		t.Error(got)
	}
	out := done(t)(o.RemoveRange(ctx, "mine", span(t, "10.0.0.10/24", "10.0.0.20/24"), false))
	if got := b.layout(made); got != "gone" || len(out.Said) != 1 {
		t.Errorf("%s, %+v", got, out)
	}
	b.agree()
}

// Another router takes the place of one that nobody holds.
func TestAddHostRange_router(t *testing.T) {
	b := newBed(t)
	pool := b.hosts("", "10.0.0.4/24", "10.0.0.6/24", "10.0.0.1").ID
	if out := b.hosts("", "10.0.0.4/24", "10.0.0.6/24", "10.0.0.254"); len(out.Notes) != 1 || !out.Changed {
		t.Errorf("%+v", out)
	}
	grant := b.log.Clock.NewID()
	b.write(pool, events.GrantOpened{Grant: grant, Host: "h2"})
	b.hold(pool, grant, events.Gateway, "10.0.0.254", "h2", "", 0)
	before := b.keys()
	_, err := b.at("h1").AddHostRange(b.ctx(), "", span(t, "10.0.0.4/24", "10.0.0.6/24"), addr("10.0.0.1"))
	b.refused(before, err, nil, "the router of pool 10.0.0.0/24 is 10.0.0.254, and it is held by gateway on host h2")
	b.agree()
}

// A router that several networks share already is one.
func TestAddHostRange_sharedRouter(t *testing.T) {
	b := newBed(t)
	pool, grant := b.pool("", "10.0.0.0/24", "h2")
	b.write(pool, events.AddressAllocated{Allocation: b.log.Clock.NewID(), Address: addr("10.0.0.1"), Kind: events.Gateway, Shared: true, Host: "h2", Grant: grant})
	b.hosts("", "10.0.0.4/24", "10.0.0.4/24", "10.0.0.1")
	if got := b.layout(pool); got != "host:10.0.0.4-10.0.0.4 router:10.0.0.1" {
		t.Error(got)
	}
	b.agree()
}

// What is given out between the decision and the commit stands, and is told.
func TestAddHostRange_late(t *testing.T) {
	b := newBed(t)
	pool, grant := b.pool("", "10.0.0.0/24", "h2")
	out := done(t)(b.between("h1", func(int) error {
		b.hold(pool, grant, events.Gateway, "10.0.0.1", "h2", "", 0)
		b.hold(pool, grant, events.Endpoint, "10.0.0.4", "h2", "c1", 0)
		return nil
	}).AddHostRange(b.ctx(), "", span(t, "10.0.0.4/24", "10.0.0.4/24"), addr("10.0.0.1")))
	if want := []string{
		"the router 10.0.0.1 is held by gateway on host h2: it got that while this was decided, so remove that network first",
		"10.0.0.4 is held by endpoint c1 on host h2: it got that while this was decided, and keeps it until it stops",
	}; !cmp.Equal(want, out.Notes) {
		t.Errorf("%q", out.Notes)
	}
	if want := []string{"10.0.0.4 in pool 10.0.0.0/24 is kept for hosts: 1 address in all, the router is 10.0.0.1"}; !cmp.Equal(want, out.Said) {
		t.Errorf("%q", out.Said)
	}
	// Afterwards it is no news.
	if out := b.hosts("", "10.0.0.5/24", "10.0.0.5/24", "10.0.0.1"); len(out.Notes) > 0 {
		t.Errorf("%q", out.Notes)
	}
	b.agree()
}

// Taking some of a network's own range away does not have the pool stand longer
// than the network.
func TestRemoveRange_ofANetwork(t *testing.T) {
	b := newBed(t)
	pool, grant := b.log.Clock.NewID(), b.log.Clock.NewID()
	b.write(pool,
		events.PoolCreated{Space: events.Local, Subnet: prefix("10.0.0.0/24"), Policy: events.DefaultPolicy(), Layout: events.Layout{
			Ranges: []netipx.IPRange{netipx.MustParseIPRange("10.0.0.10-10.0.0.20"), netipx.MustParseIPRange("10.0.0.30-10.0.0.40")},
		}},
		events.GrantOpened{Grant: grant, Host: "h1"})
	done(t)(b.at("h1").RemoveRange(b.ctx(), "", span(t, "10.0.0.10/24", "10.0.0.20/24"), false))
	if got := b.layout(pool); got != "10.0.0.30-10.0.0.40 not kept" {
		t.Error(got)
	}
	// What a person adds is wanted by that person.
	b.ranges("", "10.0.0.50/24", "10.0.0.60/24")
	done(t)(b.at("h1").RemoveRange(b.ctx(), "", span(t, "10.0.0.30/24", "10.0.0.40/24"), false))
	if got := b.layout(pool); got != "10.0.0.50-10.0.0.60" {
		t.Error(got)
	}
	b.agree()
}

// Everything that is refused is refused before a word is written.
func TestRanges_refused(t *testing.T) {
	b := newBed(t)
	plain, grant := b.pool("", "10.0.0.0/24", "h2")
	b.hold(plain, grant, events.Endpoint, "10.0.0.77", "h2", "c1", 0)
	b.ranges("", "10.0.0.10/24", "10.0.0.19/24")
	b.hosts("", "10.0.0.4/24", "10.0.0.6/24", "10.0.0.1")
	b.hold(plain, events.ID{}, events.Host, "10.0.0.4", "h2", "", 0)
	b.hold(plain, grant, events.Gateway, "10.0.0.88", "h2", "", 0)
	b.reserve("", "10.0.0.89")
	b.pool("web", "10.1.0.0/24", "h1")
	o, ctx := b.at("h1"), b.ctx()
	lowest := events.PickLowest
	type try = func() (operator.Outcome, error)
	containers := func(pool, start, end string, w actor.Wish) try {
		return func() (operator.Outcome, error) { return o.AddRange(ctx, pool, span(t, start, end), w) }
	}
	hosts := func(pool, start, end, router string) try {
		return func() (operator.Outcome, error) { return o.AddHostRange(ctx, pool, span(t, start, end), addr(router)) }
	}
	unhost := func(pool, start, end string) try {
		return func() (operator.Outcome, error) { return o.RemoveHostRange(ctx, pool, span(t, start, end)) }
	}
	excluding := func(r string) actor.Wish {
		return actor.Wish{Exclude: []netipx.IPRange{netipx.MustParseIPRange(r)}}
	}
	for name, c := range map[string]struct {
		do   try
		mark error
		want string
	}{
		"containers where hosts are":    {containers("", "10.0.0.1/24", "10.0.0.9/24", actor.Wish{}), nil, "10.0.0.1-10.0.0.9 has addresses of 10.0.0.4-10.0.0.6, which are kept for the hosts' own bridges"},
		"hosts where containers are":    {hosts("", "10.0.0.19/24", "10.0.0.30/24", ""), nil, "has addresses of 10.0.0.10-10.0.0.19, which containers get"},
		"hosts where one holds":         {hosts("", "10.0.0.70/24", "10.0.0.80/24", ""), nil, "10.0.0.77 is held by endpoint c1 on host h2"},
		"another length":                {containers("", "10.0.0.20/22", "10.0.0.30/22", actor.Wish{}), nil, "10.0.0.0/22 overlaps with pool 10.0.0.0/24: write the addresses with the length"},
		"a named pool's subnet":         {containers("", "10.1.0.20/24", "10.1.0.30/24", actor.Wish{}), operator.ErrAmbiguous, "10.1.0.0/24 is the subnet of pool web: say --pool web"},
		"not the pool's":                {containers("web", "10.0.0.20/24", "10.0.0.30/24", actor.Wish{}), nil, "pool web is 10.1.0.0/24, and the addresses are of 10.0.0.0/24"},
		"not the subnet that was named": {containers("10.9.0.0/24", "10.0.0.20/24", "10.0.0.30/24", actor.Wish{}), operator.ErrInvalid, "--pool names 10.9.0.0/24"},
		"no name":                       {containers("a/b", "10.9.0.20/24", "10.9.0.30/24", actor.Wish{}), operator.ErrInvalid, "cannot be a pool's name"},
		"another policy":                {containers("web", "10.1.0.20/24", "10.1.0.30/24", actor.Wish{Pick: &lowest}), nil, "pool web is gateway=auto,pick=serial,quarantine=60s, and its policy was fixed"},
		"ranges twice":                  {containers("web", "10.1.0.20/24", "10.1.0.30/24", actor.Wish{Ranges: []netipx.IPRange{{}}}), operator.ErrInvalid, "use --ip-start"},
		"excluding elsewhere":           {containers("", "10.0.0.20/24", "10.0.0.30/24", excluding("10.1.0.1-10.1.0.2")), operator.ErrInvalid, "it is not in 10.0.0.0/24"},
		"excluding all":                 {containers("", "10.0.0.20/24", "10.0.0.30/24", excluding("10.0.0.20-10.0.0.30")), nil, "none of 10.0.0.20-10.0.0.30 could be given out"},
		"the router alone":              {containers("", "10.0.0.1/24", "10.0.0.1/24", actor.Wish{}), nil, "none of 10.0.0.1-10.0.0.1 could be given out"},
		"beyond what is picked":         {containers("", "fd00:8000:ffff::1/32", "fd00:8000:ffff::9/32", actor.Wish{}), nil, "the first 2^63 addresses"},
		"no router":                     {hosts("", "10.9.0.2/24", "10.9.0.3/24", ""), operator.ErrInvalid, "name the router of 10.9.0.0/24 with --gateway"},
		"a router elsewhere":            {hosts("", "192.168.0.4/24", "192.168.0.6/24", "192.168.223.2"), operator.ErrInvalid, "192.168.223.2 is not in 192.168.0.0/24"},
		"a router that is the network":  {hosts("", "192.168.0.4/24", "192.168.0.6/24", "192.168.0.255"), operator.ErrInvalid, "network or broadcast address"},
		"a router that is held":         {hosts("", "10.0.0.7/24", "10.0.0.8/24", "10.0.0.77"), nil, "10.0.0.77 cannot be the router: it is held by endpoint c1 on host h2, so stop that container first"},
		"a router that is a gateway":    {hosts("", "10.0.0.7/24", "10.0.0.8/24", "10.0.0.88"), nil, "it is held by gateway on host h2, so remove that network first"},
		"a router that is reserved":     {hosts("", "10.0.0.7/24", "10.0.0.8/24", "10.0.0.89"), nil, "it is held by a reservation (test), so unreserve it first with ipamlog unreserve 10.0.0.89"},
		"a router that is anycast":      {hosts("", "fd00::4/64", "fd00::6/64", "fd00::"), operator.ErrInvalid, "--gateway fd00:: is the subnet-router anycast address of fd00::/64"},
		"a router that is a host":       {hosts("", "10.0.0.7/24", "10.0.0.8/24", "10.0.0.4"), nil, "it is held by host h2"},
		"only the router":               {hosts("", "10.9.0.2/24", "10.9.0.2/24", "10.9.0.2"), nil, "nothing of 10.9.0.2-10.9.0.2 is left beside the router"},
		"nothing for containers":        {hosts("", "10.9.0.1/30", "10.9.0.1/30", "10.9.0.2"), nil, "would leave nothing of 10.9.0.0/30 for containers"},
		"removing of no pool":           {unhost("", "10.9.0.1/24", "10.9.0.2/24"), operator.ErrNotFound, "there is no pool 10.9.0.0/24"},
		"removing what is not":          {unhost("", "10.0.0.10/24", "10.0.0.11/24"), operator.ErrNotFound, "those that are kept are 10.0.0.4-10.0.0.6"},
		"removing what a host holds":    {unhost("", "10.0.0.4/24", "10.0.0.6/24"), nil, "10.0.0.4 is held by host h2: give them back with release-host first"},
	} {
		t.Run(name, func(t *testing.T) {
			b := *b
			b.tb = t
			before := b.keys()
			_, err := c.do()
			b.refused(before, err, c.mark, c.want)
		})
	}
	b.agree()
}
