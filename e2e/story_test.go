// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"cmp"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// story is a recorded truth: what Docker used after each step, and when that
// was. Nothing happens between two steps.
type story struct {
	site  *site
	steps []step
}

type step struct {
	name         string
	begun, ended time.Time
	used         []fact // at its end
}

// step does something, makes sure that all tellers agree on what came of it,
// and records it. The rest of the story makes no sense once a step failed.
func (s *story) step(t *testing.T, name string, do func()) {
	t.Helper()
	t.Logf("%s: %s", time.Now().Format(time.TimeOnly), name)
	done := step{name: name, begun: time.Now()}
	do()
	done.used = agree(t, s.site)
	if t.Failed() {
		t.FailNow()
	}
	done.ended = time.Now()
	s.steps = append(s.steps, done)
}

// told makes sure that the log, asked afterwards, tells the story as it was
// recorded.
func (s *story) told(t *testing.T) {
	t.Helper()
	t.Run("who held each address then", func(t *testing.T) {
		before := []fact{}
		for _, step := range s.steps {
			for _, f := range changed(before, step.used) {
				s.toldWho(t, step, f.Address)
			}
			before = step.used
		}
	})
	t.Run("what each subject ever held", func(t *testing.T) {
		for _, address := range s.addresses() {
			s.toldHistory(t, address.String(), func(f fact) bool { return f.Address == address })
		}
		for _, mac := range s.macs() {
			s.toldHistory(t, mac, func(f fact) bool { return f.MAC == mac })
		}
		s.toldHistory(t, "host:"+s.site.Name(), func(fact) bool { return true })
		s.toldHistory(t, "pool:web", func(f fact) bool { return f.Pool == "web" })
	})
	t.Run("the pools as they were then", func(t *testing.T) {
		for _, step := range s.steps {
			then := ask[[]holding](t, s.site, "replay", "--at", stamp(step.ended))
			if d := diff(step.used, factsOf(then)); d != "" {
				t.Errorf("after %q (-docker +replay --at):\n%s", step.name, d)
			}
		}
	})
}

// stamp is a moment as the log writes it, which is as exact as can be asked.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z07:00") }

// changed lists what is in one of two states alone.
func changed(before, after []fact) []fact {
	var list []fact
	for _, f := range slices.Concat(before, after) {
		if slices.Contains(before, f) != slices.Contains(after, f) {
			list = append(list, f)
		}
	}
	return list
}

func (s *story) addresses() []netip.Addr {
	var all []netip.Addr
	for _, step := range s.steps {
		for _, f := range step.used {
			all = append(all, f.Address)
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

func (s *story) macs() []string {
	var all []string
	for _, step := range s.steps {
		for _, f := range step.used {
			if f.MAC != "" {
				all = append(all, f.MAC)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func only(facts []fact, wanted func(fact) bool) []fact {
	return slices.DeleteFunc(slices.Clone(facts), func(f fact) bool { return !wanted(f) })
}

// toldWho asks who held an address after a step.
func (s *story) toldWho(t *testing.T, step step, address netip.Addr) {
	t.Helper()
	o := s.site.ipamlog(t, "who", address.String(), "--at", stamp(step.ended), "-o", "json")
	who := decode[struct {
		Holdings      []holding
		Before, After *holding
	}](t, o.stdout)
	want := only(step.used, func(f fact) bool { return f.Address == address })
	if d := diff(want, factsOf(who.Holdings)); d != "" {
		t.Errorf("who held %v after %q (-docker +who):\n%s", address, step.name, d)
	}
	status := 0
	if len(want) == 0 {
		status = 3
		if who.Before == nil {
			t.Errorf("who held %v after %q: nobody, and the holding before is not told", address, step.name)
		}
	}
	if o.status != status {
		t.Errorf("who held %v after %q: exit status %d, want %d: %s", address, step.name, o.status, status, o.stderr)
	}
}

// toldHistory asks for all holdings of a subject. Each must have begun and ended
// within steps, and been seen in use after just the steps between.
func (s *story) toldHistory(t *testing.T, subject string, about func(fact) bool) {
	t.Helper()
	history := ask[[]holding](t, s.site, "history", subject)
	if !slices.IsSortedFunc(history, func(a, b holding) int { return cmp.Compare(a.FromRevision, b.FromRevision) }) {
		t.Errorf("the history of %s is not in order", subject)
	}
	for _, h := range history {
		s.within(t, h, "began", h.From)
		if h.To != nil {
			s.within(t, h, "ended", *h.To)
		}
	}
	for _, step := range s.steps {
		then := slices.DeleteFunc(slices.Clone(history), func(h holding) bool {
			return h.From.After(step.ended) || h.To != nil && !h.To.After(step.ended)
		})
		if d := diff(only(step.used, about), factsOf(then)); d != "" {
			t.Errorf("%s after %q (-docker +history):\n%s", subject, step.name, d)
		}
	}
}

func (s *story) within(t *testing.T, h holding, what string, at time.Time) {
	t.Helper()
	if !slices.ContainsFunc(s.steps, func(step step) bool { return !at.Before(step.begun) && !at.After(step.ended) }) {
		t.Errorf("the holding %+v %s at %v, when nothing was done", h.fact(), what, at)
	}
}
