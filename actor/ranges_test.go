// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/errors"
	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
)

// Whatever the order of the picks, and whoever picks, they come out of the ranges,
// all of which is given out before one is refused. Beside them, what is not
// excluded can be asked for by name.
func TestPicksComeFromRanges(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h1, h2 := b.start("h1"), b.start("h2")
	for i, pick := range []events.Pick{events.PickSerial, events.PickLowest, events.PickRandom} {
		for j, base := range []string{"10.%d.0.", "fd00:%d::"} {
			at := func(n int) string { return fmt.Sprintf(base, i+1) + fmt.Sprint(n) }
			t.Run(fmt.Sprintf("%s %s", pick, at(0)), func(t *testing.T) {
				b := &bed{tb: t, etcd: b.etcd, log: b.log}
				request := actor.PoolRequest{
					Space: events.Local, Subnet: netip.PrefixFrom(addr(at(0)), []int{24, 64}[j]),
					Wish: actor.Wish{
						Pick: new(pick), Ranges: ranges(at(10)+"-"+at(12), at(40)+"-"+at(44)), Exclude: ranges(at(41)+"-"+at(41), at(90)+"-"+at(99)),
					},
				}
				l := newLedger(t)
				refs := make([]actor.Ref, 2)
				var wg sync.WaitGroup
				for n, d := range []*daemon{h1, h2} {
					g, err := d.RequestPool(b.ctx(), request)
					if err != nil {
						t.Fatal(err)
					}
					refs[n] = g.Ref
				}
				for n := range 7 {
					wg.Go(func() {
						a, err := []*daemon{h1, h2}[n%2].RequestAddress(b.ctx(), refs[n%2], endpoint(n))
						if err != nil {
							t.Error(err)
							return
						}
						l.take(a.Address, fmt.Sprint(n))
					})
				}
				wg.Wait()
				for _, n := range []int{10, 11, 12, 40, 42, 43, 44} {
					if _, given := l.held[addr(at(n))]; !given {
						t.Errorf("%s was not given out", at(n))
					}
				}
				for n, d := range []*daemon{h1, h2} {
					_, err := d.RequestAddress(b.ctx(), refs[n], endpoint(100+n))
					wantErr(t, err, actor.ErrExhausted)
					if want := fmt.Sprintf("in the ranges %s-%s,%s-%s", at(10), at(12), at(40), at(44)); !strings.Contains(err.Error(), want) {
						t.Errorf("%v does not say %q", err, want)
					}
				}
				// A gateway that nobody named comes out of them too.
				_, err := h1.RequestAddress(b.ctx(), refs[0], gateway(""))
				wantErr(t, err, actor.ErrExhausted)

				for name, is := range map[string]error{at(99): actor.ErrSetAside, at(41): actor.ErrSetAside, at(8): nil, at(42): actor.ErrInUse} {
					a, err := h2.RequestAddress(b.ctx(), refs[1], asked(actor.AskEndpoint, 200, "", name))
					if is != nil {
						wantErr(t, err, is)
					} else if err != nil || a.Address != addr(name) {
						t.Errorf("%s: got %v, %v", name, a, err)
					}
				}
				// What comes back goes out again, from any host; what came from beside
				// the ranges does not.
				for _, a := range []string{at(8), at(43)} {
					if _, err := h2.ReleaseAddress(b.ctx(), refs[1], addr(a)); err != nil {
						t.Error(err)
					}
					if _, err := h1.ReleaseAddress(b.ctx(), refs[0], addr(a)); err != nil {
						t.Error(err)
					}
				}
				if a, err := h1.RequestAddress(b.ctx(), refs[0], endpoint(101)); err != nil || a.Address != addr(at(43)) {
					t.Errorf("got %v, %v; %s is free", a, err, at(43))
				}
				_, err = h1.RequestAddress(b.ctx(), refs[0], endpoint(102))
				wantErr(t, err, actor.ErrExhausted)
				b.agree(refs[0])
			})
		}
	}
}

// An --ip-range is within the ranges, and a pool that gives out nothing of it is
// not joined.
func TestRangeOfAGrantWithinRanges(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	laid := actor.Wish{Ranges: ranges("10.1.0.60-10.1.0.66"), Exclude: ranges("10.1.0.65-10.1.0.65")}
	wide := d.pool(actor.PoolRequest{Subnet: prefix("10.1.0.0/24"), Wish: laid})
	ref := d.pool(actor.PoolRequest{Subnet: prefix("10.1.0.0/24"), Range: prefix("10.1.0.64/26"), Wish: laid})
	if ref.Pool != wide.Pool {
		t.Fatal("two pools")
	}
	if got := []netip.Addr{d.ask(ref, endpoint(1)).Address, d.ask(ref, endpoint(2)).Address}; !slices.Equal(got, []netip.Addr{addr("10.1.0.64"), addr("10.1.0.66")}) {
		t.Errorf("picked %v", got)
	}
	_, err := d.RequestAddress(b.ctx(), ref, endpoint(3))
	wantErr(t, err, actor.ErrExhausted)
	if a := d.ask(wide, endpoint(4)); a.Address != addr("10.1.0.60") {
		t.Errorf("picked %s", a.Address)
	}
	for name, tt := range map[string]struct {
		request actor.PoolRequest
		is      error
		says    string
	}{
		"nothing of it":             {actor.PoolRequest{Subnet: prefix("10.1.0.0/24"), Range: prefix("10.1.0.128/25")}, actor.ErrContradicts, "gives out no address of range 10.1.0.128/25"},
		"excluded alone":            {actor.PoolRequest{Subnet: prefix("10.1.0.0/24"), Range: prefix("10.1.0.65/32")}, actor.ErrContradicts, "gives out no address of range 10.1.0.65/32"},
		"a range outside":           {actor.PoolRequest{Subnet: prefix("10.2.0.0/24"), Wish: actor.Wish{Ranges: ranges("10.3.0.1-10.3.0.2")}}, actor.ErrOutOfRange, "range 10.3.0.1-10.3.0.2 is not in 10.2.0.0/24"},
		"a range that leaves":       {actor.PoolRequest{Subnet: prefix("10.2.0.0/24"), Wish: actor.Wish{Exclude: ranges("10.2.0.1-10.3.0.2")}}, actor.ErrOutOfRange, "is not in 10.2.0.0/24"},
		"of another family":         {actor.PoolRequest{Subnet: prefix("10.2.0.0/24"), Wish: actor.Wish{Ranges: ranges("fd00::1-fd00::2")}}, actor.ErrOutOfRange, "is not in 10.2.0.0/24"},
		"all of it excluded":        {actor.PoolRequest{Subnet: prefix("10.2.0.0/24"), Wish: actor.Wish{Exclude: ranges("10.2.0.1-10.2.0.254")}}, actor.ErrOutOfRange, "leave nothing of 10.2.0.0/24"},
		"nothing but the broadcast": {actor.PoolRequest{Subnet: prefix("10.2.0.0/24"), Wish: actor.Wish{Ranges: ranges("10.2.0.255-10.2.0.255")}}, actor.ErrOutOfRange, "leave nothing of 10.2.0.0/24"},
		"past what is ever picked":  {actor.PoolRequest{Subnet: prefix("fd00::/64"), Wish: actor.Wish{Ranges: ranges("fd00::8000:0:0:0-fd00::9000:0:0:0")}}, actor.ErrOutOfRange, "leave nothing of fd00::/64"},
		"of a subnet of our choice": {actor.PoolRequest{Wish: actor.Wish{Ranges: ranges("10.3.0.1-10.3.0.2")}}, actor.ErrOutOfRange, "is not in 10.128."},
	} {
		tt.request.Space = events.Local
		g, err := d.RequestPool(b.ctx(), tt.request)
		if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %+v, %v; want %q", name, g, err, tt.says)
		}
	}
	b.agree(ref)
}

// Who joins a pool may repeat its options, and is refused by the option's name if
// they differ.
func TestOptionsThatContradict(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h1, h2 := b.start("h1"), b.start("h2")
	has := actor.Wish{
		Gateway: new(events.GatewayShared), Pick: new(events.PickLowest), Quarantine: new(events.Seconds(5)), Sticky: new(events.StickyMAC),
		Ranges: ranges("10.1.0.5-10.1.0.9"), Exclude: ranges("10.1.0.7-10.1.0.7"),
	}
	request := actor.PoolRequest{Space: events.Local, Name: "web", Subnet: prefix("10.1.0.0/24")}
	first := request
	first.Wish = has
	ref := h1.pool(first)
	for says, wish := range map[string]actor.Wish{
		"pool web: its gateway mode is shared, not auto":                     {Gateway: new(events.GatewayAuto)},
		"pool web: its pick is lowest, not random":                           {Pick: new(events.PickRandom)},
		"pool web: its quarantine is 5s, not 0s":                             {Quarantine: new(events.Seconds(0))},
		`pool web: its addresses are sticky by "mac", not by "name"`:         {Sticky: new(events.StickyName)},
		"pool web: its ranges are 10.1.0.5-10.1.0.9, not 10.1.0.5-10.1.0.10": {Ranges: ranges("10.1.0.5-10.1.0.10")},
		"pool web: its ranges are 10.1.0.5-10.1.0.9, not none":               {Ranges: []netipx.IPRange{}},
		"pool web: it excludes 10.1.0.7, not 10.1.0.1,10.1.0.7":              {Exclude: ranges("10.1.0.1-10.1.0.1", "10.1.0.7-10.1.0.7")},
	} {
		other := request
		other.Wish = wish
		if g, err := h2.RequestPool(b.ctx(), other); !errors.Is(err, actor.ErrContradicts) || !strings.Contains(err.Error(), says) {
			t.Errorf("got %+v, %v; want %q", g, err, says)
		}
	}
	for _, wish := range []actor.Wish{{}, has, {Ranges: has.Ranges}, {Sticky: has.Sticky, Gateway: has.Gateway}} {
		other := request
		other.Wish = wish
		if got := h2.pool(other); got.Pool != ref.Pool {
			t.Error("a second pool")
		}
	}
	// Where there is nothing of it, it is said so.
	bare := h1.pool(actor.PoolRequest{Name: "bare", Subnet: prefix("10.1.0.0/24")})
	_, err := h2.RequestPool(b.ctx(), actor.PoolRequest{Space: events.Local, Name: "bare", Wish: actor.Wish{Ranges: has.Ranges}})
	if !errors.Is(err, actor.ErrContradicts) || !strings.Contains(err.Error(), "pool bare: its ranges are none, not 10.1.0.5-10.1.0.9") {
		t.Error(err)
	}
	// What an operator has changed is what counts.
	b.layOut(bare, func(e *events.PoolChanged) { e.Ranges = has.Ranges })
	if got := h2.pool(actor.PoolRequest{Name: "bare", Wish: actor.Wish{Ranges: has.Ranges}}); got.Pool != bare.Pool {
		t.Error("a second pool")
	}
}

// What is set aside no endpoint gets, on its own or by name; gateways and
// auxiliaries may be there.
func TestSetAside(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref := d.subnet("10.1.0.0/28")
	d.sees(ref, b.layOut(ref, func(e *events.PoolChanged) {
		e.Layout = events.Layout{Router: addr("10.1.0.1"), HostRanges: ranges("10.1.0.2-10.1.0.5"), Exclude: ranges("10.1.0.12-10.1.0.14")}
	}))
	for a, why := range map[string]string{
		"10.1.0.1": "10.1.0.1 is the router of the pool", "10.1.0.4": "10.1.0.4 is kept for the hosts' own bridges", "10.1.0.13": "10.1.0.13 is excluded from the pool",
	} {
		_, err := d.RequestAddress(b.ctx(), ref, asked(actor.AskEndpoint, 1, "c1", a))
		wantErr(t, err, actor.ErrSetAside)
		if !strings.Contains(err.Error(), why) {
			t.Errorf("%v does not say %q", err, why)
		}
	}
	d.ask(ref, gateway("10.1.0.1"))
	d.ask(ref, plain("10.1.0.2"))
	d.ask(ref, plain("10.1.0.12"))
	d.ask(ref, gateway("10.1.0.14"))
	for n := range 6 {
		if a := d.ask(ref, endpoint(n)); a.Address.Less(addr("10.1.0.6")) || addr("10.1.0.11").Less(a.Address) {
			t.Errorf("picked %s", a.Address)
		}
	}
	_, err := d.RequestAddress(b.ctx(), ref, endpoint(9))
	wantErr(t, err, actor.ErrExhausted)
	// An old engine's container asks plainly: no auxiliary any more.
	_, err = d.RequestAddress(b.ctx(), ref, plain("10.1.0.13"))
	wantErr(t, err, actor.ErrSetAside)
	b.agree(ref)
}

// Who has an address keeps it when it is set aside later, and may ask for it again:
// the same answer, nothing new.
func TestSetAsideUnderItsHolder(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	aside := map[string]func(*events.Layout){
		"excluded": func(l *events.Layout) { l.Exclude = ranges("10.0.0.0-10.255.255.255") },
		"a host's": func(l *events.Layout) { l.HostRanges = ranges("10.0.0.0-10.255.255.255") },
		"router":   func(l *events.Layout) { l.Router = addr("10.0.0.9") },
	}
	subnet := byte(0)
	for why, set := range aside {
		for _, space := range events.Spaces() {
			subnet++
			at := netip.AddrFrom4([4]byte{10, subnet, 0, 9})
			ref := d.pool(actor.PoolRequest{Space: space, Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, subnet}), 24)})
			ask := endpoint(1)
			if space == events.Global {
				ask = actor.AddressRequest{} // as a manager asks
			}
			ask.Address = at
			first := d.ask(ref, ask)
			var layout events.Layout
			if set(&layout); layout.Router.IsValid() {
				layout.Router = at
			}
			for _, list := range []*[]netipx.IPRange{&layout.Exclude, &layout.HostRanges} {
				if len(*list) > 0 {
					*list = []netipx.IPRange{netipx.RangeOfPrefix(ref.Subnet)}
				}
			}
			d.sees(ref, b.layOut(ref, func(e *events.PoolChanged) { e.Layout = layout }))
			again, err := d.RequestAddress(b.ctx(), ref, ask)
			if err != nil || !again.Repeat || again.Allocation != first.Allocation {
				t.Errorf("%s, %s: the holder's repeat got %+v, %v", why, space, again, err)
			}
			if _, err := d.ReleaseAddress(b.ctx(), ref, at); err != nil {
				t.Error(err)
			}
			_, err = d.RequestAddress(b.ctx(), ref, ask)
			if !errors.Is(err, actor.ErrSetAside) {
				t.Errorf("%s, %s: once released it was given out again: %v", why, space, err)
			}
		}
	}
}

// An operator moves the ranges of a pool while hosts give out addresses: each pick
// is out of the layout that its host had seen, or a newer one.
func TestPicksFollowTheLayout(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	hosts := []*daemon{b.start("h1"), b.start("h2")}
	var refs []actor.Ref
	for _, d := range hosts {
		refs = append(refs, d.subnet("10.1.0.0/16"))
	}
	part := func(n int) netipx.IPRange { return netipx.RangeOfPrefix(prefix(fmt.Sprintf("10.1.%d.0/24", n))) }
	for round := 1; round <= 5; round++ {
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for i, d := range hosts {
			wg.Go(func() { // of the layout before, or of the new one
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					a, err := d.RequestAddress(b.ctx(), refs[i], endpoint(100_000*round+10_000*i+n))
					if err != nil {
						t.Error(err)
						return
					}
					if round > 1 && !part(round-1).Contains(a.Address) && !part(round).Contains(a.Address) {
						t.Errorf("round %d: picked %s", round, a.Address)
					}
					if _, err := d.ReleaseAddress(b.ctx(), refs[i], a.Address); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		revision := b.layOut(refs[0], func(e *events.PoolChanged) { e.Ranges = []netipx.IPRange{part(round)} })
		for i, d := range hosts {
			d.sees(refs[i], revision)
			a := d.ask(refs[i], endpoint(100_000*round+90_000+i))
			if !part(round).Contains(a.Address) {
				t.Errorf("round %d: picked %s of a layout that is gone", round, a.Address)
			}
		}
		close(stop)
		wg.Wait()
	}
	b.agree(refs[0])
}

// A pool that an operator has just given more is not exhausted, seen or not.
func TestWidenedPoolIsNotExhausted(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref := d.pool(actor.PoolRequest{Subnet: prefix("10.1.0.0/16"), Wish: actor.Wish{Ranges: ranges("10.1.0.1-10.1.0.1")}})
	d.ask(ref, endpoint(0))
	for n := 1; n < 10; n++ {
		_, err := d.RequestAddress(b.ctx(), ref, endpoint(n))
		wantErr(t, err, actor.ErrExhausted)
		b.layOut(ref, func(e *events.PoolChanged) { e.Ranges = ranges(fmt.Sprintf("10.1.0.1-10.1.0.%d", n+1)) })
		if a := d.ask(ref, endpoint(n)); a.Address != netip.AddrFrom4([4]byte{10, 1, 0, byte(n + 1)}) {
			t.Errorf("picked %s", a.Address)
		}
	}
	b.agree(ref)
}

// What waited for its commit while the pool was laid out anew is decided again:
// once the layout is in the log, nobody is given what it sets aside.
func TestAllocationsQueuedAcrossALayout(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	for round := range 10 {
		kept := ranges(fmt.Sprintf("10.1.%d.100-10.1.%[1]d.254", round))
		ref := d.pool(actor.PoolRequest{Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(round)}), 24)})
		var wg sync.WaitGroup
		for n := range 200 {
			wg.Go(func() {
				_, err := d.RequestAddress(b.ctx(), ref, endpoint(n))
				if err != nil && !errors.Is(err, actor.ErrExhausted) {
					t.Error(err)
				}
			})
		}
		wg.Go(func() {
			b.layOut(ref, func(e *events.PoolChanged) { e.Kept, e.HostRanges = true, kept })
		})
		wg.Wait()
		var changed int64
		for _, r := range b.records(ref) {
			for _, e := range r.Events {
				switch e := e.(type) {
				case events.PoolChanged:
					changed = r.Revision
				case events.AddressAllocated:
					if changed != 0 && kept[0].Contains(e.Address) {
						t.Errorf("%s was given to an endpoint at %d, and kept for hosts since %d", e.Address, r.Revision, changed)
					}
				default:
				}
			}
		}
		b.agree(ref)
	}
}

// A network with more auxiliaries than a commit holds can be opened again.
func TestReopenWithManyAuxiliaries(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	ref := d.subnet("10.1.0.0/24")
	d.ask(ref, gateway(""))
	for i := range 110 {
		d.ask(ref, plain(fmt.Sprintf("10.1.0.%d", 100+i)))
	}
	d.closeGrant(ref)
	d.ask(ref, endpoint(1))
	b.agree(ref)
}
