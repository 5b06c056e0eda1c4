// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/projection"
)

const (
	// mailboxSize is how many requests may wait for a pool before more are
	// refused.
	mailboxSize = 1024
	// gathering is how many decided events may wait for a commit before the
	// mailbox is left alone.
	gathering = 2 * etcdlog.MaxEvents
	// maxParked is the same for requests that wait for others.
	maxParked = 4096
	// linger is how long a pool is followed after the last grant of this host in it has
	// ended: Docker's user may only be making the network anew, and to begin again costs a
	// look at the guards, and at the log for what these do not hold.
	linger = 10 * time.Minute
	// drainPatience is how long a stopping pool waits for the store.
	drainPatience = 5 * time.Second
)

// Observer is told of what a pool does with the store. Its methods are called
// from many goroutines.
type Observer interface {
	Committed(events int, took time.Duration)
	Conflicted()
}

// Stats is what a pool looks like from outside, at one moment.
type Stats struct {
	ID       events.ID
	Pool     events.Pool
	Held     int
	Revision int64 // the projection's
	Latest   int64 // the newest commit of this host in the pool
}

// Pool decides for one pool on this host. Its methods are safe for concurrent
// use; all the rest belongs to the goroutine of run.
type Pool struct {
	id       events.ID
	space    events.Space
	writer   *etcdlog.Writer
	log      zerolog.Logger
	refusals zerolog.Sampler // see Host
	observer Observer
	witness  Witness
	gate     *gate
	doom     func(error) // ends the host

	mailbox  chan task
	posts    chan func() // what goroutines of ours found out
	stopping chan struct{}
	stopOnce sync.Once
	done     chan struct{}
	stats    atomic.Pointer[Stats]

	life    context.Context //nolint:containedctx // the span of run, for its goroutines
	workers sync.WaitGroup

	state   *projection.Pool // nil until the guards were read
	broken  error
	retired bool
	granted bool // a grant is there that is this host's to handle
	idleFor lingering
	picker  *picker
	overlay overlay
	asks    map[askKey]netip.Addr // endpoints of this host's grants, by how they ask again
	// repeated are the allocations whose requester was told of them again: no
	// answer that went astray takes them back.
	repeated map[events.ID]bool
	// asked is when each allocation was last given to who asked for it, and asking
	// when something was last asked through each grant, as far as this daemon knows.
	asked, asking map[events.ID]time.Time
	latest        int64
	// laidOutAt is the revision of this host's last commit that changed the layout.
	laidOutAt int64
	memory    *memory // nil without the sticky policy

	ahead      []task // what goes before all that is in the mailbox: see lead
	batch      []*step
	batchLimit int
	inFlight   int
	unsettled  int // commits whose fate is being found out

	parked   int
	reaching []reaching
	nudging  bool
	closing  map[events.ID]*closing
	emptyAt  int64 // the projection's revision when it was found empty last
	syncing  []*allocateTask
	dry      bool // exhausted was said, and nothing was released since
}

// reaching is a task that waits for the projection to reach a revision.
type reaching struct {
	revision int64
	task     task
}

func newPool(space events.Space, id events.ID, w *etcdlog.Writer, observer Observer, doom func(error), log zerolog.Logger) *Pool {
	return &Pool{
		id: id, space: space, writer: w, observer: observer, witness: nobody{}, doom: doom,
		log:     log.With().Stringer("pool", id).Logger(),
		mailbox: make(chan task, mailboxSize), posts: make(chan func(), 64),
		stopping: make(chan struct{}), done: make(chan struct{}),
		overlay: newOverlay(), asks: map[askKey]netip.Addr{}, repeated: map[events.ID]bool{}, asked: map[events.ID]time.Time{}, asking: map[events.ID]time.Time{}, closing: map[events.ID]*closing{},
		batchLimit: etcdlog.MaxEvents,
	}
}

// Stats returns the latest published figures; false before there are any.
func (p *Pool) Stats() (Stats, bool) {
	s := p.stats.Load()
	if s == nil {
		return Stats{}, false
	}
	return *s, true
}

// send puts a task into the mailbox, and waits for its answer.
func (p *Pool) send(t task) (Answer, error) {
	r := t.base()
	select {
	case <-p.stopping:
		return Answer{}, ErrStopping
	default:
	}
	select {
	case p.mailbox <- t:
		return r.wait(p.done)
	default:
	}
	if _, asks := t.(*allocateTask); asks {
		return Answer{}, errors.Wrapf(ErrOverloaded, "%d for pool %s", mailboxSize, p.id)
	}
	// Docker asks again, or its user does; what it releases it releases once.
	select {
	case p.mailbox <- t:
		return r.wait(p.done)
	case <-r.ctx.Done():
		return Answer{}, errors.Wrap(r.ctx.Err(), "wait for a place in the pool's mailbox")
	case <-p.done:
		return Answer{}, ErrStopping
	}
}

// stop makes run drain and return.
func (p *Pool) stop() { p.stopOnce.Do(func() { close(p.stopping) }) }

// run is the actor. It returns when it was stopped, or its pool has retired or is of no
// more use to this host, and everything is answered.
func (p *Pool) run() {
	defer close(p.done)
	life, end := context.WithCancel(context.Background())
	p.life = life
	p.spawn(func() { p.follow(life) })

	p.loop(p.stopping, nil)
	drained, cancel := context.WithTimeout(life, drainPatience)
	p.loop(drained.Done(), p.idle)
	cancel()

	// What is still here will not be answered by the store.
	end()
	ended := make(chan struct{})
	go func() { p.workers.Wait(); close(ended) }()
	for {
		select {
		case f := <-p.posts:
			f()
		case t := <-p.mailbox:
			t.base().answer(Answer{}, ErrStopping)
		case <-ended:
			for len(p.posts) > 0 {
				(<-p.posts)()
			}
			p.refuseAll(ErrStopping)
			return
		}
	}
}

// loop turns until end, or until finished says so.
func (p *Pool) loop(end <-chan struct{}, finished func() bool) {
	for finished == nil || !finished() {
		mailbox := p.mailbox
		if p.full() || len(p.ahead) > 0 {
			mailbox = nil // what waits in the mailbox waits there
		}
		select {
		case t := <-mailbox:
			p.decide(t)
			p.takeMore()
		case f := <-p.posts:
			f()
		case <-end:
			return
		}
		p.takeAhead()
		p.advance()
		p.flush()
		p.publish()
		if (p.retired || p.left()) && p.idle() {
			p.stop()
		}
	}
}

// full says whether there is no room for more to be decided.
func (p *Pool) full() bool {
	return p.state == nil && p.broken == nil || len(p.batch) >= gathering || p.parked >= maxParked
}

// takeAhead decides what goes before the mailbox, as far as there is room.
func (p *Pool) takeAhead() {
	for len(p.ahead) > 0 && !p.full() {
		t := p.ahead[0]
		p.ahead = p.ahead[1:]
		p.decide(t)
	}
}

// takeMore decides what else is in the mailbox already, so that it can share a
// commit.
func (p *Pool) takeMore() {
	for len(p.batch) < p.batchLimit && p.parked < maxParked {
		select {
		case t := <-p.mailbox:
			p.decide(t)
		default:
			return
		}
	}
}

// idle says whether nothing waits for anything.
func (p *Pool) idle() bool {
	for _, c := range p.closing {
		if !c.resting {
			return false
		}
	}
	return len(p.mailbox) == 0 && len(p.ahead) == 0 && len(p.batch) == 0 && p.inFlight == 0 && p.unsettled == 0 &&
		p.parked == 0 && len(p.syncing) == 0
}

// lingering is since when a pool has been of no use to this host.
type lingering struct {
	since time.Time // zero: it is of use
	span  time.Duration
}

// left says whether this host has had nothing to do with the pool for so long that it need
// not be told of what others do there. One that looks empty it stays with, to retire it.
func (p *Pool) left() bool {
	l := &p.idleFor
	switch {
	case !p.unneeded():
		l.since = time.Time{}
	case l.since.IsZero():
		l.since = time.Now()
		p.spawn(func() {
			select {
			case <-time.After(l.span):
				p.post(func() {}) // the loop looks again
			case <-p.life.Done():
			}
		})
	}
	return !l.since.IsZero() && time.Since(l.since) >= l.span && !p.lastOne(events.ID{})
}

// unneeded says whether this host's grants in the pool have ended, and the projection knows
// it. Of two hosts that end theirs at once, the later one in the log so sees that the pool
// is empty.
func (p *Pool) unneeded() bool {
	return p.state != nil && p.broken == nil && !p.granted && p.overlay.empty() && len(p.overlay.grants) == 0 && len(p.closing) == 0
}

// spawn runs a goroutine that ends before the actor does. Once the actor is
// ending it runs none.
func (p *Pool) spawn(f func()) {
	if p.life.Err() == nil {
		p.workers.Go(f)
	}
}

// post hands something to the actor's goroutine.
func (p *Pool) post(f func()) {
	select {
	case p.posts <- f:
	case <-p.done:
	}
}

// decide gives a task its answer, or sees to it that it gets one.
func (p *Pool) decide(t task) {
	if p.broken != nil {
		t.base().answer(Answer{}, errors.Mark(errors.Wrapf(p.broken, "pool %s", p.id), ErrBroken))
		return
	}
	switch t := t.(type) {
	case *allocateTask:
		if !t.gone() {
			p.allocate(t)
		}
	case *releaseTask:
		p.release(t)
	case *closeTask:
		p.close(t)
	case *reachTask:
		p.reach(t.revision, t)
	case *judgeTask:
		p.judge(t)
	case *standTask:
		p.stand(t)
	}
}

// park makes a task wait for a step about the same address or grant.
func (p *Pool) park(s *step, t task) {
	s.parked = append(s.parked, t)
	p.parked++
}

func (p *Pool) unpark(s *step) {
	tasks := s.parked
	s.parked = nil
	p.parked -= len(tasks)
	for _, t := range tasks {
		p.decide(t)
	}
}

// reach makes a task wait for a revision of the projection, and is also where it
// goes on: a reachTask is answered, others are decided anew.
func (p *Pool) reach(revision int64, t task) {
	if p.broken != nil {
		p.decide(t)
		return
	}
	if p.state.Revision() < revision {
		p.reaching = append(p.reaching, reaching{revision, t})
		p.parked++
		p.nudge()
		return
	}
	if _, only := t.(*reachTask); only {
		t.base().answer(Answer{Revision: p.state.Revision()}, nil)
		return
	}
	p.decide(t)
}

// nudge asks the store how far the watch is for as long as a task waits for
// that: on a quiet pool nothing else would tell.
func (p *Pool) nudge() {
	if p.nudging {
		return
	}
	p.nudging = true
	p.spawn(func() {
		for pause := 2 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
			// Its failure is the watch's too, which is followed elsewhere.
			_ = p.writer.Log().CatchUp(p.life, events.PoolStream(p.id))
			select {
			case <-time.After(pause):
			case <-p.life.Done():
				return
			}
			more := make(chan bool, 1)
			p.post(func() {
				p.nudging = len(p.reaching) > 0
				more <- p.nudging
			})
			select {
			case again := <-more:
				if !again {
					return
				}
			case <-p.life.Done():
				return
			}
		}
	})
}

// held is the guard of an address as far as it is known.
func (p *Pool) held(a netip.Addr) events.Guarded[events.Held] {
	if n, ok := p.overlay.held[a]; ok {
		return n.guard
	}
	return p.state.Held(a)
}

// grant is the guard of a grant as far as it is known.
func (p *Pool) grant(id events.ID) events.Guarded[events.Grant] {
	if n, ok := p.overlay.grants[id]; ok {
		return n.guard
	}
	return p.state.Grant(id)
}

// free says whether an address is neither held nor pending.
func (p *Pool) free(a netip.Addr) bool {
	return p.overlay.byAddr[a] == nil && !p.held(a).Present()
}

// refresh makes the picker see an address as it now is.
func (p *Pool) refresh(a netip.Addr) { p.picker.set(a, !p.free(a)) }

// refuseAll answers whatever still waits, but for those whose commit is on its
// way: its outcome answers them.
func (p *Pool) refuseAll(err error) {
	refuse := func(t task) {
		if t != nil {
			t.base().answer(Answer{}, err)
		}
	}
	for _, t := range p.ahead {
		refuse(t)
	}
	p.ahead = nil
	for _, s := range p.batch {
		refuse(s.task)
		p.unqueue(s)
		p.parked -= len(s.parked)
		for _, t := range s.parked {
			refuse(t)
		}
	}
	p.batch = nil
	for _, s := range p.overlay.byAddr {
		for _, t := range s.parked {
			refuse(t)
		}
	}
	for _, s := range p.overlay.byGrant {
		for _, t := range s.parked {
			refuse(t)
		}
	}
	for _, r := range p.reaching {
		refuse(r.task)
	}
	p.parked -= len(p.reaching)
	p.reaching = nil
	for _, t := range p.syncing {
		refuse(t)
	}
	for _, c := range p.closing {
		for _, t := range c.tasks {
			refuse(t)
		}
	}
	clear(p.closing)
	for {
		select {
		case t := <-p.mailbox:
			refuse(t)
		default:
			return
		}
	}
}

// publish makes the figures visible outside.
func (p *Pool) publish() {
	if p.state == nil || p.retired {
		return
	}
	s := Stats{ID: p.id, Pool: p.state.Pool().Value, Held: p.state.Count(), Revision: p.state.Revision(), Latest: p.latest}
	if old := p.stats.Load(); old == nil || old.Held != s.Held || old.Revision != s.Revision || old.Latest != s.Latest {
		p.stats.Store(&s)
	}
}

// survey goes over the grants, when one has come or gone: whether any is this host's, and
// which is the host's rank among the pool's hosts, by their oldest grants. That is the same
// for every host that looks.
func (p *Pool) survey() {
	p.granted = false
	oldest := map[string]events.ID{}
	for id, g := range p.state.Grants() {
		p.granted = p.granted || p.mine(g.Value.Host)
		if first, known := oldest[g.Value.Host]; !known || id.Compare(first) < 0 {
			oldest[g.Value.Host] = id
		}
	}
	hosts := make([]string, 0, len(oldest))
	for name := range oldest {
		hosts = append(hosts, name)
	}
	slices.SortFunc(hosts, func(a, b string) int {
		return cmp.Or(oldest[a].Compare(oldest[b]), cmp.Compare(a, b))
	})
	p.picker.place = max(0, slices.Index(hosts, p.writer.Host()))
}
