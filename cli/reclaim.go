// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/operator"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
)

func reclaimCommand(build Build) *cobra.Command {
	var (
		host               string
		swarm, dryRun, yes bool
	)
	cmd := &cobra.Command{
		Use:   "reclaim [--host H | --swarm] [--dry-run]",
		Short: "Release what leaked, or what a dead host or a dissolved swarm holds",
		Long: `Release what leaked on this host: containers' addresses that its Docker does not
know. It takes two steps. Those that Docker does not know are suspected; those
that were already, by this command or the daemon, half a minute ago or longer,
and that it does not know now either, are reclaimed. What is asked for in between
stays. The daemon does the same by itself unless it was told to report only.

With --host, give back all that another host holds: its containers' addresses,
its networks' gateways, its own bridges' addresses. That is for a host that is
gone for good, and is refused while its daemon is alive. It says what it will
mean, and asks. Where it was cut short, run it again, and it goes on. A daemon of
that host that starts all the same says so in its log.

With --swarm, give back what a swarm held that was dissolved, as by docker swarm
leave --force on its last manager: nobody tells the driver of that. It is refused
while the Docker of any live host is in a swarm, or one does not say. What single
nodes mirrored of it their daemons give back by themselves.

--dry-run shows what would be released, and changes nothing.

Exit status: 0 done, or there was nothing to do; 1 refused, failed or not
confirmed; 2 wrong usage; 3 there is no such host.`,
		Example: `  ipamlog reclaim --dry-run
  ipamlog reclaim
  ipamlog reclaim --host h3 --dry-run
  ipamlog reclaim --host h3 --yes
  ipamlog reclaim --swarm --dry-run`,
		Args:              none,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().StringVar(&host, "host", "", "take over what the host of this `name` holds")
	cmd.Flags().BoolVar(&swarm, "swarm", false, "give back what a swarm held that was dissolved")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be released, and change nothing")
	cmd.Flags().BoolVar(&yes, "yes", false, "with --host or --swarm: do not ask")
	daemonFlags(cmd.Flags(), "engine")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case host == "" && cmd.Flags().Changed("host"):
			return Usagef("--host names no host: ipamlog hosts lists those there are")
		case host != "" && swarm:
			return Usagef("--host and --swarm are two things: give one of them")
		case yes && (host == "" && !swarm || dryRun):
			return Usagef("--yes goes with --host or --swarm, and not with --dry-run: see %s --help", cmd.CommandPath())
		}
		return nil
	}
	return byHand(cmd, build, wantLog, func(ctx context.Context, s *session, o *operator.Operator, _ []string) error {
		confirm := func(format string, args ...any) error { return confirmed(cmd, yes, format, args...) }
		switch {
		case host != "" && dryRun:
			return s.showEstate(ctx, o, host)
		case host != "":
			return s.takeOver(ctx, o, host, confirm)
		case swarm && dryRun:
			return s.showRemains(ctx, o)
		case swarm:
			return s.reclaimSwarm(ctx, o, confirm)
		case dryRun:
			return s.showLeaks(ctx, o)
		}
		out, err := o.Reclaim(ctx)
		if err != nil {
			return err
		}
		return s.told(out.Said, out.Notes, out)
	})
}

func (s *session) takeOver(ctx context.Context, o *operator.Operator, host string, confirm func(string, ...any) error) error {
	e, err := o.Estate(ctx, host)
	if err != nil {
		return err
	}
	if !e.Empty() {
		err := confirm("What host %s holds is given back: %s in %s. Others may get it, so whatever still runs there would share its address: go on only if that host is gone for good.",
			host, several(e.Holdings, "holding"), several(len(e.Pools), "pool"))
		if err != nil {
			return err
		}
	}
	out, err := o.TakeOver(ctx, host)
	if err != nil {
		return err
	}
	return s.told(out.Said, out.Notes, out)
}

func (s *session) reclaimSwarm(ctx context.Context, o *operator.Operator, confirm func(string, ...any) error) error {
	r, err := o.Remains(ctx)
	if err != nil {
		return err
	}
	if !r.Empty() {
		err := confirm("What a swarm left is given back: %s in %s. No host whose daemon is alive is in a swarm: go on only if no other host is in one either.",
			several(r.Holdings, "holding"), several(len(r.Pools), "pool"))
		if err != nil {
			return err
		}
	}
	out, err := o.ReclaimSwarm(ctx)
	if err != nil {
		return err
	}
	return s.told(out.Said, out.Notes, out)
}

// several counts things in words.
func several(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// showEstate lists what a take-over would release.
func (s *session) showEstate(ctx context.Context, o *operator.Operator, host string) error {
	e, err := o.Estate(ctx, host)
	if err != nil {
		return err
	}
	if e.Empty() {
		s.note("nothing to do: host %s holds nothing", host)
	}
	return s.showHeld(ctx, events.Local, func(h replay.Holding) bool { return h.Host == host })
}

// showRemains lists what the end of a dissolved swarm would release.
func (s *session) showRemains(ctx context.Context, o *operator.Operator) error {
	r, err := o.Remains(ctx)
	if err != nil {
		return err
	}
	if r.Empty() {
		s.note("nothing to do: nothing is held for a swarm")
	}
	return s.showHeld(ctx, events.Global, func(h replay.Holding) bool { return h.Host == "" && h.Kind != events.Reserved })
}

// showHeld lists what is held in a space, as far as it fits.
func (s *session) showHeld(ctx context.Context, space events.Space, fits func(replay.Holding) bool) error {
	pools, err := replay.Catalogue(ctx, s.log)
	if err != nil {
		return err
	}
	list := []replay.Holding{}
	for _, pool := range pools {
		if pool.Space != space {
			continue
		}
		holdings, _, err := replay.HoldersNow(ctx, s.log, pool)
		if err != nil {
			return err
		}
		for _, h := range holdings {
			if fits(h) {
				list = append(list, h)
			}
		}
	}
	if len(list) > 0 {
		err = s.ask(ctx, func(h *replay.History) error {
			h.Attribute(list)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return show(s, s.holders(), list)
}

// leak is a holding that may have leaked, and what would become of it.
type leak operator.Leak

// MarshalJSON implements [json.Marshaler].
func (l leak) MarshalJSON() ([]byte, error) {
	var suspected *string
	if since := replay.Stamp(l.Allocation.Suspected); since != "" {
		suspected = &since
	}
	return json.Marshal(struct {
		Address    netip.Addr `json:"address"`
		Pool       string     `json:"pool"`
		PoolID     events.ID  `json:"pool_id"`
		Allocation events.ID  `json:"allocation"`
		Endpoint   string     `json:"endpoint,omitempty"`
		MAC        string     `json:"mac,omitempty"`
		Suspected  *string    `json:"suspected"`
		Verdict    string     `json:"verdict"`
		Why        string     `json:"why"`
	}{
		l.Address, l.Pool.Value.Title(), l.Pool.ID, l.Allocation.ID, l.Allocation.Endpoint, l.Allocation.MAC.String(),
		suspected, string(l.Fate), l.Why,
	})
}

// showLeaks lists what would be reclaimed, and what not, and why.
func (s *session) showLeaks(ctx context.Context, o *operator.Operator) error {
	found, err := o.Leaks(ctx)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		s.note("nothing to do: nothing of host %s has leaked", s.cfg.Host)
	}
	leaks := make([]leak, 0, len(found))
	for _, l := range found {
		leaks = append(leaks, leak(l))
	}
	return show(s, s.leaks(), leaks)
}

func (s *session) leaks() render.Table[leak] {
	return render.Table[leak]{
		Columns: []render.Column[leak]{
			{Name: "address", Value: func(l leak) string { return l.Address.String() }},
			{Name: "pool", Value: func(l leak) string { return l.Pool.Value.Title() }},
			{Name: "pool_id", Detail: true, Value: func(l leak) string { return l.Pool.ID.String() }},
			{Name: "allocation", Detail: true, Value: func(l leak) string { return l.Allocation.ID.String() }},
			{Name: "endpoint", Value: func(l leak) string { return l.Allocation.Endpoint }},
			{Name: "mac", Detail: true, Value: func(l leak) string { return l.Allocation.MAC.String() }},
			{
				Name: "suspected", Value: func(l leak) string { return replay.Stamp(l.Allocation.Suspected) },
				Human: func(l leak) string { return s.when(projection.Mark{Time: l.Allocation.Suspected}) },
			},
			{Name: "verdict", Value: func(l leak) string { return string(l.Fate) }},
			{Name: "why", Value: func(l leak) string { return l.Why }},
		},
		Emphasis: func(l leak) render.Emphasis {
			if l.Fate == operator.Keep {
				return render.Faint
			}
			return render.Plain
		},
	}
}
