// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
)

// The tables are for CSV, whose columns are those that the commands print. A test
// compares the two.

var holdingTable = render.Table[replay.Holding]{Columns: holdingColumns()}

// sightingTable is the same for an answer to who, which says where each holding
// stands to the moment: those that stand in a list all held.
var sightingTable = render.Table[replay.Holding]{Columns: append(
	[]render.Column[replay.Holding]{{Name: "when", Value: func(replay.Holding) string { return "held" }}},
	holdingTable.Columns...,
)}

func holdingColumns() []render.Column[replay.Holding] {
	column := func(name string, value func(replay.Holding) string) render.Column[replay.Holding] {
		return render.Column[replay.Holding]{Name: name, Value: value}
	}
	container := func(name string, value func(*replay.Container) *string) render.Column[replay.Holding] {
		return column(name, func(x replay.Holding) string {
			if x.Container == nil {
				return ""
			}
			return text(value(x.Container))
		})
	}
	network := func(name string, value func(*replay.Network) *string) render.Column[replay.Holding] {
		return column(name, func(x replay.Holding) string {
			if x.Network == nil {
				return ""
			}
			return text(value(x.Network))
		})
	}
	return []render.Column[replay.Holding]{
		column("allocation", func(x replay.Holding) string { return x.Allocation.String() }),
		column("address", func(x replay.Holding) string { return x.Address.String() }),
		column("pool", func(x replay.Holding) string { return x.Pool.Name }),
		column("pool_id", func(x replay.Holding) string { return x.Pool.ID.String() }),
		column("subnet", func(x replay.Holding) string { return prefix(x.Pool.Subnet) }),
		column("space", func(x replay.Holding) string { return string(x.Pool.Space) }),
		column("kind", func(x replay.Holding) string { return x.Kind.String() }),
		column("host", func(x replay.Holding) string { return x.Host }),
		column("mac", func(x replay.Holding) string { return x.MAC.String() }),
		column("endpoint", func(x replay.Holding) string { return x.Endpoint }),
		container("container_id", func(c *replay.Container) *string { return &c.ID }),
		container("container_name", func(c *replay.Container) *string { return c.Name }),
		container("container_image", func(c *replay.Container) *string { return c.Image }),
		container("container_image_id", func(c *replay.Container) *string { return c.ImageID }),
		network("network_id", func(n *replay.Network) *string { return &n.ID }),
		network("network_name", func(n *replay.Network) *string { return n.Name }),
		column("from", func(x replay.Holding) string { return replay.Stamp(x.From.Time) }),
		column("to", func(x replay.Holding) string { return replay.Stamp(x.To.Time) }),
		column("from_revision", func(x replay.Holding) string { return number(x.From.Revision) }),
		column("to_revision", func(x replay.Holding) string { return number(x.To.Revision) }),
		column("end", func(x replay.Holding) string { return string(x.End) }),
		column("clock_suspect", func(x replay.Holding) string { return strconv.FormatBool(x.ClockSuspect()) }),
		column("why", func(x replay.Holding) string { return x.Why }),
	}
}

// changeTable has both holdings of a change whole.
var changeTable = render.Table[replay.Change]{Columns: append(append(
	[]render.Column[replay.Change]{
		{Name: "address", Value: func(x replay.Change) string { return x.Address.String() }},
		{Name: "change", Value: func(x replay.Change) string { return x.Change }},
	},
	side("before_", func(x replay.Change) *replay.Holding { return x.Before })...),
	side("after_", func(x replay.Change) *replay.Holding { return x.After })...,
)}

func side(name string, of func(replay.Change) *replay.Holding) []render.Column[replay.Change] {
	var columns []render.Column[replay.Change]
	for _, c := range holdingTable.Columns {
		if c.Name == "address" {
			continue
		}
		columns = append(columns, render.Column[replay.Change]{Name: name + c.Name, Value: func(x replay.Change) string {
			if of(x) == nil {
				return ""
			}
			return c.Value(*of(x))
		}})
	}
	return columns
}

var poolTable = render.Table[replay.PoolState]{Columns: []render.Column[replay.PoolState]{
	{Name: "name", Value: func(x replay.PoolState) string { return x.Name }},
	{Name: "id", Value: func(x replay.PoolState) string { return x.ID.String() }},
	{Name: "space", Value: func(x replay.PoolState) string { return string(x.Space) }},
	{Name: "subnet", Value: func(x replay.PoolState) string { return x.Subnet.String() }},
	{Name: "ranges", Value: func(x replay.PoolState) string { return events.FormatRanges(x.Ranges, " ") }},
	{Name: "size", Value: func(x replay.PoolState) string { return x.Size.String() }},
	{Name: "held", Value: func(x replay.PoolState) string { return strconv.Itoa(x.Held) }},
	{Name: "free", Value: func(x replay.PoolState) string { return x.Free.String() }},
	{Name: "suspected", Value: func(x replay.PoolState) string { return strconv.Itoa(x.Suspected) }},
	{Name: "hosts", Value: func(x replay.PoolState) string { return strings.Join(x.Hosts, " ") }},
	{Name: "policy", Value: func(x replay.PoolState) string { return fmt.Sprint(x.Policy) }},
	{Name: "exclude", Value: func(x replay.PoolState) string { return events.FormatRanges(x.Exclude, " ") }},
	{Name: "host_ranges", Value: func(x replay.PoolState) string { return events.FormatRanges(x.HostRanges, " ") }},
	{Name: "router", Value: func(x replay.PoolState) string { return address(x.Router) }},
}}

var eventTable = render.Table[replay.Event]{Columns: []render.Column[replay.Event]{
	{Name: "revision", Value: func(x replay.Event) string { return number(x.Record.Revision) }},
	{Name: "index", Value: func(x replay.Event) string { return strconv.Itoa(x.Index) }},
	{Name: "time", Value: func(x replay.Event) string { return replay.Stamp(x.Record.Time) }},
	{Name: "host", Value: func(x replay.Event) string { return x.Record.Host }},
	{Name: "stream", Value: func(x replay.Event) string { return string(x.Record.Stream) }},
	{Name: "commit", Value: func(x replay.Event) string { return x.Record.ID.String() }},
	{Name: "type", Value: func(x replay.Event) string { return x.Event().Type() }},
	{Name: "event", Value: func(x replay.Event) string {
		raw, err := events.EncodeEvent(x.Event())
		if err != nil {
			return err.Error()
		}
		return string(raw)
	}},
}}

func text(known *string) string {
	if known == nil {
		return ""
	}
	return *known
}

func number(r int64) string {
	if r == 0 {
		return ""
	}
	return strconv.FormatInt(r, 10)
}

func prefix(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
