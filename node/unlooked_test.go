// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"testing"

	"github.com/ipamlog/ipamlog/store"
)

// That a store was not compared with the engine yet is remembered until it was.
func TestNode_unlooked(t *testing.T) {
	cfg := settings(t, "h1")
	d := start(t, cfg)
	if d.Unlooked() {
		t.Error("a store of this daemon's own making")
	}
	d.stop()
	d.Close()
	memory, known, err := store.Recollect(cfg.DataDir)
	if err != nil || !known || memory.Unlooked {
		t.Fatalf("%+v %v %v", memory, known, err)
	}
	memory.Unlooked = true // as `ipamlog adopt --store` leaves it
	if err := store.Remember(cfg.DataDir, memory); err != nil {
		t.Fatal(err)
	}
	looked := make(chan struct{})
	for _, round := range []string{"adopted", "killed before the look"} {
		d := start(t, cfg)
		d.LookedBy(looked)
		if !d.Unlooked() {
			t.Errorf("%s: it is not known any more", round)
		}
		d.stop()
		d.Close()
	}
	d = start(t, cfg)
	d.LookedBy(looked)
	close(looked)
	if d.Unlooked() {
		t.Error("it was looked at")
	}
	d.stop()
	d.Close()
	if memory, _, err := store.Recollect(cfg.DataDir); err != nil || memory.Unlooked || memory.Revision == 0 {
		t.Errorf("%+v %v", memory, err)
	}
}
