// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

const (
	// breath is the least time between two rounds of looks, however many
	// containers start. An engine that takes its time is left in peace for longer, but
	// not for as long as a container may live.
	breath, longBreath = 50 * time.Millisecond, 500 * time.Millisecond
	// detailPatience is how long a holding whose container was found waits for what
	// the container is.
	detailPatience = 2 * time.Second
	// sweepEvery is how often all containers that hold an address are listed, for
	// names that changed unseen.
	sweepEvery = 30 * time.Second
	// retryPause is the wait after an engine that did not answer. It is short: a network
	// that was made before the first list of them may be older than all that is held,
	// and its first containers are not soon known then.
	retryPause = 100 * time.Millisecond
	// recallPause is the same for the log.
	recallPause = 5 * time.Second
	// eventMemory is how far back the engine is asked for events at the start.
	eventMemory = 10 * time.Minute
	// maxInspecting is how many containers are inspected at once.
	maxInspecting = 4
)

// Engine is what is asked; [engine.Engine] is one.
type Engine interface {
	Networks(ctx context.Context) ([]engine.Network, error)
	Network(ctx context.Context, id string) (engine.Network, error)
	Containers(ctx context.Context, ids []string) ([]engine.Container, error)
	Container(ctx context.Context, id string) (engine.Container, error)
	Events(ctx context.Context, since time.Time, connected func(), each func(engine.Event)) error
}

// Options are what an [Attributor] needs.
type Options struct {
	Engine Engine
	Driver Driver
	// Labels are the patterns (see path.Match) of the labels that are told.
	Labels []string
	Logger zerolog.Logger
}

// Host is this host's daemon on the log; [actor.Host] is one.
type Host interface {
	Writer() *etcdlog.Writer
	// Alive says whether nobody else can speak for the host.
	Alive() bool
}

// Attributor asks the engine whose the ledger's holdings are, and tells the log.
// It must be run once; its other methods may be called from any goroutine.
type Attributor struct {
	*Ledger
	engine     Engine
	labels     []string
	log        zerolog.Logger
	containers *containers
	wake       chan struct{} // capacity 1
	everything atomic.Bool   // look at all networks, whatever is due

	appended   atomic.Uint64
	recalling  atomic.Bool
	inspecting chan struct{} // as many as are inspected at once
	begun      sync.Map      // containers whose inspection was begun
	looked     chan struct{} // closed by the first look
	workers    sync.WaitGroup
}

// New returns an attributor. Its ledger may be told of holdings from now on.
func New(o Options) *Attributor {
	a := &Attributor{
		Ledger: NewLedger(o.Driver), engine: o.Engine, labels: o.Labels, log: o.Logger,
		containers: newContainers(), wake: make(chan struct{}, 1), inspecting: make(chan struct{}, maxInspecting), looked: make(chan struct{}),
	}
	a.kick = a.wakeUp
	return a
}

// Looked is closed once the engine was looked at.
func (a *Attributor) Looked() <-chan struct{} { return a.looked }

func (a *Attributor) wakeUp() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Run attributes until ctx ends. It returns when all its goroutines have.
func (a *Attributor) Run(ctx context.Context, host Host) {
	t := newTeller(host.Writer(), func(n int) { a.appended.Add(uint64(n)) }, a.log)
	defer a.workers.Wait()
	a.workers.Go(func() { t.run(ctx) })
	a.workers.Go(func() { a.follow(ctx) })
	looked := sync.OnceFunc(func() { close(a.looked) })
	var away, sweep time.Time // since when the engine does not answer; the next sweep
	for {
		begun := time.Now()
		err := a.round(ctx, host, begun.After(sweep))
		took := time.Since(begun)
		pause := min(max(breath, 5*took), longBreath)
		switch {
		case ctx.Err() != nil:
			a.put(t, time.Now())
			return
		case err == nil:
			looked()
			a.recall(ctx, host.Writer().Log())
			if begun.After(sweep) {
				sweep = begun.Add(sweepEvery)
			}
			if !away.IsZero() {
				a.log.Info().Dur("after", time.Since(away)).Msg("the engine answers")
			}
			away = time.Time{}
		default:
			if away.IsZero() {
				away = begun
				a.log.Warn().Err(err).Msg("Docker's engine does not say whose the addresses are: that is made up for once it does")
			}
			a.everything.Store(true)
			a.wakeUp()
			pause = retryPause
		}
		a.put(t, time.Now())
		if !a.rest(ctx, pause, sweep) {
			return
		}
	}
}

// rest waits: for pause at least, and until something is due or wakes us. False:
// ctx has ended.
func (a *Attributor) rest(ctx context.Context, pause time.Duration, sweep time.Time) bool {
	least := time.NewTimer(pause)
	defer least.Stop()
	select {
	case <-least.C:
	case <-ctx.Done():
		return false
	}
	if a.containers.doubtful() {
		sweep = earlier(sweep, time.Now().Add(doubtTime))
	}
	due := time.NewTimer(time.Until(a.nextDue(sweep)))
	defer due.Stop()
	select {
	case <-a.wake:
	case <-due.C:
	case <-ctx.Done():
		return false
	}
	return true
}

// follow listens to the engine's events. Whenever it has connected anew, all is
// looked at again: what happened meanwhile the engine may have forgotten.
func (a *Attributor) follow(ctx context.Context) {
	// Engines remember some events: a renaming while no daemon ran is among them.
	last := time.Now().Add(-eventMemory)
	for ctx.Err() == nil {
		err := a.engine.Events(ctx, last, func() {
			a.everything.Store(true)
			a.wakeUp()
		}, func(e engine.Event) {
			if e.Time.Equal(last) {
				return // the one that was told last, told again after it connected anew
			}
			last = e.Time
			if a.containers.happened(e, time.Now()) {
				a.wakeUp()
			}
			if e.Type == "network" && (e.Action == "connect" || e.Action == "create") {
				a.hurry()
				a.wakeUp()
			}
		})
		if ctx.Err() == nil {
			a.log.Debug().Err(err).Msg("the engine's events ended, listening again")
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
		}
	}
}

// round looks at the networks on which something is to be found, and asks what the
// containers are.
func (a *Attributor) round(ctx context.Context, host Host, sweep bool) error {
	all := a.everything.Swap(false) || sweep
	if all || a.anyDue(time.Now()) {
		if err := a.lookAround(ctx, host, all); err != nil {
			return err
		}
	}
	return a.describe(ctx, sweep)
}

// lookAround lists the networks, and inspects those that are wanted.
func (a *Attributor) lookAround(ctx context.Context, host Host, all bool) error {
	k := a.begin()
	defer a.finish(k)
	networks, err := actor.Ask(ctx, a.engine.Networks)
	if err != nil {
		return err
	}
	wanted := a.wanted(networks, all, time.Now())
	for _, id := range wanted {
		if err := a.lookAt(ctx, host, id); err != nil {
			return err
		}
	}
	if host.Alive() {
		a.listed(k, networks)
	}
	return nil
}

func (a *Attributor) lookAt(ctx context.Context, host Host, id string) error {
	k := a.begin()
	defer a.finish(k)
	n, err := actor.Ask(ctx, func(ctx context.Context) (engine.Network, error) { return a.engine.Network(ctx, id) })
	if errors.Is(err, engine.ErrNoNetwork) {
		return nil
	}
	if err != nil || !host.Alive() {
		return err
	}
	for _, h := range a.saw(k, n) {
		a.log.Warn().Stringer("address", h.Address).Stringer("allocation", h.Allocation.ID).
			Msg("the engine shows this address on another container than the one it was held for, or on several: a release was lost or forced, and nothing more is told of it")
	}
	return nil
}

// maxIDs is how many containers are asked for by their IDs at once.
const maxIDs = 100

// describe asks what the containers are that were found and of which that is not
// known; at a sweep, what all are called now.
func (a *Attributor) describe(ctx context.Context, sweep bool) error {
	found, waiting := a.found()
	a.containers.forget(found, time.Now())
	a.begun.Range(func(id, _ any) bool {
		if !found[id.(string)] {
			a.begun.Delete(id)
		}
		return true
	})
	var ids []string
	for id := range found {
		c, _ := a.containers.snapshot(id)
		if sweep || c.doubt != "" || !c.asked || waiting[id] && c.imageID == "" {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for chunk := range slices.Chunk(ids, maxIDs) {
		list, err := actor.Ask(ctx, func(ctx context.Context) ([]engine.Container, error) { return a.engine.Containers(ctx, chunk) })
		if err != nil {
			return err
		}
		a.containers.asked(chunk)
		for _, c := range list {
			a.containers.listed(c, time.Now())
			if x, _ := a.containers.snapshot(c.ID); !x.named && waiting[c.ID] {
				a.inspect(ctx, c.ID)
			}
		}
	}
	return nil
}

// inspect asks beside everything else how a container's image was named: that waits
// for the container's start.
func (a *Attributor) inspect(ctx context.Context, id string) {
	if _, twice := a.begun.LoadOrStore(id, true); twice {
		return
	}
	select {
	case a.inspecting <- struct{}{}:
	default:
		a.begun.Delete(id) // in the next round
		return
	}
	a.workers.Go(func() {
		defer func() { <-a.inspecting }()
		ctx, cancel := context.WithTimeout(ctx, detailPatience)
		defer cancel()
		c, err := a.engine.Container(ctx, id)
		if err != nil {
			a.log.Debug().Err(err).Msg("the name of a container's image is not known")
			return
		}
		a.containers.inspected(c, time.Now())
		a.wakeUp()
	})
}

// put has appended what is known of holdings and was not told yet.
func (a *Attributor) put(t *teller, now time.Time) {
	current := func(id string, version uint64) bool { return a.containers.version(id) == version }
	for _, h := range a.untold(current) {
		version := a.containers.version(h.owner.container)
		var told *events.AddressAttributed
		for _, e := range a.words(h, now) {
			t.tell(telling{h.ID, e})
			told = &e
		}
		a.tell(h.Allocation.ID, told, version)
	}
}

// words puts into words what is to be told of a holding now; nothing if all is
// told, or it is better to wait.
func (a *Attributor) words(h holding, now time.Time) []events.AddressAttributed {
	e := events.AddressAttributed{Allocation: h.Allocation.ID, Address: h.Address, Attribution: events.Attribution{
		ContainerID: h.owner.container, ContainerName: h.owner.name, NetworkID: h.owner.network.ID,
		NetworkName: h.owner.network.Name, EndpointID: h.owner.endpoint,
	}}
	if h.owner.container == "" {
		e.ContainerName = ""
		if h.told != nil {
			return nil
		}
		return []events.AddressAttributed{e}
	}
	c, _ := a.containers.snapshot(h.owner.container)
	complete := c.described && c.imageID != "" && c.named
	if !complete && h.told == nil && now.Sub(h.owner.found) < detailPatience {
		return nil
	}
	if c.described {
		var left int
		e.Image, e.ImageID = c.image, c.imageID
		if e.Labels, left = allowed(c.labels, a.labels); left > 0 {
			a.log.Debug().Str("container", h.owner.container).Int("labels", left).Msg("labels are left out: they are too many or too long")
		}
	}
	began := h.heard
	if h.began == 0 {
		began = h.Allocation.ID.Time()
	}
	return renamings(h, e, c.namesSince(began))
}

// renamings are the attributions by which a holding's container has had its names,
// as far as they are not told yet; e is all but the name.
func renamings(h holding, e events.AddressAttributed, names []naming) []events.AddressAttributed {
	first := 0
	if h.told != nil && h.told.ContainerID == e.ContainerID {
		e.Attribution = richer(e.Attribution, *h.told)
		first = len(names)
		for i, n := range names { // a name may come again: what was told is the first, or the one of that time
			if n.name == h.told.ContainerName && (first == len(names) || n.since.Equal(h.named)) {
				first = i + 1
			}
		}
		if first == len(names) && len(names) > 0 && names[len(names)-1].name != h.told.ContainerName {
			first = len(names) - 1 // told under a name that is forgotten
		}
	} else if len(names) == 0 {
		return []events.AddressAttributed{e}
	}
	var all []events.AddressAttributed
	for i, n := range names[first:] {
		if h.ended != 0 && i+first > 0 && (n.since.IsZero() || n.since.After(h.over)) {
			break // it may have got that name after
		}
		x := e
		if x.ContainerName = n.name; i+first > 0 {
			x.Since = n.since
		}
		all = append(all, x)
	}
	if len(all) == 0 && h.told != nil && poorer(*h.told, e.Attribution) {
		e.ContainerName = h.told.ContainerName
		all = append(all, e)
	}
	return all
}

// richer fills what is not known from what was told before.
func richer(a, before events.Attribution) events.Attribution {
	if a.Image == "" {
		a.Image = before.Image
	}
	if a.ImageID == "" {
		a.ImageID = before.ImageID
	}
	if len(a.Labels) == 0 {
		a.Labels = before.Labels
	}
	if a.EndpointID == "" {
		a.EndpointID = before.EndpointID
	}
	return a
}

// poorer says whether what was told lacks something.
func poorer(told, now events.Attribution) bool {
	return told.ContainerID != now.ContainerID || told.Image == "" && now.Image != "" || told.ImageID == "" && now.ImageID != ""
}

// recall reads, beside everything else, what the log knows of holdings that this
// daemon has not looked for from their beginning.
func (a *Attributor) recall(ctx context.Context, log *etcdlog.Log) {
	pools := a.unrecalled()
	if len(pools) == 0 || !a.recalling.CompareAndSwap(false, true) {
		return
	}
	a.workers.Go(func() {
		defer a.wakeUp()
		defer a.recalling.Store(false)
		for _, pool := range pools {
			r, err := recollect(ctx, log, pool)
			if err == nil {
				a.recalled(pool, r)
				continue
			}
			a.log.Debug().Err(err).Stringer("pool", pool).Msg("the log does not say yet what was attributed before")
			select { // it is tried again
			case <-time.After(recallPause):
			case <-ctx.Done():
				return
			}
		}
	})
}
