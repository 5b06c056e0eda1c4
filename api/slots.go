// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"net/http"
	"time"

	"github.com/cockroachdb/errors"
)

// cost is what a question takes of the daemon.
type cost int

const (
	free    cost = iota // what is known by heart
	asking              // what the holdings or the guards tell
	reading             // the log itself, which is in memory while it is read out
)

const (
	atOnce        = 4  // questions answered at the same time
	readersAtOnce = 1  // of them, those that read the log
	followers     = 16 // of those, which go on for hours and hold nothing of it
	waiters       = 64 // questions that wait for their turn
	// turn is how long one waits before it is refused.
	turn = 5 * time.Second
	// patience is how long an answer may take to be found.
	patience = 30 * time.Second
)

// slots bounds what is done at the same time.
type slots struct {
	waiting, asking, reading, following chan struct{}
	turn                                time.Duration
}

func newSlots() slots {
	return slots{make(chan struct{}, waiters), make(chan struct{}, atOnce), make(chan struct{}, readersAtOnce), make(chan struct{}, followers), turn}
}

// take waits for a slot, and returns how to give it back. That may be called more
// than once.
func (s slots) take(ctx context.Context, c cost) (leave func(), err error) {
	if !enter(s.waiting) {
		return nil, busy()
	}
	defer exit(s.waiting)
	ctx, cancel := context.WithTimeout(ctx, s.turn)
	defer cancel()
	// Who reads the log waits without keeping the others from asking.
	wanted := []chan struct{}{s.asking}
	if c == reading {
		wanted = []chan struct{}{s.reading, s.asking}
	}
	taken := wanted[:0:0]
	leave = func() {
		for _, slot := range taken {
			exit(slot)
		}
		taken = nil
	}
	for _, slot := range wanted {
		select {
		case slot <- struct{}{}:
			taken = append(taken, slot)
		case <-ctx.Done():
			leave()
			return nil, busy()
		}
	}
	return leave, nil
}

// follow takes a slot of those that go on.
func (s slots) follow() (leave func(), err error) {
	if !enter(s.following) {
		return nil, busy()
	}
	return func() { exit(s.following) }, nil
}

func enter(slot chan struct{}) bool {
	select {
	case slot <- struct{}{}:
		return true
	default:
		return false
	}
}

func exit(slot chan struct{}) { <-slot }

// busy is returned to who asks too much.
func busy() error {
	return errors.WithStack(&problem{
		Status: http.StatusServiceUnavailable, RetryAfter: turn,
		Detail: "too many questions are being answered: ask again in a few seconds",
	})
}
