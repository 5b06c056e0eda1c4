// SPDX-License-Identifier: Apache-2.0

package api

import (
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/columns"
)

// The tables are for CSV, whose columns are those that the commands print.
var (
	holdingTable  = render.Table[replay.Holding]{Columns: columns.Holdings()}
	sightingTable = render.Table[columns.Sighting]{Columns: columns.Sightings(columns.Holdings())}
	changeTable   = render.Table[replay.Change]{Columns: columns.Changes(columns.Holdings())}
	poolTable     = render.Table[replay.PoolState]{Columns: columns.Pools()}
	eventTable    = render.Table[replay.Event]{Columns: columns.Events()}
)
