// SPDX-License-Identifier: Apache-2.0

package columns

import (
	"strconv"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
)

// Events are the columns of events. The last one is the event as the log has it.
func Events() []render.Column[replay.Event] {
	return []render.Column[replay.Event]{
		{Name: "revision", Value: func(x replay.Event) string { return revision(x.Record.Revision) }},
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
	}
}
