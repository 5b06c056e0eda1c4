// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/events"
)

// moment orders what the ledger hears and what the engine was seen to have. It is
// no time of day.
type moment uint64

// Ledger is what this host holds, and whose that was found to be. It implements
// [actor.Witness]. Safe for concurrent use.
type Ledger struct {
	driver Driver
	born   time.Time
	// kick, if not nil, is called when there is something to look for.
	kick  func()
	clock func() time.Time

	mu       sync.Mutex
	now      moment
	holdings map[events.ID]*holding
	at       map[netip.Addr][]*holding
	gone     map[events.ID]*holding // those of holdings that have ended
	looks    map[*look]bool
	networks map[string]*network // by ID
	lists    int                 // of networks, that were taken in
	// settled are the networks of grants; likely are those that may be settled soon.
	settled map[events.ID]pairing
	likely  map[events.ID]likely
	unread  map[events.ID]bool // pools whose holdings may have been attributed before
}

// holding is one of this host's.
type holding struct {
	actor.Holding
	began moment    // 0: before anything was looked at
	heard time.Time // when the ledger came to know it
	ended moment    // 0: it stands
	over  time.Time // when the ledger heard that it ended
	owner *owner    // nil: not found
	// sole says that the log knows of no other allocation of its address with its MAC.
	sole  bool
	told  *events.Attribution
	named time.Time // since when it has the name that was told; zero: not known
	// worded is the version of what is known of the container that was told.
	worded uint64
	// lost says that it may be, or was seen to be, somebody else's by now.
	lost bool
	// claimant is the endpoint of unknown age that may be its own, and claimed when it
	// was seen to be.
	claimant string
	claimed  time.Time

	due   time.Time // of the next look for it
	pause time.Duration
}

// network is one of the engine's, as it was seen.
type network struct {
	// endpoints are those of the last look, by ID; nil: nobody has looked yet.
	endpoints map[string]sighting
	// young says that it came while the ledger was there, and all its endpoints did.
	young bool
	// missing is since when it is on no list; zero: it is on the last one.
	missing time.Time
}

// sighting is what is known of an endpoint's age.
type sighting struct {
	first moment // it was there by then
	// old says that it was there when its network was looked at first. It may be older
	// than every holding, and one of none.
	old bool
}

// owner is whose a holding was found to be.
type owner struct {
	network   engine.Network // ID and Name alone are used
	endpoint  string
	container string // empty for a gateway, and for an endpoint without a container
	name      string // the container's, as the network tells it
	found     time.Time
}

// pairing is a grant's network, one of whose subnets the grant is about.
type pairing struct {
	network engine.Network // ID and Name alone
	subnet  netip.Prefix
}

func pair(h *holding, n engine.Network) pairing {
	return pairing{engine.Network{ID: n.ID, Name: n.Name}, h.Pool.Subnet}
}

// likely is a network that a grant's may be.
type likely struct {
	network string // its ID
	since   time.Time
}

// look is one look at the engine under way.
type look struct {
	begun moment
	at    time.Time // when it began
}

// NewLedger returns a ledger that knows nothing.
func NewLedger(driver Driver) *Ledger {
	return &Ledger{
		driver: driver, born: time.Now(), clock: time.Now, holdings: map[events.ID]*holding{}, at: map[netip.Addr][]*holding{},
		gone: map[events.ID]*holding{}, looks: map[*look]bool{},
		networks: map[string]*network{}, settled: map[events.ID]pairing{}, unread: map[events.ID]bool{},
	}
}

const (
	// firstPause is the wait from an allocation to the first look for its owner:
	// a container is not much faster than that. It doubles up to lastPause.
	firstPause = 30 * time.Millisecond
	lastPause  = 30 * time.Second
	// networkPause is the first one for what is a network's: it has time.
	networkPause = time.Second
)

// Began implements [actor.Witness].
func (l *Ledger) Began(h actor.Holding) {
	l.mu.Lock()
	l.now++
	added := l.add(h, l.now)
	if added && l.lists == 0 {
		l.unread[h.ID] = true // an endpoint that the first look will show may be older
	}
	l.mu.Unlock()
	if added && l.kick != nil {
		l.kick()
	}
}

// Repeated implements [actor.Witness]. Of an endpoint that was not found yet nobody
// can say any more whether it is the one that will be.
func (l *Ledger) Repeated(allocation events.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.holdings[allocation]; h != nil && h.Kind == events.Endpoint && h.owner == nil && (h.told == nil || h.told.ContainerID == "") {
		h.lost = true
	}
}

// Ended implements [actor.Witness].
func (l *Ledger) Ended(allocation events.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now++
	l.end(allocation)
}

// Holds implements [actor.Witness].
func (l *Ledger) Holds(pool events.ID, all []actor.Holding) {
	l.mu.Lock()
	l.now++
	there := map[events.ID]bool{}
	for _, h := range all {
		there[h.Allocation.ID] = true
		if l.add(h, 0) {
			l.unread[pool] = true
		}
	}
	for id, h := range l.holdings {
		if h.ID == pool && !there[id] {
			l.end(id)
		}
	}
	l.mu.Unlock()
	if l.kick != nil {
		l.kick()
	}
}

// add takes in a holding; false if it is known, or of no kind that Docker knows.
func (l *Ledger) add(h actor.Holding, began moment) bool {
	if _, known := l.holdings[h.Allocation.ID]; known || !docker(h.Kind) {
		return false
	}
	now, pause := l.clock(), firstPause
	if h.Kind != events.Endpoint {
		pause = networkPause
	}
	x := &holding{Holding: h, began: began, heard: now, due: now.Add(pause), pause: pause}
	l.holdings[h.Allocation.ID] = x
	l.at[h.Address] = append(l.at[h.Address], x)
	return true
}

// docker says whether holdings of a kind are an engine's.
func docker(k events.Kind) bool {
	return k == events.Endpoint || k == events.Gateway || k == events.Auxiliary
}

func (l *Ledger) end(allocation events.ID) {
	if h := l.holdings[allocation]; h != nil && h.ended == 0 {
		h.ended, h.over = l.now, l.clock()
		l.gone[allocation] = h
		l.forget()
	}
}

// forget drops what has ended and no look under way can have seen any more.
func (l *Ledger) forget() {
	oldest := l.now + 1
	for k := range l.looks {
		oldest = min(oldest, k.begun)
	}
	for id, h := range l.gone {
		switch {
		case h.ended >= oldest:
			continue
		case h.owner != nil && h.told == nil && !h.lost:
			continue // whose it was is still to be told
		case h.began == 0 && (l.unread[h.ID] || h.told != nil && l.clock().Sub(h.over) < certainAfter):
			continue // the engine's events may tell of its container's names before this daemon
		}
		delete(l.gone, id)
		delete(l.holdings, id)
		rest := slices.DeleteFunc(l.at[h.Address], func(o *holding) bool { return o == h })
		if len(rest) == 0 {
			delete(l.at, h.Address)
		} else {
			l.at[h.Address] = rest
		}
	}
}

// begin begins a look: what ends from now on may have been seen by it.
func (l *Ledger) begin() *look {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now++
	k := &look{begun: l.now, at: l.clock()}
	l.looks[k] = true
	return k
}

// finish ends a look.
func (l *Ledger) finish(k *look) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.looks, k)
	l.forget()
}

// saw takes in a network as it was inspected during a look, and finds out whose
// the endpoints' addresses are. It returns the holdings that are lost: another
// container has them than the one they were found to be of before, or several may
// have. Looks at one network must not overlap.
func (l *Ledger) saw(k *look, n engine.Network) (strange []holding) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now++
	x := l.network(n)
	before, seen := x.endpoints, make(map[string]sighting, len(n.Endpoints))
	claims := map[*holding][]engine.Endpoint{}
	for _, e := range n.Endpoints {
		s, known := before[e.ID]
		if !known {
			s = sighting{l.now, before == nil && !x.young}
		}
		seen[e.ID] = s
		for _, p := range e.Addresses {
			if h := l.only(k, n, e, p.Addr(), s); h != nil {
				claims[h] = append(claims[h], e)
			}
		}
	}
	x.endpoints = seen
	for h, by := range claims {
		e := by[0]
		several := len(by) > 1 || h.owner == nil && h.claimant != "" && h.claimant != e.ID
		ripe := !several && h.ripe(k, e, seen[e.ID])
		switch {
		case several, ripe && !h.belongs(n, e, l.clock()):
			if !h.lost {
				h.lost = true
				strange = append(strange, *h)
			}
		case ripe && h.Pool.Node == "":
			l.settled[h.Grant] = pair(h, n)
		}
	}
	return strange
}

// network returns what is known of a network, which is nothing for a new one. It is
// young if it says so, or two lists lacked it: one alone may lack what is there, and
// a clock that was set back makes what is young look old.
func (l *Ledger) network(n engine.Network) *network {
	x := l.networks[n.ID]
	if x == nil {
		made := n.Created.After(l.born) && !n.Created.After(l.clock())
		x = &network{young: made || l.lists >= 2}
		l.networks[n.ID] = x
	}
	return x
}

// only finds the one holding that an endpoint's address can be.
func (l *Ledger) only(k *look, n engine.Network, e engine.Endpoint, addr netip.Addr, s sighting) *holding {
	var one *holding
	for _, h := range l.at[addr] {
		switch {
		case h.Kind != events.Endpoint || h.Shared || !l.driver.Fits(n, h.Holding):
		case h.MAC != (events.MAC{}) && h.MAC.String() != e.MAC.String():
		case h.ended != 0 && h.ended < k.begun:
		case h.began > s.first:
		case one != nil:
			return nil
		default:
			one = h
		}
	}
	return one
}

// ripe says whether an endpoint that claims a holding may have it. One of unknown
// age that has the MAC of no other allocation may: engines draw MACs at random. Else it
// may be what an operator's release left, while the holding's own is still to be
// written down, or struck out already. So it has to claim the holding once that must
// be written down, and once more when an end from before must be told: the holding's
// own would have claimed it by then, on whichever network, or it would have ended.
func (h *holding) ripe(k *look, e engine.Endpoint, s sighting) bool {
	if !s.old || h.sole || h.owner != nil || h.told != nil && h.told.ContainerID != "" {
		return true
	}
	since := h.heard
	if h.claimant != "" {
		since = h.claimed
	}
	if k.at.Sub(since) < certainAfter {
		h.due = since.Add(certainAfter)
		return false
	}
	if h.claimant == e.ID {
		return true
	}
	h.claimant, h.claimed, h.due = e.ID, k.at, k.at.Add(certainAfter)
	return false
}

// belongs notes whose a holding is; false if it was another's.
func (h *holding) belongs(n engine.Network, e engine.Endpoint, now time.Time) bool {
	switch {
	case h.told != nil && h.told.ContainerID != "" && h.told.ContainerID != e.Container:
		return e.Container == ""
	case h.owner != nil && h.owner.container != "":
		return e.Container == "" || e.Container == h.owner.container
	case h.lost:
		return false
	case e.Container == "" && now.Sub(h.heard) < lonelyAfter:
		return true // it may be on its way into its container
	}
	h.owner = &owner{network: n, endpoint: e.ID, container: e.Container, name: e.Name, found: now}
	return true
}

// lonelyAfter is how long an endpoint may be without a container before its
// network alone is told. It then is Swarm's load balancer, or one that the engine
// has lost.
const lonelyAfter = 30 * time.Second

// listed takes in the networks that the engine has, as listed during a look, and
// finds those of gateways and auxiliary addresses.
func (l *Ledger) listed(k *look, networks []engine.Network) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now++
	there := map[string]bool{}
	for _, n := range networks {
		there[n.ID] = true
		l.network(n).missing = time.Time{}
	}
	l.lists++
	maps.DeleteFunc(l.networks, func(id string, x *network) bool {
		if !there[id] && x.missing.IsZero() {
			x.missing = l.clock()
		}
		return !there[id] && l.clock().Sub(x.missing) >= certainAfter
	})
	maps.DeleteFunc(l.settled, func(_ events.ID, p pairing) bool { return l.networks[p.network.ID] == nil })
	before := l.likely
	l.likely = map[events.ID]likely{}
	for _, h := range l.holdings {
		if h.Kind == events.Endpoint || h.owner != nil || h.ended != 0 && h.ended < k.begun {
			continue
		}
		if _, is := l.settled[h.Grant]; !is {
			l.eliminate(h, networks, before[h.Grant])
		}
		if p, is := l.settled[h.Grant]; is {
			h.owner = &owner{network: p.network, found: l.clock()}
		}
	}
}

// certainAfter is how long a grant and a network must have been the only ones for
// each other before they are: longer than the engine takes to write down a network
// whose gateway it was given, or to strike out one whose grant is gone. It may have
// to wait for us in between, for 15 s at most.
const certainAfter = 20 * time.Second

// eliminate settles which network a grant's is where there has been no other for
// long enough. last is what was likely at the last look.
func (l *Ledger) eliminate(h *holding, networks []engine.Network, last likely) {
	one := l.onlyNetwork(h, networks)
	if one == nil {
		return
	}
	if last.network != one.ID {
		last = likely{one.ID, l.clock()}
	}
	if l.likely[h.Grant] = last; l.clock().Sub(last.since) >= certainAfter {
		l.settled[h.Grant] = pair(h, *one)
	}
	h.due = last.since.Add(certainAfter)
}

// onlyNetwork is the network that a grant's must be because no other can be, and the
// network can be no other grant's.
func (l *Ledger) onlyNetwork(h *holding, networks []engine.Network) *engine.Network {
	var one *engine.Network
	for i, n := range networks {
		switch {
		case !l.driver.Granted(n, h.Holding):
		case one != nil:
			return nil
		default:
			one = &networks[i]
		}
	}
	if one == nil || h.ended != 0 {
		return nil
	}
	for grant, p := range l.settled {
		if grant != h.Grant && p.network.ID == one.ID && p.subnet == h.Pool.Subnet {
			return nil
		}
	}
	for _, o := range l.holdings {
		if o.Grant != h.Grant && o.ended == 0 && o.Pool.Subnet == h.Pool.Subnet && l.driver.Granted(*one, o.Holding) {
			return nil
		}
	}
	return one
}
