// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/big"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/columns"
)

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

// occupant is what a table calls who holds an address. What is in brackets is no
// name: a container may well be called gateway.
func occupant(x replay.Holding) string {
	if x.Kind == events.Endpoint && holder(x) != "" {
		return holder(x)
	}
	return words("("+x.Kind.String()+")", holder(x))
}

// image is the image of the container, as it was asked for. As in the lists of
// docker, a digest behind a tag is left out; one alone is as long as it need be.
func image(x replay.Holding) string {
	if x.Container == nil || x.Container.Image == nil {
		return ""
	}
	name, _, pinned := strings.Cut(*x.Container.Image, "@")
	if pinned && strings.Contains(path.Base(name), ":") {
		return name
	}
	return digest.ReplaceAllString(*x.Container.Image, "$1")
}

var digest = regexp.MustCompile(`(\bsha256:[0-9a-f]{12})[0-9a-f]{52}\b`)

// holdingColumns are the columns of holdings as people read them. A line of a table
// has room for what is asked for most, on a terminal of 120 columns; the rest is for
// programs.
func (s *session) holdingColumns() []render.Column[replay.Holding] {
	type h = replay.Holding
	return dressed(columns.Holdings(),
		look[h]{column: "pool", human: func(x h) string { return title(x.Pool) }},
		look[h]{column: "container_name", heading: "CONTAINER", human: occupant},
		look[h]{column: "container_image", heading: "IMAGE", human: image},
		look[h]{column: "from", human: func(x h) string { return s.when(x.From) }},
		look[h]{column: "to", human: func(x h) string { return s.when(x.To) }},
	)
}

func (s *session) showingHoldings(names ...string) render.Table[replay.Holding] {
	return render.Table[replay.Holding]{Columns: showing(s.holdingColumns(), names...), Emphasis: emphasis}
}

// holders is the table of those who hold addresses now.
func (s *session) holders() render.Table[replay.Holding] {
	return s.showingHoldings("address", "pool", "host", "mac", "container_name", "container_image", "from")
}

// holdings is the table of holdings that may have ended.
func (s *session) holdings(list []replay.Holding) render.Table[replay.Holding] {
	return s.showingHoldings(lasting(list)...)
}

// allHoldings is the same before anybody knows what will be in it.
func (s *session) allHoldings() render.Table[replay.Holding] {
	return s.showingHoldings(append(lasting(nil), "end")...)
}

// lasting are the columns that say who had what, and for how long; and how it
// ended, if that was by anything but a release of Docker's.
func lasting(list []replay.Holding) []string {
	names := []string{"address", "pool", "host", "container_name", "container_image", "from", "to"}
	if slices.ContainsFunc(list, func(x replay.Holding) bool { return x.End != "" && x.End != events.Released }) {
		names = append(names, "end")
	}
	return names
}

// sightings is the table of an answer to who; people see where a holding stands to
// the moment only if none was then.
func (s *session) sightings(list []columns.Sighting) render.Table[columns.Sighting] {
	holdings := make([]replay.Holding, 0, len(list))
	missed := true
	for _, one := range list {
		holdings = append(holdings, one.Holding)
		missed = missed && one.When != columns.Held
	}
	names := lasting(holdings)
	if missed {
		names = append(names, "when")
	}
	return render.Table[columns.Sighting]{Columns: showing(columns.Sightings(s.holdingColumns()), names...)}
}

// emphasis has people look at what is in doubt, and less at what is over.
func emphasis(x replay.Holding) render.Emphasis {
	switch {
	case x.ClockSuspect(), x.Doubt != nil:
		return render.Notice
	case x.To.Reached():
		return render.Faint
	}
	return render.Plain
}

// pools is the table of pools. The columns that few pools fill are in a table only
// if one of these does, and ids if a name means several.
func (s *session) pools(list []replay.PoolState) render.Table[replay.PoolState] {
	type p = replay.PoolState
	names := []string{"name", "subnet", "ranges", "size", "held", "free", "hosts", "policy"}
	show := func(name string, has func(p) bool) {
		if slices.ContainsFunc(list, has) {
			names = append(names, name)
		}
	}
	titles := map[string]int{}
	for _, x := range list {
		titles[title(x.PoolLife)]++
	}
	show("id", func(x p) bool { return titles[title(x.PoolLife)] > 1 })
	show("space", func(x p) bool { return x.Space != events.Local })
	show("suspected", func(x p) bool { return x.Suspected > 0 })
	show("exclude", func(x p) bool { return len(x.Exclude) > 0 })
	show("host_ranges", func(x p) bool { return len(x.HostRanges) > 0 })
	show("router", func(x p) bool { return x.Router.IsValid() })
	return render.Table[p]{
		Columns: showing(dressed(columns.Pools(),
			look[p]{column: "ranges", human: func(x p) string { return briefly(x.Ranges) }},
			look[p]{column: "size", human: func(x p) string { return roughly(x.Size) }},
			look[p]{column: "free", human: func(x p) string { return roughly(x.Free) }},
			look[p]{column: "hosts", human: func(x p) string { return few(x.Hosts) }},
			look[p]{column: "policy", human: func(x p) string { return special(x.Policy) }},
			look[p]{column: "exclude", human: func(x p) string { return briefly(x.Exclude) }},
			look[p]{column: "host_ranges", human: func(x p) string { return briefly(x.HostRanges) }},
		), names...),
		Emphasis: func(x p) render.Emphasis {
			if x.Free.Sign() <= 0 {
				return render.Alarm
			}
			return render.Plain
		},
	}
}

// special is what a policy has otherwise than most.
func special(policy events.Policy) string {
	usual := strings.Split(events.DefaultPolicy().String(), ",")
	parts := slices.DeleteFunc(strings.Split(policy.String(), ","), func(part string) bool { return slices.Contains(usual, part) })
	return cmp.Or(strings.Join(parts, ","), "default")
}

// roughly writes a number that nobody reads to its last digit as 1.8e19.
func roughly(n *big.Int) string {
	const digits = 12
	if text := n.String(); len(text) <= digits {
		return text
	}
	return strings.Replace(new(big.Float).SetInt(n).Text('e', 1), "e+", "e", 1)
}

// few lists as many names as there is room for, and how many more there are.
func few(names []string) string {
	const room = 15
	all := strings.Join(names, ",")
	for shown := len(names) - 1; len(all) > room && shown > 0; shown-- {
		all = strings.Join(names[:shown], ",") + ",+" + strconv.Itoa(len(names)-shown)
	}
	return all
}

// briefly lists the first two of them, and how many more there are.
func briefly(list []netipx.IPRange) string {
	const shown = 2
	if more := len(list) - shown; more > 0 {
		return events.FormatRanges(list[:shown], ",") + ",+" + strconv.Itoa(more)
	}
	return events.FormatRanges(list, ",")
}

// layout is written as the commands and options have it that make one.
func layout(l events.Layout) string {
	router := ""
	if l.Router.IsValid() {
		router = l.Router.String()
	}
	return words(of("range", events.FormatRanges(l.Ranges, ",")), of("exclude", events.FormatRanges(l.Exclude, ",")), of("host-range", events.FormatRanges(l.HostRanges, ",")), of("router", router))
}

func of(what, value string) string {
	if value == "" {
		return ""
	}
	return what + "=" + value
}

// changes is the table of what became of addresses. It has room for who it was, and
// from or to when.
func (s *session) changes() render.Table[replay.Change] {
	type c = replay.Change
	list := columns.Changes(s.holdingColumns())
	for i := range list {
		// Two columns have the name of each.
		side, name, _ := strings.Cut(list[i].Name, "_")
		list[i].Heading = strings.ToUpper(side + " " + strings.TrimSuffix(name, "_name"))
	}
	return render.Table[c]{
		Columns: showing(list,
			"address", "change", "before_host", "before_container_name", "before_to", "after_host", "after_container_name", "after_from"),
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
}

func doubtful(x *replay.Holding) bool { return x != nil && x.Doubt != nil }

// events is the table of events.
func (s *session) events() render.Table[replay.Event] {
	return render.Table[replay.Event]{Columns: s.eventColumns()}
}

// steps is the same, and what is held after each.
func (s *session) steps() render.Table[replay.Step] {
	return render.Table[replay.Step]{Columns: append(
		render.Within(s.eventColumns(), func(x replay.Step) *replay.Event { return &x.Event }),
		render.Column[replay.Step]{Name: "held", Value: func(x replay.Step) string { return strconv.Itoa(x.Held) }},
	)}
}

func (s *session) eventColumns() []render.Column[replay.Event] {
	type e = replay.Event
	return showing(dressed(columns.Events(),
		look[e]{column: "revision", width: 8, human: func(x e) string { return "@" + x.Name() }},
		look[e]{column: "time", width: 32, human: func(x e) string {
			return s.when(projection.Mark{Revision: x.Record.Revision, Time: x.Record.Time, Suspect: x.Record.ClockSuspect})
		}},
		look[e]{column: "host", width: 10},
		look[e]{column: "stream", width: 12, human: func(x e) string {
			if x.Pool != nil {
				return title(x.Pool)
			}
			return string(x.Record.Stream)
		}},
		look[e]{column: "type", width: 18},
		look[e]{column: "event", width: 40, human: func(x e) string { return s.say(x.Event()) }},
	), "revision", "time", "host", "stream", "type", "event")
}

// findings is the table of what is wrong with a log.
func (s *session) findings() render.Table[replay.Finding] {
	type f = replay.Finding
	return render.Table[f]{
		Columns: showing(dressed(columns.Findings(),
			look[f]{column: "since", human: func(x f) string { return s.when(x.Since) }},
			look[f]{column: "since_revision", human: func(x f) string { return at(x.Since.Revision) }},
		), "rule", "pool", "where", "since", "since_revision", "what"),
		Emphasis: func(f) render.Emphasis { return render.Alarm },
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
	case events.AddressSuspected:
		return e.Address.String()
	case events.AddressCleared:
		return e.Address.String()
	case events.AddressReclaimed:
		return e.Address.String()
	case events.AddressConflicted:
		return words(e.Address.String(), e.MAC.String(), e.ContainerName, shortID(e.ContainerID), "on", e.Host, of("network", e.NetworkName))
	case events.AddressReserved:
		return words(e.Address.String(), e.Why)
	case events.AddressUnreserved:
		return e.Address.String()
	case events.HostJoined:
		return words(e.Host, "incarnation", strconv.FormatUint(e.Incarnation, 10), e.Version)
	case events.HostLeft:
		return words(e.Host, "incarnation", strconv.FormatUint(e.Incarnation, 10))
	case events.HostTakenOver:
		return words(e.Host, "incarnation", strconv.FormatUint(e.Incarnation, 10), "taken over by", e.By)
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
