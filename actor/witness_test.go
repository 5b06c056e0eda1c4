// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
)

// witness keeps what it was told.
type witness struct {
	mu    sync.Mutex
	holds map[events.ID]actor.Holding
	begun int
	again []events.ID
}

// Began implements [actor.Witness].
func (w *witness) Began(h actor.Holding) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun++
	w.holds[h.Allocation.ID] = h
}

// Repeated implements [actor.Witness].
func (w *witness) Repeated(allocation events.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.again = append(w.again, allocation)
}

// Ended implements [actor.Witness].
func (w *witness) Ended(allocation events.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.holds, allocation)
}

// Holds implements [actor.Witness].
func (w *witness) Holds(pool events.ID, all []actor.Holding) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.holds, func(_ events.ID, h actor.Holding) bool { return h.ID == pool })
	for _, h := range all {
		w.holds[h.Allocation.ID] = h
	}
}

func (w *witness) of(allocation events.ID) (actor.Holding, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h, known := w.holds[allocation]
	return h, known
}

// held lists what is held, by address and kind.
func (w *witness) held() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := []string{}
	for _, h := range w.holds {
		list = append(list, h.Address.String()+" "+h.Kind.String())
	}
	slices.Sort(list)
	return list
}

func (b *bed) startWitnessed(name string) (*daemon, *witness) {
	b.tb.Helper()
	w := &witness{holds: map[events.ID]actor.Holding{}}
	return b.start(name, func(o *actor.Options) { o.Witness = w }), w
}

// whatIs waits until a witness has been told just this.
func whatIs(t *testing.T, w *witness, want ...string) {
	t.Helper()
	eventually(t, "what the witness knows", func() bool { return slices.Equal(w.held(), want) })
}

// A witness knows of an allocation before who asked for it does, and in the end
// knows what this host holds, and nothing else.
func TestWitness(t *testing.T) {
	b := newBed(t)
	a, seen := b.startWitnessed("a")
	other, others := b.startWitnessed("b")
	ref := a.pool(actor.PoolRequest{Subnet: prefix("10.1.0.0/24"), Range: prefix("10.1.0.0/25"), Name: "web"})
	a.ask(ref, gateway("10.1.0.1"))
	ask := endpoint(1)
	ask.Endpoint = "c1"
	for i := range 2 { // the second is a repeat, which begins nothing
		answer := a.ask(ref, ask)
		if i == 1 && !slices.Equal(seen.again, []events.ID{answer.Allocation}) {
			t.Errorf("repeated were %v", seen.again)
		}
		got, known := seen.of(answer.Allocation)
		want := actor.Holding{
			ID: ref.Pool, Pool: b.guards(ref).Pool.Value, Range: prefix("10.1.0.0/25"), Address: answer.Address,
			Allocation: events.Allocation{ID: answer.Allocation, Kind: events.Endpoint, Host: "a", Grant: ref.Grant, MAC: ask.MAC, Endpoint: "c1"},
		}
		if diff := cmp.Diff(want, got, equate); !known || diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	theirs := other.pool(actor.PoolRequest{Subnet: prefix("10.1.0.0/24"), Name: "web"})
	other.ask(theirs, endpoint(2))
	whatIs(t, seen, "10.1.0.1 gateway", "10.1.0.2 endpoint")
	if held := others.held(); len(held) != 1 {
		t.Errorf("of host b the witness was told %q", held)
	}

	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	a, seen = b.startWitnessed("a")
	whatIs(t, seen, "10.1.0.1 gateway", "10.1.0.2 endpoint")
	if seen.begun != 0 {
		t.Errorf("%d holdings began for a daemon that has only started", seen.begun)
	}
	a.release(ref, addr("10.1.0.2"))
	whatIs(t, seen, "10.1.0.1 gateway")
	a.closeGrant(ref)
	whatIs(t, seen)

	// A grant that is opened again holds what it held.
	a.ask(ref, endpoint(3))
	eventually(t, "the gateway again", func() bool { return len(seen.held()) == 2 && seen.held()[0] == "10.1.0.1 gateway" })
}
