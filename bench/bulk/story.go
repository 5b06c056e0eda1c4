// SPDX-License-Identifier: Apache-2.0

package bulk

import (
	"encoding/hex"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/ipamlog/ipamlog/events"
)

const (
	pools   = 64  // in use at once
	life    = 400 // turns until a pool ends and another one takes its place
	version = "v1.0.0"
)

// Apart is the time from one commit of a story to the next.
const Apart = 10 * time.Millisecond

// Begun is when every story begins.
var Begun = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

// Story is what happens on hosts that start and stop containers: each gets an
// address, is recognised, and gives it back, each in a commit of its own. Now and
// then a network is removed and another one made. It is the same in every run.
type Story struct {
	Events int // how many at least; the last turn is finished
	Held   int // addresses that are held at the end, about
}

// Commits goes over the commits of the story in their order.
func (s Story) Commits() iter.Seq[events.Commit] {
	return func(yield func(events.Commit) bool) {
		t := &teller{random: rand.New(rand.NewPCG(1, 2)), now: Begun, yield: yield}
		for turn := 0; t.told < s.Events && !t.stopped; turn++ {
			n := turn % pools
			p := t.pools[n]
			switch {
			case p == nil:
				t.pools[n] = t.open(n)
			// Only some of the networks come and go: the others hold what is held.
			case n%8 == 0 && turn/pools%life == life-1:
				t.retire(p)
				t.pools[n] = nil
			default:
				t.turn(p, max(s.Held/pools, 1))
			}
		}
	}
}

// teller is a story being told.
type teller struct {
	random  *rand.Rand
	now     time.Time
	told    int
	stopped bool
	pools   [pools]*network
	made    int
	yield   func(events.Commit) bool
}

type network struct {
	id, grant events.ID
	name      string
	network   string // the engine's id
	host      string
	base      [4]byte
	held      []events.AddressAllocated
	next      int
}

func (t *teller) id() events.ID {
	id := ulid.ULID{}
	_ = id.SetTime(ulid.Timestamp(t.now))
	for i := 6; i < len(id); i++ {
		id[i] = byte(t.random.Uint32())
	}
	return events.ID(id)
}

func (t *teller) hash() string {
	b := make([]byte, 32)
	for i := range b {
		b[i] = byte(t.random.Uint32())
	}
	return hex.EncodeToString(b)
}

func (t *teller) tell(p *network, list ...events.Event) {
	if t.stopped {
		return
	}
	t.now = t.now.Add(Apart)
	t.told += len(list)
	t.stopped = !t.yield(events.Commit{
		ID: t.id(), Stream: events.PoolStream(p.id), Time: t.now, Host: p.host, Incarnation: 1, Writer: version, Events: list,
	})
}

func (t *teller) open(n int) *network {
	t.made++
	p := &network{
		id: t.id(), grant: t.id(), network: t.hash(),
		name: fmt.Sprintf("net-%d", t.made), host: fmt.Sprintf("host-%d", n%16), base: [4]byte{10, byte(n), 0, 0},
	}
	subnet := netip.PrefixFrom(netip.AddrFrom4(p.base), 16)
	t.tell(p, events.PoolCreated{Space: events.Local, Name: p.name, Subnet: subnet, Policy: events.DefaultPolicy()},
		events.GrantOpened{Grant: p.grant, Host: p.host})
	return p
}

// turn starts a container, and stops the oldest one where enough run.
func (t *teller) turn(p *network, most int) {
	p.next = p.next%(4*most+1000) + 1
	address := p.base
	address[2], address[3] = byte(p.next>>8), byte(p.next)
	name := fmt.Sprintf("%s-app-%d", p.name, p.next)
	a := events.AddressAllocated{
		Allocation: t.id(), Address: netip.AddrFrom4(address), Kind: events.Endpoint, Host: p.host, Grant: p.grant,
		MAC: events.MAC{2, 0x42, address[0], address[1], address[2], address[3]}, Endpoint: name,
	}
	t.tell(p, a)
	image := t.random.IntN(40)
	t.tell(p, events.AddressAttributed{Allocation: a.Allocation, Address: a.Address, Attribution: events.Attribution{
		ContainerID: t.hash(), ContainerName: name, Image: fmt.Sprintf("registry.example/app-%d:1.27", image), ImageID: fmt.Sprintf("sha256:%064x", image),
		Labels:    map[string]string{"com.docker.compose.project": p.name, "com.docker.compose.service": fmt.Sprintf("app-%d", image)},
		NetworkID: p.network, NetworkName: p.name, EndpointID: t.hash(),
	}})
	if p.held = append(p.held, a); len(p.held) > most {
		t.release(p, 0)
	}
}

func (t *teller) release(p *network, i int) {
	a := p.held[i]
	p.held = append(p.held[:i], p.held[i+1:]...)
	t.tell(p, events.AddressReleased{Allocation: a.Allocation, Address: a.Address, Reason: events.Released})
}

func (t *teller) retire(p *network) {
	for len(p.held) > 0 && !t.stopped {
		t.release(p, len(p.held)-1)
	}
	t.tell(p, events.GrantClosing{Grant: p.grant})
	t.tell(p, events.GrantClosed{Grant: p.grant}, events.PoolRetired{Space: events.Local})
}
