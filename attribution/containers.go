// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipamlog/ipamlog/engine"
)

// containers is what is known of the engine's containers: what it listed, and
// what its events told before. Safe for concurrent use.
type containers struct {
	mu    sync.Mutex
	known map[string]*container
}

// container is what is known of one.
type container struct {
	image, imageID string
	labels         map[string]string
	names          []naming // in the order they came; empty: none is known
	described      bool     // image and labels are known
	named          bool     // image is as it was asked for, and no ID in its place
	asked          bool     // the engine was asked for it, and may not have had it any more
	version        uint64   // counts the changes
	// doubt is a name that a list told in the place of the last one, and since when
	// it does. The event that tells the moment of the change may be on its way, or
	// the list have been older than what is known.
	doubt      string
	doubtSince time.Time
	touched    time.Time // when anything was heard of it last
}

// naming is a name that a container got.
type naming struct {
	name  string
	since time.Time // zero: not known, or from the beginning
}

const (
	// doubtTime is how long a name stays in doubt.
	doubtTime = 2 * time.Second
	// memoryTime is how long a container is remembered that no holding is found to
	// be of, and maxContainers how many are.
	memoryTime    = 2 * time.Minute
	maxContainers = 4096
)

func newContainers() *containers { return &containers{known: map[string]*container{}} }

// get returns what is known of a container, which is nothing for a new one.
func (c *containers) get(id string, now time.Time) *container {
	x := c.known[id]
	if x == nil {
		x = &container{}
		c.known[id] = x
	}
	x.touched = now
	x.version++
	return x
}

// happened takes in an event about a container. It says whether that may be news
// for somebody who waits for it.
func (c *containers) happened(e engine.Event, now time.Time) bool {
	if e.Type != "container" || e.Container == "" {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch e.Action {
	case "create", "start":
		if len(c.known) >= maxContainers && c.known[e.Container] == nil {
			return false
		}
		x := c.get(e.Container, now)
		if len(x.names) == 0 {
			x.names = []naming{{name: e.Name}}
		}
		if e.Image != "" {
			x.image, x.named = e.Image, true
		}
		if !x.described {
			x.labels, x.described = e.Labels, true
		}
		return true
	case "rename":
		if len(c.known) >= maxContainers && c.known[e.Container] == nil {
			return false
		}
		c.get(e.Container, now).renamed(e.OldName, e.Name, e.Time)
		return true
	default:
		return false
	}
}

// renamed takes in a change of name at a moment.
func (x *container) renamed(before, after string, at time.Time) {
	x.doubt = ""
	last := len(x.names) - 1
	switch {
	case last < 0:
		x.names = []naming{{name: before}, {after, at}}
	case x.names[last].name == after && x.names[last].since.IsZero():
		// It was listed before the event told of it.
		x.names = append(x.names[:last:last], naming{before, time.Time{}}, naming{after, at})
	case x.names[last].name != after:
		x.names = append(x.names, naming{after, at})
	}
}

// asked notes that a list was asked for containers.
func (c *containers) asked(ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		c.get(id, time.Now()).asked = true
	}
}

// listed takes in what the engine lists of a container.
func (c *containers) listed(e engine.Container, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.get(e.ID, now)
	x.imageID, x.labels, x.described = e.ImageID, e.Labels, true
	if !x.named {
		x.image, x.named = e.Image, !nameless(e)
	}
	last := len(x.names) - 1
	switch {
	case e.Name == "":
	case last < 0:
		x.names = []naming{{name: e.Name}}
	case x.names[last].name == e.Name:
		x.doubt = ""
	case x.doubt != e.Name:
		x.doubt, x.doubtSince = e.Name, now
	case now.Sub(x.doubtSince) >= doubtTime:
		x.names, x.doubt = append(x.names, naming{name: e.Name}), ""
	}
}

// nameless says whether a list gave the image's ID for its name, which it does
// once the name means another image.
func nameless(e engine.Container) bool {
	return e.Image == e.ImageID || strings.HasPrefix(e.ImageID, "sha256:"+e.Image)
}

// inspected takes in how the image of a container was asked for.
func (c *containers) inspected(e engine.Container, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.get(e.ID, now)
	x.image, x.named = e.Image, true
}

// version counts the changes of what is known of a container.
func (c *containers) version(id string) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x := c.known[id]; x != nil {
		return x.version
	}
	return 0
}

// doubtful says whether a name is in doubt.
func (c *containers) doubtful() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.known {
		if x.doubt != "" {
			return true
		}
	}
	return false
}

// snapshot is what is known of a container now; false if that is nothing.
func (c *containers) snapshot(id string) (container, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x, known := c.known[id]
	if !known {
		return container{}, false
	}
	copied := *x
	copied.names = slices.Clone(x.names)
	return copied, true
}

// forget drops what nobody asks for any more.
func (c *containers) forget(wanted map[string]bool, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, x := range c.known {
		if !wanted[id] && now.Sub(x.touched) > memoryTime {
			delete(c.known, id)
		}
	}
}

// namesSince are the names that a container had from a moment on: the one it had
// then, and those it got after.
func (x container) namesSince(from time.Time) []naming {
	first := 0
	for i, n := range x.names {
		if !n.since.After(from) {
			first = i
		}
	}
	return x.names[first:]
}
