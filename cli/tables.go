// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
)

func revision(r int64) string {
	if r == 0 {
		return ""
	}
	return strconv.FormatInt(r, 10)
}

// at is a revision as people write it.
func at(r int64) string {
	if r == 0 {
		return ""
	}
	return "@" + strconv.FormatInt(r, 10)
}

// when is a time for people, marked where it is in doubt.
func (s *session) when(m projection.Mark) string {
	if m.Suspect {
		return s.local(m.Time) + "?"
	}
	return s.local(m.Time)
}

// title is what people call a pool; there may be none.
func title(p *projection.PoolLife) string {
	if p == nil {
		return ""
	}
	return replay.Title(p)
}

func subnet(p *projection.PoolLife) string {
	if !p.Known() {
		return ""
	}
	return p.Subnet.String()
}

type column = render.Column[replay.Holding]

// holder is what people call who holds an address: the container, or what else is
// known of it.
func holder(x replay.Holding) string {
	if x.Container == nil {
		return words(x.Endpoint, x.Why)
	}
	if x.Container.Name == nil {
		return words(strings.Join(x.Container.Names, " or "), shortID(x.Container.ID))
	}
	return *x.Container.Name
}

// shortID is an id of Docker's as docker itself prints it in lists.
func shortID(id string) string { return id[:min(len(id), 12)] }

func text(known *string) string {
	if known == nil {
		return ""
	}
	return *known
}

// holdings is the table of holdings. CSV has every column, by the names that
// JSON has; a table those that people look for, with the ends if there are any
// to see.
func (s *session) holdings(ends bool) render.Table[replay.Holding] {
	type h = replay.Holding
	container := func(of func(replay.Container) *string) func(h) string {
		return func(x h) string {
			if x.Container == nil {
				return ""
			}
			return text(of(*x.Container))
		}
	}
	network := func(of func(replay.Network) *string) func(h) string {
		return func(x h) string {
			if x.Network == nil {
				return ""
			}
			return text(of(*x.Network))
		}
	}
	return render.Table[h]{
		Columns: []column{
			{Name: "allocation", Detail: true, Value: func(x h) string { return x.Allocation.String() }},
			{Name: "address", Value: func(x h) string { return x.Address.String() }},
			{Name: "pool", Value: func(x h) string { return x.Pool.Name }, Human: func(x h) string { return title(x.Pool) }},
			{Name: "pool_id", Detail: true, Value: func(x h) string { return x.Pool.ID.String() }},
			{Name: "subnet", Detail: true, Value: func(x h) string { return subnet(x.Pool) }},
			{Name: "space", Detail: true, Value: func(x h) string { return string(x.Pool.Space) }},
			{Name: "kind", Value: func(x h) string { return x.Kind.String() }},
			{Name: "host", Value: func(x h) string { return x.Host }},
			{Name: "mac", Value: func(x h) string { return x.MAC.String() }},
			{Name: "endpoint", Detail: true, Value: func(x h) string { return x.Endpoint }},
			{Name: "container_id", Detail: true, Value: container(func(c replay.Container) *string { return &c.ID })},
			{Name: "container_name", Heading: "CONTAINER", Value: container(func(c replay.Container) *string { return c.Name }), Human: holder},
			{Name: "container_image", Heading: "IMAGE", Value: image},
			{Name: "container_image_id", Detail: true, Value: container(func(c replay.Container) *string { return c.ImageID })},
			{Name: "network_id", Detail: true, Value: network(func(n replay.Network) *string { return &n.ID })},
			{Name: "network_name", Detail: true, Value: network(func(n replay.Network) *string { return n.Name })},
			{Name: "from", Value: func(x h) string { return replay.Stamp(x.From.Time) }, Human: func(x h) string { return s.when(x.From) }},
			{Name: "to", Detail: !ends, Value: func(x h) string { return replay.Stamp(x.To.Time) }, Human: func(x h) string { return s.when(x.To) }},
			{Name: "from_revision", Value: func(x h) string { return revision(x.From.Revision) }, Human: func(x h) string { return at(x.From.Revision) }},
			{Name: "to_revision", Detail: !ends, Value: func(x h) string { return revision(x.To.Revision) }, Human: func(x h) string { return at(x.To.Revision) }},
			{Name: "end", Detail: !ends, Value: func(x h) string { return string(x.End) }},
			{Name: "clock_suspect", Detail: true, Value: func(x h) string { return strconv.FormatBool(x.ClockSuspect()) }},
			{Name: "why", Detail: true, Value: func(x h) string { return x.Why }},
		},
		Emphasis: func(x h) render.Emphasis { return emphasis(x, ends) },
	}
}

// emphasis has people look at what is in doubt, and less at what is over.
func emphasis(x replay.Holding, ends bool) render.Emphasis {
	switch {
	case x.ClockSuspect(), x.Doubt != nil:
		return render.Notice
	case ends && x.To.Reached():
		return render.Faint
	}
	return render.Plain
}

// image is the image of the container, as it was asked for.
func image(x replay.Holding) string {
	if x.Container == nil {
		return ""
	}
	return text(x.Container.Image)
}

// pools is the table of pools. The columns that few pools fill are in a table only
// if one of these does.
func (s *session) pools(list []replay.PoolState) render.Table[replay.PoolState] {
	type p = replay.PoolState
	nowhere := func(has func(p) bool) bool { return !slices.ContainsFunc(list, has) }
	return render.Table[p]{
		Columns: []render.Column[p]{
			{Name: "name", Value: func(x p) string { return x.Name }},
			{Name: "id", Value: func(x p) string { return x.ID.String() }},
			{Name: "space", Value: func(x p) string { return string(x.Space) }},
			{Name: "subnet", Value: func(x p) string { return x.Subnet.String() }},
			{Name: "ranges", Value: func(x p) string { return events.FormatRanges(x.Ranges, " ") }, Human: func(x p) string { return briefly(x.Ranges) }},
			{Name: "size", Value: func(x p) string { return x.Size.String() }},
			{Name: "held", Value: func(x p) string { return strconv.Itoa(x.Held) }},
			{Name: "free", Value: func(x p) string { return x.Free.String() }},
			{Name: "suspected", Value: func(x p) string { return strconv.Itoa(x.Suspected) }},
			{Name: "hosts", Value: func(x p) string { return strings.Join(x.Hosts, " ") }, Human: func(x p) string { return strings.Join(x.Hosts, ",") }},
			{Name: "policy", Value: func(x p) string { return fmt.Sprint(x.Policy) }},
			{Name: "exclude", Detail: nowhere(func(x p) bool { return len(x.Exclude) > 0 }), Value: func(x p) string { return events.FormatRanges(x.Exclude, " ") }, Human: func(x p) string { return briefly(x.Exclude) }},
			{Name: "host_ranges", Detail: nowhere(func(x p) bool { return len(x.HostRanges) > 0 }), Value: func(x p) string { return events.FormatRanges(x.HostRanges, " ") }, Human: func(x p) string { return briefly(x.HostRanges) }},
			{Name: "router", Detail: nowhere(func(x p) bool { return x.Router.IsValid() }), Value: func(x p) string { return router(x.Router) }},
		},
		Emphasis: func(x p) render.Emphasis {
			if x.Free.Sign() <= 0 {
				return render.Alarm
			}
			return render.Plain
		},
	}
}

// briefly lists the first two of them, and how many more there are.
func briefly(list []netipx.IPRange) string {
	const shown = 2
	if more := len(list) - shown; more > 0 {
		return events.FormatRanges(list[:shown], ",") + ",+" + strconv.Itoa(more)
	}
	return events.FormatRanges(list, ",")
}

func router(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// layout is written as the commands and options have it that make one.
func layout(l events.Layout) string {
	return words(of("range", events.FormatRanges(l.Ranges, ",")), of("exclude", events.FormatRanges(l.Exclude, ",")), of("host-range", events.FormatRanges(l.HostRanges, ",")), of("router", router(l.Router)))
}

func of(what, value string) string {
	if value == "" {
		return ""
	}
	return what + "=" + value
}

// changes is the table of what became of addresses. CSV has both holdings whole.
func (s *session) changes() render.Table[replay.Change] {
	type c = replay.Change
	table := render.Table[c]{
		Columns: []render.Column[c]{
			{Name: "address", Value: func(x c) string { return x.Address.String() }},
			{Name: "change", Value: func(x c) string { return x.Change }},
		},
		Emphasis: func(x c) render.Emphasis {
			switch {
			case x.Change == replay.Changed || doubtful(x.Before) || doubtful(x.After):
				return render.Notice
			case x.Change == replay.Lost:
				return render.Faint
			}
			return render.Plain
		},
	}
	// A table has room for who it was, and from or to when.
	shown := map[string]bool{
		"before_host": true, "before_container_name": true, "before_to": true,
		"after_host": true, "after_container_name": true, "after_from": true,
	}
	for _, side := range []struct {
		name string
		of   func(c) *replay.Holding
	}{{"before", func(x c) *replay.Holding { return x.Before }}, {"after", func(x c) *replay.Holding { return x.After }}} {
		value := func(f func(replay.Holding) string) func(c) string {
			return func(x c) string {
				if side.of(x) == nil {
					return ""
				}
				return f(*side.of(x))
			}
		}
		for _, h := range s.holdings(true).Columns {
			if h.Name == "address" {
				continue
			}
			own := render.Column[c]{Name: side.name + "_" + h.Name, Value: value(h.Value)}
			own.Detail = !shown[own.Name]
			own.Heading = strings.ToUpper(side.name + " " + strings.TrimSuffix(h.Name, "_name"))
			if h.Human != nil {
				own.Human = value(h.Human)
			}
			table.Columns = append(table.Columns, own)
		}
	}
	return table
}

func doubtful(x *replay.Holding) bool { return x != nil && x.Doubt != nil }

// events is the table of events.
func (s *session) events() render.Table[replay.Event] {
	type e = replay.Event
	return render.Table[e]{Columns: eventColumns(s, func(x e) e { return x })}
}

// steps is the same, and what is held after each.
func (s *session) steps() render.Table[replay.Step] {
	type e = replay.Step
	return render.Table[e]{Columns: append(eventColumns(s, func(x e) replay.Event { return x.Event }),
		render.Column[e]{Name: "held", Value: func(x e) string { return strconv.Itoa(x.Held) }})}
}

func eventColumns[T any](s *session, of func(T) replay.Event) []render.Column[T] {
	column := func(name string, width int, value func(replay.Event) string) render.Column[T] {
		return render.Column[T]{Name: name, Width: width, Value: func(x T) string { return value(of(x)) }}
	}
	detail := func(name string, value func(replay.Event) string) render.Column[T] {
		c := column(name, 0, value)
		c.Detail = true
		return c
	}
	clock := column("time", 32, func(e replay.Event) string { return replay.Stamp(e.Record.Time) })
	clock.Human = func(x T) string {
		r := of(x).Record
		return s.when(projection.Mark{Revision: r.Revision, Time: r.Time, Suspect: r.ClockSuspect})
	}
	rev := column("revision", 8, func(e replay.Event) string { return revision(e.Record.Revision) })
	rev.Human = func(x T) string { return "@" + of(x).Name() }
	stream := column("stream", 12, func(e replay.Event) string { return string(e.Record.Stream) })
	stream.Human = func(x T) string {
		if p := of(x).Pool; p != nil {
			return title(p)
		}
		return string(of(x).Record.Stream)
	}
	what := column("event", 40, func(e replay.Event) string {
		raw, err := events.EncodeEvent(e.Event())
		if err != nil {
			return err.Error()
		}
		return string(raw)
	})
	what.Human = func(x T) string { return s.say(of(x).Event()) }
	return []render.Column[T]{
		rev,
		detail("index", func(e replay.Event) string { return strconv.Itoa(e.Index) }),
		clock,
		column("host", 10, func(e replay.Event) string { return e.Record.Host }),
		stream,
		detail("commit", func(e replay.Event) string { return e.Record.ID.String() }),
		column("type", 18, func(e replay.Event) string { return e.Event().Type() }),
		what,
	}
}

// say puts an event into a few words; one of a newer version is shown whole.
func (s *session) say(e events.Event) string {
	switch e := e.(type) {
	case events.PoolCreated:
		return words(e.Name, e.Subnet.String(), string(e.Space), fmt.Sprint(e.Policy), layout(e.Layout))
	case events.PoolChanged:
		if e.Undivided() {
			return "undivided"
		}
		return layout(e.Layout)
	case events.PoolRetired:
		return string(e.Space)
	case events.PoolExhausted:
		if e.Range.IsValid() {
			return "nothing free in " + e.Range.String()
		}
		return "nothing free"
	case events.GrantOpened:
		return grant(e.Grant, e.Host, within(e.Range.IsValid(), e.Range))
	case events.GrantReopened:
		return grant(e.Grant, e.Host, within(e.Range.IsValid(), e.Range))
	case events.GrantClosing:
		return grant(e.Grant)
	case events.GrantClosed:
		return grant(e.Grant)
	case events.AddressAllocated:
		return words(e.Address.String(), e.Kind.String(), e.MAC.String(), e.Endpoint)
	case events.AddressAttributed:
		return words(e.Address.String(), e.ContainerName, e.Image, shortID(e.ContainerID), of("network", e.NetworkName))
	case events.AddressReleased:
		late := ""
		if !e.At.IsZero() {
			late = "at " + s.local(e.At)
		}
		return words(e.Address.String(), string(e.Reason), late)
	case events.AddressReserved:
		return words(e.Address.String(), e.Why)
	case events.AddressUnreserved:
		return e.Address.String()
	case events.HostJoined:
		return words(e.Host, "incarnation", strconv.FormatUint(e.Incarnation, 10), e.Version)
	case events.HostAdopted:
		return words(e.Host, "is now machine", e.Machine)
	case events.Unknown:
		return string(e.Raw)
	}
	raw, err := json.Marshal(e)
	if err != nil {
		return e.Type()
	}
	return string(raw)
}

func grant(id events.ID, more ...string) string {
	return words(append([]string{"grant", id.String()}, more...)...)
}

func within(is bool, what fmt.Stringer) string {
	if !is {
		return ""
	}
	return "within " + what.String()
}

// words joins those that are there.
func words(list ...string) string {
	var there []string
	for _, w := range list {
		if w != "" {
			there = append(there, w)
		}
	}
	return strings.Join(there, " ")
}
