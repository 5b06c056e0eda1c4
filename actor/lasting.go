// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/spool"
)

const (
	// spoolAfter is how long a release waits for the log before it goes to the spool,
	// and Docker is told that it is done.
	spoolAfter = time.Second
	// carryPause is the wait before a release that failed is tried again. It doubles up
	// to refusedPause while etcd answers that it takes no write: that stays so until an
	// operator mends it.
	carryPause   = time.Second
	refusedPause = 30 * time.Second
	// refusalsEvery is how often the log says that etcd takes no write, of all pools: they
	// try each in its own time.
	refusalsEvery = 10 * time.Second
	// fencedTries is how often one is tried that another incarnation of this host stands
	// in the way of: it may be this daemon, which has just joined anew.
	fencedTries = 20
)

// Keeper keeps releases on this machine's disk that the log does not take in time.
type Keeper struct {
	Spool *spool.Spool
	// Store and Prefix say whose log it is. Store is zero as long as nobody knows.
	Store  events.ID
	Prefix string
	Clock  *etcdlog.Clock
}

// Keep takes a release in: of an address, or of the whole grant where it is zero.
func (k *Keeper) Keep(ref Ref, addr netip.Addr) error {
	return k.accept(k.release(ref, addr))
}

// accept has the spool keep a release.
func (k *Keeper) accept(r spool.Release) error {
	err := k.Spool.Accept(r)
	if errors.Is(err, unix.ENOSPC) {
		return errors.Wrap(err, "the disk of the release spool is full, free some space there")
	}
	return err
}

func (k *Keeper) release(ref Ref, addr netip.Addr) spool.Release {
	return spool.Release{
		ID: k.Clock.NewID(), At: time.Now().UTC().Truncate(time.Microsecond), Store: k.Store, Prefix: k.Prefix,
		Space: ref.Space, Pool: ref.Pool, Grant: ref.Grant, Host: ref.Host, Name: ref.Name, Subnet: ref.Subnet, Range: ref.Range,
		Address: addr,
	}
}

func refOf(r spool.Release) Ref {
	return Ref{Space: r.Space, Pool: r.Pool, Grant: r.Grant, Host: r.Host, Name: r.Name, Subnet: r.Subnet, Range: r.Range}
}

// told is a release in a line of the daemon's log.
type told spool.Release

// MarshalZerologObject implements [zerolog.LogObjectMarshaler].
func (r told) MarshalZerologObject(e *zerolog.Event) {
	e.Stringer("id", r.ID).Stringer("grant", r.Grant)
	if r.Address.IsValid() {
		e.Stringer("address", r.Address)
	}
}

// lasting is a release on its way into the log, which the spool has from some moment
// on. Safe for concurrent use.
type lasting struct {
	release spool.Release
	came    time.Time // its monotonic clock counts, where there is one
	keeper  *Keeper   // nil: there is no spool

	writing sync.Mutex // held while the spool is written, which takes a disk's time

	mu      sync.Mutex
	asking  bool // the spool is being written, or has it
	kept    bool
	over    bool      // nothing need be kept any more
	known   events.ID // the allocation that it turned out to mean; never another one
	notedAs events.ID // the same, as the spool has it
}

// keep puts the release on the disk, unless it is there or need not be.
func (l *lasting) keep() error {
	if l.keeper == nil {
		return errors.New("there is no release spool")
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	if l.kept || l.over {
		l.mu.Unlock()
		return nil
	}
	l.asking = true
	release := l.release
	release.Allocation = l.known
	l.mu.Unlock()
	err := l.keeper.accept(release)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asking, l.kept, l.notedAs = err == nil, err == nil, release.Allocation
	return err
}

// means notes which allocation is given back. False: the spool must have noted it
// before the log is told, or a later holding might be taken for it (see note).
func (l *lasting) means(allocation events.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known.IsZero() {
		l.known = allocation
	}
	return !l.asking || l.notedAs == l.known
}

// meant is the allocation that is given back; zero as long as nobody knows.
func (l *lasting) meant() events.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known
}

// note writes down what the release means, once the spool has the release.
func (l *lasting) note() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	kept, known := l.kept, l.known
	l.mu.Unlock()
	if !kept {
		return nil // it could not be kept
	}
	err := l.keeper.Spool.Resolve(l.release.ID, known)
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.notedAs = known
	}
	return err
}

// done ends the keeping: the log has the release, or there is nothing left to give
// back.
func (l *lasting) done() error {
	return l.end(func() error { return l.keeper.Spool.Done(l.release.ID) })
}

// setAside ends the keeping of a release that will not be made.
func (l *lasting) setAside(why string) error {
	return l.end(func() error { return l.keeper.Spool.SetAside(l.release.ID, why) })
}

func (l *lasting) end(leave func() error) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	l.over = true
	kept := l.kept
	l.mu.Unlock()
	if !kept {
		return nil
	}
	return leave()
}

// task is the release as a pool decides it.
func (l *lasting) task(ctx context.Context) task {
	r := l.release
	if !r.Address.IsValid() {
		return &closeTask{request: newRequest(ctx), grant: r.Grant}
	}
	return &releaseTask{request: newRequest(ctx), grant: r.Grant, address: r.Address, allocation: l.meant(), reason: events.Released, came: l.came, lasting: l}
}

// persist tries to write to the disk until that succeeds or ctx ends; trouble is told
// of the first failure.
func persist(ctx context.Context, write func() error, trouble func(error)) error {
	for tries := 0; ; tries++ {
		err := write()
		if err == nil || errors.Is(err, spool.ErrClosed) {
			return err
		}
		if tries == 0 {
			trouble(err)
		}
		select {
		case <-time.After(carryPause):
		case <-ctx.Done():
			return err
		}
	}
}

// giveBack makes a release. It is answered when the log has it, or the spool.
func (h *Host) giveBack(ctx context.Context, ref Ref, addr netip.Addr) (Answer, error) {
	came := time.Now()
	l := &lasting{came: came, keeper: h.keeper}
	if h.keeper != nil {
		l.release = h.keeper.release(ref, addr)
	} else {
		l.release = spool.Release{Grant: ref.Grant, Address: addr}
	}
	outcome := make(chan reply, 1)
	if !h.carrying(func(ctx context.Context) {
		answer, err := h.carry(ctx, ref, l, nil)
		outcome <- reply{answer, err}
	}) {
		if h.keep(l) != nil {
			return Answer{}, ErrStopping
		}
		return Answer{Address: addr}, nil
	}
	late := (<-chan time.Time)(nil)
	if h.keeper != nil {
		timer := time.NewTimer(spoolAfter)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case got := <-outcome:
		return got.answer, got.err
	case <-late:
	case <-ctx.Done():
	}
	if h.keep(l) == nil {
		return Answer{Address: addr}, nil
	}
	select {
	case got := <-outcome:
		return got.answer, got.err
	case <-ctx.Done():
		return Answer{}, errors.Mark(errors.Wrap(ctx.Err(), "wait for the pool"), ErrStoreSilent)
	}
}

// keep puts a release that the log does not take in time into the spool.
func (h *Host) keep(l *lasting) error {
	err := l.keep()
	switch {
	case err == nil:
		h.logger.Warn().Object("release", told(l.release)).
			Msg("the store does not answer: the release is in the spool until it does")
	case h.keeper != nil:
		h.logger.Error().Err(err).Object("release", told(l.release)).
			Msg("a release could not be written to the spool: it is lost if the daemon ends before the store answers")
	}
	return err
}

// carry brings a release into the log, however long that takes. It gives up when the
// host ends: what the spool has then, the next daemon carries on. first, if not nil,
// waits for a task that a pool has already.
func (h *Host) carry(ctx context.Context, ref Ref, l *lasting, first func() (Answer, error)) (Answer, error) {
	failed := func(err error, what string) {
		h.logger.Error().Object("release", told(l.release)).Err(err).Msg(what)
	}
	leave := func(how func() error) {
		_ = persist(ctx, how, func(err error) { // what is left then the next daemon finds done
			failed(err, "the release spool cannot be written: see to the disk")
		})
	}
	pause := carryPause
	for fenced := 0; ; {
		answer, err := h.bring(ctx, ref, l, first)
		first = nil
		// What waits for another daemon: of this host, or of a newer version.
		ended := ctx.Err() != nil || errors.IsAny(err, ErrStopping, ErrBroken, etcdlog.ErrOtherStore)
		passes := errors.IsAny(err, ErrStoreSilent, ErrOverloaded, etcdlog.ErrUnknown, etcdlog.ErrRejected, etcdlog.ErrFull)
		switch {
		case err == nil:
			leave(l.done)
			return answer, nil
		case h.keeper == nil:
			return answer, err
		case !ended && errors.Is(err, etcdlog.ErrFenced) && fenced < fencedTries:
			fenced++ // this daemon may be about to join anew
		case !ended && errors.IsAny(err, ErrNoGrant, etcdlog.ErrFenced):
			// Trying it again would change nothing.
			failed(err, "a release was refused, and is not tried again")
			leave(func() error { return l.setAside(err.Error()) })
			h.tellForgotten()
			return answer, err
		case ended || !passes:
			if !ended {
				failed(err, "a release cannot be made now, and waits for the next daemon")
			}
			if kept := l.keep(); kept != nil {
				return answer, err
			}
			return Answer{Address: l.release.Address}, nil
		}
		h.pause(ctx, pause)
		if errors.IsAny(err, etcdlog.ErrFull, etcdlog.ErrRejected) {
			pause = min(2*pause, refusedPause)
		} else {
			pause = carryPause
		}
	}
}

// pause waits until a release is worth another try: for so long, or until etcd, which
// was full, has taken a commit.
func (h *Host) pause(ctx context.Context, long time.Duration) {
	full := h.writer.Full()
	for left := long; left > 0 && ctx.Err() == nil && h.writer.Full() == full; left -= carryPause {
		select {
		case <-time.After(carryPause):
		case <-ctx.Done():
		}
	}
}

func (h *Host) bring(ctx context.Context, ref Ref, l *lasting, first func() (Answer, error)) (Answer, error) {
	again := func() task { return l.task(ctx) }
	if first == nil {
		return h.toHolder(ctx, ref, again)
	}
	answer, err := first()
	if errors.Is(err, ErrStopping) && ctx.Err() == nil {
		return h.toHolder(ctx, ref, again) // the pool has retired meanwhile
	}
	return h.orElsewhere(ctx, ref, again, answer, err)
}

// carrying runs what brings a release into the log. False once the host is ending.
func (h *Host) carrying(f func(context.Context)) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.carried.Go(func() { f(h.carriers) })
	return true
}
