// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/columns"
)

func hostsCommand() *cobra.Command {
	return asking(&cobra.Command{
		Use:   "hosts",
		Short: "List the hosts, and which of them are alive",
		Long: `List every host that was ever seen: whether its daemon is alive and since when,
the incarnation (how often a daemon of it started, or an operator spoke for it),
the versions of ipamlog and of its Docker engine, the pools it uses, and how many
addresses it holds.

A host that is not alive is stopped, when its daemon said so, and dead when it
was heard of no more: SINCE is then the time of its last commit. What it holds
stays its own, until ipamlog reclaim --host gives it back; then it is taken-over.

Exit status: 0 done, also when there is none; 1 failed; 2 wrong usage.`,
		Example: `  ipamlog hosts
  ipamlog hosts -o json | jq -r '.[] | select(.alive | not) | .name'`,
		Args:              none,
		ValidArgsFunction: cobra.NoFileCompletions,
	}, func(ctx context.Context, s *session, _ []string) error {
		states, err := replay.HostsNow(ctx, s.log, s.now)
		if err != nil {
			return err
		}
		if len(states) == 0 && !s.out.ForPrograms() {
			_, err := fmt.Fprintln(s.out.Writer, "No host has joined yet: one does when ipamlog serve starts on it.")
			return errors.Wrap(err, "print the answer")
		}
		return show(s, s.hosts(), states)
	})
}

// hosts is the table of hosts.
func (s *session) hosts() render.Table[replay.HostState] {
	type h = replay.HostState
	return render.Table[h]{
		Columns: showing(dressed(columns.Hosts(),
			look[h]{column: "alive", heading: "STATE", human: vitality},
			look[h]{column: "since", human: func(x h) string { return s.when(x.Since) }},
			look[h]{column: "pools", human: func(x h) string { return few(x.Pools) }},
		), "name", "alive", "since", "incarnation", "version", "engine", "pools", "held"),
		Emphasis: func(x h) render.Emphasis {
			switch {
			case !x.Alive && x.Held > 0:
				return render.Notice
			case !x.Alive:
				return render.Faint
			}
			return render.Plain
		},
	}
}

// vitality is how a host is, in a word.
func vitality(x replay.HostState) string {
	switch {
	case x.Alive:
		return "alive"
	case x.TakenOver:
		return "taken-over"
	case x.Stopped:
		return "stopped"
	}
	return "dead"
}
