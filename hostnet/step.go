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
// nothing.
type Step interface {
	fmt.Stringer
	do(ctx context.Context, m *Machine) error
	undo(ctx context.Context, m *Machine) error
}

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
// be undone.
func (m *Machine) Apply(ctx context.Context, p *Plan, tell func(Step, Stage)) error {
	for i, s := range p.Steps {
		err := ctx.Err()
		if err == nil {
			if err = s.do(ctx, m); err == nil {
				tell(s, Done)
				continue
			}
		} else {
			// What there is to say is not that a context ended.
			err = errors.New("interrupted before all was done")
		}
		return m.undo(p.Steps[:i], err, tell)
	}
	return nil
}

// Undo undoes all steps of a plan that was done, because of this error.
func (m *Machine) Undo(p *Plan, because error, tell func(Step, Stage)) error {
	return m.undo(p.Steps, because, tell)
}

func (m *Machine) undo(done []Step, because error, tell func(Step, Stage)) error {
	ctx, cancel := context.WithTimeout(context.Background(), undoPatience)
	defer cancel()
	var left []string
	for _, s := range slices.Backward(done) {
		if err := s.undo(ctx, m); err != nil {
			left = append(left, fmt.Sprintf("%s (%v)", s, err))
			continue
		}
		tell(s, Undone)
	}
	if len(left) > 0 {
		return errors.WithMessagef(because, "mend by hand what could not be undone: %s; after", strings.Join(left, ", "))
	}
	return errors.Newf("%w; all is as it was before", because)
}

// act is a part of a step.
type act struct{ do, undo func() error }

// actAll does all of a step's parts, or none.
func actAll(acts []act) error {
	for i, a := range acts {
		if err := a.do(); err != nil {
			if left := undoAll(acts[:i]); left != nil {
				return errors.Newf("%v (and what was done of it could not be undone: %v: mend that by hand)", err, left)
			}
			return err
		}
	}
	return nil
}

// undoAll undoes all parts, the last one first, whatever each says.
func undoAll(done []act) error {
	var err error
	for _, a := range slices.Backward(done) {
		err = errors.Join(err, a.undo())
	}
	return err
}
