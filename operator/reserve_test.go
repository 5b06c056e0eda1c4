// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/operator"
)

func TestReserve(t *testing.T) {
	b := newBed(t)
	pool := b.hosts("", "10.0.0.4/20", "10.0.0.6/20", "10.0.0.1").ID
	one := b.reserve("", "10.0.0.9")
	if want := []string{"10.0.0.9 in pool 10.0.0.0/20 is reserved: 1 address"}; !one.Changed || !cmp.Equal(want, one.Said) {
		t.Errorf("%+v", one)
	}
	before := b.keys()
	if again := b.reserve("", "10.0.0.9"); again.Changed || !cmp.Equal(before, b.keys()) {
		t.Errorf("%+v", again)
	}
	// Several commits, over what is there, a host's range and the router.
	many := b.reserve("10.0.0.0/20", "10.0.0.1-10.0.3.0")
	if want := []string{"10.0.0.1-10.0.3.0 in pool 10.0.0.0/20 is reserved: 766 addresses, 1 were already"}; !cmp.Equal(want, many.Said) || len(many.Notes) != 1 {
		t.Errorf("%+v", many)
	}
	if held := b.held(pool); len(held) != 767 || held["10.0.0.9"] != "reserved test" || held["10.0.0.1"] != "" {
		t.Errorf("%d held, %s, %s", len(held), held["10.0.0.9"], held["10.0.0.1"])
	}
	r, err := operator.ParseStretch("10.0.0.0-10.0.15.255")
	if err != nil {
		t.Fatal(err)
	}
	out := done(t)(b.at("h1").Unreserve(b.ctx(), "", r))
	if want := []string{"10.0.0.0-10.0.15.255 in pool 10.0.0.0/20 is reserved no more: 767 addresses"}; !cmp.Equal(want, out.Said) {
		t.Errorf("%+v", out)
	}
	if got := b.layout(pool); got != "host:10.0.0.4-10.0.0.6 router:10.0.0.1" || len(b.held(pool)) > 0 {
		t.Error(got)
	}
	b.agree()
}

// A pool that nobody laid out and nobody uses ends with its last reservation, in
// whatever number of commits they go.
func TestUnreserve_retires(t *testing.T) {
	for _, last := range []string{"10.0.0.1", "10.0.0.60", "10.0.0.250"} {
		b := newBed(t)
		pool, grant := b.pool("", "10.0.0.0/24", "h1")
		b.reserve("", "10.0.0.1-"+last)
		r, err := operator.ParseStretch("10.0.0.1-10.0.0.254")
		if err != nil {
			t.Fatal(err)
		}
		b.write(pool, events.GrantClosing{Grant: grant}, events.GrantClosed{Grant: grant})
		if got := b.layout(pool); got != "not kept" {
			t.Fatal(got)
		}
		out := done(t)(b.at("h1").Unreserve(b.ctx(), "", r))
		if got := b.layout(pool); got != "gone" || len(out.Said) != 2 || strings.Contains(out.Said[0], " 0 ") {
			t.Errorf("%s, %+v", got, out)
		}
		b.agree()
	}
}

func TestReserve_refused(t *testing.T) {
	b := newBed(t)
	pool, grant := b.pool("", "10.0.0.0/16", "h2")
	b.hold(pool, grant, events.Endpoint, "10.0.1.77", "h2", "c1", 0)
	b.reserve("", "10.0.0.9")
	b.pool("one", "10.1.0.0/24", "h1")
	b.pool("two", "10.1.0.0/24", "h1")
	o := b.at("h1")
	for name, c := range map[string]struct {
		pool, what, why string
		mark            error
		want            string
	}{
		"one that is held":     {"", "10.0.1.0-10.0.1.255", "x", nil, "nothing was reserved: 10.0.1.77 is held by endpoint c1 on host h2"},
		"without a reason":     {"", "10.0.0.10", " ", operator.ErrInvalid, "say why"},
		"with an escape":       {"", "10.0.0.10", "x\x1b[2Jy", operator.ErrInvalid, `--why "x\x1b[2Jy" has characters that cannot be seen`},
		"in two lines":         {"", "10.0.0.10", "x\ny", operator.ErrInvalid, "cannot be seen"},
		"not in UTF-8":         {"", "10.0.0.10", "x\xff", operator.ErrInvalid, "cannot be seen"},
		"with a long reason":   {"", "10.0.0.10", strings.Repeat("x", 501), operator.ErrInvalid, "501 bytes"},
		"the network":          {"", "10.0.0.0-10.0.0.9", "x", operator.ErrInvalid, "10.0.0.0 is the network or broadcast address"},
		"too many":             {"", "10.0.0.1-11.0.0.0", "x", operator.ErrInvalid, "more than 65536 addresses: keep it out of the pool with --ipam-opt exclude=10.0.0.1-11.0.0.0"},
		"of no pool":           {"", "10.7.0.1", "x", operator.ErrNotFound, "no pool has 10.7.0.1"},
		"across pools":         {"", "10.0.255.9-10.1.0.9", "x", operator.ErrNotFound, "no pool has 10.0.255.9-10.1.0.9"},
		"of several pools":     {"", "10.1.0.9", "x", operator.ErrAmbiguous, "name one with --pool"},
		"of a pool without it": {"one", "10.0.0.9", "x", operator.ErrNotFound, "pool one is 10.1.0.0/24, and does not have 10.0.0.9"},
		"of no such pool":      {"three", "10.0.0.9", "x", operator.ErrNotFound, "there is no pool three"},
	} {
		t.Run(name, func(t *testing.T) {
			b := *b
			b.tb = t
			before := b.keys()
			r, err := operator.ParseStretch(c.what)
			if err != nil {
				t.Fatal(err)
			}
			_, err = o.Reserve(b.ctx(), c.pool, r, c.why)
			b.refused(before, err, c.mark, c.want)
		})
	}
	before := b.keys()
	for what, want := range map[string]string{
		"10.0.0.10":           "nothing of 10.0.0.10 is reserved in pool 10.0.0.0/16",
		"10.0.1.0-10.0.1.255": "10.0.1.77 is held by endpoint c1 on host h2",
	} {
		r, err := operator.ParseStretch(what)
		if err != nil {
			t.Fatal(err)
		}
		_, err = o.Unreserve(b.ctx(), "", r)
		b.refused(before, err, operator.ErrNotFound, want)
	}
}

// A long reservation that meets a container half way is taken back whole.
func TestReserve_takenBack(t *testing.T) {
	b := newBed(t)
	pool, grant := b.pool("", "10.0.0.0/16", "h2")
	b.reserve("", "10.0.0.5")
	w, err := b.log.Operator(b.ctx(), "h2", "test")
	if err != nil {
		t.Fatal(err)
	}
	for try := range 10 {
		a := addr(fmt.Sprintf("10.0.19.%d", try+1))
		r, err := operator.ParseStretch("10.0.0.1-10.0.20.0")
		if err != nil {
			t.Fatal(err)
		}
		reserved, o := make(chan error), b.at("h1")
		go func() {
			_, err := o.Reserve(b.ctx(), "", r, "long")
			reserved <- err
		}()
		var raced error
		for {
			g, _, err := b.log.Guards(b.ctx(), events.Local, pool)
			if err != nil {
				t.Error(err)
				break
			}
			if len(g.Held) < 2 {
				continue // it has not begun
			}
			id := b.log.Clock.NewID()
			_, raced = w.Append(b.ctx(), etcdlog.Proposal{
				ID: id, Stream: events.PoolStream(pool), Seen: g,
				Events: []events.Event{events.AddressAllocated{Allocation: id, Address: a, Kind: events.Endpoint, Host: "h2", Grant: grant}},
			})
			break
		}
		if err = <-reserved; raced == nil && err != nil {
			if !strings.Contains(err.Error(), a.String()+" is held by endpoint") {
				t.Error(err)
			}
			if diff := cmp.Diff(map[string]string{"10.0.0.5": "reserved test", a.String(): "endpoint h2"}, b.held(pool)); diff != "" {
				t.Error(diff)
			}
			b.agree()
			t.Logf("in between at try %d", try)
			return
		}
		// It was too late: all of it is reserved, and goes back for another try.
		rest, err := operator.ParseStretch("10.0.0.6-10.0.20.0")
		if err != nil {
			t.Fatal(err)
		}
		done(t)(b.at("h1").Unreserve(b.ctx(), "", rest))
		rest, _ = operator.ParseStretch("10.0.0.1-10.0.0.4")
		done(t)(b.at("h1").Unreserve(b.ctx(), "", rest))
	}
	t.Error("nobody ever came in between")
}

// The router is no container's, whether it is held or not, and that is said.
func TestReserve_router(t *testing.T) {
	b := newBed(t)
	pool := b.hosts("", "10.0.0.4/24", "10.0.0.6/24", "10.0.0.1").ID
	before := b.keys()
	want := []string{"nothing to do: 10.0.0.1 is the router of pool 10.0.0.0/24, which no container gets anyway"}
	if out := b.reserve("", "10.0.0.1"); out.Changed || !cmp.Equal(want, out.Said) || len(out.Notes) > 0 || !cmp.Equal(before, b.keys()) {
		t.Errorf("%+v", out)
	}
	grant := b.log.Clock.NewID()
	b.write(pool, events.GrantOpened{Grant: grant, Host: "h2"})
	b.hold(pool, grant, events.Gateway, "10.0.0.1", "h2", "", 0)
	out := b.reserve("", "10.0.0.1-10.0.0.2")
	if want := []string{"10.0.0.1-10.0.0.2 in pool 10.0.0.0/24 is reserved: 1 address"}; !cmp.Equal(want, out.Said) || len(out.Notes) != 1 {
		t.Errorf("%+v", out)
	}
	b.agree()
}

// What is given back is sorted once, however much it is: this takes many times longer where
// every commit looks through all of it.
func TestUnreserve_many(t *testing.T) {
	b := newBed(t)
	b.ranges("", "10.1.0.10/16", "10.1.0.20/16")
	r, err := operator.ParseStretch("10.1.1.0-10.1.125.255")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	reserving := time.Now()
	done(t)(b.at("h1").Reserve(ctx, "", r, "x"))
	unreserving := time.Now()
	commits := 0
	out := done(t)(b.between("h1", func(commit int) error {
		commits = commit
		return nil
	}).Unreserve(ctx, "", r))
	took, forth := time.Since(unreserving), unreserving.Sub(reserving)
	if want := []string{"10.1.1.0-10.1.125.255 in pool 10.1.0.0/16 is reserved no more: 32000 addresses"}; !cmp.Equal(want, out.Said) {
		t.Errorf("%+v", out)
	}
	t.Logf("%s to reserve, %s to give back", forth, took)
	if took > 4*forth || commits > 32000/etcdlog.MaxEvents+1 {
		t.Errorf("giving back took %s and %d commits, reserving only %s", took, commits, forth)
	}
}

// What was begun is not left half done: when the person goes away all of it is
// taken back, and when that cannot be, the sentence says what is left and how it is
// given back.
func TestReserve_interrupted(t *testing.T) {
	b := newBed(t)
	pool := b.ranges("", "10.1.0.10/16", "10.1.0.20/16").ID
	b.reserve("", "10.1.1.7")
	r, err := operator.ParseStretch("10.1.1.0-10.1.40.255")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err = b.between("h1", func(commit int) error {
		if commit == 50 {
			cancel()
		}
		return nil
	}).Reserve(ctx, "", r, "x")
	if diff := cmp.Diff(map[string]string{"10.1.1.7": "reserved test"}, b.held(pool)); err == nil || diff != "" {
		t.Errorf("%v, half of it is left: %s", err, diff)
	}
	_, err = b.between("h1", func(commit int) error {
		if commit > 2 {
			return rpctypes.ErrPermissionDenied
		}
		return nil
	}).Reserve(b.ctx(), "", r, "x")
	if held := len(b.held(pool)); held != 201 || !errors.Is(err, operator.ErrUnsettled) || errors.Is(err, context.Canceled) {
		t.Errorf("%d held, %v", held, err)
	}
	for _, want := range []string{"only a part of 10.1.1.0-10.1.40.255 was reserved", "could not be taken back", "ipamlog unreserve 10.1.1.0-10.1.40.255"} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "nothing was") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	b.agree()
}

// Who takes the first address of a piece in between is seen, and not passed over.
func TestReserve_firstOfAPiece(t *testing.T) {
	b := newBed(t)
	pool, grant := b.pool("", "10.0.0.0/16", "h2")
	r, err := operator.ParseStretch("10.0.1.0-10.0.2.255")
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.between("h1", func(commit int) error {
		if commit == 2 {
			b.hold(pool, grant, events.Endpoint, "10.0.1.100", "h2", "c1", 0)
		}
		return nil
	}).Reserve(b.ctx(), "", r, "x")
	if err == nil || !strings.Contains(err.Error(), "nothing was reserved: 10.0.1.100 is held by endpoint c1 on host h2 since a moment ago") {
		t.Error(err)
	}
	if diff := cmp.Diff(map[string]string{"10.0.1.100": "endpoint h2 c1"}, b.held(pool)); diff != "" {
		t.Error(diff)
	}
	b.agree()
}
