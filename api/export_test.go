// SPDX-License-Identifier: Apache-2.0

package api

import "time"

// Routes are the paths there are, each with the parameters it takes.
func Routes() map[string][]string {
	list := map[string][]string{}
	for _, r := range routes {
		list[r.path] = r.parameters
	}
	return list
}

// Occupy has the server busy until leave is called, and lets others wait no
// longer than that.
func (s *Server) Occupy(turn time.Duration) (leave func()) {
	s.slots.turn = turn
	for range cap(s.slots.asking) {
		s.slots.asking <- struct{}{}
	}
	return func() {
		for range cap(s.slots.asking) {
			<-s.slots.asking
		}
	}
}

// Idle says whether nobody has a slot.
func (s *Server) Idle() bool {
	return len(s.slots.waiting)+len(s.slots.asking)+len(s.slots.reading)+s.slots.following.taken()+s.slots.writing.taken() == 0
}

// Writers is how many long answers are being written.
func (s *Server) Writers() int { return s.slots.writing.taken() }

func (s *share) taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}
