// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"testing"

	"github.com/ipamlog/ipamlog/actor"
)

// TestFinding_verdict: every finding there can be, and what follows from it.
func TestFinding_verdict(t *testing.T) {
	const no, yes = false, true
	for f, want := range map[actor.Finding]actor.Verdict{
		{no, no, no, no}:     actor.Suspect,
		{no, no, no, yes}:    actor.Suspect, // never at once, however long ago
		{no, no, yes, no}:    actor.Leave,
		{no, no, yes, yes}:   actor.Leave,
		{no, yes, no, no}:    actor.Wait,
		{no, yes, no, yes}:   actor.Reclaim,
		{no, yes, yes, no}:   actor.Wait,
		{no, yes, yes, yes}:  actor.Reclaim, // who asks again clears it, so this is the first ask
		{yes, no, no, no}:    actor.Leave,
		{yes, no, no, yes}:   actor.Leave,
		{yes, no, yes, no}:   actor.Leave,
		{yes, no, yes, yes}:  actor.Leave,
		{yes, yes, no, no}:   actor.Clear,
		{yes, yes, no, yes}:  actor.Clear,
		{yes, yes, yes, no}:  actor.Clear,
		{yes, yes, yes, yes}: actor.Clear,
	} {
		if got := f.Verdict(); got != want {
			t.Errorf("%+v: %d, want %d", f, got, want)
		}
	}
}
