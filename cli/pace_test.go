// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
)

func TestPacer(t *testing.T) {
	var waited []time.Duration
	p := pacer{speed: 60, wait: func(_ context.Context, d time.Duration) error {
		waited = append(waited, d)
		return nil
	}}
	start := time.Date(2025, 3, 1, 3, 0, 0, 0, time.UTC)
	for _, after := range []time.Duration{0, 0, time.Minute, 31 * time.Minute} {
		if err := p.until(t.Context(), start.Add(after)); err != nil {
			t.Fatal(err)
		}
	}
	want := []time.Duration{0, 0, time.Second, 30 * time.Second}
	if diff := cmp.Diff(want, waited); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWait_interrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, d := range []time.Duration{0, time.Hour} {
		if err := wait(ctx, d); !errors.Is(err, context.Canceled) {
			t.Errorf("after %s: %v", d, err)
		}
	}
	if err := wait(t.Context(), time.Nanosecond); err != nil {
		t.Error(err)
	}
}
