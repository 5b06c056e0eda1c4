// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

var (
	// ErrInvalid marks an error about how a change was asked for, whatever the log
	// says.
	ErrInvalid = errors.New("invalid request")
	// ErrNotFound marks an error about something that is not in the log: no such
	// pool, an address nobody holds.
	ErrNotFound = errors.New("not found")
	// ErrAmbiguous marks an error about words that mean several pools.
	ErrAmbiguous = errors.New("ambiguous")
	// ErrUnsettled marks an error of a change of which it is not known what of it is
	// in the log: the store fell silent.
	ErrUnsettled = errors.New("what was written is not known")
)

const (
	// commitPatience is how long a commit waits for the store.
	commitPatience = 10 * time.Second
	// settlePatience is how long it is tried to find out what became of a commit
	// that was not answered.
	settlePatience = 5 * time.Second
)

// Options are what an [Operator] is told of its surroundings.
type Options struct {
	Host    string // the name to write under: this host's
	Version string // the program's
	Machine string // this machine's id, as a daemon here would join with
	Engine  Engine // this host's Docker; nil: it cannot be asked
	// Grace is how long a holding must have been suspected before it is reclaimed by
	// hand; 0 is half a minute.
	Grace time.Duration

	// Device names this machine's device that has an address; "" where none has. nil:
	// they are not asked.
	Device func(netip.Addr) (string, error)
}

// Operator changes the log by a person's word. Safe for concurrent use.
type Operator struct {
	log     *etcdlog.Log
	writer  *etcdlog.Writer
	machine string
	engine  Engine
	grace   time.Duration
	device  func(netip.Addr) (string, error)
}

// New returns the log in a person's hands.
func New(ctx context.Context, log *etcdlog.Log, o Options) (*Operator, error) {
	if o.Host == "" {
		return nil, errors.Mark(errors.New("this machine has no host name to write under: name it with --host"), ErrInvalid)
	}
	writer, err := log.Operator(ctx, o.Host, o.Version)
	if err != nil {
		return nil, err
	}
	return &Operator{log: log, writer: writer, machine: o.Machine, engine: o.Engine, grace: cmp.Or(o.Grace, secondLook), device: o.Device}, nil
}

// Outcome tells what came of a change.
type Outcome struct {
	Pool     string    `json:"pool"` // the pool's name, or its subnet
	ID       events.ID `json:"pool_id"`
	Changed  bool      `json:"changed"`         // false: all was so already, and nothing was written
	Revision int64     `json:"revision"`        // of the last commit; 0 when nothing was written
	Said     []string  `json:"said"`            // what was done, in sentences
	Notes    []string  `json:"notes,omitempty"` // what to look at beside it
}

// wrote adds a commit.
func (o *Outcome) wrote(r events.Record) {
	o.Changed, o.Revision = true, r.Revision
}

// commit decides and commits, and decides again for as long as somebody is
// faster. A decision without events is one that nothing needs to be done.
func (o *Operator) commit(ctx context.Context, decide func() (etcdlog.Proposal, error)) (events.Record, error) {
	for {
		p, err := decide()
		if err != nil || len(p.Events) == 0 {
			return events.Record{}, err
		}
		record, err := o.append(ctx, p)
		if !errors.IsAny(err, etcdlog.ErrConflict, etcdlog.ErrVoided) {
			return record, err
		}
		if err := ctx.Err(); err != nil {
			return events.Record{}, errors.Wrap(err, "decide again after somebody was faster")
		}
	}
}

// append commits a proposal. What was not answered is settled before it returns:
// either it is in the log, or nothing of it ever will be, or the error says that
// it is not known.
func (o *Operator) append(ctx context.Context, p etcdlog.Proposal) (events.Record, error) {
	p.ID = o.log.Clock.NewID()
	patience, cancel := context.WithTimeout(ctx, commitPatience)
	defer cancel()
	record, err := o.writer.Append(patience, p)
	if !errors.Is(err, etcdlog.ErrUnknown) {
		return record, err
	}
	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), settlePatience)
	defer cancel()
	record, settleErr := o.writer.Close(settle, p.Stream, p.ID)
	switch {
	case settleErr != nil:
		return events.Record{}, errors.Mark(errors.Wrapf(err, "it is not known whether this was written (look for commit %s in ipamlog tail)", p.ID), ErrUnsettled)
	case record.Void():
		return events.Record{}, errors.Wrap(err, "nothing was written")
	}
	return record, nil
}

// ending adds to a commit that ends something the end of its pool, if nothing
// keeps it then. The guards are all of the pool's.
func ending(g events.Guards, list []events.Event) ([]events.Event, error) {
	if len(g.Held) > len(list) || g.Pool.Value.Kept && len(g.Held) > 0 {
		return list, nil // surely not the last
	}
	after := events.Guards{Pool: g.Pool, Grants: maps.Clone(g.Grants), Held: maps.Clone(g.Held)}
	// Any revision that is not zero stands for the one to come.
	if err := after.Apply(events.Record{Commit: events.Commit{Events: list}, Revision: 1}); err != nil {
		return nil, errors.Wrap(err, "foresee a change")
	}
	if after.Pool.Present() && !after.Pool.Value.Kept && len(after.Grants) == 0 && len(after.Held) == 0 {
		list = append(list, events.PoolRetired{Space: g.Pool.Value.Space})
	}
	return list, nil
}

// retires says whether a commit is a pool's last.
func retires(list []events.Event) bool {
	if len(list) == 0 {
		return false
	}
	_, last := list[len(list)-1].(events.PoolRetired)
	return last
}
