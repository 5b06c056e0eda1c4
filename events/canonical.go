// SPDX-License-Identifier: Apache-2.0

package events

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
)

// canonical reads what is read most, exactly as [Encode] and [EncodeGuard] write
// it: their fields, in their order, without a space or an escape. It never says
// what is wrong: of anything else it fails, and the tolerant decoder, which is
// many times slower and knows everything, is asked instead. What it does read it
// reads as that one does.
//
// Once failed it stays so, and what it returns means nothing.
type canonical struct {
	rest   string
	failed bool
	host   string // the last one, which the next one mostly is too
}

// readCommit reads a commit; false if it is not canonical.
func readCommit(data []byte) (Commit, bool) {
	r := canonical{rest: string(data)}
	r.expect(`{"v":`)
	r.failed = r.number() != Version || r.failed
	r.expect(`,"time":"`)
	c := Commit{Time: r.time()}
	c.ClockSuspect = r.has(`,"clock_suspect":true`)
	r.expect(`,"host":"`)
	c.Host = r.hostName()
	r.expect(`,"incarnation":`)
	c.Incarnation = r.number()
	if r.has(`,"writer":"`) {
		c.Writer = r.text()
	}
	r.expect(`,"events":[`)
	c.Events = []Event{}
	for r.goesOn(len(c.Events)) {
		c.Events = append(c.Events, r.event())
	}
	r.expect(`}`)
	return c, r.done() && !c.Time.IsZero() && c.Host != ""
}

// readEvent reads one event; false if it is not canonical.
func readEvent(raw []byte) (Event, bool) {
	r := canonical{rest: string(raw)}
	e := r.event()
	return e, r.done()
}

// readHeld reads the guard of an address; false if it is not canonical.
func readHeld(data []byte) (Held, bool) {
	r := canonical{rest: string(data)}
	r.expect(`{"allocations":[`)
	var held Held
	for r.goesOn(len(held)) {
		a := r.allocation()
		r.failed = r.failed || a.check() != nil
		held = append(held, a)
	}
	r.expect(`}`)
	return held, r.done() && len(held) > 0
}

// event reads an event of one of the types that there are many of.
func (r *canonical) event() Event {
	var e Event
	switch {
	case r.has(`{"type":"address.allocated","allocation":"`):
		e = r.allocated()
	case r.has(`{"type":"address.released","allocation":"`):
		e = r.released()
	case r.has(`{"type":"address.attributed","allocation":"`):
		e = r.attributed()
	case r.has(`{"type":"address.suspected","allocation":"`):
		id, a := r.holding()
		e = AddressSuspected{Allocation: id, Address: a}
	case r.has(`{"type":"address.cleared","allocation":"`):
		id, a := r.holding()
		e = AddressCleared{Allocation: id, Address: a}
	case r.has(`{"type":"address.reclaimed","allocation":"`):
		id, a := r.holding()
		e = AddressReclaimed{Allocation: id, Address: a}
	case r.has(`{"type":"grant.opened","grant":"`):
		id, host, within := r.grant()
		e = GrantOpened{Grant: id, Host: host, Range: within}
	case r.has(`{"type":"grant.closing","grant":"`):
		e = GrantClosing{Grant: r.id()}
	case r.has(`{"type":"grant.closed","grant":"`):
		e = GrantClosed{Grant: r.id()}
	case r.has(`{"type":"grant.reopened","grant":"`):
		id, host, within := r.grant()
		e = GrantReopened{Grant: id, Host: host, Range: within}
	default:
		r.failed = true
		return nil
	}
	r.expect(`}`)
	r.failed = r.failed || e.check() != nil
	return e
}

// holding reads by what every event about one names it.
func (r *canonical) holding() (ID, netip.Addr) {
	id := r.id()
	r.expect(`,"address":"`)
	return id, r.address()
}

func (r *canonical) allocated() AddressAllocated {
	var e AddressAllocated
	e.Allocation, e.Address = r.holding()
	r.expect(`,"kind":"`)
	e.Kind = r.kind()
	e.Shared = r.has(`,"shared":true`)
	e.Host, e.Grant, e.MAC, e.Endpoint = r.holder()
	return e
}

func (r *canonical) released() AddressReleased {
	var e AddressReleased
	e.Allocation, e.Address = r.holding()
	r.expect(`,"reason":"`)
	e.Reason = Reason(r.text())
	if r.has(`,"at":"`) {
		e.At = r.time()
	}
	return e
}

func (r *canonical) attributed() AddressAttributed {
	var e AddressAttributed
	e.Allocation, e.Address = r.holding()
	for _, f := range []struct {
		lead string
		into *string
	}{
		{`,"container_id":"`, &e.ContainerID},
		{`,"container_name":"`, &e.ContainerName},
		{`,"image":"`, &e.Image},
		{`,"image_id":"`, &e.ImageID},
	} {
		r.optional(f.lead, f.into)
	}
	if r.has(`,"labels":{"`) {
		e.Labels = r.labels()
	}
	r.optional(`,"network_id":"`, &e.NetworkID)
	r.optional(`,"network_name":"`, &e.NetworkName)
	r.optional(`,"endpoint_id":"`, &e.EndpointID)
	if r.has(`,"since":"`) {
		e.Since = r.time()
	}
	return e
}

// optional takes a field that may be left out.
func (r *canonical) optional(lead string, into *string) {
	if r.has(lead) {
		*into = r.text()
	}
}

// labels takes a map of strings whose first key's opening quote was taken.
func (r *canonical) labels() map[string]string {
	all := map[string]string{}
	for !r.failed {
		name := r.text()
		r.expect(`:"`)
		all[name] = r.text()
		if r.has(`}`) {
			break
		}
		r.expect(`,"`)
	}
	return all
}

func (r *canonical) allocation() Allocation {
	r.expect(`{"allocation":"`)
	a := Allocation{ID: r.id()}
	r.expect(`,"kind":"`)
	a.Kind = r.kind()
	a.Shared = r.has(`,"shared":true`)
	a.Host, a.Grant, a.MAC, a.Endpoint = r.holder()
	if r.has(`,"why":"`) {
		a.Why = r.text()
	}
	r.expect(`,"commit":"`)
	a.Commit = r.id()
	if r.has(`,"suspected":"`) {
		a.Suspected = r.time()
	}
	r.expect(`}`)
	return a
}

// holder reads whom an address is allocated to, all of which may be left out.
func (r *canonical) holder() (host string, grant ID, mac MAC, endpoint string) {
	if r.has(`,"host":"`) {
		host = r.hostName()
	}
	if r.has(`,"grant":"`) {
		grant = r.id()
	}
	if r.has(`,"mac":"`) {
		mac = r.mac()
	}
	if r.has(`,"endpoint":"`) {
		endpoint = r.text()
	}
	return host, grant, mac, endpoint
}

func (r *canonical) grant() (id ID, host string, within netip.Prefix) {
	id = r.id()
	if r.has(`,"host":"`) {
		host = r.hostName()
	}
	if r.has(`,"range":"`) {
		prefix, err := netip.ParsePrefix(r.quoted())
		r.failed = r.failed || err != nil
		within = prefix
	}
	return id, host, within
}

// has takes what is next if it is the given text.
func (r *canonical) has(text string) bool {
	rest, ok := strings.CutPrefix(r.rest, text)
	r.rest = rest
	return ok
}

func (r *canonical) expect(text string) { r.failed = !r.has(text) || r.failed }

// goesOn says whether a list of which n elements were read has another, and takes
// the comma before it or the list's end.
func (r *canonical) goesOn(n int) bool {
	if r.failed || r.has(`]`) {
		return false
	}
	if n > 0 {
		r.expect(`,`)
	}
	return !r.failed
}

func (r *canonical) done() bool { return !r.failed && r.rest == "" }

// quoted takes a string whose opening quote was taken, and its closing one. It is
// a part of what is read: whoever keeps it keeps the whole.
func (r *canonical) quoted() string {
	for i := range len(r.rest) {
		switch c := r.rest[i]; {
		case c == '"':
			s := r.rest[:i]
			r.rest = r.rest[i+1:]
			return s
		case c < ' ' || c > '~' || c == '\\':
			r.failed = true
			return ""
		}
	}
	r.failed = true
	return ""
}

// text is a string to keep.
func (r *canonical) text() string { return strings.Clone(r.quoted()) }

func (r *canonical) hostName() string {
	if s := r.quoted(); s != r.host {
		r.host = strings.Clone(s)
	}
	return r.host
}

func (r *canonical) number() uint64 {
	digits := len(r.rest) - len(strings.TrimLeft(r.rest, "0123456789"))
	n, err := strconv.ParseUint(r.rest[:digits], 10, 64)
	r.failed = r.failed || err != nil || r.rest[0] == '0' && digits > 1
	r.rest = r.rest[digits:]
	return n
}

func (r *canonical) time() time.Time {
	var t time.Time
	err := t.UnmarshalText([]byte(r.quoted()))
	r.failed = r.failed || err != nil
	return t
}

func (r *canonical) id() ID {
	id, err := ulid.ParseStrict(r.quoted())
	r.failed = r.failed || err != nil
	return ID(id)
}

func (r *canonical) address() netip.Addr {
	a, err := netip.ParseAddr(r.quoted())
	r.failed = r.failed || err != nil
	return a
}

// kind is not valid for a word that is none, which check finds.
func (r *canonical) kind() Kind { return Kind(slices.Index(kinds[:], r.quoted())) }

func (r *canonical) mac() MAC {
	m, err := ParseMAC(r.quoted())
	r.failed = r.failed || err != nil
	return m
}
