// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
)

const (
	// MaxReserved is how many addresses are reserved at once: each is an event and
	// a guard of its own.
	MaxReserved = 1 << 16
	// maxWhy bounds the reason of a reservation, in bytes.
	maxWhy = 500
	// undoPatience is how long it is tried to take back what a refused reservation
	// has written.
	undoPatience = 30 * time.Second
)

// ParseStretch reads one address or a range A-B. It returns an [ErrInvalid] for
// what is none.
func ParseStretch(text string) (netipx.IPRange, error) {
	from, to, two := strings.Cut(strings.TrimSpace(text), "-")
	if !two {
		to = from
	}
	first, err := netip.ParseAddr(strings.TrimSpace(from))
	last, err2 := netip.ParseAddr(strings.TrimSpace(to))
	switch {
	case err != nil || err2 != nil || first.Zone() != "" || last.Zone() != "" || first.Is4In6() || last.Is4In6():
		return netipx.IPRange{}, invalid("%q is neither an address nor a range such as 10.0.0.10-10.0.0.50", text)
	case first.Is4() != last.Is4():
		return netipx.IPRange{}, invalid("the ends of %s are of different families", text)
	case last.Less(first):
		return netipx.IPRange{}, invalid("%s ends before it begins: write %s-%s", text, last, first)
	}
	return netipx.IPRangeFrom(first, last), nil
}

// addresses lists a range, if it is not too long.
func addresses(r netipx.IPRange) ([]netip.Addr, error) {
	var list []netip.Addr
	for a := r.From(); ; a = a.Next() {
		if len(list) == MaxReserved {
			return nil, invalid("%s has more than %d addresses: keep it out of the pool with --ipam-opt exclude=%s of ipamlog ip-range, or reserve it in parts", r, MaxReserved, r)
		}
		if list = append(list, a); a == r.To() {
			return list, nil
		}
	}
}

// Reserve keeps addresses out of use, until [Operator.Unreserve] gives them back.
// An address that is reserved already counts as done, and keeps its reason. When
// one is held otherwise none is reserved. At most [MaxReserved] at once.
func (o *Operator) Reserve(ctx context.Context, pool string, r netipx.IPRange, why string) (Outcome, error) {
	why = strings.TrimSpace(why)
	switch {
	case why == "":
		return Outcome{}, invalid("say why %s is kept out of use, with --why TEXT: whoever finds it reserved will want to know", r.From())
	case len(why) > maxWhy:
		return Outcome{}, invalid("--why has %d bytes: use %d at most", len(why), maxWhy)
	}
	list, err := addresses(r)
	if err != nil {
		return Outcome{}, err
	}
	entry, err := o.withAddresses(ctx, pool, r.From(), r.To())
	if err != nil {
		return Outcome{}, err
	}
	subnet := projection.NewSubnet(entry.Value.Subnet)
	for _, end := range []netip.Addr{r.From(), r.To()} {
		if subnet.Reserved(end) {
			return Outcome{}, invalid("%s is the network or broadcast address of %s, which nobody gets anyway: leave it out", end, subnet.Prefix())
		}
	}
	c := reservation{o: o, list: list, why: why, router: entry.Value.Router, proposed: map[events.ID]bool{}}
	out := Outcome{Pool: title(entry.Value), ID: entry.ID}
	written := 0
	err = o.inPieces(ctx, entry, c.next, func(r events.Record) {
		out.wrote(r)
		written += len(r.Events)
	})
	if err != nil {
		return Outcome{}, o.takeBack(ctx, entry, c.proposed, err)
	}
	if r.Contains(c.router) {
		out.Notes = append(out.Notes, fmt.Sprintf("%s is the router, which no container gets: it was left out", c.router))
	}
	switch already := c.already; {
	case written == 0:
		out.Said = append(out.Said, fmt.Sprintf("nothing to do: %s in pool %s is reserved already", stretch(r.From(), r.To()), out.Pool))
	case already > 0:
		out.Said = append(out.Said, fmt.Sprintf("%s in pool %s is reserved: %s, %d were already", stretch(r.From(), r.To()), out.Pool, count(written), already))
	default:
		out.Said = append(out.Said, fmt.Sprintf("%s in pool %s is reserved: %s", stretch(r.From(), r.To()), out.Pool, count(written)))
	}
	return out, nil
}

func count(n int) string {
	if n == 1 {
		return "1 address"
	}
	return fmt.Sprintf("%d addresses", n)
}

// reservation is one under way.
type reservation struct {
	o      *Operator
	list   []netip.Addr // those before at are reserved
	at     int
	why    string
	router netip.Addr

	begun    bool
	already  int                // how many were reserved when it began
	proposed map[events.ID]bool // allocations that may be in the log
}

// next is the next piece, see inPieces.
func (c *reservation) next(g events.Guards) ([]events.Event, error) {
	if !c.begun {
		c.begun = true
		held := map[netip.Addr]bool{}
		for _, addr := range c.list {
			held[addr] = g.Held[addr].Present()
		}
		if what := inTheWay(g, func(addr netip.Addr, a events.Allocation) bool { return held[addr] && a.Kind != events.Reserved }); what != "" {
			return nil, errors.Newf("nothing was reserved, because %s: release it first, or leave it out", what)
		}
		for _, is := range held {
			if is {
				c.already++
			}
		}
	}
	for c.at < len(c.list) && (g.Held[c.list[c.at]].Present() || c.list[c.at] == c.router) {
		c.at++
	}
	var piece []events.Event
	for _, addr := range c.list[c.at:] {
		held := g.Held[addr].Value
		switch {
		case len(held) > 0 && held[0].Kind != events.Reserved:
			return nil, errors.Newf("nothing was reserved, because %s is held by %s since a moment ago: release it first, or leave it out", addr, holders(held))
		case len(held) > 0 || addr == c.router:
			continue
		}
		id := c.o.log.Clock.NewID()
		c.proposed[id] = true
		if piece = append(piece, events.AddressReserved{Allocation: id, Address: addr, Why: c.why}); len(piece) == pieceSize {
			break
		}
	}
	return piece, nil
}

// takeBack ends what a reservation has written that failed. It returns why it did,
// and what is left.
func (o *Operator) takeBack(ctx context.Context, pool etcdlog.PoolEntry, proposed map[events.ID]bool, why error) error {
	if len(proposed) == 0 {
		return why
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoPatience)
	defer cancel()
	mine := func(_ netip.Addr, a events.Allocation) bool { return proposed[a.ID] }
	err := o.inPieces(ctx, pool, func(g events.Guards) ([]events.Event, error) { return unreserving(g, mine) }, func(events.Record) {})
	if err == nil {
		return why
	}
	return errors.Mark(errors.WithSecondaryError(errors.Wrap(why, "some of it is reserved and could not be taken back, so use ipamlog unreserve"), err), ErrUnsettled)
}

// Unreserve gives back the reserved addresses of a range; those that are not are
// passed over, but for a range that has none. A pool that nobody laid out ends
// with its last one.
func (o *Operator) Unreserve(ctx context.Context, pool string, r netipx.IPRange) (Outcome, error) {
	entry, err := o.withAddresses(ctx, pool, r.From(), r.To())
	if err != nil {
		return Outcome{}, err
	}
	out := Outcome{Pool: title(entry.Value), ID: entry.ID}
	written, ended := 0, false
	wanted := func(addr netip.Addr, a events.Allocation) bool { return r.Contains(addr) && a.Kind == events.Reserved }
	err = o.inPieces(ctx, entry, func(g events.Guards) ([]events.Event, error) {
		list, err := unreserving(g, wanted)
		if err == nil && len(list) == 0 && written == 0 {
			return nil, notReserved(g, r)
		}
		return list, err
	}, func(r events.Record) {
		out.wrote(r)
		if ended = retires(r.Events); ended {
			written--
		}
		written += len(r.Events)
	})
	if err != nil {
		return out, err
	}
	out.Said = append(out.Said, fmt.Sprintf("%s in pool %s is reserved no more: %s", stretch(r.From(), r.To()), out.Pool, count(written)))
	if ended {
		out.Said = append(out.Said, "nothing is left of pool "+out.Pool+": it is gone")
	}
	return out, nil
}

// unreserving is a piece of giving back what is wanted.
func unreserving(g events.Guards, wanted func(netip.Addr, events.Allocation) bool) ([]events.Event, error) {
	var piece []events.Event
	for addr, guard := range g.Held {
		if a := guard.Value[0]; a.Kind == events.Reserved && wanted(addr, a) {
			piece = append(piece, events.AddressUnreserved{Allocation: a.ID, Address: addr})
		}
	}
	slices.SortFunc(piece, func(a, b events.Event) int {
		one, _ := address(a)
		other, _ := address(b)
		return one.Compare(other)
	})
	if len(piece) > endingSize {
		return piece[:endingSize], nil
	}
	if len(piece) == 0 {
		return nil, nil
	}
	return ending(g, piece)
}

func notReserved(g events.Guards, r netipx.IPRange) error {
	held := inTheWay(g, func(addr netip.Addr, _ events.Allocation) bool { return r.Contains(addr) })
	if held != "" {
		held = ": " + held
	}
	return errors.Mark(errors.Newf("nothing of %s is reserved in pool %s%s", stretch(r.From(), r.To()), title(g.Pool.Value), held), ErrNotFound)
}
