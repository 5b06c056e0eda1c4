// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ipamlog/ipamlog/store"
)

// TestNode_clock: a daemon knows from the one before it what time it likely is, and
// does not believe a clock that is an hour ahead of that when it starts, unless the
// kernel calls it synchronised.
func TestNode_clock(t *testing.T) {
	state, err := unix.Adjtimex(&unix.Timex{})
	synchronised := err == nil && state != unix.TIME_ERROR
	cfg := settings(t, "h1")
	d := start(t, cfg)
	memory, known, err := store.Recollect(cfg.DataDir)
	if err != nil || !known {
		t.Fatal(known, err)
	}
	if off := time.Since(memory.Clock.Time); memory.Clock.Boot != boot(t) || off < 0 || off > time.Minute {
		t.Fatalf("as soon as it has joined it hands on %+v", memory.Clock)
	}
	d.stop()
	d.Close()
	if memory, _, err = store.Recollect(cfg.DataDir); err != nil {
		t.Fatal(err)
	}
	memory.Clock.Time = memory.Clock.Time.Add(-time.Hour)
	if err := store.Remember(cfg.DataDir, memory); err != nil {
		t.Fatal(err)
	}

	d = start(t, cfg)
	if _, suspect := d.host.Writer().Log().Clock.Stamp(); suspect == synchronised {
		t.Errorf("suspect: %v, with a clock that the kernel calls synchronised: %v", suspect, synchronised)
	}
	d.allocate(t)
	d.stop()
	after, _, err := store.Recollect(cfg.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	if moved := !after.Clock.Time.Equal(memory.Clock.Time); moved != synchronised || after.Revision <= memory.Revision {
		t.Errorf("it hands on %+v, and got %+v", after, memory)
	}
}
