// SPDX-License-Identifier: Apache-2.0

package columns

import (
	"strconv"
	"strings"

	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
)

// Hosts are the columns of hosts. Between several pools in a cell is a space.
func Hosts() []render.Column[replay.HostState] {
	type h = replay.HostState
	return []render.Column[h]{
		{Name: "name", Value: func(x h) string { return x.Name }},
		{Name: "alive", Value: func(x h) string { return strconv.FormatBool(x.Alive) }},
		{Name: "since", Value: func(x h) string { return replay.Stamp(x.Since.Time) }},
		{Name: "since_revision", Value: func(x h) string { return revision(x.Since.Revision) }},
		{Name: "incarnation", Value: func(x h) string { return strconv.FormatUint(x.Incarnation, 10) }},
		{Name: "stopped", Value: func(x h) string { return strconv.FormatBool(x.Stopped) }},
		{Name: "taken_over", Value: func(x h) string { return strconv.FormatBool(x.TakenOver) }},
		{Name: "version", Value: func(x h) string { return x.Version }},
		{Name: "engine", Value: func(x h) string { return x.Engine }},
		{Name: "pools", Value: func(x h) string { return strings.Join(x.Pools, " ") }},
		{Name: "held", Value: func(x h) string { return strconv.Itoa(x.Held) }},
		{Name: "machine", Value: func(x h) string { return x.Machine }},
		{Name: "clock_suspect", Value: func(x h) string { return strconv.FormatBool(x.Since.Suspect) }},
	}
}
