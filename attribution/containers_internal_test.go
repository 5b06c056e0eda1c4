// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ipamlog/ipamlog/engine"
)

// What containers were called, when, as far as events and lists tell.
func TestContainers_names(t *testing.T) {
	start := time.Unix(1000, 0)
	second := func(n int) time.Time { return start.Add(time.Duration(n) * time.Second) }
	event := func(action, before, name string) func(*containers, time.Time) {
		return func(c *containers, now time.Time) {
			c.happened(engine.Event{Time: now, Type: "container", Action: action, Container: "c", OldName: before, Name: name}, now)
		}
	}
	list := func(name string) func(*containers, time.Time) {
		return func(c *containers, now time.Time) {
			c.listed(engine.Container{ID: "c", Name: name, Image: "i", ImageID: "sha256:1"}, now)
		}
	}
	type steps map[int]func(*containers, time.Time)
	for name, test := range map[string]struct {
		steps steps
		want  []naming
	}{
		"created":                        {steps{0: event("create", "", "a")}, []naming{{name: "a"}}},
		"listed":                         {steps{0: list("a")}, []naming{{name: "a"}}},
		"renamed":                        {steps{0: list("a"), 1: event("rename", "a", "b")}, []naming{{name: "a"}, {"b", second(1)}}},
		"renamed, and then known":        {steps{0: event("rename", "a", "b"), 1: list("b")}, []naming{{name: "a"}, {"b", second(0)}}},
		"listed before the event came":   {steps{0: list("b"), 1: event("rename", "a", "b")}, []naming{{name: "a"}, {"b", second(1)}}},
		"the event was lost":             {steps{0: list("a"), 1: list("b"), 4: list("b")}, []naming{{name: "a"}, {name: "b"}}},
		"a list that is older":           {steps{0: list("a"), 1: event("rename", "a", "b"), 2: list("a"), 5: list("b")}, []naming{{name: "a"}, {"b", second(1)}}},
		"not sure yet":                   {steps{0: list("a"), 1: list("b"), 2: list("b")}, []naming{{name: "a"}}},
		"there and back":                 {steps{0: list("a"), 1: event("rename", "a", "b"), 2: event("rename", "b", "a")}, []naming{{name: "a"}, {"b", second(1)}, {"a", second(2)}}},
		"started anew, which says it":    {steps{0: list("a"), 1: event("start", "", "a")}, []naming{{name: "a"}}},
		"listed twice, and then the one": {steps{0: list("a"), 1: list("b"), 2: event("rename", "a", "b"), 9: list("b")}, []naming{{name: "a"}, {"b", second(2)}}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newContainers()
			for i := range 10 {
				if f := test.steps[i]; f != nil {
					f(c, second(i))
				}
			}
			x, _ := c.snapshot("c")
			if diff := cmp.Diff(test.want, x.names, cmp.AllowUnexported(naming{})); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
		})
	}
}

func TestContainer_namesSince(t *testing.T) {
	at := func(n int64) time.Time { return time.Unix(n, 0) }
	x := container{names: []naming{{name: "a"}, {"b", at(10)}, {"c", at(20)}}}
	for from, want := range map[int64]string{0: "a b c", 10: "b c", 15: "b c", 20: "c", 30: "c"} {
		var got []string
		for _, n := range x.namesSince(at(from)) {
			got = append(got, n.name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("from %d: %q, want %q", from, got, want)
		}
	}
	if got := (container{}).namesSince(at(0)); len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

// An image is called what it was asked for by, wherever that was heard first.
func TestContainers_image(t *testing.T) {
	const imageID = "sha256:0123456789abcdef"
	now := time.Unix(0, 0)
	created := func(c *containers) {
		c.happened(engine.Event{Type: "container", Action: "create", Container: "c", Image: "nginx:1.27"}, now)
	}
	listed := func(image string) func(*containers) {
		return func(c *containers) { c.listed(engine.Container{ID: "c", Image: image, ImageID: imageID}, now) }
	}
	inspected := func(c *containers) {
		c.inspected(engine.Container{ID: "c", Image: "nginx:1.27", ImageID: imageID}, now)
	}
	for name, test := range map[string]struct {
		steps []func(*containers)
		image string
		named bool
	}{
		"event, list":       {[]func(*containers){created, listed(imageID)}, "nginx:1.27", true},
		"list, event":       {[]func(*containers){listed(imageID), created}, "nginx:1.27", true},
		"list alone":        {[]func(*containers){listed("nginx:1.27")}, "nginx:1.27", true},
		"list, by ID":       {[]func(*containers){listed(imageID)}, imageID, false},
		"list, by short ID": {[]func(*containers){listed("0123456789ab")}, "0123456789ab", false},
		"list, inspection":  {[]func(*containers){listed(imageID), inspected}, "nginx:1.27", true},
		"inspected, list":   {[]func(*containers){inspected, listed(imageID)}, "nginx:1.27", true},
		"tag moved since":   {[]func(*containers){listed("nginx:1.27"), listed(imageID)}, "nginx:1.27", true},
		"event of no action": {[]func(*containers){func(c *containers) {
			c.happened(engine.Event{Type: "container", Action: "exec_start: sh", Container: "c", Image: "x"}, now)
		}}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			c := newContainers()
			for _, f := range test.steps {
				f(c)
			}
			if x, _ := c.snapshot("c"); x.image != test.image || x.named != test.named {
				t.Errorf("image %q, named %v", x.image, x.named)
			}
		})
	}
}

// What nobody asks for is forgotten, and never more than so much remembered.
func TestContainers_forget(t *testing.T) {
	c := newContainers()
	now := time.Unix(0, 0)
	for i := range maxContainers + 10 {
		c.happened(engine.Event{Type: "container", Action: "create", Container: fmt.Sprint(i)}, now)
	}
	if n := len(c.known); n != maxContainers {
		t.Errorf("%d are remembered", n)
	}
	c.forget(map[string]bool{"7": true}, now.Add(memoryTime+1))
	if _, known := c.snapshot("7"); !known || len(c.known) != 1 {
		t.Errorf("%d are remembered in the end, the one wanted: %v", len(c.known), known)
	}
}

func TestAllowed(t *testing.T) {
	long, many := strings.Repeat("x", maxLabel+1), map[string]string{}
	for i := range maxLabels + 5 {
		many[fmt.Sprintf("m%02d", i)] = ""
	}
	for name, test := range map[string]struct {
		labels   map[string]string
		patterns []string
		want     map[string]string
		left     int
	}{
		"none allowed":    {map[string]string{"a": "1"}, nil, map[string]string{}, 0},
		"by name":         {map[string]string{"a": "1", "b": "2"}, []string{"a"}, map[string]string{"a": "1"}, 0},
		"by pattern":      {map[string]string{"com.docker.compose.project": "p", "com.docker.composex": "q"}, []string{"com.docker.compose.*"}, map[string]string{"com.docker.compose.project": "p"}, 0},
		"with a slash":    {map[string]string{"example.com/a/b": "1"}, []string{"example.com*"}, map[string]string{"example.com/a/b": "1"}, 0},
		"a slash is none": {map[string]string{"a/b": "1"}, []string{"a?b"}, map[string]string{"a/b": "1"}, 0},
		"a long value":    {map[string]string{"a": long, "b": "2"}, []string{"*"}, map[string]string{"b": "2"}, 1},
		"a long name":     {map[string]string{long: "1"}, []string{"*"}, map[string]string{}, 1},
		"a bad pattern":   {map[string]string{"a": "1"}, []string{"[", "a"}, map[string]string{"a": "1"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, left := allowed(test.labels, test.patterns)
			if diff := cmp.Diff(test.want, got); diff != "" || left != test.left {
				t.Errorf("%d left out (-want +got):\n%s", left, diff)
			}
		})
	}
	if got, left := allowed(many, []string{"*"}); len(got) != maxLabels || left != 5 {
		t.Errorf("of many %d are allowed, and %d left out", len(got), left)
	}
}
