// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"math/bits"
	"slices"
)

// glance reads a JSON object once, from its beginning to its end: whether it is one,
// and where the members are that are wanted. It knows what nearly all lines have; of
// the rest it says so, and package gjson is asked, which says the same more slowly.
//
// Not safe for concurrent use.
type glance struct {
	wanted [][]string // names of members, of objects within each other; nil: none
	found  []string   // the values of those as they are written; empty: not there
	among  uint64     // the wanted that are any: a bit for each
	text   string
}

// verdict is what a glance says of a line.
type verdict uint8

const (
	broken verdict = iota // no JSON object
	whole
	unsure // something is in it that has to be looked at closely
)

const (
	// mostWanted is how many members are looked for at once.
	mostWanted = 64
	// deepest is how many objects and arrays stand within each other at most.
	deepest = 100
)

// newGlance returns one for these members, nil if it is sure of nothing.
func newGlance(wanted [][]string) *glance {
	if len(wanted) > mostWanted {
		return nil
	}
	g := &glance{wanted: wanted, found: make([]string, len(wanted))}
	for i, names := range wanted {
		if slices.Contains(names, "") {
			return nil
		}
		if len(names) > 0 {
			g.among |= 1 << i
		}
	}
	return g
}

// failed and doubtful are places that are none.
const (
	failed   = -1
	doubtful = -2
)

// read looks at a line that ends with what is no white space.
func (g *glance) read(line string) verdict {
	g.text = line
	clear(g.found)
	at := g.blank(0)
	if at == len(line) || line[at] != '{' {
		return broken
	}
	switch end := g.object(at+1, 0, g.among); {
	case end == doubtful:
		return unsure
	case end == len(line):
		return whole
	}
	return broken
}

func (g *glance) blank(at int) int {
	for at < len(g.text) && (g.text[at] == ' ' || g.text[at] == '\t' || g.text[at] == '\n' || g.text[at] == '\r') {
		at++
	}
	return at
}

// object goes over an object behind its brace, and says where it ends. Those of the
// wanted that are in among may be in it.
func (g *glance) object(at, depth int, among uint64) int {
	if depth == deepest {
		return doubtful
	}
	at = g.blank(at)
	if at < len(g.text) && g.text[at] == '}' {
		return at + 1
	}
	for {
		if at >= len(g.text) || g.text[at] != '"' {
			return failed
		}
		end, escaped := g.quoted(at + 1)
		switch {
		case end < 0:
			return failed
		case escaped && among != 0:
			return doubtful // it may be the name of one
		}
		name := g.text[at+1 : end-1]
		at = g.blank(end)
		if at >= len(g.text) || g.text[at] != ':' {
			return failed
		}
		at = g.blank(at + 1)
		here, below := g.match(name, depth, among)
		end = g.value(at, depth+1, below)
		if end < 0 {
			return end
		}
		for ; here != 0; here &= here - 1 {
			if n := bits.TrailingZeros64(here); g.found[n] == "" {
				g.found[n] = g.text[at:end]
			}
		}
		if at = g.blank(end); at >= len(g.text) {
			return failed
		}
		switch g.text[at] {
		case '}':
			return at + 1
		case ',':
			at = g.blank(at + 1)
		default:
			return failed
		}
	}
}

// match tells which of the wanted have this name here, and which have their next one
// below.
func (g *glance) match(name string, depth int, among uint64) (here, below uint64) {
	for ; among != 0; among &= among - 1 {
		n := bits.TrailingZeros64(among)
		if names := g.wanted[n]; names[depth] == name {
			if depth == len(names)-1 {
				here |= 1 << n
			} else {
				below |= 1 << n
			}
		}
	}
	return here, below
}

// value goes over a value, and says where it ends.
func (g *glance) value(at, depth int, among uint64) int {
	if at >= len(g.text) {
		return failed
	}
	switch g.text[at] {
	case '"':
		end, _ := g.quoted(at + 1)
		return end
	case '{':
		return g.object(at+1, depth, among)
	case '[':
		if among != 0 {
			return doubtful // its elements have numbers for names
		}
		return g.array(at+1, depth)
	case 't':
		return g.word(at, "true")
	case 'f':
		return g.word(at, "false")
	case 'n':
		return g.word(at, "null")
	}
	return g.number(at)
}

func (g *glance) array(at, depth int) int {
	if depth == deepest {
		return doubtful
	}
	at = g.blank(at)
	if at < len(g.text) && g.text[at] == ']' {
		return at + 1
	}
	for {
		if at = g.value(at, depth+1, 0); at < 0 {
			return at
		}
		if at = g.blank(at); at >= len(g.text) {
			return failed
		}
		switch g.text[at] {
		case ']':
			return at + 1
		case ',':
			at = g.blank(at + 1)
		default:
			return failed
		}
	}
}

func (g *glance) word(at int, word string) int {
	if end := at + len(word); end <= len(g.text) && g.text[at:end] == word {
		return end
	}
	return failed
}

// special are the bytes at which a string is more than its bytes, or ends.
var special = func() (set [256]bool) {
	for b := range 0x20 {
		set[b] = true
	}
	set['"'], set['\\'] = true, true
	return set
}()

// quoted goes over a string behind its quote.
func (g *glance) quoted(at int) (end int, escaped bool) {
	text := g.text
	for at < len(text) {
		if !special[text[at]] {
			at++
			continue
		}
		switch {
		case text[at] == '"':
			return at + 1, escaped
		case text[at] != '\\' || at+1 == len(text):
			return failed, false
		}
		escaped = true
		switch text[at+1] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			at += 2
		case 'u':
			for i := at + 2; i < at+6; i++ {
				if i >= len(text) || !isHex(text[i]) {
					return failed, false
				}
			}
			at += 6
		default:
			return failed, false
		}
	}
	return failed, false
}

func isHex(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F'
}

func (g *glance) number(at int) int {
	if at < len(g.text) && g.text[at] == '-' {
		at++
	}
	switch {
	case at == len(g.text):
		return failed
	case g.text[at] == '0':
		at++
	default:
		if at = g.digits(at); at < 0 {
			return failed
		}
	}
	if at < len(g.text) && g.text[at] == '.' {
		if at = g.digits(at + 1); at < 0 {
			return failed
		}
	}
	if at < len(g.text) && g.text[at]|0x20 == 'e' {
		if at++; at < len(g.text) && (g.text[at] == '+' || g.text[at] == '-') {
			at++
		}
		return g.digits(at)
	}
	return at
}

// digits goes over digits, one at least.
func (g *glance) digits(at int) int {
	begin := at
	for at < len(g.text) && g.text[at]-'0' <= 9 {
		at++
	}
	if at == begin {
		return failed
	}
	return at
}
