// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
)

// TestWrite: a ratio is to the first side in the same round, whatever became of the machine
// from one round to the next.
func TestWrite(t *testing.T) {
	at := func(rate float64, p50 time.Duration) sample { return sample{rate: rate, p50: p50} }
	r := result{
		work:  work{what: "things done", atOnce: 4},
		sides: []*side{{what: "theirs"}, {what: "ours"}},
		samples: [][]sample{
			{at(10, 20*time.Millisecond), at(5, 40*time.Millisecond), at(20, 10*time.Millisecond)},
			{at(9, 30*time.Millisecond), at(5, 40*time.Millisecond), at(10, 15*time.Millisecond)},
		},
	}
	var out strings.Builder
	if err := write(&out, []result{r}); err != nil {
		t.Fatal(err)
	}
	want := `work         at once  driver  a second  p50  rate ×  p50 ×
things done  4        theirs  10.0      20ms
things done  4        ours    9.0       30ms  0.90 (0.50 to 1.00)  1.50 (1.00 to 1.50)
`
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
}

// TestTakeTurns: each side works in each round, as many at once as asked, and what fails
// ends it all.
func TestTakeTurns(t *testing.T) {
	var order []string
	w := work{what: "things", atOnce: 1, turn: func(_ context.Context, s *side, _ string) (time.Duration, error) {
		if last := len(order) - 1; last < 0 || order[last] != s.what {
			order = append(order, s.what)
		}
		return time.Millisecond, nil
	}}
	sides := []*side{{what: "a"}, {what: "b"}}
	r, err := takeTurns(t.Context(), sides, w, 2, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"a", "b", "a", "b", "a", "b"}, order); d != "" {
		t.Error(d) // to warm up, and two rounds
	}
	for i := range sides {
		if len(r.samples[i]) != 2 || r.samples[i][0].rate <= 0 || r.samples[i][0].p50 != time.Millisecond {
			t.Errorf("side %d: %+v", i, r.samples[i])
		}
	}

	broken := errors.New("broken")
	w.turn = func(context.Context, *side, string) (time.Duration, error) { return 0, broken }
	if _, err := takeTurns(t.Context(), sides, w, 2, time.Millisecond); !errors.Is(err, broken) {
		t.Errorf("%v, want that it is broken", err)
	}
}
