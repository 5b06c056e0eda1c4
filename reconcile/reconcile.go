// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/attribution"
	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// retry is the wait after a look that did not come about.
const retry = 2 * time.Second

// anybodys is for what takes away: the engine may know us by another name than the one
// we go by, as through a .spec file.
const anybodys = attribution.Driver("")

// Mode is what is done about what differs.
type Mode string

// The modes.
const (
	Off    Mode = "off"    // nobody looks
	Report Mode = "report" // it is told in the daemon's log, and nothing is changed
	Fix    Mode = "fix"    // it is healed
)

// Host is this host's daemon on the log; [actor.Host] is one.
type Host interface {
	Alive() bool
	Writer() *etcdlog.Writer
	Standing(ctx context.Context) ([]actor.Standing, error)
	Judge(ctx context.Context, x actor.Holding, v actor.Verdict, look time.Time) (bool, error)
	CloseUnused(ctx context.Context, ref actor.Ref, since time.Time) (bool, error)
	TakenAway(ctx context.Context) ([]actor.Taken, error)
	Reopen(ctx context.Context, ref actor.Ref) error
	Unlooked() actor.Unlooked
	Looked(began time.Time, absent []events.ID)
	LookFailed(why error)
	AllocateAgain(ctx context.Context, ref actor.Ref, ask actor.AddressRequest) (actor.Answer, error)
}

// Options are what a [Reconciler] needs.
type Options struct {
	Engine engine.Surveyed
	Driver attribution.Driver
	Mode   Mode
	// Every is the time between two looks, and Grace how far two must be apart that
	// agree before something is done.
	Every, Grace time.Duration
	Logger       zerolog.Logger
}

// Reconciler looks at the engine and heals what differs. Run it once.
type Reconciler struct {
	Options
	host Host

	suspected map[events.ID]time.Time // by allocation: when a look first found it suspected
	unused    map[events.ID]time.Time // by grant: when a look first found no network of it
	strange   map[use]time.Time       // what was used and not held, since which look
	reported  map[any]bool            // what the last look had to tell in the daemon's log
	taken     question                // which grants a take-over has closed

	looked       chan struct{} // closed by the first look
	soon         chan struct{} // capacity 1: look at once
	looks        atomic.Uint64
	counted      map[string]*atomic.Uint64 // by what became of it
	suspectedNow atomic.Int64
}

// use is an address in use on a network of the engine.
type use struct {
	address  netip.Addr
	network  string // its ID
	endpoint string // its ID
}

// New returns a reconciler.
func New(o Options) *Reconciler {
	r := &Reconciler{
		Options: o, suspected: map[events.ID]time.Time{}, unused: map[events.ID]time.Time{}, strange: map[use]time.Time{},
		reported: map[any]bool{}, counted: map[string]*atomic.Uint64{}, looked: make(chan struct{}), soon: make(chan struct{}, 1),
	}
	for _, what := range []string{"suspected", "cleared", "reclaimed", "allocated", "conflicted", "closed", "reopened"} {
		r.counted[what] = &atomic.Uint64{}
	}
	return r
}

// Soon has the next look begin at once, or as soon as the one that is under way has
// ended. It does not wait, and may be called from any goroutine, before Run too.
func (r *Reconciler) Soon() {
	select {
	case r.soon <- struct{}{}:
	default:
	}
}

// Looked is closed once the engine was compared with the log.
func (r *Reconciler) Looked() <-chan struct{} { return r.looked }

// Run looks until ctx ends.
func (r *Reconciler) Run(ctx context.Context, host Host) {
	r.host = host
	looked := sync.OnceFunc(func() { close(r.looked) })
	for {
		pause := r.Every
		if err := r.look(ctx); err == nil {
			looked()
		} else if ctx.Err() == nil {
			r.Logger.Debug().Err(err).Msg("the engine was not compared with the log")
			if r.Mode == Fix {
				host.LookFailed(err)
			}
			pause = min(retry, r.Every)
		}
		select {
		case <-time.After(pause):
		case <-r.soon:
		case <-ctx.Done():
			return
		}
	}
}

// look compares once. It returns why it could not.
func (r *Reconciler) look(ctx context.Context) error {
	if !r.host.Alive() {
		return errors.New("the lease of this daemon does not stand")
	}
	began, unlooked := time.Now(), r.host.Unlooked()
	standing, err := actor.Ask(ctx, r.host.Standing)
	if err != nil {
		return err
	}
	// Those that may be ours, whatever the engine calls us.
	seen, err := engine.Survey(ctx, r.Engine, anybodys.Ours)
	if err != nil {
		return err
	}
	r.looks.Add(1)
	v := &view{Reconciler: r, Mode: r.Mode, began: began, unlooked: unlooked, seen: seen, held: map[netip.Addr][]actor.Holding{}, mentioned: map[any]bool{}, asked: map[events.ID]time.Time{}}
	for _, s := range standing {
		v.grants, v.left = append(v.grants, s.Grants...), append(v.left, s.Left...)
		maps.Copy(v.asked, s.Asked)
		for _, h := range s.Holdings {
			v.held[h.Address] = append(v.held[h.Address], h)
			v.holdings = append(v.holdings, h)
		}
	}
	v.lookAtFormat()
	v.recognise()
	v.judgeNetworks(ctx)
	v.judgeHoldings(ctx)
	v.judgeUses(ctx)
	v.judgeOwn(ctx)
	v.judgeGrants(ctx)
	switch {
	case r.Mode != Fix: // nobody waits for it
	case v.failed != nil:
		r.host.LookFailed(v.failed)
	default:
		r.host.Looked(began, v.absent())
	}
	r.reported = v.mentioned
	return nil
}
