// SPDX-License-Identifier: Apache-2.0

package events

import (
	"encoding/hex"
	"fmt"
	"net"
	"time"

	"github.com/cockroachdb/errors"
)

// Stream is where a commit belongs: a pool's ID as text, or [Catalogue].
type Stream string

// Catalogue is the stream of what concerns no single pool: hosts.
const Catalogue Stream = "catalogue"

// PoolStream is the stream of one pool.
func PoolStream(pool ID) Stream { return Stream(pool.String()) }

// Space is an address space. Docker asks in the local one for networks of one
// host and in the global one for those of a swarm.
type Space string

// The two address spaces.
const (
	Local  Space = "local"
	Global Space = "global"
)

// Spaces lists the address spaces.
func Spaces() []Space { return []Space{Local, Global} }

func (s Space) valid() bool { return s == Local || s == Global }

// Kind is what an address is held for.
type Kind uint8

// The kinds of allocation.
const (
	Endpoint  Kind = iota + 1 // a container's
	Gateway                   // the network's own, on this host or shared
	Auxiliary                 // set aside by --aux-address
	Host                      // a host's bridge address
	Reserved                  // kept out of use by an operator
)

var kinds = [...]string{Endpoint: "endpoint", Gateway: "gateway", Auxiliary: "auxiliary", Host: "host", Reserved: "reserved"}

func (k Kind) valid() bool { return k >= Endpoint && int(k) < len(kinds) }

// String is the kind's name on the wire and in output.
func (k Kind) String() string {
	if !k.valid() {
		return "unknown"
	}
	return kinds[k]
}

// MarshalText implements [encoding.TextMarshaler].
func (k Kind) MarshalText() ([]byte, error) {
	if !k.valid() {
		return nil, errors.Newf("kind %d is unknown", uint8(k))
	}
	return []byte(kinds[k]), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (k *Kind) UnmarshalText(text []byte) error {
	for i, name := range kinds {
		if name != "" && name == string(text) {
			*k = Kind(i)
			return nil
		}
	}
	return errors.Mark(errors.Newf("kind %q is unknown", text), errNewerWord)
}

// errNewerWord marks a word that this version does not know where it must
// understand each: a newer one wrote it.
var errNewerWord = errors.New("word of a newer version")

// Reason says why a holding ended. Values this version does not know are kept.
type Reason string

// The reasons why a holding ends.
const (
	Released    Reason = "released"     // Docker gave it back
	GrantEnded  Reason = "grant-closed" // its grant was closed under it
	Compensated Reason = "compensated"  // it was committed, but nobody was told in time
	Superseded  Reason = "superseded"   // who asked for it after has it now: on a node's mirror of a Swarm network, or as a host's own
	TakenOver   Reason = "taken-over"   // its host was dead, and an operator gave it back
	Reclaim     Reason = "reclaimed"    // its host's engine did not know it; said by AddressReclaimed, never by AddressReleased
	Unreserve   Reason = "unreserved"   // an operator gave it back to the pool; said by AddressUnreserved, never by AddressReleased
)

// MAC is a 48-bit hardware address; the zero MAC means none was given.
type MAC [6]byte

// ParseMAC reads the usual notations of a 48-bit address, and "" as none.
func ParseMAC(s string) (MAC, error) {
	if s == "" {
		return MAC{}, nil
	}
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != len(MAC{}) {
		return MAC{}, errors.Newf("%q is not a hardware address such as 02:42:ac:11:00:02", s)
	}
	return MAC(hw), nil
}

// String is the colon form in lower case, or "" for none.
func (m MAC) String() string {
	if m == (MAC{}) {
		return ""
	}
	return string(m.append(nil))
}

func (m MAC) append(b []byte) []byte {
	for i := range m {
		if i > 0 {
			b = append(b, ':')
		}
		b = hex.AppendEncode(b, m[i:i+1])
	}
	return b
}

// MarshalText implements [encoding.TextMarshaler].
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (m *MAC) UnmarshalText(text []byte) error {
	parsed, err := ParseMAC(string(text))
	if err != nil {
		return err
	}
	*m = parsed
	return nil
}

// Pick is the order in which a pool's free addresses are given out.
type Pick string

// The pick policies.
const (
	PickSerial Pick = "serial" // the next after the last, so that a freed address rests
	PickLowest Pick = "lowest"
	PickRandom Pick = "random"
)

// Known says whether the policy is one of these.
func (p Pick) Known() bool { return p == PickSerial || p == PickLowest || p == PickRandom }

// GatewayMode says whose address a network's gateway is.
type GatewayMode string

// The gateway modes.
const (
	// GatewayAuto is the default: a gateway that was named is shared by every host
	// that names it, an unnamed one is an address of the host's own.
	GatewayAuto GatewayMode = "auto"
	// GatewayShared is one address for all networks of the pool, also unnamed.
	GatewayShared GatewayMode = "shared"
	// GatewayHost is an address of the host's own, also when it was named.
	GatewayHost GatewayMode = "host"
	// GatewayNone sets no address aside.
	GatewayNone GatewayMode = "none"
)

// Known says whether the mode is one of these.
func (m GatewayMode) Known() bool {
	return m == GatewayAuto || m == GatewayShared || m == GatewayHost || m == GatewayNone
}

// Sticky says by what an endpoint is known again that gets its last address back
// while that is free.
type Sticky string

// The ways of knowing an endpoint again.
const (
	StickyNot  Sticky = "" // not at all
	StickyName Sticky = "name"
	StickyMAC  Sticky = "mac"
)

// Known says whether the way is one of these.
func (s Sticky) Known() bool { return s == StickyNot || s == StickyName || s == StickyMAC }

// Policy is how a pool gives out its addresses. It is fixed when the pool is
// created; who joins later may repeat it but not contradict it.
type Policy struct {
	Gateway    GatewayMode `json:"gateway"`
	Pick       Pick        `json:"pick"`
	Quarantine Seconds     `json:"quarantine"` // how long a released address rests while others are free
	Sticky     Sticky      `json:"sticky,omitempty"`
}

// DefaultPolicy is the policy of a pool whose creator wished nothing else.
func DefaultPolicy() Policy {
	return Policy{Gateway: GatewayAuto, Pick: PickSerial, Quarantine: 60}
}

// String writes a policy as the options of a network.
func (p Policy) String() string {
	text := fmt.Sprintf("gateway=%s,pick=%s,quarantine=%ds", p.Gateway, p.Pick, p.Quarantine)
	if p.Sticky != StickyNot {
		text += ",sticky=" + string(p.Sticky)
	}
	return text
}

func (p Policy) check() error {
	switch {
	case !p.Pick.Known():
		return errors.Mark(errors.Newf("pick %q is not serial, lowest or random", p.Pick), errNewerWord)
	case !p.Gateway.Known():
		return errors.Mark(errors.Newf("gateway mode %q is unknown", p.Gateway), errNewerWord)
	case !p.Sticky.Known():
		return errors.Mark(errors.Newf("sticky %q is neither name nor mac", p.Sticky), errNewerWord)
	}
	if p.Quarantine < 0 {
		return errors.Newf("quarantine %d is negative", p.Quarantine)
	}
	return nil
}

// Seconds is a length of time in whole seconds, as the log writes it.
type Seconds int64

// Duration converts to Go's.
func (s Seconds) Duration() time.Duration { return time.Duration(s) * time.Second }
