// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/legacy"
	"github.com/ipamlog/ipamlog/projection"
)

// Imported is what an import does, or did, to one pool.
type Imported struct {
	Pool     string `json:"pool"`
	Made     bool   `json:"made"`     // there was none
	Reserved int    `json:"reserved"` // containers' addresses, now reserved
	Hosts    int    `json:"hosts"`    // addresses of hosts' bridges
	There    int    `json:"there"`    // addresses that were there already
}

// Import is a dump as the log will take it. It is bound to the log as it was when
// the import was planned; what contradicts it then refuses it as a whole.
type Import struct {
	Source   string     `json:"source"`
	Pools    []Imported `json:"pools"`
	Warnings []string   `json:"warnings"`

	o     *Operator
	parts []*importing
}

// importing is an import into one pool.
type importing struct {
	source string
	from   legacy.Pool
	pool   events.Pool
	entry  etcdlog.PoolEntry // of the pool; not present: to be made
	todo   []legacy.Holding
	at     int // those before are in the log
}

// PlanImport compares a dump with the log, and writes nothing. Pools that do not
// exist are to be made, as if by hand. What containers hold is to be reserved, so
// that nobody gets it until a person gives it back; what hosts hold becomes theirs.
// What is in the log already is passed over. It returns an error when the log says
// otherwise than the dump.
func (o *Operator) PlanImport(ctx context.Context, dump legacy.Dump) (*Import, error) {
	pools, _, err := o.log.Pools(ctx)
	if err != nil {
		return nil, err
	}
	plan := &Import{Source: dump.Source, Warnings: slices.Clip(dump.Warnings), o: o}
	for i, from := range dump.Pools {
		if from.Name == "" {
			for _, other := range dump.Pools[:i] {
				if other.Name == "" && other.Subnet.Overlaps(from.Subnet) {
					return nil, errors.Newf("the dump has pools %s (%s) and %s (%s), which overlap: an address would have two holders; leave one out with --leave-out %s", other.Subnet, other.Space, from.Subnet, from.Space, from.InSpace())
				}
			}
		}
		part, tally, err := o.planPart(ctx, dump.Source, from, pools)
		if err != nil {
			return nil, err
		}
		if tally.Made && !part.pool.Kept && len(part.todo) == 0 {
			plan.Warnings = append(plan.Warnings, fmt.Sprintf("pool %s of the dump has neither ranges nor addresses, and is not made: its network makes it when it is created", tally.Pool))
			continue
		}
		plan.parts = append(plan.parts, part)
		plan.Pools = append(plan.Pools, tally)
	}
	return plan, nil
}

// planPart compares one pool of a dump with the log.
func (o *Operator) planPart(ctx context.Context, source string, from legacy.Pool, pools []etcdlog.PoolEntry) (*importing, Imported, error) {
	part := &importing{source: source, from: from}
	part.pool = events.Pool{
		Space: events.Space(from.Space), Name: from.Name, Subnet: from.Subnet, Policy: events.DefaultPolicy(),
		Layout: events.Layout{Ranges: events.Normalize(from.Ranges), HostRanges: events.Normalize(from.HostRanges), Router: from.Router},
	}
	part.pool.Kept = setsAside(part.pool.Layout)
	tally := Imported{Pool: full(part.pool)}
	guards := events.NewGuards()
	i := slices.IndexFunc(pools, func(e etcdlog.PoolEntry) bool {
		v6 := e.Value.Subnet.Addr().Is6() == from.Subnet.Addr().Is6()
		return e.Value.Space == part.pool.Space && e.Value.Node == "" && e.Value.Name == from.Name && (from.Name != "" && v6 || e.Value.Subnet == from.Subnet)
	})
	if i >= 0 {
		part.entry = pools[i]
		if err := part.agree(pools[i].Value); err != nil {
			return nil, tally, err
		}
		var err error
		if guards, _, err = o.log.Guards(ctx, part.entry.Value.Space, part.entry.ID); err != nil {
			return nil, tally, err
		}
	} else if there, found := overlapping(pools, from.Subnet); found && from.Name == "" {
		return nil, tally, errors.Newf("pool %s of the dump overlaps with pool %s: remove that one first, or leave the dump's out with --leave-out %s", from.Subnet, full(there.Value), from.InSpace())
	}
	tally.Made = i < 0
	err := part.holdings(guards, &tally)
	return part, tally, err
}

// agree refuses a pool that is laid out otherwise than the dump says. What the dump
// does not say is no contradiction.
func (p *importing) agree(pool events.Pool) error {
	differs := func(what, there, here string) error {
		return errors.Newf("pool %s exists, and %s %s, not %s as in the dump: make them agree, with ip-range and host-range, or leave the pool out with --leave-out %s", full(pool), what, orNone(there), here, p.from.InSpace())
	}
	list := func(there, here []netipx.IPRange) bool { return len(here) == 0 || slices.Equal(there, here) }
	switch {
	case pool.Subnet != p.pool.Subnet:
		return differs("its subnet is", pool.Subnet.String(), p.pool.Subnet.String())
	case !list(pool.Ranges, p.pool.Ranges):
		return differs("its ranges are", listed(pool.Ranges), listed(p.pool.Ranges))
	case !list(pool.HostRanges, p.pool.HostRanges):
		return differs("it keeps for hosts", listed(pool.HostRanges), listed(p.pool.HostRanges))
	case p.pool.Router.IsValid() && pool.Router != p.pool.Router:
		there := ""
		if pool.Router.IsValid() {
			there = pool.Router.String()
		}
		return differs("its router is", there, p.pool.Router.String())
	}
	p.pool = pool
	return nil
}

// holdings sorts out what is still to be held.
func (p *importing) holdings(g events.Guards, tally *Imported) error {
	subnet := projection.NewSubnet(p.pool.Subnet)
	for _, h := range p.from.Held {
		held := g.Held[h.Address].Value
		switch {
		case subnet.Reserved(h.Address) || h.Address == p.pool.Router:
			tally.There++ // nobody gets it anyway
		case len(held) > 0 && !there(held, h):
			return errors.Newf("%s is held by %s in the dump, and by %s in pool %s: release it there, or leave the pool out with --leave-out %s", h.Address, inDump(h), holders(held), full(p.pool), p.from.InSpace())
		case len(held) > 0:
			tally.There++
		default:
			p.todo = append(p.todo, h)
			if h.Kind == legacy.Host {
				tally.Hosts++
			} else {
				tally.Reserved++
			}
		}
	}
	return nil
}

// there says whether what is held is what the dump says: from an earlier import, or
// because the container or the network has come over since.
func there(held events.Held, h legacy.Holding) bool {
	a := held[0]
	switch {
	case h.Kind == legacy.Host:
		return a.Kind == events.Host && (a.Host == h.Host || h.Host == "")
	case a.Kind == events.Reserved:
		return true
	case h.Kind == legacy.Endpoint:
		return a.Kind == events.Endpoint && (h.Endpoint != "" && h.Endpoint == a.Endpoint || h.MAC != "" && h.MAC == a.MAC.String())
	default:
		return a.Kind == events.Gateway || a.Kind == events.Auxiliary || a.Kind == events.Host
	}
}

// inDump says in words who holds an address of a dump.
func inDump(h legacy.Holding) string {
	text := string(h.Kind)
	if h.Kind == legacy.Endpoint {
		text = "container"
	}
	switch {
	case h.Endpoint != "":
		text += " " + h.Endpoint
	case h.Kind == legacy.Endpoint:
		text = "a container"
	}
	if h.Kind == legacy.Host && h.Host != "" {
		return "host " + h.Host
	}
	if h.Host != "" {
		text += " on host " + h.Host
	}
	return text
}

// Total is how many addresses are to be written.
func (i *Import) Total() int {
	total := 0
	for _, p := range i.parts {
		total += len(p.todo)
	}
	return total
}

// Run writes what was planned. progress, if not nil, is told how many addresses are
// in the log. When it fails, the import can be planned and run again.
func (i *Import) Run(ctx context.Context, progress func(int)) error {
	done := 0
	for _, p := range i.parts {
		before := done
		err := i.o.runPart(ctx, p, func(n int) {
			done += n
			if progress != nil {
				progress(done)
			}
		})
		if err != nil {
			return errors.Wrapf(err, "import pool %s, with %d of its %d addresses in the log (run it again to go on)", full(p.pool), done-before, len(p.todo))
		}
	}
	return nil
}

func (o *Operator) runPart(ctx context.Context, p *importing, wrote func(int)) error {
	if !p.entry.Present() {
		made, err := o.make(ctx, p)
		if err != nil {
			return err
		}
		wrote(made)
	}
	return o.inPieces(ctx, p.entry, func(g events.Guards) ([]events.Event, error) { return p.next(o, g) }, func(r events.Record) { wrote(len(r.Events)) })
}

// make makes the pool, if it still has no equal, with as many of its addresses as
// one commit takes: one without ranges stands by what is held in it. It returns how
// many those are.
func (o *Operator) make(ctx context.Context, p *importing) (int, error) {
	id := o.log.Clock.NewID()
	record, err := o.commit(ctx, func() (etcdlog.Proposal, error) {
		pools, readAt, err := o.log.Pools(ctx)
		if err != nil {
			return etcdlog.Proposal{}, err
		}
		for _, e := range pools {
			same := !e.Value.Apart() && e.Value.Subnet.Overlaps(p.pool.Subnet)
			if p.pool.Name != "" {
				same = e.Value.Name == p.pool.Name && e.Value.Space == p.pool.Space
			}
			if same {
				return etcdlog.Proposal{}, errors.Newf("somebody has just made pool %s", full(e.Value))
			}
		}
		list := []events.Event{events.PoolCreated(p.pool)}
		for _, h := range p.todo[:min(len(p.todo), pieceSize-1)] {
			list = append(list, p.event(o.log.Clock.NewID(), h))
		}
		return etcdlog.Proposal{Stream: events.PoolStream(id), Seen: events.NewGuards(), CatalogueAt: readAt, Events: list}, nil
	})
	p.entry = etcdlog.PoolEntry{ID: id}
	p.entry.Value = p.pool
	return len(record.Events) - 1, err
}

// next is the next piece, see inPieces.
func (p *importing) next(o *Operator, g events.Guards) ([]events.Event, error) {
	for p.at < len(p.todo) && g.Held[p.todo[p.at].Address].Present() && there(g.Held[p.todo[p.at].Address].Value, p.todo[p.at]) {
		p.at++
	}
	var piece []events.Event
	for _, h := range p.todo[p.at:] {
		if held := g.Held[h.Address].Value; len(held) > 0 {
			if there(held, h) {
				continue
			}
			return nil, errors.Newf("%s has just been given to %s", h.Address, holders(held))
		}
		if piece = append(piece, p.event(o.log.Clock.NewID(), h)); len(piece) == pieceSize {
			break
		}
	}
	return piece, nil
}

// event is how a holding of the dump enters the log.
func (p *importing) event(id events.ID, h legacy.Holding) events.Event {
	if h.Kind == legacy.Host {
		return events.AddressAllocated{Allocation: id, Address: h.Address, Kind: events.Host, Host: h.Host}
	}
	return events.AddressReserved{Allocation: id, Address: h.Address, Why: p.why(h)}
}

// why tells of a reservation where it came from.
func (p *importing) why(h legacy.Holding) string {
	whose := inDump(h)
	if h.Kind == legacy.Endpoint && h.Endpoint == "" {
		whose = "a container's" + strings.TrimPrefix(whose, "a container")
	}
	facts := []string{whose}
	if h.MAC != "" {
		facts = append(facts, h.MAC)
	}
	if h.Note != "" {
		facts = append(facts, h.Note)
	}
	text := fmt.Sprintf("imported from %s: %s", p.source, strings.Join(facts, ", "))
	return strings.ToValidUTF8(text[:min(len(text), maxWhy)], "")
}
