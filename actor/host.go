// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// requestPatience is how long a request is waited for, before it is refused: a
// little longer than the store is, so that the refusal can say why.
const requestPatience = storePatience + time.Second

// Options are what a Host needs.
type Options struct {
	Client   *clientv3.Client
	Log      *etcdlog.Log
	Identity Identity
	// Blocks are where the subnets come from of pools whose creator names none;
	// Routes lists what is passed over beside the pools that exist.
	Blocks []Block
	Routes func() ([]netip.Prefix, error)
	// Mirrors says that Swarm uses this daemon: see mirror.go.
	Mirrors  bool
	Observer Observer
	// Witness is told of what this host holds. May be nil.
	Witness Witness
	// Keeper keeps the releases that the log does not take in time. May be nil.
	Keeper *Keeper
	// Looking finds out what the log lacks of what this host's containers use.
	Looking Looking
	Logger  zerolog.Logger
}

// Host is this machine's daemon on the log. Safe for concurrent use.
type Host struct {
	log      *etcdlog.Log
	writer   *etcdlog.Writer
	presence *presence
	blocks   []Block
	routes   func() ([]netip.Prefix, error)
	mirrors  bool
	observer Observer
	witness  Witness
	keeper   *Keeper
	logger   zerolog.Logger
	refusals zerolog.Sampler // of the lines about a store that takes no writes: one a time, for all pools

	background sync.WaitGroup  // what goes on behind an answered request; see inBackground
	life       context.Context //nolint:containedctx // the span of the host, for its goroutines
	end        context.CancelFunc

	carried  sync.WaitGroup  // releases on their way into the log
	carriers context.Context //nolint:containedctx // their span, which ends before that of the pools
	putDown  context.CancelFunc

	gate   *gate
	linger time.Duration // of the pools that begin: see the constant

	doomed chan error // why the host cannot go on; capacity 1

	mu       sync.Mutex
	closed   bool // nothing new goes on in the background
	pools    map[events.ID]*Pool
	stopping bool
	moved    map[events.ID]events.ID // grants that were opened again in another pool than their PoolID says
	actors   sync.WaitGroup
}

// Join makes this process the daemon of its host, and starts a [Pool] for each
// pool it has grants in. It returns etcdlog's ErrOtherMachine, ErrHostAlive,
// ErrUnknown or ErrRejected. The host must then be run.
func Join(ctx context.Context, o Options) (*Host, error) {
	swarm := "" // it is asked whether it is in one
	if !o.Mirrors {
		swarm = etcdlog.SwarmUnasked
	}
	p, err := join(ctx, o.Client, o.Log, o.Identity, swarm, o.Logger)
	if err != nil {
		return nil, err
	}
	h := &Host{
		log: o.Log, writer: p.writer, presence: p, blocks: o.Blocks, routes: o.Routes, mirrors: o.Mirrors, observer: o.Observer, witness: o.Witness, keeper: o.Keeper, logger: o.Logger,
		refusals: &zerolog.BurstSampler{Burst: 1, Period: refusalsEvery},
		pools:    map[events.ID]*Pool{}, moved: map[events.ID]events.ID{}, doomed: make(chan error, 1), gate: newGate(o.Looking), linger: linger,
	}
	if h.witness == nil {
		h.witness = nobody{}
	}
	if o.Looking.Soon == nil && o.Looking.Left.All {
		o.Logger.Warn().Msg("the store was restored or adopted, and nobody looks what this host's containers use: what is given out may be in use, unless --engine and --reconcile fix say otherwise")
	}
	h.life, h.end = context.WithCancel(context.WithoutCancel(ctx))
	h.carriers, h.putDown = context.WithCancel(h.life)
	if err := h.startPools(ctx); err != nil {
		h.shutdown()
		p.revoke(ctx)
		return nil, err
	}
	return h, nil
}

// startPools starts the pools that this host has a grant in, or the swarm that asks it. One
// in which nobody has any, and that no operator keeps, is retired if it is empty: whoever was
// to do that died over it.
func (h *Host) startPools(ctx context.Context) error {
	pools, _, err := h.log.Pools(ctx)
	if err != nil {
		return err
	}
	hosts, err := h.log.GrantHosts(ctx)
	if err != nil {
		return err
	}
	for _, entry := range pools {
		if hosts[entry.ID][h.writer.Host()] || h.mirrors && hosts[entry.ID][""] {
			h.pool(entry.Value.Space, entry.ID)
		} else if len(hosts[entry.ID]) == 0 && !entry.Value.Kept {
			h.retireEmpty(ctx, entry)
		}
	}
	return nil
}

// Run keeps the host alive until ctx ends; then it lets every pool answer what
// it has accepted, and returns. It returns an error when the host's name is
// another's, or another store is behind the address.
func (h *Host) Run(ctx context.Context) error {
	var beside sync.WaitGroup
	defer beside.Wait()
	present, leave := context.WithCancel(ctx)
	defer leave()
	beside.Go(func() { h.raiseFormat(present) })
	ended := make(chan error, 1)
	go func() { ended <- h.presence.run(present) }()
	var err error
	select {
	case err = <-ended:
	case err = <-h.doomed:
		leave()
		err = errors.CombineErrors(err, <-ended)
	}
	h.shutdown()
	if err != nil {
		h.presence.revoke(context.WithoutCancel(ctx)) // another is in its place, or it is another store
		return err
	}
	h.presence.leave(context.WithoutCancel(ctx))
	return nil
}

// Drain makes every pool finish what it has accepted and refuse the rest. The
// host stays present until its Run ends.
func (h *Host) Drain() {
	h.mu.Lock()
	h.stopping = true
	for _, p := range h.pools {
		p.stop()
	}
	h.mu.Unlock()
	h.actors.Wait()
}

// shutdown first lets end what goes on in the background, which needs the pools.
func (h *Host) shutdown() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	settled := make(chan struct{})
	go func() {
		h.background.Wait()
		close(settled)
	}()
	select {
	case <-settled:
	case <-time.After(drainPatience):
	}
	if h.keeper != nil {
		h.putDown() // the spool has them, and the next daemon
	}
	h.Drain()
	h.carried.Wait()
	h.end()
	<-settled
}

// inBackground runs what nobody waits for, and what the host waits for at its
// end. False once it is ending.
func (h *Host) inBackground(f func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.background.Go(f)
	}
	return !h.closed
}

// doom ends the host's run.
func (h *Host) doom(err error) {
	select {
	case h.doomed <- err:
	default: // it is ending already
	}
}

// Alive says whether requests are answered: the presence stands.
func (h *Host) Alive() bool { return h.presence.alive() }

// present refuses requests while the lease does not stand. Releases need none:
// Docker does not say them twice, and they take from nobody else.
func (h *Host) present() error {
	if !h.Alive() {
		return errors.Wrap(ErrStoreSilent, "the lease of this daemon has ended")
	}
	return nil
}

// Writer returns the log in this host's hands.
func (h *Host) Writer() *etcdlog.Writer { return h.writer }

// Reachable asks the store for an answer that is not stale, and returns why it
// gave none.
func (h *Host) Reachable(ctx context.Context) error {
	_, err := h.log.Revision(ctx)
	return err
}

// CatchUp returns the store's revision now, after it has given the pools a moment
// to reach it: what their figures then lack is how far their watches lag.
func (h *Host) CatchUp(ctx context.Context) (int64, error) {
	revision, err := h.log.Revision(ctx)
	if err != nil {
		return 0, err
	}
	for pause := time.Millisecond; pause < 200*time.Millisecond; pause *= 2 {
		if !slices.ContainsFunc(h.Stats(), func(s Stats) bool { return s.Revision < revision }) {
			break
		}
		if err := h.log.CatchUp(ctx, ""); err != nil {
			return revision, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return revision, nil
		}
	}
	return revision, nil
}

// Stats returns the figures of every running pool.
func (h *Host) Stats() []Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []Stats
	for _, p := range h.pools {
		if s, ok := p.Stats(); ok {
			all = append(all, s)
		}
	}
	return all
}

// pool returns the actor of a pool, started if it was not. Nil once the host is
// stopping.
func (h *Host) pool(space events.Space, id events.ID) *Pool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.pools[id]; p != nil {
		return p
	}
	if h.stopping {
		return nil
	}
	p := newPool(space, id, h.writer, h.observer, h.doom, h.logger)
	p.witness, p.refusals, p.gate, p.idleFor.span = h.witness, h.refusals, h.gate, h.linger
	h.pools[id] = p
	h.actors.Go(func() {
		p.run()
		h.mu.Lock()
		delete(h.pools, id)
		h.mu.Unlock()
		if p.granted && !p.retired {
			h.pool(space, id) // a grant was opened while it was leaving, if it is not the host that stops
		}
	})
	return p
}

// within bounds a request's wait for the store.
func (h *Host) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, requestPatience)
}

// toPool sends a task to the pool of a reference. It is made anew when the pool
// retired, and its actor ended, before it came to be decided.
func (h *Host) toPool(ref Ref, t func() task) (Answer, error) {
	for {
		p := h.pool(ref.Space, h.poolOf(ref))
		if p == nil {
			return Answer{}, ErrStopping
		}
		asked := t()
		answer, err := p.send(asked)
		switch {
		case errors.Is(err, ErrStopping):
			select {
			case <-p.done:
				continue
			case <-asked.base().ctx.Done():
				return Answer{}, errors.Mark(errors.Wrap(asked.base().ctx.Err(), "wait for the pool to begin anew"), ErrStoreSilent)
			}
		case errors.Is(err, context.DeadlineExceeded):
			err = errors.Mark(err, ErrStoreSilent)
		}
		return answer, err
	}
}

// toHolder sends a release to the pool that its grant is in. A grant that was
// opened again elsewhere, before this daemon started, is looked for when the
// pool of its PoolID does not know it.
func (h *Host) toHolder(ctx context.Context, ref Ref, t func() task) (Answer, error) {
	answer, err := h.toPool(ref, t)
	return h.orElsewhere(ctx, ref, t, answer, err)
}

// orElsewhere is what toHolder does after the pool of the PoolID was asked.
func (h *Host) orElsewhere(ctx context.Context, ref Ref, t func() task, answer Answer, err error) (Answer, error) {
	if err != nil || answer.Revision != 0 {
		return answer, err
	}
	pools, _, err := h.log.Pools(ctx)
	if err != nil {
		return Answer{}, storeSilentIf(err)
	}
	moved, err := h.elsewhere(ctx, pools, ref)
	if err != nil || !moved {
		return answer, storeSilentIf(err)
	}
	return h.toPool(ref, t)
}

// elsewhere finds out whether a grant was opened again in another pool than its PoolID
// says, and notes in which.
func (h *Host) elsewhere(ctx context.Context, pools []etcdlog.PoolEntry, ref Ref) (bool, error) {
	entry, err := h.home(pools, ref)
	if err != nil || entry == nil || entry.ID == ref.Pool {
		return false, nil //nolint:nilerr // a pool that contradicts cannot be meant: the release is harmless
	}
	grant, _, err := h.log.Grant(ctx, entry.ID, ref.Grant)
	if err != nil || !grant.Present() {
		return false, err
	}
	h.movedTo(ref.Grant, entry.ID)
	return true, nil
}

// poolOf is the pool that a grant is in, as far as this daemon knows.
func (h *Host) poolOf(ref Ref) events.ID {
	h.mu.Lock()
	defer h.mu.Unlock()
	if id, moved := h.moved[ref.Grant]; moved {
		return id
	}
	return ref.Pool
}

// movedTo notes that a grant was opened again in another pool than its PoolID
// says.
func (h *Host) movedTo(grant, pool events.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.moved[grant] = pool
}

// RequestAddress gives out an address through a grant. A grant of this host that
// is not open any more is opened again first: Docker asks only for networks that
// it has. For as long as what is free in the log may be in use it returns [ErrUnlooked]:
// see [Looking]. Its errors are the sentinels of this package, wrapped.
func (h *Host) RequestAddress(ctx context.Context, ref Ref, ask AddressRequest) (Answer, error) {
	ctx, cancel := h.within(ctx)
	defer cancel()
	if err := h.answering(ctx, ref.Space); err != nil {
		return Answer{}, err
	}
	allocate := func() task { return &allocateTask{request: newRequest(ctx), ref: ref, ask: ask} }
	answer, err := h.toPool(ref, allocate)
	if !errors.Is(err, ErrNoGrant) || ref.Host != h.writer.Host() && ref.Host != "" {
		return answer, err
	}
	if err := h.gate.open(ref.Grant, func() error { return h.reopen(ctx, ref) }); err != nil {
		return Answer{}, err
	}
	return h.toPool(ref, allocate)
}

// ReleaseAddress ends what is held of an address through a grant. Nothing held
// is no error. While the store is silent it succeeds as soon as the spool has it.
func (h *Host) ReleaseAddress(ctx context.Context, ref Ref, addr netip.Addr) (Answer, error) {
	ctx, cancel := h.within(ctx)
	defer cancel()
	return h.giveBack(ctx, ref, addr)
}

// Undo takes back an answer that did not reach Docker. It waits for nothing.
func (h *Host) Undo(ref Ref, a Answer) {
	failed := func(err error) {
		h.logger.Error().Err(err).Stringer("address", a.Address).Stringer("allocation", a.Allocation).
			Msg("an address whose answer did not reach Docker could not be taken back")
	}
	begun := h.inBackground(func() {
		ctx, cancel := h.within(h.life)
		defer cancel()
		_, err := h.toPool(ref, func() task {
			return &releaseTask{
				request: newRequest(ctx), grant: ref.Grant, address: a.Address,
				allocation: a.Allocation, reason: events.Compensated,
			}
		})
		if err != nil {
			failed(err)
		}
	})
	if !begun {
		failed(ErrStopping)
	}
}

// ReleasePool ends a grant, and all that is held through it. A grant that is not
// there is no error. While the store is silent it succeeds as soon as the spool has it.
func (h *Host) ReleasePool(ctx context.Context, ref Ref) (Answer, error) {
	ctx, cancel := h.within(ctx)
	defer cancel()
	return h.giveBack(ctx, ref, netip.Addr{})
}

// UndoPool takes back a grant whose answer did not reach Docker. It waits for
// nothing.
func (h *Host) UndoPool(ref Ref) {
	if !h.inBackground(func() { h.takeBack(ref) }) {
		h.logger.Error().Stringer("grant", ref.Grant).Msg("a grant whose answer did not reach Docker stays open: the daemon is stopping")
	}
}

func (h *Host) takeBack(ref Ref) {
	if _, err := h.ReleasePool(h.life, ref); err != nil {
		h.logger.Error().Err(err).Stringer("grant", ref.Grant).Msg("a grant whose answer did not reach Docker could not be closed")
	}
}
