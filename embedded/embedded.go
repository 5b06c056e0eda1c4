// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"cmp"
	"context"
	"os"
	"sync"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"golang.org/x/sys/unix"
)

// Options say where a server keeps its data. Only Dir is needed: every other
// zero value is the one meant for use, and what else there is to set is there
// so that tests need not wait ten minutes or write gigabytes.
type Options struct {
	// Dir is the data directory. It is made, readable by its owner alone,
	// if it does not exist. The server lives in Dir/etcd and touches
	// nothing else in Dir. The path of the socket in it must fit into the
	// 107 bytes the kernel allows, which leaves 95 for Dir.
	Dir string
	// Log receives what etcd and this package have to say. Etcd is heard
	// from warn upward only.
	Log zerolog.Logger

	// LastWords, if not nil, is called from any goroutine when etcd cannot go on
	// and the process is about to end with status 1, with etcd's reason.
	LastWords func(reason string)

	// TickMs is the length of a raft tick in milliseconds; 0 means 100. An
	// election takes five ticks, and etcd grants no lease shorter than
	// seven ticks.
	TickMs uint
	// NoFsync gives up durability for speed: for tests, and for logs made in bulk.
	NoFsync bool
	// Retention is how long superseded revisions stay readable at least. A
	// server that runs on drops them by twice that time and a tenth. 0 means
	// 10 minutes.
	Retention time.Duration
	// Quota is the size in bytes of the database file from which on only
	// reads and deletes are taken; 0 means 8 GiB.
	Quota int64
	// DefragFloor is the size in bytes below which the database file is
	// never defragmented; 0 means 64 MiB.
	DefragFloor int64
	// TidyEvery is the time between two looks at the size of the database
	// file; 0 means 10 seconds.
	TidyEvery time.Duration
	// TellEvery is how often a start that goes on is told of in the log; 0 means 30
	// seconds.
	TellEvery time.Duration
}

func (o Options) withDefaults() Options {
	o.TickMs = cmp.Or(o.TickMs, 100)
	o.Retention = cmp.Or(o.Retention, 10*time.Minute)
	o.Quota = cmp.Or(o.Quota, 8<<30)
	o.DefragFloor = cmp.Or(o.DefragFloor, 64<<20)
	o.TidyEvery = cmp.Or(o.TidyEvery, 10*time.Second)
	o.TellEvery = cmp.Or(o.TellEvery, 30*time.Second)
	return o
}

// A Server is an etcd of one member running inside this process. All its
// methods may be called from any goroutine.
type Server struct {
	place  place
	log    zerolog.Logger
	lock   *os.File
	etcd   *embed.Etcd
	client *clientv3.Client
	gate   *gate

	running   context.Context // the server's own life, ended by stop
	stop      context.CancelFunc
	tidying   sync.WaitGroup
	closeOnce sync.Once
}

// Start takes the data directory for this process, starts etcd on it and
// returns once writes are served. A context that ends earlier ends the start.
//
// Its errors are sentences for the user: the directory is in use by another
// process (which is named), too long, or open to others; the data is damaged; the
// disk is full.
func Start(ctx context.Context, opts Options) (*Server, error) {
	at := placeIn(opts.Dir)
	s, err := startAt(ctx, at, opts.withDefaults())
	if errors.Is(err, unix.ENOSPC) {
		return nil, at.full()
	}
	return s, err
}

func startAt(ctx context.Context, at place, opts Options) (*Server, error) {
	if err := at.prepare(); err != nil {
		return nil, err
	}
	lock, err := at.take()
	if err != nil {
		return nil, err
	}
	s := &Server{place: at, log: opts.Log, lock: lock}
	s.running, s.stop = context.WithCancel(context.Background())
	if err := s.start(ctx, opts); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) start(ctx context.Context, opts Options) error {
	if err := s.place.checkDatabase(); err != nil {
		return err
	}
	defer s.tellOn(opts.TellEvery)()
	var err error
	if s.etcd, err = startEtcd(s.running, s.place, opts); err != nil {
		return err
	}
	if err := s.place.closeSocketToOthers(); err != nil {
		return err
	}
	select {
	case <-s.etcd.Server.ReadyNotify():
	case <-s.etcd.Server.StopNotify():
		return errors.Newf("the embedded etcd on %s stopped while it was starting: its log lines above say why", s.place.home)
	case <-ctx.Done():
		return errors.Wrapf(ctx.Err(), "wait for the embedded etcd on %s to start", s.place.home)
	}
	s.gate = &gate{stopping: s.etcd.Server.StoppingNotify()}
	s.client = clientOf(s.etcd.Server, s.gate)
	s.tidying.Go(func() { s.tidy(s.running, opts) })
	return nil
}

// tellOn tells now and then that the start goes on, until it is ended. Etcd goes over all
// it keeps before it answers, which nothing interrupts; and on some damage it has been seen
// to wait for ever.
func (s *Server) tellOn(every time.Duration) (end func()) {
	started, ended := context.WithCancel(s.running)
	var telling sync.WaitGroup
	telling.Go(func() {
		begun, ticker := time.Now(), time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-started.Done():
				return
			case <-ticker.C:
				s.log.Warn().Stringer("after", time.Since(begun).Round(time.Second)).Int64("bytes", s.place.size()).
					Msg("the embedded etcd is still starting: it takes some 6 s for each million events that it keeps (ipamlog archive makes them fewer); if its processor is idle, its files may be damaged: move the data directory away, and make a new one of a backup with ipamlog restore")
			}
		}
	})
	return func() { ended(); telling.Wait() }
}

// Endpoint is where another process on this machine reaches the server, in the
// form clientv3.New takes: unix:///path/to/socket.
func (s *Server) Endpoint() string { return s.place.endpoint() }

// Endpoint is where a server on the data directory dir is reached, if one
// runs: for readers that know nothing but the directory.
func Endpoint(dir string) string { return placeIn(dir).endpoint() }

// Client speaks to the server without a socket between, and answers as a client
// of a remote etcd does, errors included (RangeStream alone is unknown to it).
// It belongs to the server: Close waits for its calls under way, ends its
// watches and closes it; calls after that fail with rpctypes.ErrStopped. What
// it returns may be shared with the server and must not be written to.
func (s *Server) Client() *clientv3.Client { return s.client }

// Run waits. It returns nil when ctx ends or the server was closed, and an
// error when etcd stopped by itself. It leaves the server running: whoever
// else needs the store for its last words still has it until Close.
func (s *Server) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.running.Done():
		return nil
	case err := <-s.etcd.Err():
		return s.stoppedByItself(err)
	case <-s.etcd.Server.StopNotify():
		return s.stoppedByItself(nil)
	}
}

// stoppedByItself tells a failure from the wake of a Close that raced with it.
func (s *Server) stoppedByItself(err error) error {
	select {
	case <-s.running.Done():
		return nil
	default:
	}
	const sentence = "the embedded etcd stopped by itself: its log lines say why, and a restart goes on from what it last stored"
	if err != nil {
		return errors.Wrap(err, sentence)
	}
	return errors.New(sentence)
}

// Close stops the server and returns when it is down: watches have ended, the
// data is flushed, the socket is gone and the directory is free for the next.
// Every call after the first waits for the first.
func (s *Server) Close() {
	s.closeOnce.Do(func() {
		s.stop()
		s.tidying.Wait()
		if s.client != nil {
			s.gate.shut()
			if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
				s.log.Warn().Err(err).Msg("closing the client of the embedded etcd")
			}
		}
		if s.etcd != nil {
			s.closeEtcd()
		}
		if err := s.lock.Close(); err != nil {
			s.log.Warn().Err(err).Msg("giving up the lock on the data directory")
		}
	})
}

func (s *Server) closeEtcd() {
	select {
	case <-s.etcd.Server.ReadyNotify():
	default:
		s.etcd.Server.HardStop() // or closing would wait until it is ready
	}
	s.etcd.Close()
}
