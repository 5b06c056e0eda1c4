// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
)

// verb is what a client asks for.
type verb string

const (
	take verb = "take" // RequestAddress
	keep verb = "keep" // RequestAddress for what it has: a repeat
	give verb = "give" // ReleaseAddress
	open verb = "open" // RequestPool
	shut verb = "shut" // ReleasePool
)

// outcome is what became of a call, as far as its client knows.
type outcome string

const (
	answered outcome = "answered"
	refused  outcome = "refused"
	unknown  outcome = "unknown" // no answer came
)

// call is one request and its answer. A container's calls, from the first ask to the
// last release, have one MAC, and nobody else's have it.
type call struct {
	Client  int           `json:"client"`
	Host    string        `json:"host"`
	Pool    string        `json:"pool"`
	Verb    verb          `json:"verb"`
	MAC     events.MAC    `json:"mac,omitzero"`
	Address netip.Addr    `json:"address,omitzero"` // wished for, given, or given back
	Begun   time.Duration `json:"begun"`            // since the run began, in nanoseconds
	Ended   time.Duration `json:"ended"`
	Outcome outcome       `json:"outcome"`
	Said    string        `json:"said,omitempty"` // a refusal, or why no answer came
}

// tally counts calls by their outcomes.
type tally map[outcome]int

func (t tally) all() int { return t[answered] + t[refused] + t[unknown] }

// history is what all clients did, in the order in which it ended. Safe for
// concurrent use.
type history struct {
	began time.Time

	mu       sync.Mutex
	calls    []call
	tally    tally
	refusals map[string]int // by the first words
	unfair   string         // the first refusal that there was no reason for
}

// fair are the refusals that there is a reason for, by their first words.
var fair = []string{
	"Address already in use", "No available addresses", "The store does not answer",
	"Ipamlog is starting and waits for its store", "Too many requests are waiting",
}

func newHistory() *history {
	return &history{began: time.Now(), tally: tally{}, refusals: map[string]int{}}
}

func (h *history) now() time.Duration { return time.Since(h.began) }

func (h *history) add(c call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, c)
	if c.Verb == take || c.Verb == keep || c.Verb == give {
		h.tally[c.Outcome]++
	}
	if c.Outcome == refused {
		h.refusals[lead(c.Said)]++
		if !slices.Contains(fair, lead(c.Said)) && h.unfair == "" {
			h.unfair = c.Said
		}
	}
}

// lead is what of a refusal is the same for all of its kind.
func lead(said string) string {
	if i := strings.IndexAny(said, "(:"); i >= 0 {
		said = said[:i]
	}
	return strings.TrimSpace(said)
}

func (h *history) operations() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tally.all()
}

// write writes the calls as lines of JSON.
func (h *history) write(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return errors.Wrap(err, "write the history")
	}
	out := bufio.NewWriter(f)
	lines := json.NewEncoder(out)
	for _, c := range h.calls {
		if err := lines.Encode(c); err != nil {
			return errors.CombineErrors(errors.Wrap(err, "write the history"), f.Close())
		}
	}
	return errors.Wrap(errors.CombineErrors(out.Flush(), f.Close()), "write the history")
}
