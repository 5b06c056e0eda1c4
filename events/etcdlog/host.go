// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/events"
)

var (
	// ErrOtherMachine is returned by [Log.Join] when the host's name belongs to
	// another machine.
	ErrOtherMachine = errors.New("the host name belongs to another machine")
	// ErrHostAlive is returned by [Log.Join] when a daemon of the host is alive.
	ErrHostAlive = errors.New("a daemon of this host is running")
)

// host is who writes: what closings are fenced by.
type host struct {
	name        string
	incarnation uint64
	revision    int64 // of the host's guard
	version     string
	takenOver   bool // an operator had taken its addresses over when it joined
}

// Presence is what a live daemon says of itself under alive/<host>. The key is
// bound to a lease, and goes with it.
type Presence struct {
	Machine     string `json:"machine"`
	Boot        string `json:"boot"`      // the machine's boot id
	PIDSpace    string `json:"pid_space"` // process ids mean something only within one
	PID         int    `json:"pid"`
	Started     string `json:"started"` // the process's start, in the kernel's ticks since boot
	Incarnation uint64 `json:"incarnation"`
	Version     string `json:"version"`
	Engine      string `json:"engine,omitempty"` // the version of its Docker engine, once that is known
	Format      int    `json:"format,omitempty"` // the newest that it reads; 0: one that did not tell yet, [OldestFormat]
	// Swarm is what its Docker engine says of its membership in a swarm: inactive,
	// pending, active, locked or error; or SwarmUnasked. Empty: not known.
	Swarm string `json:"swarm,omitempty"`
}

// What [Presence] says of Swarm where no swarm is answered.
const (
	SwarmInactive = "inactive" // its engine is in none
	SwarmUnasked  = "unasked"  // it is no managed plugin, and Swarm takes no other
)

// Swarmless says whether the daemon certainly answers no swarm.
func (p Presence) Swarmless() bool { return p.Swarm == SwarmInactive || p.Swarm == SwarmUnasked }

// Writer is the log in the hands of one host that has joined. Safe for
// concurrent use.
type Writer struct {
	log  *Log
	host atomic.Pointer[host]
	full atomic.Bool // see Writer.Full

	mu      sync.Mutex
	last    events.Record // the newest of this writer's, without its events
	wroteAt time.Duration // by SinceBoot
}

// Log returns the log that the writer writes.
func (w *Writer) Log() *Log { return w.log }

// Host returns the name the writer writes under.
func (w *Writer) Host() string { return w.host.Load().name }

// Incarnation counts the starts of the host's daemon, this one included.
func (w *Writer) Incarnation() uint64 { return w.host.Load().incarnation }

// Last is where the newest commit of this writer stands in the log.
func (w *Writer) Last() (events.Stream, events.ID, int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last.Stream, w.last.ID, w.last.Revision
}

func (w *Writer) wrote(r events.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.Revision > w.last.Revision {
		w.last = events.Record{Commit: events.Commit{Stream: r.Stream, ID: r.ID}, Revision: r.Revision}
		w.wroteAt = SinceBoot()
	}
}

// Join makes this process the daemon of a host: in one commit the incarnation is
// raised and the daemon is present under the lease. dead is asked about a daemon
// that is still present whether it certainly is no more; its lease is not waited
// for then. It returns [ErrOtherMachine], [ErrHostAlive], [ErrUnknown] or
// [ErrRejected].
func (l *Log) Join(ctx context.Context, name string, p Presence, lease clientv3.LeaseID, dead func(Presence) bool) (*Writer, error) {
	if err := l.tellTime(ctx); err != nil {
		return nil, errors.Mark(err, ErrUnknown)
	}
	w := &Writer{log: l}
	w.host.Store(&host{name: name, version: p.Version})
	if err := w.Rejoin(ctx, p, lease, dead); err != nil {
		return nil, err
	}
	return w, nil
}

// Operator returns the log in the hands of a person at a host, who is no daemon:
// it writes under the host's name without having joined, and may do nothing that
// only the host's present daemon may. by is the program's version. It reads the
// catalogue's stream, to know the running time.
func (l *Log) Operator(ctx context.Context, name, by string) (*Writer, error) {
	if err := l.tellTime(ctx); err != nil {
		return nil, err
	}
	w := &Writer{log: l}
	w.host.Store(&host{name: name, version: by})
	return w, nil
}

// tellTime tells the clock how late it is in the log, as far as the catalogue's stream
// says, or the last segment: a clock that knows nothing of the log believes what the
// machine says.
func (l *Log) tellTime(ctx context.Context) error {
	for {
		pin, err := l.Revision(ctx)
		if err != nil {
			return errors.Wrap(err, "look what time it is in the log")
		}
		segments, err := l.segmentsAt(ctx, pin)
		if err != nil {
			return err
		}
		if n := len(segments); n > 0 {
			l.Clock.Seen(events.Commit{Time: segments[n-1].Running}, false)
		}
		joined, err := l.readStored(ctx, pin, nil, whole([]events.Stream{events.Catalogue}), 0)
		if errors.Is(err, rpctypes.ErrCompacted) {
			continue
		}
		if err != nil {
			return errors.Wrap(err, "look what time it is in the log")
		}
		for _, r := range joined {
			l.Clock.Seen(r.Commit, false)
		}
		return nil
	}
}

// CountAlive counts the hosts of which a daemon is present, and costs nothing however
// many they are.
func (l *Log) CountAlive(ctx context.Context) (int, error) {
	resp, err := l.get(ctx, l.keys.alive(""), clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return 0, errors.Wrap(err, "look how many hosts are alive")
	}
	return int(resp.Count), nil
}

// Alive lists the hosts of which a daemon is present.
func (l *Log) Alive(ctx context.Context) (map[string]Presence, error) {
	resp, err := l.get(ctx, l.keys.alive(""), clientv3.WithPrefix())
	if err != nil {
		return nil, errors.Wrap(err, "look which hosts are alive")
	}
	return l.presences(resp.Kvs)
}

func (l *Log) presences(kvs []*mvccpb.KeyValue) (alive map[string]Presence, err error) {
	alive = map[string]Presence{}
	for _, kv := range kvs {
		name := lastPart(kv.Key, l.keys.alive(""))
		if alive[name], err = readPresence(name, kv.Value); err != nil {
			return nil, err
		}
	}
	return alive, nil
}

// Hosts reads the guards of all hosts there ever were, and the revision they were
// read at.
func (l *Log) Hosts(ctx context.Context) (map[string]events.Guarded[events.HostGuard], int64, error) {
	resp, err := l.get(ctx, l.keys.host(""), clientv3.WithPrefix())
	if err != nil {
		return nil, 0, errors.Wrap(err, "read the hosts")
	}
	hosts := map[string]events.Guarded[events.HostGuard]{}
	for _, kv := range resp.Kvs {
		if hosts[lastPart(kv.Key, l.keys.host(""))], err = decodeGuard[events.HostGuard](l, kv); err != nil {
			return nil, 0, err
		}
	}
	return hosts, l.revision(resp.Header.Revision), nil
}

// Rejoin joins anew, after the lease of the presence was lost. It returns what
// [Log.Join] does.
func (w *Writer) Rejoin(ctx context.Context, p Presence, lease clientv3.LeaseID, dead func(Presence) bool) error {
	l, name := w.log, w.Host()
	for {
		known, present, err := l.lookUp(ctx, name)
		if err != nil {
			return err
		}
		if known.Present() && known.Value.Machine != p.Machine {
			return errors.Mark(errors.Newf("the name of host %s belongs to another machine: to %s in the log, and this is %s", name, known.Value.Machine, p.Machine), ErrOtherMachine)
		}
		if present.Present() && !dead(present.Value) {
			return alive(name, present.Value)
		}

		p.Incarnation = known.Value.Incarnation + 1
		presence, err := json.Marshal(p)
		if err != nil {
			return errors.Wrap(err, "write the presence")
		}
		who := host{name: name, incarnation: p.Incarnation, version: p.Version}
		t, err := l.prepareHost(who, known, events.HostJoined{Host: name, Machine: p.Machine, Incarnation: p.Incarnation, Version: p.Version})
		if err != nil {
			return err
		}
		t.ifs = append(t.ifs, clientv3.Compare(clientv3.ModRevision(l.keys.alive(name)), "=", present.Revision))
		t.then = append(t.then, clientv3.OpPut(l.keys.alive(name), string(presence), clientv3.WithLease(lease)))
		joined, err := l.run(ctx, t)
		switch {
		case errors.Is(err, ErrConflict):
			continue // somebody was faster: look again who it is
		case err != nil:
			return err
		}
		who.revision, who.takenOver = joined.Revision, known.Value.TakenOver
		w.wrote(joined)
		w.host.Store(&who)
		return nil
	}
}

// Describe tells more of the daemon under its presence, which stays bound to the
// lease. It returns [ErrFenced] when the presence is another daemon's, or gone.
func (w *Writer) Describe(ctx context.Context, p Presence, lease clientv3.LeaseID) error {
	who := *w.host.Load()
	p.Incarnation = who.incarnation
	presence, err := json.Marshal(p)
	if err != nil {
		return errors.Wrap(err, "write the presence")
	}
	for l := w.log; ; {
		known, present, err := l.lookUp(ctx, who.name)
		switch {
		case err != nil:
			return err
		case known.Revision != who.revision || !present.Present():
			return errors.Wrapf(ErrFenced, "host %s", who.name)
		}
		// What was told before, and not answered, may not come after this.
		resp, err := l.client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(l.keys.host(who.name)), "=", l.own(who.revision)), clientv3.Compare(clientv3.ModRevision(l.keys.alive(who.name)), "=", present.Revision)).
			Then(clientv3.OpPut(l.keys.alive(who.name), string(presence), clientv3.WithLease(lease))).
			Commit()
		switch {
		case err != nil:
			return errors.Mark(errors.Wrap(err, "tell more of this daemon"), ErrUnknown)
		case resp.Succeeded:
			return nil
		}
	}
}

// Leave says that the daemon stops in good order, and takes its presence away in the
// same commit. It returns [ErrFenced] when another daemon has joined as this host, or
// an operator has taken it over; else [ErrConflict], [ErrRejected] or [ErrUnknown].
func (w *Writer) Leave(ctx context.Context) error {
	l, who := w.log, *w.host.Load()
	known, present, err := l.lookUp(ctx, who.name)
	if err != nil {
		return err
	}
	if known.Revision != who.revision {
		return errors.Wrapf(ErrFenced, "host %s is at incarnation %d, this is %d", who.name, known.Value.Incarnation, who.incarnation)
	}
	t, err := l.prepareHost(who, known, events.HostLeft{Host: who.name, Incarnation: who.incarnation})
	if err != nil {
		return err
	}
	if present.Present() { // else its lease has ended
		t.then = append(t.then, clientv3.OpDelete(l.keys.alive(who.name)))
	}
	left, err := l.run(ctx, t)
	if err == nil {
		w.wrote(left)
	}
	return err
}

// TakenOver is the commit by which an operator took the host's addresses over before
// this daemon joined; false if nobody did.
func (w *Writer) TakenOver(ctx context.Context) (events.Record, bool, error) {
	who := *w.host.Load()
	if !who.takenOver {
		return events.Record{}, false, nil
	}
	catalogue, err := w.log.Since(ctx, events.Catalogue, time.UnixMilli(0))
	if err != nil {
		return events.Record{}, false, errors.Wrap(err, "look who took the host's addresses over")
	}
	for _, r := range slices.Backward(catalogue) {
		for _, e := range r.Events {
			if e, ok := e.(events.HostTakenOver); ok && e.Host == who.name && e.Incarnation < who.incarnation {
				return r, true, nil
			}
		}
	}
	return events.Record{}, false, nil
}

// alive is an [ErrHostAlive] that names the daemon.
func alive(name string, p Presence) error {
	return errors.Mark(errors.Newf("a daemon of host %s is running, as process %d of its machine or container", name, p.PID), ErrHostAlive)
}

func readPresence(host string, value []byte) (Presence, error) {
	var p Presence
	err := json.Unmarshal(value, &p)
	return p, errors.Wrapf(err, "read the presence of host %s", host)
}

// lookUp reads what the log knows of a host, and its daemon if one is present.
func (l *Log) lookUp(ctx context.Context, name string) (known events.Guarded[events.HostGuard], present events.Guarded[Presence], err error) {
	resp, err := l.client.Txn(ctx).Then(clientv3.OpGet(l.keys.host(name)), clientv3.OpGet(l.keys.alive(name))).Commit()
	if err != nil {
		return known, present, errors.Mark(errors.Wrapf(err, "look up host %s", name), ErrUnknown)
	}
	for _, kv := range resp.Responses[0].GetResponseRange().Kvs {
		if known, err = decodeGuard[events.HostGuard](l, kv); err != nil {
			return known, present, err
		}
	}
	for _, kv := range resp.Responses[1].GetResponseRange().Kvs {
		present.Revision = kv.ModRevision
		if present.Value, err = readPresence(name, kv.Value); err != nil {
			return known, present, err
		}
	}
	return known, present, nil
}

// prepareHost makes the transaction for an event about a host.
func (l *Log) prepareHost(who host, known events.Guarded[events.HostGuard], e events.Event) (*transaction, error) {
	p := Proposal{ID: l.Clock.NewID(), Stream: events.Catalogue, Events: []events.Event{e}, Seen: events.NewGuards()}
	if known.Present() {
		p.Seen.Hosts[who.name] = known
	}
	return l.prepare(p, l.sign(p, who), host{})
}

// sign turns a proposal into a host's commit, stamped now.
func (l *Log) sign(p Proposal, who host) events.Commit {
	now, suspect := l.Clock.Stamp()
	return events.Commit{
		ID: p.ID, Stream: p.Stream, Time: now, ClockSuspect: suspect,
		Host: who.name, Incarnation: who.incarnation, Writer: who.version,
		Events: p.Events,
	}
}

// Machine returns the machine id of a host, and "" for a name that the log does
// not know. It returns [ErrHostAlive] while a daemon of the host is
// present.
func (l *Log) Machine(ctx context.Context, name string) (string, error) {
	known, present, err := l.lookUp(ctx, name)
	if err == nil && present.Present() {
		err = alive(name, present.Value)
	}
	return known.Value.Machine, err
}

// Adopt accepts another machine under a host's name, by an operator's word. by is
// the version of the program that writes it. It returns [ErrHostAlive] while a
// daemon of the host is present.
func (l *Log) Adopt(ctx context.Context, name, machine, by string) error {
	known, present, err := l.lookUp(ctx, name)
	if err != nil {
		return err
	}
	if present.Present() {
		return alive(name, present.Value)
	}
	who := host{name: name, incarnation: known.Value.Incarnation + 1, version: by}
	t, err := l.prepareHost(who, known, events.HostAdopted{Host: name, Machine: machine, Incarnation: who.incarnation})
	if err != nil {
		return err
	}
	t.ifs = append(t.ifs, clientv3.Compare(clientv3.CreateRevision(l.keys.alive(name)), "=", 0))
	_, err = l.run(ctx, t)
	return err
}
