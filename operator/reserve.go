// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

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
		return netipx.IPRange{}, invalid("the ends of %s are of different families: write both as IPv4 or both as IPv6", text)
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
	case !utf8.ValidString(why) || strings.ContainsFunc(why, func(r rune) bool { return !unicode.IsPrint(r) }):
		return Outcome{}, invalid("--why %q has characters that cannot be seen: leave them out", why)
	case len(why) > maxWhy:
		return Outcome{}, invalid("--why has %d bytes: use %d at most", len(why), maxWhy)
	}
	list, err := addresses(r)
	if err != nil {
		return Outcome{}, err
	}
	entry, err := o.withAddresses(ctx, pool, r)
	if err != nil {
		return Outcome{}, err
	}
	subnet := projection.NewSubnet(entry.Value.Subnet)
	for _, end := range []netip.Addr{r.From(), r.To()} {
		if subnet.Reserved(end) {
			return Outcome{}, invalid("%s is %s of %s, which nobody gets anyway: leave it out", end, nobodys(end), subnet.Prefix())
		}
	}
	c := reservation{o: o, list: list, why: why, router: entry.Value.Router, proposed: map[events.ID]bool{}}
	out := Outcome{Pool: entry.Value.Title(), ID: entry.ID}
	written := 0
	err = o.inPieces(ctx, entry, c.next, func(r events.Record) {
		out.wrote(r)
		written += len(r.Events)
	})
	if err != nil {
		return Outcome{}, o.takeBack(ctx, entry, r, c.proposed, err)
	}
	nothing := written == 0 && c.already == 0 // but the router
	if r.Contains(c.router) && !nothing {
		out.Notes = append(out.Notes, fmt.Sprintf("%s is the router, which no container gets: it was left out", c.router))
	}
	switch already := c.already; {
	case nothing:
		out.Said = append(out.Said, fmt.Sprintf("nothing to do: %s is the router of pool %s, which no container gets anyway", c.router, out.Pool))
	case written == 0:
		out.Said = append(out.Said, fmt.Sprintf("nothing to do: %s in pool %s is reserved already", events.FormatRange(r), out.Pool))
	case already > 0:
		out.Said = append(out.Said, fmt.Sprintf("%s in pool %s is reserved: %s, %d were already", events.FormatRange(r), out.Pool, count(written), already))
	default:
		out.Said = append(out.Said, fmt.Sprintf("%s in pool %s is reserved: %s", events.FormatRange(r), out.Pool, count(written)))
	}
	return out, nil
}

func count[N int | uint64](n N) string {
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
			held[addr] = addr != c.router && g.Held[addr].Present()
		}
		if what := inTheWay(g, func(addr netip.Addr, a events.Allocation) bool { return held[addr] && a.Kind != events.Reserved }); what != "" {
			return nil, errors.Newf("%s: release it first, or leave it out", what)
		}
		for _, is := range held {
			if is {
				c.already++
			}
		}
	}
	done := func(addr netip.Addr) bool {
		held := g.Held[addr].Value
		return addr == c.router || len(held) > 0 && held[0].Kind == events.Reserved
	}
	for c.at < len(c.list) && done(c.list[c.at]) {
		c.at++
	}
	var piece []events.Event
	for _, addr := range c.list[c.at:] {
		if done(addr) {
			continue
		}
		if held := g.Held[addr].Value; len(held) > 0 {
			return nil, errors.Newf("%s is held by %s since a moment ago: release it first, or leave it out", addr, holders(held))
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
func (o *Operator) takeBack(ctx context.Context, pool etcdlog.PoolEntry, r netipx.IPRange, proposed map[events.ID]bool, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoPatience)
	defer cancel()
	var err error
	if len(proposed) > 0 {
		mine := returning{wanted: func(_ netip.Addr, a events.Allocation) bool { return proposed[a.ID] }}
		err = o.inPieces(ctx, pool, mine.next, func(events.Record) {})
	}
	switch {
	case err != nil:
		all := events.FormatRange(r)
		err = errors.Newf("only a part of %s was reserved (%v), and it could not be taken back (%v): give it back with ipamlog unreserve %s", all, why, err, all)
		return errors.Mark(err, ErrUnsettled)
	case errors.Is(why, ErrUnsettled):
		return why
	}
	return errors.Wrap(why, "nothing was reserved")
}

// Unreserve gives back the reserved addresses of a range; those that are not are
// passed over, but for a range that has none. A pool that nobody laid out ends
// with its last one.
func (o *Operator) Unreserve(ctx context.Context, pool string, r netipx.IPRange) (Outcome, error) {
	entry, err := o.withAddresses(ctx, pool, r)
	if err != nil {
		return Outcome{}, err
	}
	out := Outcome{Pool: entry.Value.Title(), ID: entry.ID}
	written, ended := 0, false
	all := returning{wanted: func(addr netip.Addr, _ events.Allocation) bool { return r.Contains(addr) }}
	err = o.inPieces(ctx, entry, func(g events.Guards) ([]events.Event, error) {
		list, err := all.next(g)
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
	out.Said = append(out.Said, fmt.Sprintf("%s in pool %s is reserved no more: %s", events.FormatRange(r), out.Pool, count(written)))
	if ended {
		out.Said = append(out.Said, "nothing is left of pool "+out.Pool+": it is gone")
	}
	return out, nil
}

// returning is reservations being given back.
type returning struct {
	wanted func(netip.Addr, events.Allocation) bool

	list []netip.Addr // as they were when they were last looked for, in order
	at   int          // those before are free
}

// next is the next piece, see inPieces. All of the pool is looked through once at
// the beginning, and once more at the end for what was reserved meanwhile.
func (c *returning) next(g events.Guards) ([]events.Event, error) {
	piece := c.piece(g)
	if len(piece) == 0 {
		c.list, c.at = nil, 0
		for addr := range g.Held {
			if _, is := c.reserved(g, addr); is {
				c.list = append(c.list, addr)
			}
		}
		slices.SortFunc(c.list, netip.Addr.Compare)
		piece = c.piece(g)
	}
	if len(piece) == 0 {
		return nil, nil
	}
	return ending(g, piece)
}

// piece is what comes next in the list. Where it may be the last of the pool it is
// small enough for that.
func (c *returning) piece(g events.Guards) []events.Event {
	size := pieceSize
	if len(g.Held) <= size {
		size = endingSize
	}
	var piece []events.Event
	for i := c.at; i < len(c.list) && len(piece) < size; i++ {
		if a, is := c.reserved(g, c.list[i]); is {
			piece = append(piece, events.AddressUnreserved{Allocation: a.ID, Address: c.list[i]})
		} else if len(piece) == 0 {
			c.at = i + 1
		}
	}
	return piece
}

func (c *returning) reserved(g events.Guards, addr netip.Addr) (events.Allocation, bool) {
	held := g.Held[addr].Value
	if len(held) == 0 || held[0].Kind != events.Reserved || !c.wanted(addr, held[0]) {
		return events.Allocation{}, false
	}
	return held[0], true
}

func notReserved(g events.Guards, r netipx.IPRange) error {
	held := inTheWay(g, func(addr netip.Addr, _ events.Allocation) bool { return r.Contains(addr) })
	if held != "" {
		held = ": " + held
	}
	return errors.Mark(errors.Newf("nothing of %s is reserved in pool %s%s", events.FormatRange(r), g.Pool.Value.Title(), held), ErrNotFound)
}
