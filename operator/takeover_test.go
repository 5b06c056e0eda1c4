// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/operator"
)

// known makes a host known to the log, and lets its daemon die: what is returned is a
// daemon that does not know that.
func (b *bed) known(host string) *etcdlog.Writer {
	b.tb.Helper()
	lease, err := b.client.Grant(b.ctx(), 60)
	if err != nil {
		b.tb.Fatal(err)
	}
	dead := func(etcdlog.Presence) bool { return true }
	w, err := b.log.Join(b.ctx(), host, etcdlog.Presence{Machine: "machine-of-" + host, Version: "test"}, lease.ID, dead)
	if err != nil {
		b.tb.Fatal(err)
	}
	if _, err := b.client.Revoke(b.ctx(), lease.ID); err != nil {
		b.tb.Fatal(err)
	}
	return w
}

func (b *bed) host(name string) events.Guarded[events.HostGuard] {
	b.tb.Helper()
	hosts, _, err := b.log.Hosts(b.ctx())
	if err != nil {
		b.tb.Fatal(err)
	}
	return hosts[name]
}

// heldBy is how many holdings a host has.
func (b *bed) heldBy(host string) int {
	b.tb.Helper()
	pools, _, err := b.log.Pools(b.ctx())
	if err != nil {
		b.tb.Fatal(err)
	}
	n := 0
	for _, p := range pools {
		guards, _ := b.guards(p.ID)
		for _, held := range guards.Held {
			for _, a := range held.Value {
				if a.Host == host {
					n++
				}
			}
		}
	}
	return n
}

// told are the types of the events of a stream, in their order, each run of them once.
func (b *bed) told(stream events.Stream) []string {
	b.tb.Helper()
	records, _, err := b.log.Read(b.ctx(), 0, nil, stream)
	if err != nil {
		b.tb.Fatal(err)
	}
	var types []string
	for _, r := range records {
		for _, e := range r.Events {
			if n := len(types); n == 0 || types[n-1] != e.Type() {
				types = append(types, e.Type())
			}
		}
	}
	return types
}

func TestTakeOver(t *testing.T) {
	b := newBed(t)
	b.known("h3")
	pool := b.world()
	second, grant := b.pool("own", "10.2.0.0/24", "h3")
	for n := range 130 { // more than two commits
		b.hold(second, grant, events.Endpoint, fmt.Sprintf("10.2.0.%d", n+10), "h3", "c", time.Hour)
	}
	b.write(second, events.GrantClosing{Grant: grant}) // its daemon died over that
	third, grantOf3 := b.pool("shared", "10.3.0.0/24", "h3")
	grantOf1 := b.log.Clock.NewID()
	b.write(third, events.GrantOpened{Grant: grantOf1, Host: "h1"})
	for _, x := range []struct {
		grant events.ID
		host  string
	}{{grantOf1, "h1"}, {grantOf3, "h3"}} {
		b.write(third, events.AddressAllocated{Allocation: b.log.Clock.NewID(), Address: addr("10.3.0.1"), Kind: events.Gateway, Shared: true, Host: x.host, Grant: x.grant})
	}

	out, err := b.at("h1").TakeOver(b.ctx(), "h3")
	if err != nil {
		t.Fatal(err)
	}
	want := operator.TakenOver{
		Host: "h3", Changed: true, Revision: out.Revision, Released: 134, Pools: []string{"10.0.0.0/24", "own", "shared"},
		Said: []string{"host h3 is taken over: 134 holdings were ended in 3 pools"}, Notes: out.Notes,
	}
	if diff := cmp.Diff(want, out); diff != "" || !strings.Contains(strings.Join(out.Notes, "|"), "nothing is left of pool own: it is gone") {
		t.Errorf("%s %v", diff, out.Notes)
	}
	left := map[string]string{
		"10.0.0.11": "endpoint h1 c1", "10.0.0.12": "endpoint h1 young", "10.0.0.21": "endpoint h2 c2",
		"10.0.0.4": "host h1", "10.0.0.6": "host", "10.0.0.99": "reserved test",
	}
	if diff := cmp.Diff(left, b.held(pool)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"10.3.0.1": "gateway h1"}, b.held(third)); diff != "" {
		t.Error(diff)
	}
	if got := b.layout(second); got != "gone" {
		t.Errorf("the empty pool is there: %s", got)
	}
	if diff := cmp.Diff([]string{
		"pool.created", "grant.opened", "address.allocated", "grant.closing", "address.released", "grant.closed", "pool.retired",
	}, b.told(events.PoolStream(second))); diff != "" {
		t.Error(diff)
	}
	if h := b.host("h3").Value; !h.TakenOver || h.Incarnation != 2 {
		t.Errorf("the host's guard says %+v", h)
	}
	b.agree()

	before := b.keys()
	out, err = b.at("h1").TakeOver(b.ctx(), "h3")
	if err != nil || out.Changed || out.Said[0] != "nothing to do: host h3 holds nothing" {
		t.Errorf("%+v, %v", out, err)
	}
	if diff := cmp.Diff(before, b.keys()); diff != "" {
		t.Errorf("something was written:\n%s", diff)
	}
}

func TestTakeOver_refused(t *testing.T) {
	b := newBed(t)
	b.world()
	before := b.keys()
	for host, c := range map[string]struct {
		mark error
		want string
	}{
		"h2": {nil, "host h2 is alive, and what it holds is its own"},
		"h1": {nil, "host h1 is this one, and its daemon is running: ipamlog reclaim without --host"},
		"h8": {operator.ErrNotFound, "there is no host h8: ipamlog hosts lists those there are"},
	} {
		_, err := b.at("h1").TakeOver(b.ctx(), host)
		b.refused(before, err, c.mark, c.want)
	}
}

// A take-over that is cut short at any place goes on when it is run again, also beside
// another.
func TestTakeOver_cutShort(t *testing.T) {
	b := newBed(t)
	b.known("h3")
	pools := []events.ID{}
	for i := range 3 {
		pool, grant := b.pool(fmt.Sprintf("p%d", i), "10.2.0.0/24", "h3")
		for n := range 120 {
			b.hold(pool, grant, events.Endpoint, fmt.Sprintf("10.2.0.%d", n+10), "h3", "c", time.Hour)
		}
		pools = append(pools, pool)
	}
	cut := 0
	for {
		ctx, cancel := context.WithCancel(b.ctx())
		_, before := b.guards(pools[0])
		go func() { // as soon as anything is written
			defer cancel()
			for ctx.Err() == nil {
				if _, now, err := b.log.Hosts(ctx); err == nil && now > before {
					return
				}
			}
		}()
		_, err := b.at("h1").TakeOver(ctx, "h3")
		cancel()
		if err == nil {
			break
		}
		cut++
		b.agree()
	}
	if cut == 0 {
		t.Error("nothing was cut short")
	}
	for _, pool := range pools {
		if got := b.layout(pool); got != "gone" {
			t.Errorf("%v is left of pool %s", b.held(pool), got)
		}
	}
	if got := b.host("h3").Value.Incarnation; got != 2 {
		t.Errorf("incarnation %d: the take-over was begun more than once", got)
	}
	b.agree()
}

// Several operators at once, and daemons of others that go on in the same pools.
func TestTakeOver_together(t *testing.T) {
	b := newBed(t)
	b.known("h3")
	pool, grant := b.pool("web", "10.2.0.0/24", "h3")
	for n := range 150 {
		b.hold(pool, grant, events.Endpoint, fmt.Sprintf("10.2.0.%d", n+10), "h3", "c", time.Hour)
	}
	b.reserve("web", "10.2.0.5")
	errs := make(chan error)
	for i := range 4 {
		o := b.at(fmt.Sprintf("h%d", 10+i))
		go func() {
			_, err := o.TakeOver(b.ctx(), "h3")
			errs <- err
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(map[string]string{"10.2.0.5": "reserved test"}, b.held(pool)); diff != "" {
		t.Error(diff)
	}
	b.agree()
}

// An old daemon that does not know that it was taken for dead does no harm.
func TestTakeOver_fences(t *testing.T) {
	b := newBed(t)
	old := b.known("h3")
	pool, grant := b.pool("web", "10.2.0.0/24", "h3")
	taken := b.hold(pool, grant, events.Endpoint, "10.2.0.2", "h3", "c1", time.Hour)
	other := b.log.Clock.NewID()
	b.write(pool, events.GrantOpened{Grant: other, Host: "h1"})
	seen, _ := b.guards(pool)
	propose := func(e events.Event) etcdlog.Proposal {
		return etcdlog.Proposal{ID: b.log.Clock.NewID(), Stream: events.PoolStream(pool), Seen: seen, Events: []events.Event{e}}
	}
	stale := []etcdlog.Proposal{
		propose(events.GrantClosing{Grant: grant}),
		propose(events.GrantOpened{Grant: b.log.Clock.NewID(), Host: "h3"}),
		propose(events.GrantReopened{Grant: b.log.Clock.NewID(), Host: "h3"}),
		propose(events.AddressAllocated{Allocation: b.log.Clock.NewID(), Address: addr("10.2.0.3"), Kind: events.Endpoint, Host: "h3", Grant: grant}),
		propose(events.AddressReleased{Allocation: taken, Address: addr("10.2.0.2"), Reason: events.Released}),
		propose(events.AddressReleased{Allocation: taken, Address: addr("10.2.0.2"), Reason: events.GrantEnded}),
		propose(events.AddressSuspected{Allocation: taken, Address: addr("10.2.0.2")}),
	}
	if _, err := b.at("h1").TakeOver(b.ctx(), "h3"); err != nil {
		t.Fatal(err)
	}
	b.hold(pool, other, events.Endpoint, "10.2.0.2", "h1", "another", 0)
	before := b.keys()
	for _, p := range stale {
		_, err := old.Append(b.ctx(), p)
		if !errors.IsAny(err, etcdlog.ErrFenced, etcdlog.ErrConflict) {
			t.Errorf("%s: %v", p.Events[0].Type(), err)
		}
		if _, release := p.Events[0].(events.AddressReleased); !release && p.Events[0].Type() != events.TypeAddressAllocated && !errors.Is(err, etcdlog.ErrFenced) {
			t.Errorf("%s is not fenced: %v", p.Events[0].Type(), err)
		}
	}
	if err := old.Leave(b.ctx()); !errors.Is(err, etcdlog.ErrFenced) {
		t.Errorf("it left: %v", err)
	}
	if diff := cmp.Diff(before, b.keys()); diff != "" {
		t.Errorf("something was written:\n%s", diff)
	}
	b.agree()
}

// A host that comes back in the middle keeps the rest.
func TestTakeOver_comesBack(t *testing.T) {
	b := newBed(t)
	b.known("h3")
	for i := range 20 {
		pool, grant := b.pool(fmt.Sprintf("p%d", i), "10.2.0.0/24", "h3")
		b.hold(pool, grant, events.Endpoint, "10.2.0.2", "h3", "c", time.Hour)
	}
	lease, err := b.client.Grant(b.ctx(), 60)
	if err != nil {
		t.Fatal(err)
	}
	ctx, back := b.ctx(), make(chan error, 1)
	go func() {
		for {
			hosts, now, err := b.log.Hosts(ctx)
			if h := hosts["h3"]; err == nil && (!h.Value.TakenOver || now < h.Revision+8) {
				continue
			}
			if err == nil {
				_, err = b.log.Join(ctx, "h3", etcdlog.Presence{Machine: "machine-of-h3", Version: "test"}, lease.ID, func(etcdlog.Presence) bool { return false })
			}
			back <- err
			return
		}
	}()
	out, err := b.at("h1").TakeOver(ctx, "h3")
	if err := <-back; err != nil {
		t.Fatal(err)
	}
	if err != nil && !strings.Contains(err.Error(), "a daemon of host h3 has come back in the middle of the take-over: "+fmt.Sprint(out.Released)+" holding") {
		t.Error(err)
	}
	if left := b.heldBy("h3"); left != 20-out.Released || err == nil && left > 0 {
		t.Errorf("%d are held, and %d were given back: %v", left, out.Released, err)
	}
	t.Logf("%d of 20 were given back until it came back", out.Released)
	b.agree()
	_, err = b.at("h1").TakeOver(b.ctx(), "h3")
	b.refused(b.keys(), err, nil, "host h3 is alive")
}

func (b *bed) suspect(pool, allocation events.ID, a string) {
	b.tb.Helper()
	b.speak(pool, events.AddressSuspected{Allocation: allocation, Address: addr(a)})
}

func (b *bed) clear(pool, allocation events.ID, a string) {
	b.tb.Helper()
	b.speak(pool, events.AddressCleared{Allocation: allocation, Address: addr(a)})
}

// speak commits an event for h1.
func (b *bed) speak(pool events.ID, e events.Event) {
	b.tb.Helper()
	w, err := b.log.Operator(b.ctx(), "h1", "test")
	if err != nil {
		b.tb.Fatal(err)
	}
	seen, _ := b.guards(pool)
	seen.Hosts["h1"] = b.host("h1")
	if _, err := w.Append(b.ctx(), etcdlog.Proposal{
		ID: b.log.Clock.NewID(), Stream: events.PoolStream(pool), Seen: seen, For: "h1",
		Events: []events.Event{e},
	}); err != nil {
		b.tb.Fatal(err)
	}
}

func TestReclaim(t *testing.T) {
	b := newBed(t)
	b.alive("h1", machine)
	pool, grant := b.pool("web", "10.2.0.0/24", "h1")
	for n, name := range []string{"lost", "found", "sound"} {
		a := fmt.Sprintf("10.2.0.%d", n+2)
		id := b.hold(pool, grant, events.Endpoint, a, "h1", name, time.Hour)
		if name != "sound" {
			b.suspect(pool, id, a)
		}
	}
	knows := asking(docker{"10.2.0.3": "container found on network web", "10.2.0.4": "container sound on network web"})
	before := b.keys()
	soon := func(o *operator.Options) { o.Grace = time.Nanosecond }
	fates := func(o *operator.Operator) string {
		t.Helper()
		leaks, err := o.Leaks(b.ctx())
		if err != nil {
			t.Fatal(err)
		}
		var words []string
		for _, l := range leaks {
			words = append(words, l.Address.String(), string(l.Fate))
		}
		return strings.Join(words, " ")
	}
	if got := fates(b.at("h1", knows)); got != "10.2.0.2 wait 10.2.0.3 keep" {
		t.Errorf("%s: the second look comes at once", got)
	}
	if got := fates(b.at("h1", knows, soon)); got != "10.2.0.2 reclaim 10.2.0.3 keep" {
		t.Error(got)
	}
	_, err := b.at("h1", asking(nil)).Reclaim(b.ctx())
	b.refused(before, err, nil, "ask Docker what it uses: there is no Docker")
	_, err = b.at("h1").Reclaim(b.ctx())
	b.refused(before, err, nil, "--engine is off")
	_, err = b.at("h1", knows, func(o *operator.Options) { o.Machine = "another" }).Reclaim(b.ctx())
	b.refused(before, err, nil, "host h1 is another machine")
	_, err = b.at("h8", knows).Reclaim(b.ctx())
	b.refused(before, err, operator.ErrNotFound, "there is no host h8")

	out, err := b.at("h1", knows, soon).Reclaim(b.ctx())
	if err != nil || out.Reclaimed != 1 || out.Kept != 1 {
		t.Fatalf("%+v, %v", out, err)
	}
	for i, want := range []string{"10.2.0.2 in pool web is free; it was held by endpoint lost on host h1: Docker has not known it since ", "10.2.0.3 in pool web stays held by endpoint found on host h1: Docker did not know it at "} {
		if got := append(out.Said, out.Notes...)[i]; !strings.HasPrefix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if diff := cmp.Diff(map[string]string{"10.2.0.3": "endpoint h1 found", "10.2.0.4": "endpoint h1 sound"}, b.held(pool)); diff != "" {
		t.Error(diff)
	}
	b.agree()
	out, err = b.at("h1", knows, soon).Reclaim(b.ctx())
	if err != nil || out.Changed || out.Kept != 1 || len(out.Said) > 0 {
		t.Errorf("%+v, %v", out, err)
	}
}

// Where no daemon looks, the first time suspects, and the second reclaims; but for
// what may still be starting, and what is asked for in between.
func TestReclaim_inTwoSteps(t *testing.T) {
	b := newBed(t)
	b.alive("h1", machine)
	pool, grant := b.pool("web", "10.2.0.0/24", "h1")
	b.hold(pool, grant, events.Gateway, "10.2.0.1", "h1", "", time.Hour)
	b.hold(pool, grant, events.Endpoint, "10.2.0.2", "h1", "lost", time.Hour)
	again := b.hold(pool, grant, events.Endpoint, "10.2.0.3", "h1", "again", time.Hour)
	b.hold(pool, grant, events.Endpoint, "10.2.0.4", "h1", "young", 0)
	b.hold(pool, grant, events.Endpoint, "10.2.0.5", "h2", "elsewhere", time.Hour)
	o := b.at("h1", asking(docker{}), func(o *operator.Options) { o.Grace = time.Nanosecond })
	out := func() operator.Reclaimed {
		t.Helper()
		out, err := o.Reclaim(b.ctx())
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if out := out(); out.Suspected != 2 || out.Reclaimed != 0 || !strings.HasPrefix(out.Said[0], "10.2.0.2 in pool web is suspected: Docker does not know endpoint lost on host h1; run this again in ") {
		t.Errorf("%+v", out)
	}
	b.clear(pool, again, "10.2.0.3")
	if out := out(); out.Suspected != 1 || out.Reclaimed != 1 {
		t.Errorf("%+v", out)
	}
	want := map[string]string{"10.2.0.1": "gateway h1", "10.2.0.3": "endpoint h1 again", "10.2.0.4": "endpoint h1 young", "10.2.0.5": "endpoint h2 elsewhere"}
	if diff := cmp.Diff(want, b.held(pool)); diff != "" {
		t.Error(diff)
	}
	b.agree()
	none, err := b.at("h2", asking(docker{"10.2.0.5": "container"}), func(o *operator.Options) { o.Machine = "machine-2" }).Leaks(b.ctx())
	if !errors.Is(err, operator.ErrNotFound) {
		t.Errorf("%+v, %v", none, err)
	}
}

// Uses implements [operator.Engine].
func (d docker) Uses(context.Context) (map[netip.Addr]string, error) {
	if d == nil {
		return nil, errors.New("there is no Docker")
	}
	uses := map[netip.Addr]string{}
	for a, use := range d {
		uses[addr(a)] = use
	}
	return uses, nil
}
