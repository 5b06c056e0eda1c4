// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

const (
	// leaseSeconds is how long a daemon that says nothing counts as alive.
	leaseSeconds = 15
	// rejoinPause is the wait between two tries to join anew.
	rejoinPause = time.Second
)

// ErrLeaseRuns is returned by [Join], beside etcdlog's ErrHostAlive, when the
// daemon that is present in this host's place cannot be looked at, as in another
// container: if it was killed, its lease ends within [LeaseTime].
var ErrLeaseRuns = errors.New("the lease of another daemon of this host has not ended")

// LeaseTime is how long a killed daemon still counts as alive.
const LeaseTime = leaseSeconds * time.Second

// Identity is what makes this process the daemon of a host.
type Identity struct {
	Host    string
	Machine string // the machine id
	Version string
}

// ReadIdentity completes an identity for this machine. The machine id is
// /etc/machine-id's (see machine-id(5)); where there is none, the host's name
// stands in for it, and two machines of one name cannot be told apart.
func ReadIdentity(host, version string) (Identity, error) {
	raw, err := os.ReadFile("/etc/machine-id")
	if err != nil && !os.IsNotExist(err) {
		return Identity{}, errors.Wrap(err, "read the machine id")
	}
	machine := strings.TrimSpace(string(raw))
	if machine == "" || machine == "uninitialized" {
		machine = "host:" + host
	}
	return Identity{Host: host, Machine: machine, Version: version}, nil
}

// presence keeps the lease that says that this daemon is alive.
type presence struct {
	client *clientv3.Client
	store  events.ID // the identity of the store that was joined
	writer *etcdlog.Writer
	log    zerolog.Logger
	unseen bool // the daemon in our place ran where its process cannot be looked at

	// until is when the lease ends as far as this side can tell, in nanoseconds of
	// etcdlog.SinceBoot, which nobody can set back: after it no ask is answered.
	until atomic.Int64

	telling chan struct{} // capacity 1: held by who changes what is told of this daemon

	mu    sync.Mutex // guards what is below
	self  etcdlog.Presence
	lease clientv3.LeaseID
	told  etcdlog.Presence // as the store has it; zero: that is not known
	asked uint64           // how often Swarm has asked; see swarm.go
}

// join waits out what a killed daemon of this host left behind, and takes its
// place. It returns etcdlog's ErrStoreFormat, ErrHostAlive, ErrOtherMachine,
// ErrUnknown or ErrRejected.
func join(ctx context.Context, client *clientv3.Client, log *etcdlog.Log, id Identity, swarm string, logger zerolog.Logger) (*presence, error) {
	self, err := thisProcess()
	if err != nil {
		return nil, err
	}
	self.Machine, self.Version, self.Swarm = id.Machine, id.Version, swarm
	store, err := log.Found(ctx)
	if err != nil {
		return nil, err
	}
	p := &presence{client: client, store: store.ID, self: self, told: self, telling: make(chan struct{}, 1), log: logger}
	begun, err := p.grant(ctx)
	if err != nil {
		return nil, err
	}
	p.writer, err = log.Join(ctx, id.Host, self, p.lease, p.dead)
	if err != nil {
		p.revoke(ctx)
		if errors.Is(err, etcdlog.ErrHostAlive) && p.unseen {
			err = errors.Mark(err, ErrLeaseRuns)
		}
		return nil, err
	}
	p.extend(begun)
	p.tellTakenOver(ctx)
	return p, nil
}

// tellTakenOver says in the daemon's log what became of the host while it was away.
// That it is not known who did it is no reason not to go on.
func (p *presence) tellTakenOver(ctx context.Context) {
	record, taken, err := p.writer.TakenOver(ctx)
	line := p.log.Warn().Str("host", p.writer.Host()).Uint64("incarnation", p.writer.Incarnation())
	const told = "this host was taken for dead, and its addresses were taken over: others may have them now, and what its containers still use is asked for anew"
	switch {
	case err != nil:
		line.Err(err).Msg("it could not be found out whether this host's addresses were taken over")
	case taken:
		line.Str("by", record.Host).Time("at", record.Time).Int64("revision", record.Revision).Msg(told)
	}
}

// describe changes what the presence tells of this daemon.
func (p *presence) describe(ctx context.Context, change func(*etcdlog.Presence)) error {
	if err := p.hold(ctx); err != nil {
		return err
	}
	defer p.letGo()
	p.mu.Lock()
	change(&p.self) // for when it joins anew, too
	self, lease, known := p.self, p.lease, p.told == p.self
	p.told = etcdlog.Presence{} // it is not known while the store was not heard
	p.mu.Unlock()
	if !known {
		if err := p.writer.Describe(ctx, self, lease); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = self
	return nil
}

// hold waits until nobody else changes what is told of this daemon.
func (p *presence) hold(ctx context.Context) error {
	select {
	case p.telling <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errors.Mark(errors.Wrap(ctx.Err(), "tell more of this daemon"), etcdlog.ErrUnknown)
	}
}

func (p *presence) letGo() { <-p.telling }

// present are what the daemon says of itself, and the lease it says that under.
func (p *presence) present() (etcdlog.Presence, clientv3.LeaseID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.self, p.lease
}

// grant takes a new lease, and returns when it was asked for: it runs from then.
func (p *presence) grant(ctx context.Context) (time.Duration, error) {
	begun := etcdlog.SinceBoot()
	lease, err := p.client.Grant(ctx, leaseSeconds)
	if err != nil {
		return begun, errors.Mark(errors.Wrap(err, "ask the store for a lease"), etcdlog.ErrUnknown)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lease = lease.ID
	return begun, nil
}

func (p *presence) extend(since time.Duration) {
	p.until.Store(int64(since + LeaseTime))
}

// alive says whether the lease certainly stands.
func (p *presence) alive() bool { return int64(etcdlog.SinceBoot()) < p.until.Load() }

// run keeps the lease until ctx ends. A lease that was lost is replaced by
// joining anew; it returns an error only when the host is another's by then.
func (p *presence) run(ctx context.Context) error {
	for {
		p.keep(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // that is how it stops
		}
		p.until.Store(0)
		p.log.Warn().Msg("the lease of this daemon was lost: nothing is answered until it has joined anew")
		if err := p.rejoin(ctx); err != nil {
			return err
		}
	}
}

// keep extends the lease until it is lost or ctx ends.
func (p *presence) keep(ctx context.Context) {
	_, lease := p.present()
	answers, err := p.client.KeepAlive(ctx, lease)
	if err != nil {
		p.log.Warn().Err(err).Msg("the lease cannot be kept")
		return
	}
	for range answers {
		// The store counted from when it was asked, a moment before its answer:
		// this side ends a little early to be safe.
		p.extend(etcdlog.SinceBoot() - time.Second)
	}
}

func (p *presence) rejoin(ctx context.Context) error {
	for {
		err := p.recognise(ctx)
		var begun time.Duration
		if err == nil {
			begun, err = p.grant(ctx)
		}
		if err == nil {
			err = p.takePlace(ctx)
		}
		switch {
		case err == nil:
			p.extend(begun)
			p.log.Info().Uint64("incarnation", p.writer.Incarnation()).Msg("joined anew")
			p.tellTakenOver(ctx)
			return nil
		case ctx.Err() != nil:
			return nil //nolint:nilerr // stopped while trying: that is no failure
		case errors.IsAny(err, etcdlog.ErrOtherMachine, etcdlog.ErrHostAlive, etcdlog.ErrOtherStore):
			return errors.Wrap(err, "join anew")
		}
		p.log.Warn().Err(err).Msg("could not join anew, trying again")
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rejoinPause):
		}
	}
}

// takePlace joins anew with what is told of this daemon.
func (p *presence) takePlace(ctx context.Context) error {
	if err := p.hold(ctx); err != nil {
		return err
	}
	defer p.letGo()
	self, lease := p.present()
	return p.writer.Rejoin(ctx, self, lease, p.dead)
}

// recognise makes sure that the store is still the one that was joined: it may
// have been replaced while it was away.
func (p *presence) recognise(ctx context.Context) error {
	memory := etcdlog.Memory{Store: p.store}
	memory.Stream, memory.Commit, memory.Revision = p.writer.Last()
	return p.writer.Log().Recall(ctx, memory)
}

// leave says that this daemon stops in good order, and gives its place back.
func (p *presence) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	if err := p.writer.Leave(ctx); err != nil && !errors.Is(err, etcdlog.ErrStoreOld) {
		p.log.Warn().Err(err).Msg("the log was not told that this daemon stops in good order")
	}
	p.revoke(ctx)
}

// revoke gives the lease back, and with it the place.
func (p *presence) revoke(ctx context.Context) {
	p.until.Store(0)
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	_, lease := p.present()
	if _, err := p.client.Revoke(ctx, lease); err != nil {
		p.log.Warn().Err(err).Msg("the lease could not be given back: it ends by itself")
	}
}

// dead says whether a daemon that is still present certainly runs no more: it
// ran on this machine since its last boot, among the processes that can be seen
// here, and is not among them.
func (p *presence) dead(other etcdlog.Presence) bool {
	p.unseen = false
	if other.Machine != p.self.Machine {
		return false
	}
	if other.Boot != p.self.Boot {
		return true // the machine has booted since
	}
	if other.PIDSpace != p.self.PIDSpace {
		p.unseen = true
		return false
	}
	if other.PID == p.self.PID && other.Started == p.self.Started {
		return true // ourselves, under a lease that was lost
	}
	started, err := processStart(other.PID)
	return err != nil && os.IsNotExist(errors.UnwrapAll(err)) || err == nil && started != other.Started
}

func thisProcess() (etcdlog.Presence, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return etcdlog.Presence{}, errors.Wrap(err, "read the boot id")
	}
	space, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return etcdlog.Presence{}, errors.Wrap(err, "read the process namespace")
	}
	started, err := processStart(os.Getpid())
	if err != nil {
		return etcdlog.Presence{}, err
	}
	return etcdlog.Presence{Boot: strings.TrimSpace(string(boot)), PIDSpace: space, PID: os.Getpid(), Started: started, Format: etcdlog.Format}, nil
}

// processStart is when a process began, in ticks since boot: field 22 of
// /proc/PID/stat (see proc(5)), which tells it from a later one of its number.
func processStart(pid int) (string, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", errors.Wrapf(err, "look at process %d", pid)
	}
	// The name in parentheses may hold anything, parentheses too.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return "", errors.Newf("the kernel says of process %d: %s", pid, stat)
	}
	return fields[19], nil
}
