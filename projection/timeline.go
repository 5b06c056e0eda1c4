// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"iter"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/ipamlog/ipamlog/events"
)

// Mark is a place in the log.
type Mark struct {
	// Revision is that of the commit; 0 means that it has not come to this.
	Revision int64
	// Time is when it happened, as the writer's clock had it: nothing is ever
	// ordered by it.
	Time time.Time
	// Suspect says that Time contradicts its neighbours in the log.
	Suspect bool
}

// Reached says whether it has come to this at all.
func (m Mark) Reached() bool { return m.Revision != 0 }

// PoolLife is one incarnation of a pool, from its creation to its end. Where the
// log read does not reach back to the creation, the ID is all that is known.
type PoolLife struct {
	ID events.ID
	events.Pool
	Created, Retired Mark
}

// Known says whether the pool's creation was seen, and so its name and subnet.
func (p *PoolLife) Known() bool { return p.Subnet.IsValid() }

// At says whether the pool stood after a revision. One whose beginning lies
// before what was read stood from the start.
func (p *PoolLife) At(revision int64) bool {
	return p.Created.Revision <= revision && (!p.Retired.Reached() || p.Retired.Revision > revision)
}

// Holding is one address in one hand, from its allocation to its end.
type Holding struct {
	Allocation events.ID
	Address    netip.Addr
	Pool       *PoolLife
	Kind       events.Kind
	Shared     bool
	Host       string     // empty: the swarm's
	Grant      events.ID  // zero: held by an operator's word
	MAC        events.MAC // zero: none was given
	Endpoint   string     // the endpoint's name; empty: not given
	Why        string     // of a reservation
	From       Mark
	To         Mark          // not reached: still held
	End        events.Reason // why it ended; empty: still held
	// Early says that the address was given back at To.Time, some time before
	// the commit at To.Revision could tell of it.
	Early bool
	// Suspected is since when the host's engine does not know it, as of a suspicion
	// that was not cleared again; not reached: there is none.
	Suspected Mark
	// Told is what the engine told of it, in the order of the log: all of one
	// container, whose name may change. Empty: nothing is known.
	Told []Told
}

// Told is one attribution of a holding.
type Told struct {
	events.Attribution
	Mark // the commit that told so
	// Since is when it came to be so; zero where it was so from the beginning, or
	// nobody knows.
	Since time.Time
}

// At says whether the holding stood in the log after a revision.
func (h *Holding) At(revision int64) bool {
	return h.From.Revision <= revision && (!h.To.Reached() || h.To.Revision > revision)
}

// Unread is a type of event of which a [Timeline] could make nothing.
type Unread struct {
	Type  string
	Count int
	First int64 // the revision of the first one
	// Writer is the version of the program that wrote the first one.
	Writer string
}

// Timeline is every holding there ever was. Unlike [Pool] it shows and does not
// decide: what it does not understand, or what does not fit, it counts and goes
// on ([Timeline.Unread], [Timeline.Misfits]).
//
// It takes the records of all streams together, in the order of their
// revisions. It begins with the log ([NewTimeline]) or goes on where another one
// was sealed ([NewTimelineOn]), and says the same either way. Not safe for concurrent use while [Timeline.Apply] runs.
type Timeline struct {
	streams  map[events.Stream]*PoolLife
	born     []*PoolLife       // the same, in the order of their first record
	holdings list[Holding]     // in the order of their beginning
	known    map[events.ID]int // where each allocation is in holdings
	passed   list[passage]
	last     passage
	leads    []Lead // the last one may be contradicted yet
	unread   map[string]*Unread
	misfits  []string

	base    Sealed           // what was before all of these; nil: nothing
	rows    int              // of the base
	sealed  int              // how many of born are the base's
	changed map[int]*Holding // of the base's rows, those to which something came since
}

// passage is one record on the way, and the running time after it.
type passage struct {
	revision int64
	running  time.Time
}

// Lead is a stretch of the log in which one host alone moved the running time on,
// and a later commit's clock, unmarked like its own, was behind it: one of the two
// is wrong.
type Lead struct {
	Host string
	// From and Until are the revisions of the host's first commit, and of the last
	// one that contradicts it; Until is 0 as long as none does.
	From, Until int64
	// Time is the earliest that was said against it.
	Time time.Time
}

const (
	// noticed is by how much clocks must differ at least to contradict one another:
	// those that are kept right are nearer.
	noticed = time.Second
	// kept is by how much clocks may differ that are kept right.
	kept = 10 * time.Second
	// believable is how far a clock can be ahead at most: writers mark what is
	// further. A clock that is further behind the others' is the wrong one.
	believable = 30 * 24 * time.Hour
	// nobody signs the void commits, whoever's clock they have.
	nobody = "-"
)

// NewTimeline returns the timeline of an empty log.
func NewTimeline() *Timeline {
	return &Timeline{streams: map[events.Stream]*PoolLife{}, known: map[events.ID]int{}, unread: map[string]*Unread{}}
}

// Apply adds one record. One at or below the timeline's revision is passed over.
func (t *Timeline) Apply(r events.Record) {
	if r.Revision <= t.Revision() {
		return
	}
	t.pass(r)
	pool := t.meet(r.Stream)
	at := Mark{Revision: r.Revision, Time: r.Time, Suspect: r.ClockSuspect}
	for i, e := range r.Events {
		switch e := e.(type) {
		case events.PoolCreated:
			if pool != nil {
				pool.Pool = events.Pool(e)
				pool.Created = at
			}
		case events.PoolChanged:
			if pool != nil {
				pool.Layout, pool.Kept = e.Layout, e.Kept
			}
		case events.PoolRetired:
			if pool != nil {
				pool.Retired = at
			}
		case events.AddressAllocated:
			t.fit(r, i, t.begin(Holding{
				Allocation: e.Allocation, Address: e.Address, Pool: pool, Kind: e.Kind, Shared: e.Shared,
				Host: e.Host, Grant: e.Grant, MAC: e.MAC, Endpoint: e.Endpoint, From: at,
			}))
		case events.AddressAttributed:
			t.fit(r, i, t.attribute(e, at))
		case events.AddressReserved:
			t.fit(r, i, t.begin(Holding{Allocation: e.Allocation, Address: e.Address, Pool: pool, Kind: events.Reserved, Why: e.Why, From: at}))
		case events.AddressReleased:
			t.fit(r, i, t.end(e.Allocation, e.Address, e.Reason, at, e.At))
		case events.AddressSuspected:
			t.fit(r, i, t.suspect(e.Allocation, e.Address, at))
		case events.AddressCleared:
			t.fit(r, i, t.clear(e.Allocation, e.Address))
		case events.AddressReclaimed:
			t.fit(r, i, t.reclaim(e.Allocation, e.Address, at))
		case events.AddressUnreserved:
			t.fit(r, i, t.end(e.Allocation, e.Address, events.Unreserve, at, time.Time{}))
		case events.Unknown:
			t.puzzle(r, e)
		case events.PoolExhausted, events.AddressConflicted, events.HostJoined, events.HostLeft, events.HostAdopted, events.HostTakenOver,
			events.GrantOpened, events.GrantClosing, events.GrantClosed, events.GrantReopened:
			// They begin and end no holding.
		}
	}
}

// pass moves the running time on: it is the latest time of any commit so far
// that was not marked suspect, and never goes back.
func (t *Timeline) pass(r events.Record) {
	t.last.revision = r.Revision
	if !r.ClockSuspect {
		t.lead(r)
		if r.Time.After(t.last.running) {
			t.last.running = r.Time
		}
	}
	*t.passed.add() = t.last
}

// lead notes who moves the running time on, and who contradicts that. When another
// host moves it on, two agree: what is behind them from then on is wrong itself.
func (t *Timeline) lead(r events.Record) {
	var last *Lead
	if n := len(t.leads); n > 0 {
		last = &t.leads[n-1]
	}
	switch behind := t.last.running.Sub(r.Time); {
	case behind < 0:
		next := Lead{Host: r.Host, From: r.Revision}
		switch {
		case last == nil || last.Until != 0 && last.Host != r.Host && r.Host != nobody:
			t.leads = append(t.leads, next)
		case last.Host != r.Host && r.Host != nobody:
			*last = next
		}
	case last != nil && behind >= noticed && behind <= believable:
		if last.Until == 0 || r.Time.Before(last.Time) {
			last.Time = r.Time
		}
		last.Until = r.Revision
	}
}

// meet returns the pool of a stream, new or known; nil for the catalogue.
func (t *Timeline) meet(s events.Stream) *PoolLife {
	pool := t.streams[s]
	if pool != nil || s == events.Catalogue {
		return pool
	}
	id, err := events.ParseID(string(s))
	if err != nil {
		return nil // a stream of a newer version
	}
	pool = &PoolLife{ID: id}
	t.streams[s] = pool
	t.born = append(t.born, pool)
	return pool
}

// fit notes an event that contradicts those before it.
func (t *Timeline) fit(r events.Record, index int, fits bool) {
	if !fits {
		t.misfits = append(t.misfits, r.Name(index))
	}
}

func (t *Timeline) begin(h Holding) bool {
	if h.Pool == nil {
		return false
	}
	if _, twice := t.known[h.Allocation]; twice {
		return false
	}
	if t.base != nil {
		if _, twice := t.base.Find(h.Allocation); twice {
			return false
		}
	}
	t.known[h.Allocation] = t.holdings.n
	*t.holdings.add() = h
	return true
}

// holding finds what an allocation held, ended or not, to be changed.
func (t *Timeline) holding(allocation events.ID, addr netip.Addr) (*Holding, bool) {
	if i, ok := t.known[allocation]; ok {
		h := t.holdings.at(i)
		return h, h.Address == addr
	}
	if t.base == nil {
		return nil, false
	}
	n, ok := t.base.Find(allocation)
	if !ok {
		return nil, false
	}
	h, ok := t.row(n)
	if !ok || h.Address != addr {
		return nil, false
	}
	t.changed[n] = h
	return h, true
}

func (t *Timeline) attribute(e events.AddressAttributed, at Mark) bool {
	h, ok := t.holding(e.Allocation, e.Address)
	if !ok {
		return false
	}
	h.Told = append(h.Told, Told{e.Attribution, at, e.Since})
	return true
}

// suspect begins a suspicion. As the guards have it, only an endpoint that is held,
// and not suspected yet, can be.
func (t *Timeline) suspect(allocation events.ID, addr netip.Addr, at Mark) bool {
	h, ok := t.holding(allocation, addr)
	if !ok || h.To.Reached() || h.Kind != events.Endpoint || h.Suspected.Reached() {
		return false
	}
	h.Suspected = at
	return true
}

// clear ends a suspicion without a trace here; the log has it.
func (t *Timeline) clear(allocation events.ID, addr netip.Addr) bool {
	h, ok := t.holding(allocation, addr)
	if !ok || h.To.Reached() || !h.Suspected.Reached() {
		return false
	}
	h.Suspected = Mark{}
	return true
}

// reclaim ends a holding that is suspected.
func (t *Timeline) reclaim(allocation events.ID, addr netip.Addr, at Mark) bool {
	h, ok := t.holding(allocation, addr)
	return ok && h.Suspected.Reached() && t.end(allocation, addr, events.Reclaim, at, time.Time{})
}

// end ends a holding. at is its commit, acted the moment it was given back where
// that is known.
func (t *Timeline) end(allocation events.ID, addr netip.Addr, reason events.Reason, at Mark, acted time.Time) bool {
	h, ok := t.holding(allocation, addr)
	if !ok || h.To.Reached() {
		return false
	}
	h.To, h.End = at, reason
	if acted.IsZero() {
		return true
	}
	// The moment Docker released lies between the beginning and the commit; one
	// that does not was read off a clock that is wrong.
	h.To.Time, h.Early = acted, true
	switch {
	case !h.From.Suspect && acted.Before(h.From.Time):
		h.To.Time, h.To.Suspect = h.From.Time, true
	case !at.Suspect && at.Time.Before(t.last.running.Add(-kept)):
		h.To.Suspect = true
	case !at.Suspect && acted.After(at.Time):
		h.To, h.Early = Mark{Revision: at.Revision, Time: at.Time, Suspect: true}, false
	}
	return true
}

func (t *Timeline) puzzle(r events.Record, e events.Unknown) {
	u, ok := t.unread[e.Name]
	if !ok {
		u = &Unread{Type: e.Name, First: r.Revision, Writer: r.Writer}
		t.unread[e.Name] = u
	}
	u.Count++
}

// Revision is that of the last record applied; 0 before the first.
func (t *Timeline) Revision() int64 { return t.last.revision }

// Until is the revision of the last record whose running time is not later than
// a moment: the log as it was then. It is 0 before the log began.
func (t *Timeline) Until(moment time.Time) int64 {
	n := sort.Search(t.passed.n, func(i int) bool { return t.passed.at(i).running.After(moment) })
	if n == 0 {
		if t.base != nil {
			return t.base.Until(moment)
		}
		return 0
	}
	return t.passed.at(n - 1).revision
}

// Commits is how many records there were up to a revision.
func (t *Timeline) Commits(until int64) int {
	n := sort.Search(t.passed.n, func(i int) bool { return t.passed.at(i).revision > until })
	if t.base != nil {
		n += t.base.Commits(until)
	}
	return n
}

// Later is the first running time that is later than a moment; zero if there is
// none yet.
func (t *Timeline) Later(moment time.Time) time.Time {
	if moment.Before(time.Time{}) {
		moment = time.Time{} // which stands for none
	}
	n := sort.Search(t.passed.n, func(i int) bool { return t.passed.at(i).running.After(moment) })
	if n == 0 && t.base != nil {
		if later := t.base.Later(moment); !later.IsZero() {
			return later
		}
	}
	if n == t.passed.n {
		return time.Time{}
	}
	return t.passed.at(n).running
}

// Running is the running time after a revision. It is zero before the log began.
func (t *Timeline) Running(revision int64) time.Time {
	n := sort.Search(t.passed.n, func(i int) bool { return t.passed.at(i).revision > revision })
	if n == 0 {
		if t.base != nil {
			return t.base.Running(revision)
		}
		return time.Time{}
	}
	return t.passed.at(n - 1).running
}

// Contradicted is the earliest time that a later commit's clock, unmarked, said
// against the running time at a revision and those of the same host near it; false
// if none did.
func (t *Timeline) Contradicted(revision int64) (time.Time, bool) {
	n := sort.Search(len(t.leads), func(i int) bool { return t.leads[i].From > revision })
	if n == 0 || t.leads[n-1].Until == 0 || t.Running(t.leads[n-1].Until).Before(t.Running(revision)) {
		return time.Time{}, false
	}
	return t.leads[n-1].Time, true
}

// Pools lists every pool there ever was, in the order they came.
func (t *Timeline) Pools() []*PoolLife { return t.born }

// Pool finds the pool of a stream; nil if there is no record of it.
func (t *Timeline) Pool(s events.Stream) *PoolLife { return t.streams[s] }

// Holdings goes over all holdings in the order they began. They are the
// timeline's own: copy what is to be changed.
func (t *Timeline) Holdings() iter.Seq[*Holding] {
	return func(yield func(*Holding) bool) {
		for n := range t.rows {
			if h, ok := t.row(n); ok && !yield(h) {
				return
			}
		}
		for h := range t.holdings.all() {
			if !yield(h) {
				return
			}
		}
	}
}

// Allocation finds the holding that an allocation began, ended or not.
func (t *Timeline) Allocation(id events.ID) (*Holding, bool) {
	if i, ok := t.known[id]; ok {
		return t.holdings.at(i), true
	}
	if t.base != nil {
		if n, ok := t.base.Find(id); ok {
			return t.row(n)
		}
	}
	return nil, false
}

// Unread lists the event types that were not understood, by name. What they said
// is missing from the timeline.
func (t *Timeline) Unread() []Unread {
	list := make([]Unread, 0, len(t.unread))
	for _, u := range t.unread {
		list = append(list, *u)
	}
	slices.SortFunc(list, func(a, b Unread) int { return strings.Compare(a.Type, b.Type) })
	return list
}

// Misfits names the events that contradict those before them, as revision.index:
// an end of what had not begun, a second beginning. They changed nothing here.
func (t *Timeline) Misfits() []string { return t.misfits }
