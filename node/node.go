// SPDX-License-Identifier: Apache-2.0

// Package node is this machine's side of the daemon: its store, reached or run,
// recognised and remembered, and its host, joined to the log.
//
// A [Node] is made by [Start], which fails at once for what waiting would not
// mend. [Node.Join] then waits for a store that does not answer yet, so that the
// plugin socket can be served, and refuse, meanwhile. The other methods are safe
// for concurrent use with it.
package node

import (
	"context"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/archive"
	"github.com/ipamlog/ipamlog/config"
	"github.com/ipamlog/ipamlog/embedded"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/replay/index"
	"github.com/ipamlog/ipamlog/spool"
	"github.com/ipamlog/ipamlog/store"
)

const (
	// askPatience bounds one try to reach the store.
	askPatience = 5 * time.Second
	// readyPatience bounds the question whether the store answers.
	readyPatience = time.Second
	// joinPause is the wait between two tries.
	joinPause = time.Second
)

// ErrStarting is returned by [Node.Ready] until the host has joined.
var ErrStarting = errors.New("the store does not answer yet: see the daemon's log")

// Node is this machine's side of the daemon.
type Node struct {
	cfg      config.Config
	identity actor.Identity
	blocks   []actor.Block
	log      zerolog.Logger
	witness  actor.Witness // may be nil
	spool    *spool.Spool

	etcd   *embedded.Server // nil with a cluster
	last   atomic.Pointer[func(reason string)]
	joined atomic.Pointer[membership]
	sizes  atomic.Pointer[sizes] // as last seen; see WatchSize

	look   func() // see LookWith; may be nil
	noting sync.Mutex
	noted  etcdlog.Memory // what is on disk
}

// membership is what there is once the host has joined.
type membership struct {
	store  etcdlog.Store
	host   *actor.Host
	client *clientv3.Client
	index  *index.Index
}

// Start prepares the data directory, and starts the embedded etcd where no
// cluster is named. Its errors are sentences for the user.
func Start(ctx context.Context, cfg config.Config, version string, log zerolog.Logger) (*Node, error) {
	if cfg.Host == "" {
		return nil, errors.New("this machine has no host name: give it one with --host")
	}
	n := &Node{cfg: cfg, log: log}
	var err error
	if n.identity, err = actor.ReadIdentity(cfg.Host, version); err != nil {
		return nil, err
	}
	for _, text := range cfg.DefaultAddressPools {
		base, bits, err := config.ParseAddressPool(text)
		if err != nil {
			return nil, err
		}
		n.blocks = append(n.blocks, actor.Block{Base: base, Bits: bits})
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, errors.Wrap(err, "make the data directory: choose another --data-dir, or run as root")
	}
	tellExposed(cfg.Global, log)
	if len(cfg.ClusterStore) == 0 {
		if n.etcd, err = embedded.Start(ctx, embedded.Options{Dir: cfg.DataDir, Log: log, LastWords: n.lastWords}); err != nil {
			return nil, err
		}
	}
	if n.spool, err = openSpool(cfg.DataDir, log); err != nil {
		if n.etcd != nil {
			n.etcd.Close()
		}
		return nil, err
	}
	return n, nil
}

// OnFatal sets what is done right before the process ends because the embedded
// etcd cannot go on: it is called from any goroutine, with etcd's reason.
func (n *Node) OnFatal(f func(reason string)) { n.last.Store(&f) }

// Tell sets who is told of what this host holds. It must be called before Join, if
// at all.
func (n *Node) Tell(w actor.Witness) { n.witness = w }

func (n *Node) lastWords(reason string) {
	if f := n.last.Load(); f != nil {
		(*f)(reason)
	}
}

// Close stops the embedded etcd, and ends the connection to a cluster.
func (n *Node) Close() {
	m := n.joined.Load()
	if n.etcd != nil {
		n.etcd.Close()
	} else if m != nil {
		if err := m.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
			n.log.Warn().Err(err).Msg("the connection to etcd could not be closed")
		}
	}
	if err := n.spool.Close(); err != nil {
		n.log.Warn().Err(err).Msg("the release spool could not be closed")
	}
}

// RunStore runs the embedded etcd until ctx ends, or it stops by itself, which
// is an error. With a cluster it waits for ctx.
func (n *Node) RunStore(ctx context.Context) error {
	if n.etcd == nil {
		<-ctx.Done()
		return nil
	}
	return n.etcd.Run(ctx)
}

// Join makes this process the daemon of its host. A store that does not answer
// is waited for; what waiting does not mend is returned: etcdlog's
// ErrOtherStore, ErrOtherMachine, ErrHostAlive, ErrStoreFormat, ErrRejected. The
// host is nil when ctx ended first.
func (n *Node) Join(ctx context.Context, observer actor.Observer) (*actor.Host, error) {
	// What a killed daemon left behind goes by itself.
	patience := time.Now().Add(actor.LeaseTime + askPatience)
	for {
		m, err := n.tryJoin(ctx, observer)
		leaseRuns := errors.Is(err, actor.ErrLeaseRuns) && time.Now().Before(patience)
		switch {
		case err == nil:
			n.joined.Store(m)
			n.note(m) // what time it likely is the next daemon shall know, however soon this one is killed
			if _, suspect := m.host.Writer().Log().Clock.Stamp(); suspect {
				n.log.Warn().Msg("this machine's clock is ahead of what the log makes likely, and not synchronised: what this host writes is marked until the clock is right or synchronised")
			}
			return m.host, nil
		case ctx.Err() != nil:
			return nil, nil //nolint:nilerr // stopped while trying: that is no failure
		case leaseRuns:
			n.log.Warn().Err(err).Msg("waiting for the lease of an earlier daemon of this host to end")
		case final(err):
			return nil, err
		case store.Full(err):
			n.log.Warn().Err(err).Msg("the store takes no writes, trying again: Docker's requests are refused meanwhile")
		default:
			n.log.Warn().Err(err).Msg("the store does not answer, trying again: Docker's requests are refused meanwhile")
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(joinPause):
		}
	}
}

// final says whether an error stays, however long one waits.
func final(err error) bool {
	if store.Full(err) || errors.Is(err, rpctypes.ErrTooManyRequests) {
		return false
	}
	return errors.IsAny(err, etcdlog.ErrOtherStore, etcdlog.ErrOtherMachine, etcdlog.ErrHostAlive,
		etcdlog.ErrStoreFormat, etcdlog.ErrRejected, events.ErrMalformed, events.ErrNewer) || !store.Silent(err) && !errors.Is(err, etcdlog.ErrUnknown)
}

func (n *Node) tryJoin(ctx context.Context, observer actor.Observer) (m *membership, err error) {
	client, err := n.dial()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = store.Explain(err, client)
			if n.etcd == nil {
				_ = client.Close()
			}
		}
	}()
	asking, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	log := etcdlog.New(client, n.cfg.Prefix)
	log.Archive = &archive.Shelf{Instead: n.cfg.Archive}
	identity, left, err := n.recognise(asking, log)
	if err != nil {
		return nil, err
	}
	blocks := n.blocks
	if len(blocks) == 0 {
		blocks = actor.DefaultBlocks(identity.ID)
	}
	host, err := actor.Join(asking, actor.Options{
		Client: client, Log: log, Identity: n.identity,
		Blocks: blocks, Routes: actor.HostRoutes, Mirrors: n.cfg.Managed, Observer: observer, Witness: n.witness, Logger: n.log,
		Keeper:  &actor.Keeper{Spool: n.spool, Store: identity.ID, Prefix: n.cfg.Prefix, Clock: log.Clock},
		Looking: actor.Looking{Soon: n.look, Keep: n.keepUnlooked, Left: left},
	})
	if err != nil {
		return nil, err
	}
	return &membership{store: identity, host: host, client: client, index: n.openIndex(log, identity.ID)}, nil
}

func (n *Node) dial() (*clientv3.Client, error) {
	if n.etcd != nil {
		return n.etcd.Client(), nil
	}
	return store.Dial(n.cfg.Global)
}

// recognise makes sure that the store is the one this machine knows. The first
// one it meets is the one. left is what no daemon of this machine has looked at yet: it
// may be anything where the store was restored.
func (n *Node) recognise(ctx context.Context, log *etcdlog.Log) (identity etcdlog.Store, left actor.Unlooked, err error) {
	memory, known, err := store.Recollect(n.cfg.DataDir)
	if err != nil {
		return identity, left, err
	}
	if known {
		if err := log.Recall(ctx, memory); err != nil {
			return identity, left, err
		}
		log.Clock.Resume(memory.Clock)
		identity, err = log.Store(ctx)
		return identity, actor.Unlooked{All: memory.Unlooked, Grants: memory.Reopened}, err
	}
	if identity, err = log.Found(ctx); err != nil {
		return identity, left, err
	}
	left.All = !identity.Restored.Store.IsZero()
	return identity, left, store.Remember(n.cfg.DataDir, etcdlog.Memory{Store: identity.ID, Unlooked: left.All})
}

// Remember notes, now and again and at last when ctx ends, how far the store was
// seen.
func (n *Node) Remember(ctx context.Context, every time.Duration) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if m := n.joined.Load(); m != nil {
			n.note(m)
		}
		if ctx.Err() != nil {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// note writes down how far the store was seen, and what has to be looked at still, unless
// that was noted already.
func (n *Node) note(m *membership) {
	n.noting.Lock()
	defer n.noting.Unlock()
	left := m.host.Unlooked()
	memory := etcdlog.Memory{Store: m.store.ID, Unlooked: left.All, Reopened: left.Grants, Clock: m.host.Writer().Log().Clock.Reading()}
	memory.Stream, memory.Commit, memory.Revision = m.host.Writer().Last()
	if memory.Revision <= n.noted.Revision && memory.Unlooked == n.noted.Unlooked && slices.Equal(memory.Reopened, n.noted.Reopened) {
		return
	}
	if err := store.Remember(n.cfg.DataDir, memory); err != nil {
		n.log.Warn().Err(err).Msg("how far the store was seen could not be noted")
		return
	}
	n.noted = memory
}

// Ready returns nil while Docker's requests are answered, or why they are not.
func (n *Node) Ready() error {
	m := n.joined.Load()
	switch {
	case m == nil:
		return ErrStarting
	case !m.host.Alive():
		return errors.New("the lease of this daemon has ended: etcd does not answer")
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyPatience)
	defer cancel()
	if err := m.host.Reachable(ctx); err != nil {
		return errors.New("etcd does not answer: see that it runs and has a leader")
	}
	if m.host.Writer().Full() && m.alarmed(ctx) {
		return errors.New("etcd is full: compact and defragment it, then end its alarm with `etcdctl alarm disarm`")
	}
	return nil
}

// alarmed asks whether etcd still is out of space. It is asked only after it refused
// a write, since each time it costs all members one.
func (m *membership) alarmed(ctx context.Context) bool {
	resp, err := m.client.AlarmList(ctx)
	return err == nil && slices.ContainsFunc(resp.Alarms, func(a *etcdserverpb.AlarmMember) bool {
		return a.Alarm == etcdserverpb.AlarmType_NOSPACE
	})
}

// Store is the store's id; zero before the host has joined.
func (n *Node) Store() events.ID {
	if m := n.joined.Load(); m != nil {
		return m.store.ID
	}
	return events.ID{}
}

// Stats returns the figures of the running pools.
func (n *Node) Stats() []actor.Stats {
	if m := n.joined.Load(); m != nil {
		return m.host.Stats()
	}
	return nil
}

// Revision is the store's revision now, or the newest this daemon has written
// when the store does not answer at once.
func (n *Node) Revision() int64 {
	m := n.joined.Load()
	if m == nil {
		return 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	revision, err := m.host.CatchUp(ctx)
	if err != nil {
		_, _, revision = m.host.Writer().Last()
	}
	return revision
}
