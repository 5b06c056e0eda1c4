// SPDX-License-Identifier: Apache-2.0

package columns

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
)

// Pools are the columns of pools. Where several things stand in a cell, a space is
// between them.
func Pools() []render.Column[replay.PoolState] {
	return []render.Column[replay.PoolState]{
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
	}
}

func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
