// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/events"
)

var subnet = netip.MustParsePrefix("10.1.0.0/29")

// id makes a name of a number.
func id(n int) events.ID { return events.ID{14: byte(n >> 8), 15: byte(n)} }

func mac(n int) events.MAC { return events.MAC{2, 0, 0, 0, 0, byte(n)} }

func poolOf(name string) events.Pool {
	return events.Pool{Space: events.Local, Name: name, Subnet: subnet}
}

func endpointOf(n int, addr netip.Addr, m events.MAC) actor.Holding {
	return actor.Holding{ID: id(1), Pool: poolOf("web"), Address: addr, Allocation: events.Allocation{
		ID: id(n), Kind: events.Endpoint, Host: "h1", Grant: id(2), MAC: m,
	}}
}

// life is one container's endpoint from its allocation to its release, in the
// engine and in the log.
type life struct {
	since   time.Time // of its stage
	holding actor.Holding
	seen    engine.Endpoint
	// stage is how far it has come; each is reached in this order.
	stage  stage
	looked bool // its endpoint was seen by a look that has ended
}

type stage int

const (
	allocated stage = iota // in the log, and the ledger was told; Docker was answered
	written                // the engine has it
	struck                 // the engine has it no more
	released               // out of the log; the ledger is told some time
	ended
)

// world is a pool, its network on an engine, and a ledger that looks.
type world struct {
	ledger *Ledger
	now    time.Time
	// lacking says that the last list lacked the network.
	lacking bool
	created time.Time // the network, as it says
	n       int
	lives   []*life
	truth   map[events.ID]string // the container of each allocation
	log     recollection
	peek    *peek // nil: nobody looks
	// watched are ended in the log, and the ledger was not told yet.
	watched []events.ID
}

// peek is a look under way: the engine reads its endpoints one by one.
type peek struct {
	look *look
	// there is what the engine had when the look began: what of it the engine still
	// has in the end the look has seen.
	there map[string]bool
	got   map[string]engine.Endpoint
}

// newWorld is one whose daemon was just started.
func newWorld() *world {
	w := &world{now: time.Unix(0, 0), truth: map[events.ID]string{}, log: newRecollection()}
	w.daemon()
	return w
}

// daemon starts one that knows nothing.
func (w *world) daemon() {
	w.ledger = NewLedger("ipamlog")
	w.ledger.born, w.ledger.clock = w.now, func() time.Time { return w.now }
}

// looksOn has the ledger know networks as such that come while it is there.
func looksOn(l *Ledger) {
	for range 2 {
		k := l.begin()
		l.listed(k, nil)
		l.finish(k)
	}
}

// list is a list of the engine's networks, which may lack ours, but not twice.
func (w *world) list(t *rapid.T) {
	var networks []engine.Network
	if w.lacking = !w.lacking && rapid.Bool().Draw(t, "lacking"); !w.lacking {
		networks = append(networks, w.network(nil))
	}
	k := w.ledger.begin()
	w.ledger.listed(k, networks)
	w.ledger.finish(k)
}

// wait lets time go by. Within certainAfter the engine writes down what it was
// given, and an end is told of what it struck out.
func (w *world) wait(t *rapid.T) {
	w.now = w.now.Add(time.Duration(rapid.IntRange(1, 15).Draw(t, "seconds")) * time.Second)
	for _, x := range slices.Clone(w.lives) {
		switch late := w.now.Sub(x.since) >= certainAfter; {
		case late && x.stage == allocated:
			x.stage, x.since = written, w.now
		case late && x.stage == struck:
			w.release(x)
		}
	}
	for len(w.watched) > 0 {
		w.watch(t)
	}
}

func (w *world) look(*rapid.T) {
	if w.peek != nil {
		return
	}
	w.peek = &peek{w.ledger.begin(), map[string]bool{}, map[string]engine.Endpoint{}}
	for _, x := range w.lives {
		w.peek.there[x.seen.ID] = x.stage == written
	}
}

func (w *world) network(endpoints map[string]engine.Endpoint) engine.Network {
	n := engine.Network{ID: "n", Name: "web", Created: w.created, IPAM: engine.IPAM{
		Driver: "ipamlog", Options: map[string]string{"pool": "web"}, Pools: []engine.Pool{{Subnet: subnet}},
	}}
	for _, e := range endpoints {
		n.Endpoints = append(n.Endpoints, e)
	}
	slices.SortFunc(n.Endpoints, func(a, b engine.Endpoint) int { return compare(a.ID, b.ID) })
	return n
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (w *world) free(addr netip.Addr) bool {
	return !slices.ContainsFunc(w.lives, func(x *life) bool { return x.holding.Address == addr })
}

// start allocates an address to a new container. MACs may come again, and may be
// missing; a container may take its old place again.
func (w *world) start(t *rapid.T) {
	addr := netip.AddrFrom4([4]byte{10, 1, 0, byte(rapid.IntRange(1, 3).Draw(t, "address"))})
	if !w.free(addr) {
		return
	}
	w.n++
	m := mac(rapid.IntRange(0, 2).Draw(t, "mac"))
	x := &life{since: w.now, holding: endpointOf(1000+w.n, addr, m), seen: engine.Endpoint{
		ID: fmt.Sprintf("e%d", w.n), Container: fmt.Sprintf("c%d", rapid.IntRange(1, 3).Draw(t, "container")),
		MAC: net.HardwareAddr(m[:]), Addresses: []netip.Prefix{netip.PrefixFrom(addr, 29)},
	}}
	if rapid.IntRange(0, 4).Draw(t, "no mac") == 0 {
		x.holding.MAC = events.MAC{}
	}
	w.lives = append(w.lives, x)
	w.truth[x.holding.Allocation.ID] = x.seen.Container
	w.log.take(events.AddressAllocated{Allocation: x.holding.Allocation.ID, Address: addr, MAC: x.holding.MAC})
	w.ledger.Began(x.holding)
}

// next takes a life a step on.
func (w *world) next(t *rapid.T) {
	if len(w.lives) == 0 {
		return
	}
	x := rapid.SampledFrom(w.lives).Draw(t, "life")
	if x.stage == released {
		return // until the ledger is told
	}
	x.stage++
	x.since = w.now
	if x.stage == written && rapid.IntRange(0, 5).Draw(t, "lost") == 0 {
		x.stage = released // the answer reached nobody: it is taken back
	}
	if x.stage == released {
		w.release(x)
	}
}

func (w *world) release(x *life) {
	x.stage = released
	if x.holding.Address.IsValid() {
		w.watched = append(w.watched, x.holding.Allocation.ID)
	}
	w.lives = slices.DeleteFunc(w.lives, func(o *life) bool { return o == x })
}

// watch tells the ledger of the oldest end in the log that it has not been told of.
func (w *world) watch(*rapid.T) {
	if len(w.watched) > 0 {
		w.ledger.Ended(w.watched[0])
		w.watched = w.watched[1:]
	}
}

// force is an operator who releases what is in use: the engine still has the
// endpoint then, which a look has seen, or of an old network the first look will.
func (w *world) force(t *rapid.T) {
	n := w.ledger.networks["n"]
	looked := w.peek != nil || n != nil && n.endpoints != nil || w.created.After(w.ledger.born)
	for _, x := range w.lives {
		if x.stage == written && (x.looked || !looked) && x.holding.Address.IsValid() && rapid.Bool().Draw(t, "forced") {
			w.watched = append(w.watched, x.holding.Allocation.ID)
			x.holding.Address = netip.Addr{} // it is free now
			return
		}
	}
}

// restart is a new daemon, which knows what the log holds, and what it told.
func (w *world) restart() {
	for id, h := range w.ledger.holdings {
		if h.owner != nil {
			w.log.take(events.AddressAttributed{Allocation: id, Attribution: events.Attribution{ContainerID: h.owner.container}})
		}
	}
	w.daemon()
	w.peek = nil
	w.watched = nil
	var all []actor.Holding
	for _, x := range w.lives {
		x.looked = false // by this one
		if x.holding.Address.IsValid() {
			all = append(all, x.holding)
		}
	}
	w.ledger.Holds(id(1), all)
	w.ledger.recalled(id(1), w.log)
}

// read has the engine read some of its endpoints to the look.
func (w *world) read(t *rapid.T) {
	for _, x := range w.lives {
		if w.peek != nil && x.stage == written && rapid.Bool().Draw(t, "read") {
			w.peek.got[x.seen.ID] = x.seen
		}
	}
}

func (w *world) finish(t *rapid.T) {
	w.read(t)
	k := w.peek
	if k == nil {
		return
	}
	w.peek = nil
	for _, x := range w.lives {
		if x.stage == written && k.there[x.seen.ID] {
			k.got[x.seen.ID] = x.seen
		}
	}
	w.ledger.saw(k.look, w.network(k.got))
	for _, x := range w.lives {
		if _, seen := k.got[x.seen.ID]; seen {
			x.looked = true
		}
	}
	w.check(t)
	w.ledger.finish(k.look)
}

// check fails where the ledger names another container than the true one.
func (w *world) check(t *rapid.T) {
	for id, h := range w.ledger.holdings {
		if h.owner != nil && h.owner.container != w.truth[id] {
			t.Fatalf("allocation %s of %s is %s's, and was found to be %s's", id, h.Address, w.truth[id], h.owner.container)
		}
	}
}

// often checks a property for more cases than usual: they are cheap, and what goes
// wrong is rare.
func often(t *testing.T, property func(*rapid.T)) {
	t.Helper()
	for range 50 {
		if rapid.Check(t, property); t.Failed() {
			return
		}
	}
}

// Whatever happens while the engine is looked at, no holding is ever found to be
// another container's.
func TestLedger_neverWrong(t *testing.T) {
	found := 0
	often(t, func(t *rapid.T) {
		w := newWorld()
		if rapid.Bool().Draw(t, "young") {
			w.now = w.now.Add(1)
			w.created = w.now
		}
		t.Repeat(map[string]func(*rapid.T){
			"start": w.start, "next": w.next, "read": w.read, "finish": w.finish, "force": w.force, "look": w.look, "watch": w.watch,
			"list": w.list, "wait": w.wait,
			"restart": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "restarts") == 0 {
					w.restart()
				}
			},
		})
		for _, h := range w.ledger.holdings {
			if h.owner != nil {
				found++
			}
		}
	})
	if found == 0 {
		t.Error("nothing was ever found: nothing was tested")
	}
}

// Once all is quiet, one look finds the owners of all that is held.
func TestLedger_found(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		looksOn(w.ledger)
		t.Repeat(map[string]func(*rapid.T){"start": w.start, "next": w.next, "watch": w.watch})
		for len(w.watched) > 0 {
			w.watch(t)
		}
		for _, x := range slices.Clone(w.lives) {
			switch x.stage {
			case allocated:
				x.stage = written
			case struck:
				w.ledger.Ended(x.holding.Allocation.ID)
				x.stage = ended
			default:
			}
		}
		w.lives = slices.DeleteFunc(w.lives, func(x *life) bool { return x.stage == ended })
		k := w.ledger.begin()
		all := map[string]engine.Endpoint{}
		for _, x := range w.lives {
			all[x.seen.ID] = x.seen
		}
		w.ledger.saw(k, w.network(all))
		w.ledger.finish(k)
		for _, x := range w.lives {
			if h := w.ledger.holdings[x.holding.Allocation.ID]; h == nil || h.owner == nil || h.owner.container != x.seen.Container {
				t.Fatalf("%s of %s was not found: %+v", x.holding.Address, x.seen.Container, h)
			}
		}
		if len(w.ledger.holdings) != len(w.lives) {
			t.Fatalf("%d holdings are remembered, and %d are", len(w.ledger.holdings), len(w.lives))
		}
	})
}

// grant is a network from its gateway's allocation to its end.
type grant struct {
	leaked  bool // the engine died before it wrote the network down
	gateway actor.Holding
	network engine.Network
	stage   stage
	since   time.Time // of the stage
}

// Networks of one subnet come, go, and come again; a gateway is never told to be
// another network's. The engine takes less than certainAfter to write down a
// network whose gateway it was given, and to strike out one whose grant is gone.
func TestLedger_gateways(t *testing.T) {
	found := 0
	often(t, func(t *rapid.T) {
		l, now := NewLedger("ipamlog"), time.Unix(0, 0)
		l.clock = func() time.Time { return now }
		truth := map[events.ID]string{}
		var grants []*grant
		n := 0
		listed := func() (list []engine.Network) {
			for _, g := range grants {
				if g.stage >= written && g.stage < ended {
					list = append(list, g.network)
				}
			}
			return list
		}
		// steps takes on those that have waited for as long as they may.
		steps := func(t *rapid.T, all bool) {
			for _, g := range grants {
				late := now.Sub(g.since) > certainAfter-2*time.Second
				switch {
				case g.leaked:
				case g.stage == allocated && (late || all && rapid.Bool().Draw(t, "written")):
					g.stage, g.since = written, now
				case g.stage == released && (late || all && rapid.Bool().Draw(t, "struck")):
					g.stage = ended
				}
			}
			grants = slices.DeleteFunc(grants, func(g *grant) bool { return g.stage == ended })
		}
		t.Repeat(map[string]func(*rapid.T){
			"create": func(t *rapid.T) {
				n++
				if len(grants) == 2 {
					return
				}
				name := fmt.Sprintf("n%d", n)
				g := &grant{leaked: rapid.IntRange(0, 9).Draw(t, "leaked") == 0, since: now, network: engine.Network{ID: name, Name: name, IPAM: engine.IPAM{
					Driver: "ipamlog", Options: map[string]string{"pool": "web"}, Pools: []engine.Pool{{Subnet: subnet}},
				}}, gateway: actor.Holding{ID: id(1), Pool: poolOf("web"), Address: subnet.Addr().Next(), Allocation: events.Allocation{
					ID: id(1000 + n), Kind: events.Gateway, Shared: true, Host: "h1", Grant: id(2000 + n),
				}}}
				grants = append(grants, g)
				truth[id(1000+n)] = name
				l.Began(g.gateway)
			},
			"remove": func(t *rapid.T) {
				for _, g := range grants {
					if g.stage == written && rapid.Bool().Draw(t, "removed") {
						g.stage, g.since = released, now
						l.Ended(g.gateway.Allocation.ID)
						return
					}
				}
			},
			"steps": func(t *rapid.T) { steps(t, true) },
			"wait": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "seconds") {
					now = now.Add(time.Second)
					steps(t, false)
				}
			},
			"look": func(*rapid.T) {
				k := l.begin()
				l.listed(k, listed())
				l.finish(k)
			},
			"": func(t *rapid.T) {
				for id, h := range l.holdings {
					if h.owner == nil {
						continue
					}
					if found++; h.owner.network.ID != truth[id] {
						t.Fatalf("the gateway of %s was found to be that of %s", truth[id], h.owner.network.ID)
					}
				}
			},
		})
	})
	if found == 0 {
		t.Error("nothing was ever found: nothing was tested")
	}
}

// An endpoint that was seen tells which network its grant's is, however many could
// be.
func TestLedger_gatewayByEndpoint(t *testing.T) {
	l := NewLedger("ipamlog")
	looksOn(l)
	one, two := engine.Network{ID: "one", Name: "one"}, engine.Network{ID: "two", Name: "two"}
	for _, n := range []*engine.Network{&one, &two} {
		n.IPAM = engine.IPAM{Driver: "ipamlog", Options: map[string]string{"pool": "web"}, Pools: []engine.Pool{{Subnet: subnet}}}
	}
	addr := netip.MustParseAddr("10.1.0.2")
	endpoint := endpointOf(1000, addr, mac(1))
	gateway := endpointOf(1001, netip.MustParseAddr("10.1.0.1"), events.MAC{})
	gateway.Kind = events.Gateway
	l.Holds(id(1), []actor.Holding{endpoint, gateway})
	m := mac(1)
	two.Endpoints = []engine.Endpoint{{ID: "e", Container: "c", MAC: m[:], Addresses: []netip.Prefix{netip.PrefixFrom(addr, 29)}}}
	k := l.begin()
	l.saw(k, two)
	l.listed(k, []engine.Network{one, two})
	l.finish(k)
	if h := l.holdings[gateway.Allocation.ID]; h.owner == nil || h.owner.network.ID != "two" {
		t.Errorf("the gateway's owner is %+v", h.owner)
	}
}

func TestLedger_networks(t *testing.T) {
	holding := func(change func(*actor.Holding)) *holding {
		h := endpointOf(1, netip.MustParseAddr("10.1.0.2"), events.MAC{})
		change(&h)
		return &holding{Holding: h}
	}
	n := func(change func(*engine.Network)) engine.Network {
		n := engine.Network{IPAM: engine.IPAM{Driver: "ipamlog", Options: map[string]string{"pool": "web"}, Pools: []engine.Pool{{Subnet: subnet}}}}
		change(&n)
		return n
	}
	plain := func(*actor.Holding) {}
	mirror := func(h *actor.Holding) { h.Pool.Name, h.Pool.Node = "", "h1" }
	for name, test := range map[string]struct {
		driver  string
		network engine.Network
		holding func(*actor.Holding)
		want    bool
	}{
		"its own":                {"ipamlog", n(func(*engine.Network) {}), plain, true},
		"another driver's":       {"other", n(func(*engine.Network) {}), plain, false},
		"a managed plugin's":     {"", n(func(n *engine.Network) { n.IPAM.Driver = "ipamlog/ipamlog:latest" }), plain, true},
		"Docker's own":           {"", n(func(n *engine.Network) { n.IPAM.Driver = "default" }), plain, false},
		"of another name":        {"ipamlog", n(func(n *engine.Network) { n.IPAM.Options = nil }), plain, false},
		"of another subnet":      {"ipamlog", n(func(n *engine.Network) { n.IPAM.Pools[0].Subnet = netip.MustParsePrefix("10.2.0.0/29") }), plain, false},
		"of a mirror":            {"", n(func(*engine.Network) {}), mirror, true},
		"of a mirror, elsewhere": {"", n(func(n *engine.Network) { n.IPAM.Pools = nil }), mirror, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Driver(test.driver).Fits(test.network, holding(test.holding).Holding); got != test.want {
				t.Errorf("fits: %v", got)
			}
		})
	}
}

// A look in which something is not as it should be tells nothing of it.
func TestLedger_doubt(t *testing.T) {
	addr := netip.MustParseAddr("10.1.0.2")
	endpoint := func(id, container string, m events.MAC) engine.Endpoint {
		return engine.Endpoint{ID: id, Container: container, MAC: m[:], Addresses: []netip.Prefix{netip.PrefixFrom(addr, 29)}}
	}
	for name, test := range map[string]struct {
		endpoints []engine.Endpoint
		want      string // the container; empty: none
	}{
		"one":            {[]engine.Endpoint{endpoint("e1", "c1", mac(1))}, "c1"},
		"another MAC":    {[]engine.Endpoint{endpoint("e1", "c1", mac(2))}, ""},
		"two with a MAC": {[]engine.Endpoint{endpoint("e1", "c1", mac(1)), endpoint("e2", "c2", mac(1))}, ""},
		"two":            {[]engine.Endpoint{endpoint("e1", "c1", mac(2)), endpoint("e2", "c2", mac(1))}, "c2"},
		"no container":   {[]engine.Endpoint{endpoint("e1", "", mac(1))}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			looksOn(w.ledger)
			h := endpointOf(1000, addr, mac(1))
			w.ledger.Began(h)
			n := w.network(nil)
			n.Endpoints = test.endpoints
			k := w.ledger.begin()
			w.ledger.saw(k, n)
			w.ledger.finish(k)
			got := ""
			if o := w.ledger.holdings[h.Allocation.ID].owner; o != nil {
				got = o.container
			}
			if got != test.want {
				t.Errorf("found to be %q's, want %q", got, test.want)
			}
		})
	}
}

// An endpoint that has no container for long is its network's; a container that it
// gets after all is told.
func TestLedger_lonely(t *testing.T) {
	w := newWorld()
	looksOn(w.ledger)
	h := endpointOf(1000, netip.MustParseAddr("10.1.0.2"), mac(1))
	m := mac(1)
	e := engine.Endpoint{ID: "e1", MAC: m[:], Addresses: []netip.Prefix{netip.PrefixFrom(h.Address, 29)}}
	w.ledger.Began(h)
	for _, step := range []struct {
		wait      time.Duration
		container string
		known     bool
	}{{0, "", false}, {lonelyAfter, "", true}, {0, "c1", true}} {
		w.now, e.Container = w.now.Add(step.wait), step.container
		k := w.ledger.begin()
		w.ledger.saw(k, w.network(map[string]engine.Endpoint{"e1": e}))
		w.ledger.finish(k)
		switch o := w.ledger.holdings[h.Allocation.ID].owner; {
		case (o != nil) != step.known:
			t.Errorf("after %v: %+v", step.wait, o)
		case o != nil && o.container != step.container:
			t.Errorf("found to be %q's, want %q", o.container, step.container)
		}
	}
}

// A holding whose endpoint another container has by now stays the first one's.
func TestLedger_strange(t *testing.T) {
	w := newWorld()
	looksOn(w.ledger)
	h := endpointOf(1000, netip.MustParseAddr("10.1.0.2"), mac(1))
	m := mac(1)
	w.ledger.Began(h)
	for i, want := range []int{0, 1, 0} {
		e := engine.Endpoint{ID: fmt.Sprintf("e%d", i), Container: fmt.Sprintf("c%d", i), MAC: m[:], Addresses: []netip.Prefix{netip.PrefixFrom(h.Address, 29)}}
		k := w.ledger.begin()
		if strange := w.ledger.saw(k, w.network(map[string]engine.Endpoint{"e": e})); len(strange) != want {
			t.Errorf("%d strange at look %d, want %d", len(strange), i, want)
		}
		w.ledger.finish(k)
	}
	if x := w.ledger.holdings[h.Allocation.ID]; x.owner.container != "c0" || !x.lost {
		t.Errorf("it is %+v", x.owner)
	}
}

// What is given out again before anybody was seen to have it stays unknown: it may
// have been another's before. What was seen stays as it is.
func TestLedger_repeated(t *testing.T) {
	for name, seenFirst := range map[string]bool{"seen": true, "unseen": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			looksOn(w.ledger)
			h := endpointOf(1000, netip.MustParseAddr("10.1.0.2"), mac(1))
			m := mac(1)
			look := func(container string) {
				e := engine.Endpoint{ID: "e-" + container, Container: container, MAC: m[:], Addresses: []netip.Prefix{netip.PrefixFrom(h.Address, 29)}}
				k := w.ledger.begin()
				w.ledger.saw(k, w.network(map[string]engine.Endpoint{"e": e}))
				w.ledger.finish(k)
			}
			w.ledger.Began(h)
			if seenFirst {
				look("c1")
			}
			w.ledger.Repeated(h.Allocation.ID)
			look("c2")
			o := w.ledger.holdings[h.Allocation.ID].owner
			if seenFirst && (o == nil || o.container != "c1") || !seenFirst && o != nil {
				t.Errorf("found to be %+v", o)
			}
		})
	}
}

// An operator has released what a container still uses, and its MAC and address go to
// another: whatever the ledger was shown before, the first one's endpoint is not
// taken for the second's.
func TestLedger_forced(t *testing.T) {
	addr, m := netip.MustParseAddr("10.1.0.2"), mac(1)
	endpoint := func(n int) engine.Endpoint {
		return engine.Endpoint{ID: fmt.Sprintf("e%d", n), Container: fmt.Sprintf("c%d", n), MAC: m[:], Addresses: []netip.Prefix{netip.PrefixFrom(addr, 29)}}
	}
	held := endpointOf(2000, addr, m)
	for name, before := range map[string]func(*world, func(...engine.Endpoint)){
		"a new daemon, before its first look": func(w *world, _ func(...engine.Endpoint)) {
			w.ledger.Began(held)
		},
		"held when the daemon came": func(w *world, _ func(...engine.Endpoint)) {
			w.ledger.Holds(id(1), []actor.Holding{held})
			w.ledger.recalled(id(1), newRecollection())
		},
		"a new daemon that has looked": func(w *world, look func(...engine.Endpoint)) {
			look(endpoint(1))
			w.ledger.Began(held)
		},
		"seen, and then not listed once": func(w *world, look func(...engine.Endpoint)) {
			looksOn(w.ledger)
			w.ledger.Began(endpointOf(1999, addr, m))
			look(endpoint(1))
			w.ledger.Ended(id(1999))
			k := w.ledger.begin()
			w.ledger.listed(k, nil)
			w.ledger.finish(k)
			w.ledger.Began(held)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			look := func(list ...engine.Endpoint) {
				k := w.ledger.begin()
				n := w.network(nil)
				n.Endpoints = list
				w.ledger.saw(k, n)
				w.ledger.listed(k, []engine.Network{n})
				w.ledger.finish(k)
			}
			before(w, look)
			for range 3 {
				w.now = w.now.Add(certainAfter / 4)
				look(endpoint(1))
			}
			for range 12 { // by now the engine has written down the second's
				w.now = w.now.Add(certainAfter / 4)
				look(endpoint(1), endpoint(2))
			}
			if h := w.ledger.holdings[held.Allocation.ID]; h.owner != nil && h.owner.container != "c2" {
				t.Errorf("found to be %q's", h.owner.container)
			}
		})
	}
}

// What was there before the ledger is found all the same, once nothing else can be.
func TestLedger_before(t *testing.T) {
	w := newWorld()
	h, m := endpointOf(1000, netip.MustParseAddr("10.1.0.2"), mac(1)), mac(1)
	e := engine.Endpoint{ID: "e", Container: "c", MAC: m[:], Addresses: []netip.Prefix{netip.PrefixFrom(h.Address, 29)}}
	w.ledger.Began(h)
	for i, want := range []bool{false, false, true} {
		k := w.ledger.begin()
		w.ledger.saw(k, w.network(map[string]engine.Endpoint{"e": e}))
		w.ledger.finish(k)
		x := w.ledger.holdings[h.Allocation.ID]
		if found := x.owner != nil; found != want {
			t.Errorf("at look %d: %+v", i, x.owner)
		}
		w.now = x.due
	}
}

// What was there before the ledger is found at once where the log knows of no other
// that it could be.
func TestLedger_sole(t *testing.T) {
	addr, m := netip.MustParseAddr("10.1.0.2"), mac(1)
	allocated := func(n int, m events.MAC) events.AddressAllocated {
		return events.AddressAllocated{Allocation: id(n), Address: addr, MAC: m}
	}
	for name, test := range map[string]struct {
		log  []events.AddressAllocated
		mac  events.MAC
		want bool
	}{
		"alone":                {[]events.AddressAllocated{allocated(999, mac(2)), allocated(1000, m)}, m, true},
		"not the only one":     {[]events.AddressAllocated{allocated(999, m), allocated(1000, m)}, m, false},
		"another without one":  {[]events.AddressAllocated{allocated(999, events.MAC{}), allocated(1000, m)}, m, false},
		"older than is read":   {nil, m, false},
		"without a MAC":        {[]events.AddressAllocated{allocated(1000, events.MAC{})}, events.MAC{}, false},
		"of another's address": {[]events.AddressAllocated{allocated(1000, mac(2))}, mac(2), false},
	} {
		t.Run(name, func(t *testing.T) {
			w, r := newWorld(), newRecollection()
			for _, e := range test.log {
				r.take(e)
			}
			h := endpointOf(1000, addr, test.mac)
			w.ledger.Holds(id(1), []actor.Holding{h})
			w.ledger.recalled(id(1), r)
			k := w.ledger.begin()
			w.ledger.saw(k, w.network(map[string]engine.Endpoint{"e": {ID: "e", Container: "c", MAC: m[:], Addresses: []netip.Prefix{netip.PrefixFrom(addr, 29)}}}))
			w.ledger.finish(k)
			if owner := w.ledger.holdings[h.Allocation.ID].owner; (owner != nil) != test.want {
				t.Errorf("found to be %+v", owner)
			}
		})
	}
}

// What is on a network that was made since is not older than what is held; a clock
// that was set back proves nothing.
func TestLedger_young(t *testing.T) {
	for name, test := range map[string]struct {
		after time.Duration // the network was made, after the daemon began
		want  bool
	}{"made since": {time.Second, true}, "there before": {-time.Second, false}, "made in times to come": {time.Hour, false}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.created = w.now.Add(test.after)
			w.now = w.now.Add(time.Minute)
			h, m := endpointOf(1000, netip.MustParseAddr("10.1.0.2"), mac(1)), mac(1)
			w.ledger.Began(h)
			k := w.ledger.begin()
			w.ledger.saw(k, w.network(map[string]engine.Endpoint{"e": {ID: "e", Container: "c", MAC: m[:], Addresses: []netip.Prefix{netip.PrefixFrom(h.Address, 29)}}}))
			w.ledger.finish(k)
			if owner := w.ledger.holdings[h.Allocation.ID].owner; (owner != nil) != test.want {
				t.Errorf("found to be %+v", owner)
			}
		})
	}
}

// All networks of ours are looked at once, and again with everything, whatever is
// held.
func TestLedger_wanted(t *testing.T) {
	w := newWorld()
	others := engine.Network{ID: "o", IPAM: engine.IPAM{Driver: "default"}}
	list := []engine.Network{w.network(nil), others}
	for i, step := range []struct {
		all  bool
		want []string
	}{{false, []string{"n"}}, {false, nil}, {true, []string{"n"}}} {
		k := w.ledger.begin()
		if got := w.ledger.wanted(list, step.all, w.now); !slices.Equal(got, step.want) {
			t.Errorf("at %d: %v, want %v", i, got, step.want)
		}
		w.ledger.saw(k, list[0])
		w.ledger.listed(k, list)
		w.ledger.finish(k)
	}
}

// What has ended and is lost is never told, and not kept.
func TestLedger_forgetsLost(t *testing.T) {
	w := newWorld()
	looksOn(w.ledger)
	h, m := endpointOf(1000, netip.MustParseAddr("10.1.0.2"), mac(1)), mac(1)
	w.ledger.Began(h)
	for i := range 2 {
		e := engine.Endpoint{ID: fmt.Sprintf("e%d", i), Container: fmt.Sprintf("c%d", i), MAC: m[:], Addresses: []netip.Prefix{netip.PrefixFrom(h.Address, 29)}}
		k := w.ledger.begin()
		w.ledger.saw(k, w.network(map[string]engine.Endpoint{"e": e}))
		w.ledger.finish(k)
	}
	w.ledger.Ended(h.Allocation.ID)
	if x := w.ledger.holdings[h.Allocation.ID]; x != nil {
		t.Errorf("it is kept: %+v", x.owner)
	}
}
