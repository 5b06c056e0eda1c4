// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
)

// Subject is what a history is asked for. It is for one goroutine.
type Subject struct {
	Kind string // one of [SubjectKinds]
	Word string // as the user wrote it, without the kind
	has  chosen
}

// chosen says whether a holding is one of those meant.
type chosen func(*projection.Holding) bool

// reading finds the holdings that a word means; nil if it means none.
type reading func(h *History, word string) (chosen, error)

// subjectKind is a way to read a word.
type subjectKind struct {
	name string
	// form says whether the word can mean nothing else. Nil: it may.
	form func(word string) bool
	// named says that only a word with the kind before it is read so.
	named bool
	// read finds what is called so, begins what has an id that begins so: that
	// counts only where nothing is called so. Nil: there are no such ids.
	read, begins reading
}

// subjectKinds are tried in this order.
var subjectKinds = []subjectKind{
	{
		name: "address",
		form: func(word string) bool { _, err := netip.ParseAddr(word); return err == nil },
		read: func(_ *History, word string) (chosen, error) {
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
		// Twelve digits may as well be the id of a container, as docker ps has it.
		form: func(word string) bool {
			_, err := events.ParseMAC(word)
			return err == nil && strings.ContainsAny(word, ":-.")
		},
		read: func(h *History, word string) (chosen, error) {
			mac, err := events.ParseMAC(word)
			if err != nil || mac == (events.MAC{}) {
				return nil, nil
			}
			return h.any(func(x *projection.Holding) bool { return x.MAC == mac }), nil
		},
	},
	{
		name: "pool",
		form: func(word string) bool { _, err := netip.ParsePrefix(word); return err == nil },
		read: func(h *History, word string) (chosen, error) {
			pools, err := h.PoolsEver(word)
			if errors.Is(err, ErrNotFound) {
				return nil, nil
			}
			return func(x *projection.Holding) bool { return slices.Contains(pools, x.Pool) }, err
		},
	},
	{name: "host", read: called(func(x *projection.Holding) string { return x.Host })},
	{name: "container", read: containers.called, begins: containers.begins},
	{name: "image", read: imagesCalled, begins: images.begins},
	{name: "network", read: networks.called, begins: networks.begins},
	{name: "endpoint", read: called(func(x *projection.Holding) string { return x.Endpoint })},
	{name: "label", named: true, read: labelled},
}

// called reads a word as the name of something that holdings carry.
func called(of func(*projection.Holding) string) reading {
	return func(h *History, word string) (chosen, error) {
		return h.any(func(x *projection.Holding) bool { return word != "" && of(x) == word }), nil
	}
}

// any returns what says whether a holding is meant, nil if none is.
func (h *History) any(has chosen) chosen {
	for x := range h.timeline.Holdings() {
		if has(x) {
			return has
		}
	}
	return nil
}

// SubjectKinds lists what a history can be asked for.
func SubjectKinds() []string {
	names := make([]string, 0, len(subjectKinds))
	for _, k := range subjectKinds {
		names = append(names, k.name)
	}
	return names
}

// Subject finds out what a user's word means: an address, a MAC; the name, subnet
// or id of a pool; the name of a host or an endpoint; the name, the id or at least
// four characters of the id of a container, an image or a network. A container is
// known by every name it had, an image without its tag by all its tags. Labels, as
// KEY or KEY=VALUE, need the kind before them; so does a word that means several
// things: pool:web. It returns [ErrNotFound], or [ErrAmbiguous] with a list.
func (h *History) Subject(word string) (Subject, error) {
	if kind, rest, ok := strings.Cut(word, ":"); ok {
		for _, k := range subjectKinds {
			if k.name == kind {
				return h.subject([]subjectKind{k}, rest)
			}
		}
	}
	var kinds []subjectKind
	for _, k := range subjectKinds {
		if k.form != nil && k.form(word) {
			return h.subject([]subjectKind{k}, word)
		}
		if !k.named {
			kinds = append(kinds, k)
		}
	}
	return h.subject(kinds, word)
}

// subject reads a word in one of these ways: first as a name, then as the
// beginning of an id.
func (h *History) subject(kinds []subjectKind, word string) (Subject, error) {
	for _, read := range []func(subjectKind) reading{
		func(k subjectKind) reading { return k.read },
		func(k subjectKind) reading { return k.begins },
	} {
		var found []Subject
		for _, k := range kinds {
			if read(k) == nil {
				continue
			}
			has, err := read(k)(h, word)
			if err != nil {
				return Subject{}, err
			}
			if has != nil {
				found = append(found, Subject{Kind: k.name, Word: word, has: has})
			}
		}
		switch found = h.merge(found); len(found) {
		case 0:
			continue
		case 1:
			return found[0], nil
		}
		names, forms := make([]string, 0, len(found)), make([]string, 0, len(found))
		for _, s := range found {
			names, forms = append(names, s.Kind), append(forms, s.Kind+":"+word)
		}
		return Subject{}, errors.Mark(errors.Newf("%q is the name of several things (%s): write %s",
			word, strings.Join(names, ", "), strings.Join(forms, " or ")), ErrAmbiguous)
	}
	names := make([]string, 0, len(kinds))
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return Subject{}, errors.Mark(errors.Newf("the log knows no %s %q", strings.Join(names, ", "), word), ErrNotFound)
}

// merge leaves of the things that a word is the name of those between which there
// is a choice.
func (h *History) merge(found []Subject) []Subject {
	var kept []Subject
	for _, s := range found {
		kept = append(kept, s)
		for i := range kept[:len(kept)-1] {
			if one, ok := h.one(kept[i], s); ok {
				kept[i] = one
				kept = kept[:len(kept)-1]
				break
			}
		}
	}
	return kept
}

// one makes two things one where that loses nothing: an endpoint bears the name of
// its container, a network often that of its pool, and of some holdings one name
// is known and not the other. Else only what held the very same is the same.
func (h *History) one(a, b Subject) (Subject, bool) {
	if a.Kind == "container" && b.Kind == "endpoint" {
		return Subject{Kind: a.Kind, Word: a.Word, has: func(x *projection.Holding) bool { return a.has(x) || b.has(x) }}, true
	}
	within := a.Kind == "pool" && b.Kind == "network"
	for x := range h.timeline.Holdings() {
		if inA, inB := a.has(x), b.has(x); inA != inB && (inB || !within) {
			return a, false
		}
	}
	return a, true
}

// Of lists every holding of a subject that stood in a span, oldest first.
func (h *History) Of(s Subject, span Span) []Holding {
	return h.gather(Moment{}, func(x *projection.Holding) bool { return s.has(x) && span.meets(x) })
}

// Holdings goes over every holding that stood in a span, oldest first.
func (h *History) Holdings(span Span) iter.Seq[Holding] {
	return func(yield func(Holding) bool) {
		for x := range h.timeline.Holdings() {
			if span.meets(x) && !yield(Moment{}.describe(x)) {
				return
			}
		}
	}
}
