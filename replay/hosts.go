// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
)

// HostState is a host that was ever seen, and how it is.
type HostState struct {
	Name    string
	Machine string // the machine id
	Alive   bool   // a daemon of it is present
	Stopped bool   // its last daemon stopped in good order
	// Since is since when: the daemon joined, or stopped in good order, or wrote its
	// last commit and was heard of no more. Not reached: it is not known.
	Since       projection.Mark
	Incarnation uint64
	TakenOver   bool // an operator has taken its addresses over since it last joined
	// Version is the program's, as it joined last; Engine that of the Docker engine of
	// a daemon that is present. Empty: not known.
	Version string
	Engine  string
	Pools   []string // in which it has a grant or a holding, by their titles, sorted
	Held    int      // addresses that it holds
}

// HostsNow lists the hosts that were ever seen, by name. Hosts that died without a word
// cost the part of the log that was written since.
func HostsNow(ctx context.Context, log *etcdlog.Log, now time.Time) ([]HostState, error) {
	guards, _, err := log.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	alive, err := log.Alive(ctx)
	if err != nil {
		return nil, err
	}
	states := make([]HostState, 0, len(guards))
	for name, g := range guards {
		_, lives := alive[name]
		states = append(states, HostState{
			Name: name, Machine: g.Value.Machine, Alive: lives, Stopped: !lives && !g.Value.Left.IsZero(),
			Incarnation: g.Value.Incarnation, TakenOver: g.Value.TakenOver,
			Engine: alive[name].Engine,
		})
	}
	slices.SortFunc(states, func(a, b HostState) int { return strings.Compare(a.Name, b.Name) })
	catalogue, err := log.Since(ctx, events.Catalogue, time.UnixMilli(0))
	if err != nil {
		return nil, errors.Wrap(err, "read when the hosts came and went")
	}
	silent := map[string]*HostState{}
	for i := range states {
		s := &states[i]
		s.comeAndGone(catalogue)
		if !s.Alive && !s.Stopped {
			silent[s.Name] = s
		}
	}
	if err := lastWords(ctx, log, silent, now); err != nil {
		return nil, err
	}
	return states, belongings(ctx, log, states)
}

// comeAndGone finds when the host joined last, or left after that.
func (s *HostState) comeAndGone(catalogue []events.Record) {
	for _, r := range catalogue {
		for _, e := range r.Events {
			switch e := e.(type) {
			case events.HostJoined:
				if e.Host == s.Name {
					s.Since, s.Version = markOf(r), e.Version
				}
			case events.HostLeft:
				if e.Host == s.Name {
					s.Since = markOf(r)
				}
			default:
			}
		}
	}
}

// wider is how much more of the past is looked at when that was not enough.
const wider = 8

// lastWords finds the last commit of each host's daemons, in more and more of the log.
func lastWords(ctx context.Context, log *etcdlog.Log, silent map[string]*HostState, now time.Time) error {
	if len(silent) == 0 {
		return nil
	}
	heads, _, err := log.Heads(ctx)
	if err != nil {
		return err
	}
	for back := time.Hour; len(silent) > 0; back *= wider {
		from := now.Add(-back)
		whole := from.Year() < firstYear
		if whole {
			from = time.UnixMilli(0)
		}
		found := map[string]bool{}
		for stream := range heads {
			records, err := log.Since(ctx, stream, from)
			if err != nil {
				return errors.Wrap(err, "look when a host was heard of last")
			}
			for _, r := range records {
				if s := silent[r.Host]; s != nil && byDaemon(r) {
					found[r.Host] = true
					if r.Revision > s.Since.Revision {
						s.Since = markOf(r)
					}
				}
			}
		}
		for name := range found {
			delete(silent, name)
		}
		if whole {
			return nil
		}
	}
	return nil
}

// firstYear is before the first log there was.
const firstYear = 2000

// byDaemon says whether a commit in a host's name was its daemon's, and not a person's.
func byDaemon(r events.Record) bool {
	adopts := func(e events.Event) bool { _, is := e.(events.HostAdopted); return is }
	return r.Incarnation > 0 && !slices.ContainsFunc(r.Events, adopts)
}

// belongings counts what the hosts hold, and where.
func belongings(ctx context.Context, log *etcdlog.Log, states []HostState) error {
	pools, err := Catalogue(ctx, log)
	if err != nil {
		return err
	}
	byName := map[string]*HostState{}
	for i := range states {
		byName[states[i].Name] = &states[i]
	}
	for _, pool := range pools {
		guards, _, err := log.Guards(ctx, pool.Space, pool.ID)
		if err != nil {
			return errors.Wrapf(err, "read pool %s", Title(pool))
		}
		in := map[string]map[netip.Addr]bool{}
		for _, grant := range guards.Grants {
			if byName[grant.Value.Host] != nil && in[grant.Value.Host] == nil {
				in[grant.Value.Host] = map[netip.Addr]bool{}
			}
		}
		for addr, held := range guards.Held {
			for _, a := range held.Value {
				if byName[a.Host] == nil {
					continue
				}
				if in[a.Host] == nil {
					in[a.Host] = map[netip.Addr]bool{}
				}
				in[a.Host][addr] = true
			}
		}
		for name, held := range in {
			s := byName[name]
			s.Pools, s.Held = append(s.Pools, Title(pool)), s.Held+len(held)
		}
	}
	for i := range states {
		slices.Sort(states[i].Pools)
	}
	return nil
}

// MarshalJSON is the promised form of a host.
func (s HostState) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Name          string   `json:"name"`
		Alive         bool     `json:"alive"`
		Since         *string  `json:"since"`
		SinceRevision *int64   `json:"since_revision"`
		Incarnation   uint64   `json:"incarnation"`
		Stopped       bool     `json:"stopped"`
		TakenOver     bool     `json:"taken_over"`
		Version       *string  `json:"version"`
		Engine        *string  `json:"engine"`
		Pools         []string `json:"pools"`
		Held          int      `json:"held"`
		Machine       string   `json:"machine"`
		ClockSuspect  bool     `json:"clock_suspect,omitempty"`
	}{
		s.Name, s.Alive, known(Stamp(s.Since.Time)), known(s.Since.Revision), s.Incarnation, s.Stopped, s.TakenOver,
		known(s.Version), known(s.Engine), append([]string{}, s.Pools...), s.Held, s.Machine, s.Since.Suspect,
	})
}
