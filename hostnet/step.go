// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
)

// Step is one thing to do on a machine, and the way back. As a string it is a
// line of the plan, which tells what it does. A step that fails has changed
// nothing, unless its error is marked [ErrLeft].
type Step interface {
	fmt.Stringer
	do(ctx context.Context, m *Machine) error
	undo(ctx context.Context, m *Machine) error
}

// ErrLeft marks an error after which not all is as it was before: the bridge or
// Docker may go on using the host's address.
var ErrLeft = errors.New("not all is as it was before")

// errAlready is what a step or a part of one says that found its work done, by a
// run that was killed or by somebody else: it did nothing, and undoes nothing.
var errAlready = errors.New("it is so already")

// Stage is how far a step is.
type Stage int

// The stages there are.
const (
	Done Stage = iota
	Undone
)

// undoPatience is how long undoing may take, whoever waits.
const undoPatience = time.Minute

// Apply does the steps of a plan in their order, and tells of each when it is
// done. When one fails, or the context ends, it undoes those that were done,
// the last one first, and tells of each: the error says so, and which could not
// be undone; it then is marked [ErrLeft].
func (m *Machine) Apply(ctx context.Context, p *Plan, tell func(Step, Stage)) error {
	for _, s := range p.Steps {
		err := ctx.Err()
		if err == nil {
			err = s.do(ctx, m)
		} else {
			// What there is to say is not that a context ended.
			err = errors.New("interrupted before all was done")
		}
		switch {
		case err == nil:
			p.done = append(p.done, s)
		case !errors.Is(err, errAlready):
			return m.Undo(p, err, tell)
		}
		tell(s, Done)
	}
	return nil
}

// Undo undoes what [Machine.Apply] has done of a plan, because of this error.
func (m *Machine) Undo(p *Plan, because error, tell func(Step, Stage)) error {
	ctx, cancel := context.WithTimeout(context.Background(), undoPatience)
	defer cancel()
	var left []string
	for _, s := range slices.Backward(p.done) {
		if err := s.undo(ctx, m); err != nil && !errors.Is(err, errAlready) {
			left = append(left, fmt.Sprintf("%s (%v)", s, err))
			continue
		}
		tell(s, Undone)
	}
	p.done = nil
	switch {
	case len(left) > 0:
		return errors.Mark(errors.WithMessagef(because, "mend by hand what could not be undone: %s; after", strings.Join(left, ", ")), ErrLeft)
	case errors.Is(because, ErrLeft):
		return errors.Newf("%w; all else is as it was before", because)
	}
	return errors.Newf("%w; all is as it was before", because)
}

// act is a part of a step.
type act struct{ do, undo func() error }

// actAll does all of a step's parts, or none, and returns those there are to
// undo.
func actAll(acts []act) (done []act, err error) {
	for _, a := range acts {
		switch err := a.do(); {
		case err == nil:
			done = append(done, a)
		case !errors.Is(err, errAlready):
			if left := undoAll(done); left != nil {
				return nil, errors.Mark(errors.Newf("%v (and what was done of it could not be undone: %v: mend that by hand)", err, left), ErrLeft)
			}
			return nil, err
		}
	}
	return done, nil
}

// undoAll undoes all parts, the last one first, whatever each says.
func undoAll(done []act) error {
	var err error
	for _, a := range slices.Backward(done) {
		if e := a.undo(); !errors.Is(e, errAlready) {
			err = errors.Join(err, e)
		}
	}
	return err
}
