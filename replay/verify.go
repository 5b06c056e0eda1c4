// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
)

// Rule is what a log has to keep.
type Rule string

// The rules that [Verify] looks at.
const (
	RuleHolders     Rule = "one-holder"  // an address has one holder, or several who share it
	RuleReleases    Rule = "releases"    // what ends had begun
	RuleSuspicions  Rule = "suspicions"  // a holding is suspected once until that is cleared
	RuleGrants      Rule = "grants"      // grants open, close and are held through in this order
	RulePools       Rule = "pools"       // pools are made once, and do not overlap unless they are apart
	RuleAddresses   Rule = "addresses"   // an address lies in its pool's subnet
	RuleAttribution Rule = "attribution" // what is told is told of a holding, and of one container
	RuleHosts       Rule = "hosts"       // a host's incarnations rise
	RuleComplete    Rule = "complete"    // a stream has as many commits as were written
	RuleOrder       Rule = "order"       // commits stand in the order of their revisions, near their time
	RuleClocks      Rule = "clocks"      // clocks contradict each other by 10 s at most
	RuleGuards      Rule = "guards"      // the guards are what the log gives
	RuleReadable    Rule = "readable"    // every event is understood
	RuleArchive     Rule = "archive"     // what is in the archive is what was sealed
)

// Finding is something that is wrong.
type Finding struct {
	Rule Rule
	Pool *projection.PoolLife // nil: of no pool
	// Where is the event that shows it, as revision.index, or the guard.
	Where string
	// Since is when it began to be wrong, as far as the log can tell.
	Since projection.Mark
	What  string // a sentence
}

// MarshalJSON is the promised form of a finding.
func (f Finding) MarshalJSON() ([]byte, error) {
	var pool, id *string
	if f.Pool != nil {
		pool, id = known(f.Pool.Name), known(f.Pool.ID.String())
	}
	return json.Marshal(struct {
		Rule     Rule    `json:"rule"`
		Pool     *string `json:"pool"`
		PoolID   *string `json:"pool_id"`
		Where    string  `json:"where"`
		Since    *string `json:"since"`
		Revision *int64  `json:"since_revision"`
		What     string  `json:"what"`
	}{f.Rule, pool, id, f.Where, known(Stamp(f.Since.Time)), known(f.Since.Revision), f.What})
}

// Report is what [Verify] found.
type Report struct {
	Revision int64     `json:"revision"` // up to which the log was looked at
	Pools    int       `json:"pools"`    // retired ones too
	Commits  int       `json:"commits"`
	Events   int       `json:"events"`
	Guards   int       `json:"guards"`   // compared
	Suspect  int       `json:"suspect"`  // commits whose writer marked its own clock: noticed, and no fault
	Findings []Finding `json:"findings"` // by revision
}

// About leaves only the findings about the given pools.
func (r *Report) About(pools []*projection.PoolLife) {
	r.Findings = slices.DeleteFunc(r.Findings, func(f Finding) bool {
		return f.Pool == nil || !of(pools, events.PoolStream(f.Pool.ID))
	})
}

// Verify replays the whole log, checks that it keeps its rules, and compares the
// state it gives with the guards. It may run while others write. progress, if not
// nil, is told how many commits have come so far. What is wrong is in the report;
// the error says that it could not be found out.
func Verify(ctx context.Context, log *etcdlog.Log, progress func(int)) (*Report, *Journal, error) {
	// The guards come first, each pool's at a revision of its own; the log, read
	// after them, reaches beyond every one.
	stood, err := log.Revision(ctx)
	if err != nil {
		return nil, nil, err
	}
	began, _, err := log.Forgotten(ctx)
	if err != nil {
		return nil, nil, err
	}
	pools, err := Catalogue(ctx, log)
	if err != nil {
		return nil, nil, err
	}
	seen := map[events.ID]snapshot{}
	for _, pool := range pools {
		if seen[pool.ID], err = look(ctx, log, pool); err != nil {
			return nil, nil, err
		}
	}
	heads, headsAt, err := log.Heads(ctx)
	if err != nil {
		return nil, nil, err
	}
	hosts, hostsAt, err := log.Hosts(ctx)
	if err != nil {
		return nil, nil, err
	}
	j, err := Load(ctx, log, progress)
	if err != nil {
		return nil, nil, err
	}
	// Whatever else the log had by then is retired, and must have left nothing; nor
	// may there be anything of pools that the log does not know.
	left, err := log.GuardedPools(ctx)
	if err != nil {
		return nil, nil, err
	}
	others := slices.Clone(j.timeline.Pools())
	for _, id := range left {
		if j.timeline.Pool(events.PoolStream(id)) == nil {
			others = append(others, &projection.PoolLife{ID: id})
		}
	}
	for _, pool := range others {
		if _, listed := seen[pool.ID]; listed || pool.Created.Revision > stood {
			continue
		}
		if seen[pool.ID], err = look(ctx, log, pool); err != nil {
			return nil, nil, err
		}
	}

	border, missing, err := log.Forgotten(ctx)
	if err != nil {
		return nil, nil, err
	}
	if border != began {
		return Verify(ctx, log, progress) // what was read is forgotten now
	}
	x := newExaminer(j.timeline, seen, log.AsRestored)
	x.border, x.missing = border, missing
	x.catalogue.revision, x.catalogue.guards.Hosts = hostsAt, hosts
	for _, r := range j.records {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		x.examine(r)
	}
	x.count(j.records, heads, headsAt)
	x.conclude()
	slices.SortStableFunc(x.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Since.Revision, b.Since.Revision), cmp.Compare(a.Where, b.Where))
	})
	report := x.report
	report.Revision, report.Pools, report.Commits, report.Findings = j.revision, len(seen), len(j.records), x.findings
	return &report, j, nil
}

// sentence is how a guard differs.
func (d difference) sentence() string {
	switch {
	case d.log == "":
		return fmt.Sprintf("the guard %s is there (%s), and the log gives none", d.key, d.store)
	case d.store == "":
		return fmt.Sprintf("the guard %s is missing; the log gives %s", d.key, d.log)
	}
	return fmt.Sprintf("the guard %s says %s, and the log gives %s", d.key, d.store, d.log)
}
