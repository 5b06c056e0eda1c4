// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/cockroachdb/errors"
)

// Version is the version of the encoding that [Encode] writes. A new event type
// or a new field is no new version; a new meaning is.
const Version = 1

// Errors of the encoding.
var (
	// ErrInvalid is returned by [Encode] for a commit that lacks what it needs:
	// a fault of the program, never of its input.
	ErrInvalid = errors.New("invalid commit")
	// ErrMalformed is returned by [Decode] for bytes that are no commit.
	ErrMalformed = errors.New("malformed commit")
	// ErrNewer is returned by [Decode] for a commit in a version of the encoding
	// that this program is too old for.
	ErrNewer = errors.New("commit of a newer format")
)

// Commit is what is appended at once: events that happened together, or none at
// all (a void commit, which only says that nothing was ever committed under its
// ID).
//
// ID and Stream are not part of the encoding; they stand in the key.
type Commit struct {
	ID     ID     `json:"-"`
	Stream Stream `json:"-"`

	// Time is the writer's wall clock, in UTC and microseconds. Order never
	// depends on it.
	Time time.Time `json:"time"`
	// ClockSuspect marks a Time that contradicted what the writer had seen of
	// the others' clocks; it does not move the running time.
	ClockSuspect bool   `json:"clock_suspect,omitempty"`
	Host         string `json:"host"`             // the writing host
	Incarnation  uint64 `json:"incarnation"`      // of that host; 0 before it has joined
	Writer       string `json:"writer,omitempty"` // the program's version

	Events []Event `json:"-"`
	Extra  `json:"-"`
}

// Record is a commit that the store has accepted.
type Record struct {
	Commit
	// Revision is the store's, the same for every reader: the order of the log.
	// Numbers skip.
	Revision int64
}

// Name is the name of one event: its record's revision and its index in it.
func (r Record) Name(index int) string { return fmt.Sprintf("%d.%d", r.Revision, index) }

// Void says whether the commit holds nothing.
func (c Commit) Void() bool { return len(c.Events) == 0 }

// Encode writes a commit's value. It returns [ErrInvalid], naming the event and
// what it lacks, rather than write half a fact.
func Encode(c Commit) ([]byte, error) {
	if c.Time.IsZero() || c.Host == "" {
		return nil, errors.Wrap(ErrInvalid, "a commit needs a time and a host")
	}
	c.Time = c.moment()
	list := []byte{'['}
	for i, e := range c.Events {
		if err := e.check(); err != nil {
			return nil, errors.Mark(errors.Wrapf(err, "event %d (%s)", i, e.Type()), ErrInvalid)
		}
		raw, err := EncodeEvent(e)
		if err != nil {
			return nil, errors.Mark(errors.Wrapf(err, "event %d", i), ErrInvalid)
		}
		if i > 0 {
			list = append(list, ',')
		}
		list = append(list, raw...)
	}
	extra := Extra{"events": append(list, ']')}
	maps.Copy(extra, c.Extra)
	return marshal(c, extra, `"v":`+strconv.Itoa(Version))
}

// EncodeEvent writes one event as it stands in a commit: its type, its fields,
// and the fields that were kept for a newer version. It checks nothing.
func EncodeEvent(e Event) (json.RawMessage, error) {
	if u, ok := e.(Unknown); ok {
		return u.Raw, nil
	}
	raw, err := marshal(e, extraOf(e), `"type":`+strconv.Quote(e.Type()))
	return raw, errors.Wrapf(err, "encode %s", e.Type())
}

// wire is a commit with all that its value holds.
type wire struct {
	V int `json:"v"`
	Commit
	Events []json.RawMessage `json:"events"`
}

// Decode reads a commit's value; its ID and Stream are the caller's to set. It
// returns [ErrMalformed] or [ErrNewer]. Events of a type, or with a word, unknown here
// become [Unknown].
func Decode(data []byte) (Commit, error) {
	if c, ok := readCommit(data); ok {
		return c, nil
	}
	return decodeAny(data, DecodeEvent)
}

// decodeAny is the tolerant decoder, of anybody's encoding.
func decodeAny(data []byte, decodeEvent func(json.RawMessage) (Event, error)) (Commit, error) {
	var w wire
	if err := unmarshal(data, &w); err != nil {
		return Commit{}, errors.Mark(errors.Wrap(err, "decode the commit"), ErrMalformed)
	}
	c := w.Commit
	switch {
	case w.V > Version:
		return Commit{}, errors.Mark(errors.Newf("it was written by version %q in format %d, this program reads up to %d: upgrade it", c.Writer, w.V, Version), ErrNewer)
	case w.V < 1:
		return Commit{}, errors.Wrap(ErrMalformed, "it has no version")
	case c.Time.IsZero():
		return Commit{}, errors.Wrap(ErrMalformed, "it has no time")
	case c.Host == "":
		return Commit{}, errors.Wrap(ErrMalformed, "it has no host")
	case w.Events == nil:
		// Not to be taken for a void commit, which says so.
		return Commit{}, errors.Wrap(ErrMalformed, "it has no events")
	}
	c.Events = make([]Event, 0, len(w.Events))
	for i, raw := range w.Events {
		e, err := decodeEvent(raw)
		if err != nil {
			return Commit{}, errors.Wrapf(err, "event %d", i)
		}
		c.Events = append(c.Events, e)
	}
	return c, nil
}

// DecodeEvent reads one event of a commit. It returns [ErrMalformed].
func DecodeEvent(raw json.RawMessage) (Event, error) {
	if e, ok := readEvent(raw); ok {
		return e, nil
	}
	return decodeAnyEvent(raw)
}

func decodeAnyEvent(raw json.RawMessage) (Event, error) {
	name, body, err := splitType(raw)
	if err != nil {
		return nil, errors.Mark(err, ErrMalformed)
	}
	var e Event
	switch name {
	case TypePoolCreated:
		e, err = decodeAs[PoolCreated](body)
	case TypePoolChanged:
		e, err = decodeAs[PoolChanged](body)
	case TypePoolRetired:
		e, err = decodeAs[PoolRetired](body)
	case TypePoolExhausted:
		e, err = decodeAs[PoolExhausted](body)
	case TypeGrantOpened:
		e, err = decodeAs[GrantOpened](body)
	case TypeGrantClosing:
		e, err = decodeAs[GrantClosing](body)
	case TypeGrantClosed:
		e, err = decodeAs[GrantClosed](body)
	case TypeGrantReopened:
		e, err = decodeAs[GrantReopened](body)
	case TypeAddressAllocated:
		e, err = decodeAs[AddressAllocated](body)
	case TypeAddressAttributed:
		e, err = decodeAs[AddressAttributed](body)
	case TypeAddressReleased:
		e, err = decodeAs[AddressReleased](body)
	case TypeAddressSuspected:
		e, err = decodeAs[AddressSuspected](body)
	case TypeAddressCleared:
		e, err = decodeAs[AddressCleared](body)
	case TypeAddressReclaimed:
		e, err = decodeAs[AddressReclaimed](body)
	case TypeAddressConflicted:
		e, err = decodeAs[AddressConflicted](body)
	case TypeAddressReserved:
		e, err = decodeAs[AddressReserved](body)
	case TypeAddressUnreserved:
		e, err = decodeAs[AddressUnreserved](body)
	case TypeHostJoined:
		e, err = decodeAs[HostJoined](body)
	case TypeHostLeft:
		e, err = decodeAs[HostLeft](body)
	case TypeHostAdopted:
		e, err = decodeAs[HostAdopted](body)
	case TypeHostTakenOver:
		e, err = decodeAs[HostTakenOver](body)
	default:
		if !json.Valid(raw) {
			return nil, errors.Wrap(ErrMalformed, "an event is no JSON")
		}
		return Unknown{Name: name, Raw: slices.Clone(raw)}, nil
	}
	if err == nil {
		err = e.check()
	}
	switch {
	case errors.Is(err, errNewerWord):
		return Unknown{Name: name, Raw: slices.Clone(raw)}, nil
	case err != nil:
		return nil, errors.Mark(errors.Wrapf(err, "decode %s", name), ErrMalformed)
	}
	return e, nil
}

func decodeAs[E Event, P interface {
	*E
	extended
}](body []byte,
) (Event, error) {
	var e E
	err := unmarshal(body, P(&e))
	return e, err
}

var typePrefix = []byte(`{"type":"`)

// splitType takes the type off an event. The writer puts it first, which is
// found without parsing; anywhere else is as good, only slower.
func splitType(raw []byte) (name string, body []byte, err error) {
	if rest, ok := bytes.CutPrefix(raw, typePrefix); ok {
		if i := bytes.IndexByte(rest, '"'); i > 0 && bytes.IndexByte(rest[:i], '\\') < 0 && i+1 < len(rest) {
			switch rest[i+1] {
			case ',':
				return string(rest[:i]), append([]byte{'{'}, rest[i+2:]...), nil
			case '}':
				return string(rest[:i]), append([]byte{'{'}, rest[i+1:]...), nil
			}
		}
	}
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &all); err != nil {
		return "", nil, errors.Wrap(err, "read an event")
	}
	if err := json.Unmarshal(all["type"], &name); err != nil || name == "" {
		return "", nil, errors.New("an event has no type")
	}
	delete(all, "type")
	body, err = json.Marshal(all)
	return name, body, errors.Wrap(err, "read an event")
}
