// SPDX-License-Identifier: Apache-2.0

package events_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"

	"github.com/ipamlog/ipamlog/events"
)

func TestEncodeRefuses(t *testing.T) {
	addr, subnet := netip.MustParseAddr("10.0.0.1"), netip.MustParsePrefix("10.0.0.0/24")
	good := events.DefaultPolicy()
	for name, e := range map[string]events.Event{
		"pool without a space":              events.PoolCreated{Subnet: subnet, Policy: good},
		"pool in a third space":             events.PoolCreated{Space: "lan", Subnet: subnet, Policy: good},
		"pool without a subnet":             events.PoolCreated{Space: events.Local, Policy: good},
		"pool with host bits":               events.PoolCreated{Space: events.Local, Subnet: netip.MustParsePrefix("10.0.0.1/24"), Policy: good},
		"pool without a policy":             events.PoolCreated{Space: events.Local, Subnet: subnet},
		"pool with an unknown pick":         events.PoolCreated{Space: events.Local, Subnet: subnet, Policy: events.Policy{Gateway: events.GatewayAuto, Pick: "best"}},
		"pool with an unknown gateway mode": events.PoolCreated{Space: events.Local, Subnet: subnet, Policy: events.Policy{Gateway: "mine", Pick: events.PickSerial}},
		"pool with a negative quarantine":   events.PoolCreated{Space: events.Local, Subnet: subnet, Policy: events.Policy{Gateway: events.GatewayAuto, Pick: events.PickSerial, Quarantine: -1}},
		"retired without a space":           events.PoolRetired{},
		"opened without a grant":            events.GrantOpened{Host: "h1"},
		"closing without a grant":           events.GrantClosing{},
		"closed without a grant":            events.GrantClosed{},
		"reopened without a grant":          events.GrantReopened{},
		"allocated without an id":           events.AddressAllocated{Address: addr, Kind: events.Endpoint},
		"allocated without an address":      events.AddressAllocated{Allocation: allocID, Kind: events.Endpoint},
		"allocated without a kind":          events.AddressAllocated{Allocation: allocID, Address: addr},
		"allocated with an unknown kind":    events.AddressAllocated{Allocation: allocID, Address: addr, Kind: 99},
		"allocated with a zone":             events.AddressAllocated{Allocation: allocID, Address: netip.MustParseAddr("fe80::1%eth0"), Kind: events.Endpoint},
		"allocated IPv4 in IPv6":            events.AddressAllocated{Allocation: allocID, Address: netip.MustParseAddr("::ffff:10.0.0.1"), Kind: events.Endpoint},
		"released without an id":            events.AddressReleased{Address: addr, Reason: events.Released},
		"released without an address":       events.AddressReleased{Allocation: allocID, Reason: events.Released},
		"released without a reason":         events.AddressReleased{Allocation: allocID, Address: addr},
		"suspected without an id":           events.AddressSuspected{Address: addr},
		"suspected without an address":      events.AddressSuspected{Allocation: allocID},
		"cleared without an id":             events.AddressCleared{Address: addr},
		"cleared without an address":        events.AddressCleared{Allocation: allocID},
		"reclaimed without an id":           events.AddressReclaimed{Address: addr},
		"reclaimed IPv4 in IPv6":            events.AddressReclaimed{Allocation: allocID, Address: netip.MustParseAddr("::ffff:10.0.0.1")},
		"conflicted without an address":     events.AddressConflicted{Host: "h1"},
		"conflicted without a host":         events.AddressConflicted{Address: addr},
		"left without a host":               events.HostLeft{Incarnation: 1},
		"left without an incarnation":       events.HostLeft{Host: "h"},
		"taken over without a host":         events.HostTakenOver{Incarnation: 1, By: "h1"},
		"taken over without an incarnation": events.HostTakenOver{Host: "h", By: "h1"},
		"taken over by nobody":              events.HostTakenOver{Host: "h", Incarnation: 1},
		"joined without a host":             events.HostJoined{Machine: "m", Incarnation: 1},
		"joined without a machine":          events.HostJoined{Host: "h", Incarnation: 1},
		"joined without an incarnation":     events.HostJoined{Host: "h", Machine: "m"},
		"adopted without a machine":         events.HostAdopted{Host: "h", Incarnation: 1},
		"somebody else's event":             events.Unknown{Name: "address.blessed", Raw: raw(`{"type":"address.blessed"}`)},
	} {
		t.Run(name, func(t *testing.T) {
			whole := commitOf(events.GrantClosing{Grant: grantID}, e)
			data, err := events.Encode(whole)
			if !errors.Is(err, events.ErrInvalid) {
				t.Fatalf("written as %s (%v)", data, err)
			}
			if !strings.Contains(err.Error(), "event 1") || !strings.Contains(err.Error(), e.Type()) {
				t.Errorf("the error does not name the event: %v", err)
			}
		})
	}
	t.Run("commit without a time", func(t *testing.T) {
		if _, err := events.Encode(events.Commit{Host: "h1"}); !errors.Is(err, events.ErrInvalid) {
			t.Error(err)
		}
	})
	t.Run("commit without a host", func(t *testing.T) {
		if _, err := events.Encode(events.Commit{Time: noon}); !errors.Is(err, events.ErrInvalid) {
			t.Error(err)
		}
	})
}

func TestEncodeWritesUTCMicroseconds(t *testing.T) {
	c := commitOf()
	c.Time = time.Date(2026, 11, 21, 14, 0, 0, 123456789, time.FixedZone("", 2*60*60))
	data, err := events.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	if want := `"time":"2026-11-21T12:00:00.123456Z"`; !strings.Contains(string(data), want) {
		t.Errorf("%s does not hold %s", data, want)
	}
}

const head = `{"v":1,"time":"2026-11-21T12:00:00Z","host":"h1","incarnation":1,`

func TestDecodeRefuses(t *testing.T) {
	grant := `"grant":"` + grantID.String() + `"`
	for name, data := range map[string]string{
		"nothing":              ``,
		"null":                 `null`,
		"a list":               `[]`,
		"half":                 head + `"events":[`,
		"two values":           head + `"events":[]} {}`,
		"no version":           `{"time":"2026-11-21T12:00:00Z","host":"h1","events":[]}`,
		"version zero":         `{"v":0,"time":"2026-11-21T12:00:00Z","host":"h1","events":[]}`,
		"no time":              `{"v":1,"host":"h1","events":[]}`,
		"no host":              `{"v":1,"time":"2026-11-21T12:00:00Z","events":[]}`,
		"no events":            head + `"writer":"1"}`,
		"null events":          head + `"events":null}`,
		"a wordy time":         `{"v":1,"time":"noon","host":"h1","events":[]}`,
		"event without type":   head + `"events":[{` + grant + `}]}`,
		"event with null type": head + `"events":[{"type":null}]}`,
		"event with no name":   head + `"events":[{"type":""}]}`,
		"event is null":        head + `"events":[null]}`,
		"event is a string":    head + `"events":["grant.closing"]}`,
		"event lacks a field":  head + `"events":[{"type":"grant.closing"}]}`,
		"event with bad field": head + `"events":[{"type":"grant.closing","grant":7}]}`,
		"short grant":          head + `"events":[{"type":"grant.closing","grant":"01J"}]}`,
		"bad MAC":              head + `"events":[{"type":"address.allocated","allocation":"` + allocID.String() + `","address":"10.0.0.1","kind":"host","mac":"02:42"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			if c, err := events.Decode([]byte(data)); !errors.Is(err, events.ErrMalformed) {
				t.Errorf("read as %+v (%v)", c, err)
			}
		})
	}
}

func TestDecodeNamesTheNewerWriter(t *testing.T) {
	_, err := events.Decode([]byte(`{"v":2,"time":"2030-01-01T00:00:00Z","host":"h9","writer":"9.1.0","events":[{"type":"x"}]}`))
	if !errors.Is(err, events.ErrNewer) || errors.Is(err, events.ErrMalformed) {
		t.Fatal(err)
	}
	if !strings.Contains(err.Error(), "9.1.0") || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("says neither who wrote it nor in what: %v", err)
	}
}

// What this version does not know is kept where it stood, and shown.
func TestDecodeKeeps(t *testing.T) {
	closing := `{"type":"grant.closing","grant":"` + grantID.String() + `"`
	for name, tc := range map[string]struct{ data, shown string }{
		"a field":               {closing + `,"why":"because"}`, closing + `,"why":"because"}`},
		"two fields, in order":  {closing + `,"b":1,"a":{"x":[1, 2]}}`, closing + `,"a":{"x":[1, 2]},"b":1}`},
		"the type at the end":   {`{"why":1,"grant":"` + grantID.String() + `","type":"grant.closing"}`, closing + `,"why":1}`},
		"the type after spaces": {`{ "type" : "grant.closing" , "grant":"` + grantID.String() + `"}`, closing + `}`},
		"the type escaped":      {`{"type":"grant.clos\u0069ng","grant":"` + grantID.String() + `"}`, closing + `}`},
		"a type":                {`{"type":"address.blessed","by":"a bishop"}`, `{"type":"address.blessed","by":"a bishop"}`},
		"a kind":                {`{"type":"address.allocated","allocation":"` + allocID.String() + `","address":"10.0.0.1","kind":"pet"}`, `{"type":"address.allocated","allocation":"` + allocID.String() + `","address":"10.0.0.1","kind":"pet"}`},
		"a bare type":           {`{"type":"sun.rose"}`, `{"type":"sun.rose"}`},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := events.Decode([]byte(head + `"events":[` + tc.data + `],"later":true}`))
			if err != nil {
				t.Fatal(err)
			}
			shown, err := events.EncodeEvent(c.Events[0])
			if err != nil {
				t.Fatal(err)
			}
			if string(shown) != tc.shown {
				t.Errorf("shown as %s, want %s", shown, tc.shown)
			}
			if diff := cmp.Diff(events.Extra{"later": raw("true")}, c.Extra); diff != "" {
				t.Errorf("the commit's own fields: %s", diff)
			}
		})
	}
}

func TestUnknownIsItsOwnCopy(t *testing.T) {
	data := []byte(`{"type":"sun.rose","at":"dawn"}`)
	e, err := events.DecodeEvent(data)
	if err != nil {
		t.Fatal(err)
	}
	clear(data)
	if u := e.(events.Unknown); u.Name != "sun.rose" || !json.Valid(u.Raw) {
		t.Errorf("it changed with the buffer it was read from: %s", u.Raw)
	}
}

func TestGuardsRoundTrip(t *testing.T) {
	extra := events.Extra{"later": raw(`{"a":1}`)}
	check(t, `{"name":"web","subnet":"10.0.0.0/24","gateway":"auto","pick":"serial","quarantine":60,"later":{"a":1}}`,
		events.Pool{Name: "web", Subnet: netip.MustParsePrefix("10.0.0.0/24"), Policy: events.DefaultPolicy(), Extra: extra})
	check(t, `{"host":"h1","range":"10.0.0.128/25","state":"open","later":{"a":1}}`,
		events.Grant{Host: "h1", Range: netip.MustParsePrefix("10.0.0.128/25"), State: events.StateOpen, Extra: extra})
	check(t, `{"state":"closing"}`, events.Grant{State: events.StateClosing})
	check(t, `{"machine":"m1","incarnation":7,"later":{"a":1}}`, events.HostGuard{Machine: "m1", Incarnation: 7, Extra: extra})
	check(t, `{"machine":"m1","incarnation":7,"left":"2026-11-21T12:00:00.123456Z","taken_over":true}`,
		events.HostGuard{Machine: "m1", Incarnation: 7, Left: noon, TakenOver: true})
	check(t, `{"allocations":[{"allocation":"`+allocID.String()+`","kind":"endpoint","host":"h1","commit":"`+poolID.String()+`","suspected":"2026-11-21T12:00:00.123456Z"}]}`,
		events.Held{{ID: allocID, Kind: events.Endpoint, Host: "h1", Commit: poolID, Suspected: noon}})
	check(t, `{"allocations":[{"allocation":"`+allocID.String()+`","kind":"gateway","shared":true,"grant":"`+grantID.String()+`","commit":"`+poolID.String()+`","later":{"a":1}},`+
		`{"allocation":"`+poolID.String()+`","kind":"auxiliary","shared":true,"host":"h2","mac":"02:00:00:00:00:01","endpoint":"e","commit":"`+poolID.String()+`"}]}`,
		events.Held{
			{ID: allocID, Kind: events.Gateway, Shared: true, Grant: grantID, Commit: poolID, Extra: extra},
			{ID: poolID, Kind: events.Auxiliary, Shared: true, Host: "h2", MAC: events.MAC{2, 0, 0, 0, 0, 1}, Endpoint: "e", Commit: poolID},
		})
}

func check[T events.Pool | events.Grant | events.HostGuard | events.Held](t *testing.T, wire string, v T) {
	t.Helper()
	data, err := events.EncodeGuard(v)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wire, string(data)); diff != "" {
		t.Errorf("%T is written otherwise: %s", v, diff)
	}
	got, err := events.DecodeGuard[T](data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(v, got, equate); diff != "" {
		t.Errorf("%T is read otherwise: %s", v, diff)
	}
}

func TestDecodeGuardRefuses(t *testing.T) {
	for _, data := range []string{``, `null`, `{}`, `[]`, `7`, `{"subnet":"10.0.0.1/24"}`, `{"allocations":[]}`, `{"allocations":[{}]}`, `{"allocations":[null]}`} {
		_, pool := events.DecodeGuard[events.Pool]([]byte(data))
		_, grant := events.DecodeGuard[events.Grant]([]byte(data))
		_, host := events.DecodeGuard[events.HostGuard]([]byte(data))
		_, held := events.DecodeGuard[events.Held]([]byte(data))
		for kind, err := range map[string]error{"pool": pool, "grant": grant, "host": host, "held": held} {
			if !errors.Is(err, events.ErrMalformed) {
				t.Errorf("%q was taken for the guard of a %s", data, kind)
			}
		}
	}
}

// The library's own reading would make an ID of any 26 characters.
func TestIDsAreReadStrictly(t *testing.T) {
	for _, text := range []string{"", "01J", "!!!!!!!!!!!!!!!!!!!!!!!!!!", strings.Repeat("z", 26)} {
		var id events.ID
		if err := id.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %s", text, id)
		}
	}
}
