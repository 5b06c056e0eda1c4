// SPDX-License-Identifier: Apache-2.0

package columns

import (
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
)

// Findings are the columns of what is wrong with a log. A pool is called as people
// call it.
func Findings() []render.Column[replay.Finding] {
	pool := func(of func(replay.Finding) string) func(replay.Finding) string {
		return func(x replay.Finding) string {
			if x.Pool == nil {
				return ""
			}
			return of(x)
		}
	}
	return []render.Column[replay.Finding]{
		{Name: "rule", Value: func(x replay.Finding) string { return string(x.Rule) }},
		{Name: "pool", Value: pool(func(x replay.Finding) string { return replay.Title(x.Pool) })},
		{Name: "pool_id", Value: pool(func(x replay.Finding) string { return x.Pool.ID.String() })},
		{Name: "where", Value: func(x replay.Finding) string { return x.Where }},
		{Name: "since", Value: func(x replay.Finding) string { return replay.Stamp(x.Since.Time) }},
		{Name: "since_revision", Value: func(x replay.Finding) string { return revision(x.Since.Revision) }},
		{Name: "what", Value: func(x replay.Finding) string { return x.What }},
	}
}
