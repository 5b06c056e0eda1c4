// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
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
	writers       = 16 // long answers that are written out, which holds them in memory
	ofOne         = 8  // of followers and of writers, those of one client
	waiters       = 64 // questions that wait for their turn
	// turn is how long one waits before it is refused.
	turn = 5 * time.Second
	// patience is how long an answer may take to be found.
	patience = 30 * time.Second
)

// slots bounds what is done at the same time.
type slots struct {
	waiting, asking, reading chan struct{}
	following, writing       *share
	turn                     time.Duration
}

func newSlots() slots {
	return slots{make(chan struct{}, waiters), make(chan struct{}, atOnce), make(chan struct{}, readersAtOnce), newShare(followers), newShare(writers), turn}
}

// seat is what a question has taken of the slots.
type seat struct{ asking, reading chan struct{} } // nil: none, or given back

// found gives back what nobody needs once the answer is found.
func (p *seat) found() {
	if p.asking != nil {
		exit(p.asking)
		p.asking = nil
	}
}

// leave gives back all. It may be called more than once.
func (p *seat) leave() {
	p.found()
	if p.reading != nil {
		exit(p.reading)
		p.reading = nil
	}
}

// take waits for a seat.
func (s slots) take(ctx context.Context, c cost) (*seat, error) {
	if !enter(s.waiting) {
		return nil, busy()
	}
	defer exit(s.waiting)
	ctx, cancel := context.WithTimeout(ctx, s.turn)
	defer cancel()
	// Who reads the log waits without keeping the others from asking.
	p := &seat{}
	if c == reading {
		if !await(ctx, s.reading) {
			return nil, busy()
		}
		p.reading = s.reading
	}
	if !await(ctx, s.asking) {
		p.leave()
		return nil, busy()
	}
	p.asking = s.asking
	return p, nil
}

func await(ctx context.Context, slot chan struct{}) bool {
	select {
	case slot <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
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

// share bounds what goes on for as long as clients like, so that none of them has
// it all.
type share struct {
	most int
	mu   sync.Mutex
	all  int
	of   map[netip.Prefix]int // by client
}

func newShare(most int) *share { return &share{most: most, of: map[netip.Prefix]int{}} }

// enter takes a part, and returns how to give it back.
func (s *share) enter(client netip.Prefix) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= s.most || s.of[client] >= ofOne {
		return nil, busy()
	}
	s.all++
	s.of[client]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.of[client]--; s.of[client] == 0 {
			delete(s.of, client)
		}
	}, nil
}

// client is who asks: of IPv6 one has as many addresses as it likes.
func client(r *http.Request) netip.Prefix {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Prefix{}
	}
	address := from.Addr().Unmap().WithZone("")
	bits := address.BitLen()
	if address.Is6() {
		bits = 64
	}
	whose, _ := address.Prefix(bits) // it has that many bits
	return whose
}

// busy is returned to who asks too much.
func busy() error {
	return errors.WithStack(&problem{
		Status: http.StatusServiceUnavailable, RetryAfter: turn,
		Detail: "too many questions are being answered: ask again in a few seconds",
	})
}
