// SPDX-License-Identifier: Apache-2.0

package attribution_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/events"
)

var nginx = engine.Container{ID: "c1", Name: "shop", Image: "nginx:1.27", ImageID: "sha256:1", Labels: map[string]string{"team": "x", "secret": "y"}}

// whole is what is told of nginx.
func whole(a actor.Answer) events.AddressAttributed {
	return events.AddressAttributed{Allocation: a.Allocation, Address: a.Address, Attribution: events.Attribution{
		ContainerID: "c1", ContainerName: "shop", Image: "nginx:1.27", ImageID: "sha256:1", Labels: map[string]string{"team": "x"},
		NetworkID: "n1", NetworkName: "web", EndpointID: "e-c1",
	}}
}

func same(t *testing.T, want, got []events.AddressAttributed) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// A container that starts is told of once, with all that is known; and again when it
// is called otherwise. A new daemon says none of that again.
func TestAttributor(t *testing.T) {
	b := newBed(t)
	a := b.ask(mac)
	b.docker.set(func() { b.docker.containers["c1"] = nginx })
	b.docker.attach("c1", a, mac)
	want := []events.AddressAttributed{whole(a)}
	same(t, want, b.told(a.Allocation, 1))

	at := time.Now().UTC().Truncate(time.Microsecond)
	renamed := nginx
	renamed.Name = "store"
	b.docker.set(func() { b.docker.containers["c1"] = renamed })
	b.docker.events <- engine.Event{Time: at, Type: "container", Action: "rename", Container: "c1", OldName: "shop", Name: "store"}
	second := whole(a)
	second.ContainerName, second.Since = "store", at
	want = append(want, second)
	same(t, want, b.told(a.Allocation, 2))

	b.stop()
	b.start()
	other := b.ask(mac2)
	c2 := nginx
	c2.ID = "c2"
	b.docker.set(func() { b.docker.containers["c2"] = c2 })
	b.docker.attach("c2", other, mac2)
	b.told(other.Allocation, 1)
	same(t, want, b.told(a.Allocation, 2))

	b.stop()
	renamed.Name = "third"
	b.docker.set(func() { b.docker.containers["c1"] = renamed })
	b.start()
	third := whole(a)
	third.ContainerName = "third"
	same(t, append(want, third), b.told(a.Allocation, 3))
}

// A container that is gone before it was asked about is known by its events, or by
// its name and ID alone.
func TestAttributor_gone(t *testing.T) {
	b := newBed(t)
	b.docker.events <- engine.Event{
		Time: time.Now(), Type: "container", Action: "create", Container: "c1",
		Name: "shop", Image: "nginx:1.27", Labels: nginx.Labels,
	}
	a := b.ask(mac)
	b.docker.attach("c1", a, mac)
	known := whole(a)
	known.ImageID = ""
	same(t, []events.AddressAttributed{known}, b.told(a.Allocation, 1))

	other := b.ask(mac2)
	b.docker.attach("c9", other, mac2)
	same(t, []events.AddressAttributed{{Allocation: other.Allocation, Address: other.Address, Attribution: events.Attribution{
		ContainerID: "c9", ContainerName: "c9's name", NetworkID: "n1", NetworkName: "web", EndpointID: "e-c9",
	}}}, b.told(other.Allocation, 1))
}

// An image whose name the list does not tell, and the inspection not either, is
// told by its ID.
func TestAttributor_nameless(t *testing.T) {
	b := newBed(t)
	a := b.ask(mac)
	moved := nginx
	moved.Image = moved.ImageID
	b.docker.set(func() { b.docker.containers["c1"] = moved })
	b.docker.attach("c1", a, mac)
	want := whole(a)
	want.Image = want.ImageID
	same(t, []events.AddressAttributed{want}, b.told(a.Allocation, 1))
}

// While the engine is away nothing is told, and that is said once; then all is.
func TestAttributor_engineAway(t *testing.T) {
	b := newBed(t)
	b.docker.set(func() { b.docker.down = errors.New("no Docker") })
	b.docker.events <- engine.Event{}
	a := b.ask(mac)
	warned := func() (n int) {
		b.said.mu.Lock()
		defer b.said.mu.Unlock()
		for _, line := range b.said.all {
			n += strings.Count(line, "no Docker")
		}
		return n
	}
	for deadline := time.Now().Add(patience); warned() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody was warned")
		}
	}
	b.docker.attach("c1", a, mac)
	b.docker.set(func() { b.docker.containers["c1"], b.docker.down = nginx, nil })
	same(t, []events.AddressAttributed{whole(a)}, b.told(a.Allocation, 1))
	if n := warned(); n != 1 {
		t.Errorf("warned %d times", n)
	}
}

// What is found while the store is away is told when it is back, once.
func TestAttributor_storeAway(t *testing.T) {
	b := newBed(t)
	a := b.ask(mac)
	b.etcd.Stop()
	b.docker.set(func() { b.docker.containers["c1"] = nginx })
	b.docker.attach("c1", a, mac)
	b.docker.events <- engine.Event{Time: time.Now(), Type: "network", Action: "connect", Network: "n1", Container: "c1"}
	b.docker.events <- engine.Event{Time: time.Now(), Type: "network", Action: "connect", Network: "n1", Container: "c1"}
	b.etcd.Restart()
	b.told(a.Allocation, 1)

	// Whatever was sent twice has arrived by the time that another is told.
	other := b.ask(mac2)
	b.docker.attach("c2", other, mac2)
	b.told(other.Allocation, 1)
	same(t, []events.AddressAttributed{whole(a)}, b.told(a.Allocation, 1))
}

// What has ended is told of too, if it was seen in time; and a network's own is told
// with the first of its endpoints.
func TestAttributor_ended(t *testing.T) {
	b := newBed(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	gateway, err := b.RequestAddress(ctx, b.ref, actor.AddressRequest{Asking: actor.AskGateway})
	if err != nil {
		t.Fatal(err)
	}
	a := b.ask(mac)
	b.docker.set(func() { b.docker.containers["c1"] = nginx })
	b.docker.attach("c1", a, mac)
	same(t, []events.AddressAttributed{{Allocation: gateway.Allocation, Address: gateway.Address, Attribution: events.Attribution{
		NetworkID: "n1", NetworkName: "web",
	}}}, b.told(gateway.Allocation, 1))
	b.docker.detach("c1")
	if _, err := b.ReleaseAddress(ctx, b.ref, a.Address); err != nil {
		t.Fatal(err)
	}
	same(t, []events.AddressAttributed{whole(a)}, b.told(a.Allocation, 1))
}

// A container that was renamed while no daemon ran, and has ended before the next one
// has looked at anything, is told under its new name all the same.
func TestAttributor_renamedMeanwhile(t *testing.T) {
	b := newBed(t)
	a := b.ask(mac)
	b.docker.set(func() { b.docker.containers["c1"] = nginx })
	b.docker.attach("c1", a, mac)
	b.told(a.Allocation, 1)
	b.stop()
	at := time.Now().UTC().Truncate(time.Microsecond)
	b.docker.detach("c1")
	b.docker.set(func() { delete(b.docker.containers, "c1") })
	b.start()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := b.ReleaseAddress(ctx, b.ref, a.Address); err != nil {
		t.Fatal(err)
	}
	b.docker.events <- engine.Event{Time: at, Type: "container", Action: "rename", Container: "c1", OldName: "shop", Name: "store"}
	second := whole(a)
	second.ContainerName, second.Since = "store", at
	same(t, []events.AddressAttributed{whole(a), second}, b.told(a.Allocation, 2))
}

// However many start at once, the network is not inspected for each of them.
func TestAttributor_burst(t *testing.T) {
	b := newBed(t)
	var all []actor.Answer
	for i := range 50 {
		m := events.MAC{2, 0, 0, 0, 1, byte(i)}
		a := b.ask(m)
		b.docker.attach("c"+a.Address.String(), a, m)
		b.docker.set(func() {
			b.docker.containers["c"+a.Address.String()] = engine.Container{ID: "c" + a.Address.String(), Name: "x", Image: "i", ImageID: "sha256:1"}
		})
		all = append(all, a)
	}
	for _, a := range all {
		if told := b.told(a.Allocation, 1); told[0].ContainerID != "c"+a.Address.String() {
			t.Errorf("%s is told to be %s's", a.Address, told[0].ContainerID)
		}
	}
	b.docker.mu.Lock()
	defer b.docker.mu.Unlock()
	if b.docker.inspected >= len(all) {
		t.Errorf("the network was inspected %d times for %d containers", b.docker.inspected, len(all))
	}
}
