// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/lab"
)

// TestReclaimByHand has the engine lose a release, and a person find it, beside a
// daemon that heals nothing by itself.
func TestReclaimByHand(t *testing.T) {
	t.Parallel()
	a := startSite(t, lab.New(t), "a")
	a.create(t, "web", "--subnet", "10.50.0.0/24", "--ipam-opt", "pool=web")
	a.run(t, "lost", "web")
	born := time.Now()
	a.run(t, "stays", "web")
	lost, _ := a.addresses(t, "lost", "web")
	a.kill(t)
	a.MustDocker(t, "rm", "-f", "lost") // its release is never said again
	a.start(t)

	type leak struct{ Address, Verdict, Why string }
	leaks := func() []leak { return ask[[]leak](t, a, "reclaim", "--dry-run") }
	if got := leaks(); len(got) != 0 {
		t.Errorf("what may still be starting is told as %+v", got)
	}
	// Each look is a process: none before it can be true.
	from := func(due time.Time, holds func() bool) func() (bool, error) {
		return func() (bool, error) { return time.Now().After(due) && holds(), nil }
	}
	await(t, "the end of its youth", from(born.Add(time.Minute), func() bool { return len(leaks()) == 1 }))
	if got := leaks()[0]; got.Address != lost.String() || got.Verdict != "suspect" {
		t.Errorf("it is told as %+v", got)
	}
	if o := a.ipamlog(t, "reclaim"); o.status != 0 || !strings.Contains(o.stdout, lost.String()+" in pool web is suspected: Docker does not know ") {
		t.Fatalf("%+v", o)
	}
	first := time.Now()
	if o := a.ipamlog(t, "reclaim"); o.status != 0 || o.stdout != "" || !strings.Contains(o.stderr, "run this again in a moment") {
		t.Errorf("%+v", o)
	}
	await(t, "the second look", from(first.Add(30*time.Second), func() bool { got := leaks(); return len(got) == 1 && got[0].Verdict == "reclaim" }))
	o := a.ipamlog(t, "reclaim")
	if o.status != 0 || !strings.Contains(o.stdout, lost.String()+" in pool web is free; it was held by ") {
		t.Fatalf("%+v", o)
	}
	t.Logf("%s after %v: %s", lost, time.Since(first).Round(time.Second), o.stdout)
	agree(t, a)
	a.run(t, "next", "web", "--ip", lost.String())
	if o := a.ipamlog(t, "reclaim"); o.status != 0 || !strings.Contains(o.stdout, "nothing to do: nothing of host a has leaked") {
		t.Errorf("%+v", o)
	}
	agree(t, a)
}
