// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/distribution/reference"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
)

// told is a thing of the engine's that holdings were told of: it has an id, and a
// name that may change.
type told struct {
	what     string
	id, name func(events.Attribution) string
}

var (
	containers = told{
		"containers",
		func(a events.Attribution) string { return a.ContainerID },
		func(a events.Attribution) string { return a.ContainerName },
	}
	networks = told{
		"networks",
		func(a events.Attribution) string { return a.NetworkID },
		func(a events.Attribution) string { return a.NetworkName },
	}
	images = told{
		"images",
		func(a events.Attribution) string { return a.ImageID },
		func(a events.Attribution) string { return a.Image },
	}
)

// called finds the things with that id, or that ever had that name, by all that
// they held.
func (k told) called(h *History, word string) (chosen, error) {
	ids := map[string]bool{}
	for x := range h.timeline.Holdings() {
		for _, t := range x.Told {
			if id := k.id(t.Attribution); id != "" && (id == word || k.name(t.Attribution) == word) {
				ids[id] = true
			}
		}
	}
	return k.chosen(ids), nil
}

// chosen says whether a holding is of one of the things; nil if there are none.
func (k told) chosen(ids map[string]bool) chosen {
	if len(ids) == 0 {
		return nil
	}
	return func(x *projection.Holding) bool {
		return slices.ContainsFunc(x.Told, func(t projection.Told) bool { return ids[k.id(t.Attribution)] })
	}
}

// beginning is as much of an id as must be written: fewer characters are taken for
// a name.
var beginning = regexp.MustCompile(`^(?:sha256:)?[0-9a-f]{4,64}$`)

// plain is an id without the name of its hash, which only images have.
func plain(id string) string { return strings.TrimPrefix(id, "sha256:") }

// begins finds the one thing whose id begins so. It returns [ErrAmbiguous], with
// when each lived, where there are several.
func (k told) begins(h *History, word string) (chosen, error) {
	word = strings.ToLower(word)
	if !beginning.MatchString(word) {
		return nil, nil
	}
	lives := map[string]*lifetime{}
	var found []*lifetime
	for x := range h.timeline.Holdings() {
		for _, t := range x.Told {
			id := k.id(t.Attribution)
			if !strings.HasPrefix(plain(id), plain(word)) {
				continue
			}
			l := lives[id]
			if l == nil {
				l = &lifetime{id: id, from: x.From.Time}
				lives[id] = l
				found = append(found, l)
			}
			l.name = k.name(t.Attribution)
			l.to = x.To.Time
		}
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return k.chosen(map[string]bool{found[0].id: true}), nil
	}
	const listed = 5
	list := make([]string, 0, listed+1)
	for _, l := range found[:min(len(found), listed)] {
		list = append(list, l.String())
	}
	if more := len(found) - listed; more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return nil, errors.Mark(errors.Newf("the ids of %d %s begin with %q: %s: write more of one",
		len(found), k.what, word, strings.Join(list, ", ")), ErrAmbiguous)
}

// lifetime is a thing and when it held something.
type lifetime struct {
	id, name string
	from, to time.Time
}

// String is what to write for the thing, and what tells it from the others.
func (l lifetime) String() string {
	id := plain(l.id)
	text := id[:min(len(id), 16)] + " ("
	if l.name != "" {
		text += l.name + ", "
	}
	return text + lasted(l.from, l.to) + ")"
}

// lasted says from when to when something was.
func lasted(from, to time.Time) string {
	if to.IsZero() {
		return "since " + Stamp(from)
	}
	return Stamp(from) + " to " + Stamp(to)
}

// imagesCalled finds the images that a reference means. As with docker, nginx is
// docker.io/library/nginx; but without a tag it is every nginx, whatever its tag.
func imagesCalled(h *History, word string) (chosen, error) {
	means := imageCalled(word)
	seen := map[string]bool{} // there are few images, and many holdings
	return h.any(func(x *projection.Holding) bool {
		return slices.ContainsFunc(x.Told, func(t projection.Told) bool {
			if t.ImageID == word && word != "" {
				return true
			}
			meant, known := seen[t.Image]
			if !known {
				meant = t.Image != "" && means(t.Image)
				seen[t.Image] = meant
			}
			return meant
		})
	}), nil
}

func imageCalled(word string) func(image string) bool {
	wanted, err := reference.ParseNormalizedNamed(word)
	if err != nil {
		return func(image string) bool { return image == word }
	}
	tag, digest := details(wanted)
	return func(image string) bool {
		if image == word {
			return true
		}
		other, err := reference.ParseNormalizedNamed(image)
		if err != nil || other.Name() != wanted.Name() {
			return false
		}
		otherTag, otherDigest := details(other)
		if otherTag == "" && otherDigest == "" {
			otherTag = "latest" // what docker runs then
		}
		return (tag == "" || tag == otherTag) && (digest == "" || digest == otherDigest)
	}
}

// details are the tag and the digest of a reference; empty where it has none.
func details(r reference.Named) (tag, digest string) {
	if t, ok := r.(reference.Tagged); ok {
		tag = t.Tag()
	}
	if d, ok := r.(reference.Digested); ok {
		digest = d.Digest().String()
	}
	return tag, digest
}

// labelled reads KEY or KEY=VALUE.
func labelled(h *History, word string) (chosen, error) {
	key, value, exact := strings.Cut(word, "=")
	return h.any(func(x *projection.Holding) bool {
		return slices.ContainsFunc(x.Told, func(t projection.Told) bool {
			v, has := t.Labels[key]
			return has && (!exact || v == value)
		})
	}), nil
}
