// SPDX-License-Identifier: Apache-2.0

package events_test

import (
	"testing"

	"github.com/ipamlog/ipamlog/events"
)

// What an event needs of the store's format is said of each: a new kind of event that
// older programs cannot read has to be thought of here.
func TestFormat(t *testing.T) {
	newer := map[string]bool{
		"address.suspected": true, "address.cleared": true, "address.reclaimed": true, "address.conflicted": true,
		"host.left": true, "host.taken-over": true,
	}
	seen := map[string]bool{}
	for _, c := range samples() {
		for _, e := range c.Events {
			seen[e.Type()] = true
			want := 2
			if newer[e.Type()] {
				want = 3
			}
			if r, ok := e.(events.AddressReleased); ok && r.Reason == events.TakenOver {
				want = 3
			}
			if got := events.Format(e); got != want {
				t.Errorf("%s needs format %d, want %d", e.Type(), got, want)
			}
		}
	}
	for name := range newer {
		if !seen[name] {
			t.Errorf("no sample of %s", name)
		}
	}
}
