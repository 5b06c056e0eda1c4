// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
)

// Subject is what a history is asked for.
type Subject struct {
	Kind string // one of [SubjectKinds]
	Word string // as the user wrote it, without the kind
	has  func(*projection.Holding) bool
}

// subjectKind is a way to read a word.
type subjectKind struct {
	name string
	// form says whether the word can mean nothing else. Nil: it may.
	form func(word string) bool
	// read returns the test for the holdings meant, nil if the word means none.
	read func(h *History, word string) (func(*projection.Holding) bool, error)
}

// subjectKinds are tried in this order. What is learnt of containers, images and
// networks joins it here.
var subjectKinds = []subjectKind{
	{
		name: "address",
		form: func(word string) bool { _, err := netip.ParseAddr(word); return err == nil },
		read: func(_ *History, word string) (func(*projection.Holding) bool, error) {
			address, err := netip.ParseAddr(word)
			if err != nil {
				return nil, nil
			}
			address = address.Unmap().WithZone("")
			return func(x *projection.Holding) bool { return x.Address == address }, nil
		},
	},
	{
		name: "mac",
		form: func(word string) bool { mac, err := events.ParseMAC(word); return err == nil && mac != events.MAC{} },
		read: func(_ *History, word string) (func(*projection.Holding) bool, error) {
			mac, err := events.ParseMAC(word)
			if err != nil || mac == (events.MAC{}) {
				return nil, nil
			}
			return func(x *projection.Holding) bool { return x.MAC == mac }, nil
		},
	},
	{
		name: "pool",
		form: func(word string) bool { _, err := netip.ParsePrefix(word); return err == nil },
		read: func(h *History, word string) (func(*projection.Holding) bool, error) {
			pools, err := h.PoolsEver(word)
			if errors.Is(err, ErrNotFound) {
				return nil, nil
			}
			return func(x *projection.Holding) bool { return slices.Contains(pools, x.Pool) }, err
		},
	},
	{name: "host", read: named(func(x *projection.Holding) string { return x.Host })},
	{name: "endpoint", read: named(func(x *projection.Holding) string { return x.Endpoint })},
}

// named reads a word as the name of something that holdings carry.
func named(of func(*projection.Holding) string) func(*History, string) (func(*projection.Holding) bool, error) {
	return func(h *History, word string) (func(*projection.Holding) bool, error) {
		has := func(x *projection.Holding) bool { return of(x) == word }
		for x := range h.timeline.Holdings() {
			if word != "" && has(x) {
				return has, nil
			}
		}
		return nil, nil
	}
}

// SubjectKinds lists what a history can be asked for.
func SubjectKinds() []string {
	names := make([]string, 0, len(subjectKinds))
	for _, k := range subjectKinds {
		names = append(names, k.name)
	}
	return names
}

// Subject finds out what a user's word means: an address, a MAC, the name,
// subnet or id of a pool, the name of a host or an endpoint. A word that means
// several is settled by writing the kind before it: pool:web. It returns
// [ErrNotFound] or [ErrAmbiguous].
func (h *History) Subject(word string) (Subject, error) {
	if kind, rest, ok := strings.Cut(word, ":"); ok {
		for _, k := range subjectKinds {
			if k.name == kind {
				return h.subject(k, rest)
			}
		}
	}
	var found []Subject
	for _, k := range subjectKinds {
		if k.form != nil && k.form(word) {
			return h.subject(k, word)
		}
		has, err := k.read(h, word)
		if err != nil {
			return Subject{}, err
		}
		if has != nil {
			found = append(found, Subject{Kind: k.name, Word: word, has: has})
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Subject{}, errors.Mark(errors.Newf("the log knows no %s %q", strings.Join(SubjectKinds(), ", "), word), ErrNotFound)
	}
	kinds, forms := make([]string, 0, len(found)), make([]string, 0, len(found))
	for _, s := range found {
		kinds, forms = append(kinds, s.Kind), append(forms, s.Kind+":"+word)
	}
	return Subject{}, errors.Mark(errors.Newf("%q is the name of several things (%s): write %s",
		word, strings.Join(kinds, ", "), strings.Join(forms, " or ")), ErrAmbiguous)
}

func (h *History) subject(k subjectKind, word string) (Subject, error) {
	has, err := k.read(h, word)
	if err != nil {
		return Subject{}, err
	}
	if has == nil {
		return Subject{}, errors.Mark(errors.Newf("the log knows no %s %q", k.name, word), ErrNotFound)
	}
	return Subject{Kind: k.name, Word: word, has: has}, nil
}

// Of lists every holding of a subject that stood in a span, oldest first.
func (h *History) Of(s Subject, span Span) []Holding {
	return h.gather(Moment{}, func(x *projection.Holding) bool { return s.has(x) && span.meets(x) })
}
