// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
)

const (
	// clockBound is how far two unmarked clocks may contradict each other.
	clockBound = 10 * time.Second
	// lateBound is how long after its ID was made a commit may come at most.
	lateBound = time.Hour
)

// examiner replays a log that may be wrong. Unlike an allocator it does not stop
// at what cannot be, but notes it, passes the event over and goes on.
type examiner struct {
	timeline  *projection.Timeline
	pools     map[events.Stream]*examined
	catalogue snapshot                  // the hosts as the store has them
	restored  func(revision int64) bool // see etcdlog's AsRestored

	hosts    events.Guards     // the hosts as the log gives them
	hostsSet bool              // compared already
	behind   map[string]*lag   // by host: its commits behind the running time
	ahead    map[string]*lag   // by host: those of its commits that these were behind
	told     map[string]teller // by endpoint: whose holding it first was told to be

	border   etcdlog.Border // up to where the log was forgotten
	missing  map[events.Stream]etcdlog.Head
	last     events.Record
	running  time.Time
	leader   events.Record // that moved the running time to where it is
	findings []Finding
	report   Report
}

// examined is a pool on the way.
type examined struct {
	life     *projection.PoolLife
	guards   events.Guards // as the log gives them so far
	store    snapshot      // as the store has them
	looked   bool          // it was compared, or is younger than what was read
	puzzling bool          // holds events that are not understood: it cannot be compared
	began    map[events.ID]begun
}

// begun is an allocation and what was told of it.
type begun struct {
	at        events.AddressAllocated
	mark      projection.Mark
	container string
}

// teller is the holding that an endpoint was told of.
type teller struct {
	allocation events.ID
	host       string
}

// lag is a host whose clock contradicts those of others.
type lag struct {
	first, last projection.Mark
	where       string
	commits     int
	worst       time.Duration
	others      map[string]bool // the hosts that it contradicts
}

// lags adds what one commit's clock has against another's.
func lags(of map[string]*lag, r, other events.Record, by time.Duration) {
	l := of[r.Host]
	if l == nil {
		l = &lag{first: markOf(r), where: r.Name(0), others: map[string]bool{}}
		of[r.Host] = l
	}
	l.commits++
	l.last = markOf(r)
	l.worst = max(l.worst, by)
	l.others[other.Host] = true
}

func newExaminer(t *projection.Timeline, seen map[events.ID]snapshot, restored func(revision int64) bool) *examiner {
	x := &examiner{timeline: t, restored: restored, pools: map[events.Stream]*examined{}, hosts: events.NewGuards(), behind: map[string]*lag{}, ahead: map[string]*lag{}, told: map[string]teller{}, findings: []Finding{}}
	x.catalogue.guards = events.NewGuards()
	for id, s := range seen {
		p := x.pool(events.PoolStream(id))
		p.store, p.looked = s, false
	}
	return x
}

// pool returns what is known of a stream's pool; nil for the catalogue.
func (x *examiner) pool(s events.Stream) *examined {
	p, ok := x.pools[s]
	if ok || s == events.Catalogue {
		return p
	}
	id, err := events.ParseID(string(s))
	if err != nil {
		return nil
	}
	life := x.timeline.Pool(s)
	if life == nil {
		life = &projection.PoolLife{ID: id}
	}
	p = &examined{life: life, guards: events.NewGuards(), looked: true, began: map[events.ID]begun{}}
	x.pools[s] = p
	return p
}

func (x *examiner) note(rule Rule, p *examined, where string, since projection.Mark, format string, args ...any) {
	f := Finding{Rule: rule, Where: where, Since: since, What: fmt.Sprintf(format, args...)}
	if p != nil {
		f.Pool = p.life
	}
	x.findings = append(x.findings, f)
}

func markOf(r events.Record) projection.Mark {
	return projection.Mark{Revision: r.Revision, Time: r.Time, Suspect: r.ClockSuspect}
}

// examine looks at the next record.
func (x *examiner) examine(r events.Record) {
	p := x.pool(r.Stream)
	x.inOrder(p, r)
	x.onTime(r)
	if p != nil && !p.looked && r.Revision > p.store.revision {
		x.compare(p)
	}
	if !x.hostsSet && r.Revision > x.catalogue.revision {
		x.compareHosts()
	}
	for i, e := range r.Events {
		x.report.Events++
		if u, ok := e.(events.Unknown); ok {
			x.note(RuleReadable, p, r.Name(i), markOf(r), "an event %q was written by a newer version (%s), and what it says is not looked at: upgrade ipamlog", u.Name, orNone(r.Writer))
			if p != nil {
				p.puzzling = true
			}
			continue
		}
		if p == nil {
			x.examineHost(r, i, e)
		} else {
			x.examineEvent(p, r, i, e)
		}
	}
	x.last = r
}

func orNone(text string) string {
	if text == "" {
		return "unknown"
	}
	return text
}

// inOrder looks at where a commit stands in the log.
func (x *examiner) inOrder(p *examined, r events.Record) {
	where := r.Name(0)
	if r.Revision == x.last.Revision {
		x.note(RuleOrder, p, where, markOf(r), "two commits stand at revision %d: %s of the stream %s, and %s of %s", r.Revision, x.last.ID, x.last.Stream, r.ID, r.Stream)
	}
	if len(r.Events) == 0 {
		return // it closes a commit that never came, which may have been long ago
	}
	made := ulid.Time(ulid.ULID(r.ID).Time())
	if late := x.running.Sub(made); late > lateBound {
		x.note(RuleOrder, p, where, markOf(r), "the commit %s came %s after its id was made, and one that late may be lost to who reads on from a moment", r.ID, late.Round(time.Second))
	}
}

// onTime looks at the clock of a commit's writer. One that says itself that its
// clock was wrong is no finding: its time moves nothing.
func (x *examiner) onTime(r events.Record) {
	if r.ClockSuspect {
		x.report.Suspect++
		return
	}
	// A void commit is signed by nobody, whose clock ever it has.
	if behind := x.running.Sub(r.Time); behind > clockBound && len(r.Events) > 0 {
		lags(x.behind, r, x.leader, behind)
		if r.Host != x.leader.Host {
			lags(x.ahead, x.leader, r, behind)
		}
	}
	if r.Time.After(x.running) {
		x.running, x.leader = r.Time, r
	}
}

// leads says whether several hosts contradict this one, and nobody else: then it is
// the one that is ahead.
func (x *examiner) leads(host string) bool {
	l := x.ahead[host]
	if l == nil || len(l.others) < 2 {
		return false
	}
	for other := range l.others {
		if len(x.behind[other].others) > 1 {
			return false
		}
	}
	return true
}

// count holds what stood in the log at a revision against the heads of its streams.
func (x *examiner) count(records []events.Record, heads map[events.Stream]etcdlog.Head, at int64) {
	stood := map[events.Stream]int64{}
	for s := range heads {
		stood[s] = x.missing[s].Commits
	}
	for _, r := range records {
		if r.Revision <= at {
			stood[r.Stream]++
		}
	}
	for s, n := range stood {
		if head := heads[s]; n != head.Commits {
			x.note(RuleComplete, x.pool(s), "head "+string(s), x.since(head.Revision), "the stream %s has %d commits, and its head has counted %d: what is missing was deleted, and what is too many was not written by ipamlog", s, n, head.Commits)
		}
	}
}

func (x *examiner) examineHost(r events.Record, i int, e events.Event) {
	if joined, ok := e.(events.HostJoined); ok {
		if before := x.hosts.Hosts[joined.Host]; before.Present() && joined.Incarnation <= before.Value.Incarnation {
			x.note(RuleHosts, nil, r.Name(i), markOf(r), "host %s joined as incarnation %d, and had been %d before", joined.Host, joined.Incarnation, before.Value.Incarnation)
		}
	}
	if err := x.hosts.Apply(alone(r, e)); err != nil {
		x.note(RuleHosts, nil, r.Name(i), markOf(r), "%s", err)
	}
}

// alone is a record with one of its events.
func alone(r events.Record, e events.Event) events.Record {
	r.Events = []events.Event{e}
	return r
}

// examineEvent looks at one event of a pool against the state before it.
func (x *examiner) examineEvent(p *examined, r events.Record, i int, e events.Event) {
	wrong := func(rule Rule, format string, args ...any) {
		x.note(rule, p, r.Name(i), markOf(r), format, args...)
	}
	switch e := e.(type) {
	case events.PoolCreated:
		x.overlaps(p, e, wrong)
	case events.AddressReserved:
		if subnet := p.guards.Pool.Value.Subnet; subnet.IsValid() && !subnet.Contains(e.Address) {
			wrong(RuleAddresses, "%s was reserved, and lies outside of %s", e.Address, subnet)
		}
	case events.AddressConflicted:
		if subnet := p.guards.Pool.Value.Subnet; subnet.IsValid() && !subnet.Contains(e.Address) {
			wrong(RuleAddresses, "%s was in conflict, and lies outside of %s", e.Address, subnet)
		}
	case events.AddressReleased:
		b, ok := p.began[e.Allocation]
		if ok && !e.At.IsZero() && !r.ClockSuspect && !b.mark.Suspect && b.mark.Time.Sub(e.At) > clockBound {
			wrong(RuleReleases, "%s was released at %s, %s before it was allocated", e.Address, Stamp(e.At), b.mark.Time.Sub(e.At).Round(time.Millisecond))
		}
	case events.AddressAllocated:
		if subnet := p.guards.Pool.Value.Subnet; subnet.IsValid() && !subnet.Contains(e.Address) {
			wrong(RuleAddresses, "%s was allocated, and lies outside of %s", e.Address, subnet)
		}
		if grant := p.guards.Grants[e.Grant]; !e.Grant.IsZero() && grant.Value.State != events.StateOpen {
			wrong(RuleGrants, "%s was allocated through the grant %s, which is not open", e.Address, e.Grant)
		} else if !e.Grant.IsZero() && grant.Value.Host != e.Host {
			wrong(RuleGrants, "%s was allocated to host %q through a grant of host %q", e.Address, e.Host, grant.Value.Host)
		}
		if _, twice := p.began[e.Allocation]; twice {
			wrong(RuleHolders, "the allocation %s began a second time, on %s", e.Allocation, e.Address)
			return
		}
		p.began[e.Allocation] = begun{at: e, mark: markOf(r)}
	case events.AddressAttributed:
		b, ok := p.began[e.Allocation]
		switch {
		case !ok && r.Revision > x.border.Last && !e.Allocation.Time().After(x.border.Running):
			return // told late of a holding that was forgotten
		case !ok || b.at.Address != e.Address:
			wrong(RuleAttribution, "%s was told to be %s, and no allocation %s of it ever was", e.Address, e.ContainerName, e.Allocation)
			return
		case b.container != "" && e.ContainerID != "" && b.container != e.ContainerID:
			wrong(RuleAttribution, "the allocation %s of %s was told to be the container %s, and later %s", e.Allocation, e.Address, b.container, e.ContainerID)
		}
		if b.container == "" {
			b.container = e.ContainerID
			p.began[e.Allocation] = b
		}
		if other := x.elsewhere(e, b.at.Host); other != "" {
			wrong(RuleAttribution, "%s on host %q was told to be the endpoint %s, and so was another address on host %q at the same time", e.Address, b.at.Host, e.EndpointID, other)
		}
	default: // the state alone says whether they fit
	}
	// A state that refuses an event stays as it was.
	if err := p.guards.Apply(alone(r, e)); err != nil {
		wrong(ruleOf(e), "%s by host %s: %s", e.Type(), r.Host, contradiction(err))
	}
}

// elsewhere is another host that holds an address of the same endpoint while this one
// does; empty if there is none.
func (x *examiner) elsewhere(e events.AddressAttributed, host string) string {
	if e.EndpointID == "" || host == "" {
		return ""
	}
	first, ok := x.told[e.EndpointID]
	if !ok {
		x.told[e.EndpointID] = teller{e.Allocation, host}
		return ""
	}
	here, ok := x.timeline.Allocation(e.Allocation)
	there, known := x.timeline.Allocation(first.allocation)
	if !ok || !known || first.host == host || here.To.Reached() && here.To.Revision <= there.From.Revision ||
		there.To.Reached() && there.To.Revision <= here.From.Revision {
		return ""
	}
	return first.host
}

// contradiction is what the state before an event has against it.
func contradiction(err error) string {
	text := strings.TrimSuffix(err.Error(), ": "+events.ErrContradiction.Error())
	if _, why, ok := strings.Cut(text, ": "); ok {
		return why
	}
	return text
}

// ruleOf is the rule that an event breaks which the state before it refuses.
func ruleOf(e events.Event) Rule {
	switch e.(type) {
	case events.AddressAllocated, events.AddressReserved:
		return RuleHolders
	case events.AddressReleased, events.AddressReclaimed, events.AddressUnreserved:
		return RuleReleases
	case events.AddressSuspected, events.AddressCleared:
		return RuleSuspicions
	case events.GrantOpened, events.GrantReopened, events.GrantClosing, events.GrantClosed:
		return RuleGrants
	default:
		return RulePools
	}
}

// overlaps looks whether a new pool overlaps one that is there, where neither is
// apart.
func (x *examiner) overlaps(p *examined, made events.PoolCreated, wrong func(Rule, string, ...any)) {
	if events.Pool(made).Apart() {
		return
	}
	for _, other := range x.pools {
		there := other.guards.Pool
		if other != p && there.Present() && !there.Value.Apart() && there.Value.Space == made.Space && there.Value.Subnet.Overlaps(made.Subnet) {
			wrong(RulePools, "the pool %s was made while %s stood, which it overlaps", made.Subnet, there.Value.Title())
		}
	}
}

// compare holds a pool against its guards, at the revision they were read at.
func (x *examiner) compare(p *examined) {
	p.looked = true
	if p.puzzling {
		return
	}
	store := p.store.guards
	store.Hosts = p.guards.Hosts // a pool's guards have none
	n, different := differences(p.guards, store, x.restored)
	x.report.Guards += n
	for _, d := range different {
		x.note(RuleGuards, p, d.key, x.since(d.revision), "%s", d.sentence())
	}
}

func (x *examiner) compareHosts() {
	x.hostsSet = true
	n, different := differences(events.Guards{Hosts: x.hosts.Hosts}, events.Guards{Hosts: x.catalogue.guards.Hosts}, x.restored)
	x.report.Guards += n
	for _, d := range different {
		x.note(RuleGuards, nil, d.key, x.since(d.revision), "%s", d.sentence())
	}
}

// since is a place in the log where nothing of it may stand.
func (x *examiner) since(revision int64) projection.Mark {
	return projection.Mark{Revision: revision, Time: x.timeline.Running(revision)}
}

// conclude looks at what can only be said at the end.
func (x *examiner) conclude() {
	for _, p := range x.pools {
		if !p.looked {
			x.compare(p)
		}
	}
	if !x.hostsSet {
		x.compareHosts()
	}
	for host, l := range x.ahead {
		if x.leads(host) {
			x.note(RuleClocks, nil, l.where, l.first, "the clock of host %s was ahead of %d others': their commits after this one are up to %s behind it, and answers by time are in doubt by as much: synchronise its clock",
				host, len(l.others), l.worst.Round(time.Millisecond))
		}
	}
	for host, l := range x.behind {
		if len(l.others) == 1 && x.leads(slices.Collect(maps.Keys(l.others))[0]) {
			continue // it is the other one's fault
		}
		x.note(RuleClocks, nil, l.where, l.first, "the clock of host %s contradicts the others': %d of its commits, up to @%d, are up to %s behind them, and answers by time are in doubt by as much: synchronise the clocks",
			host, l.commits, l.last.Revision, l.worst.Round(time.Millisecond))
	}
}
