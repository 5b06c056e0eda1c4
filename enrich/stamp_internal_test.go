// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/replay"
)

func TestAppendStamp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(-80_000_000_000, 300_000_000_000).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds"))
		if got, want := string(appendStamp(nil, at)), replay.Stamp(at); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
	if got := appendStamp(nil, time.Time{}); len(got) > 0 {
		t.Errorf("no time is %q", got)
	}
}
