// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"bytes"
	"strings"

	"github.com/cockroachdb/errors"
)

// entry is a key of a store with what it holds. A dump of names alone has no
// values.
type entry struct {
	key, value string
}

// node is a key of etcd's API v2, and the tree below it.
type node struct {
	Key   string
	Value string
	Dir   bool
	Nodes []node
}

func (n *node) leaves(list []entry) []entry {
	if !n.Dir && len(n.Nodes) == 0 {
		return append(list, entry{n.Key, n.Value})
	}
	for i := range n.Nodes {
		list = n.Nodes[i].leaves(list)
	}
	return list
}

// etcdPair is a key of etcd's API v3, where both parts are in base 64.
type etcdPair struct {
	Key, Value []byte
}

func etcdEntries(pairs []etcdPair) []entry {
	list := make([]entry, 0, len(pairs))
	for _, p := range pairs {
		list = append(list, entry{string(p.Key), string(p.Value)})
	}
	return list
}

// consulPair is a key of Consul's, where only the value is in base 64. The names
// of the members are in lower case when consul wrote them, in title case when the
// HTTP API did; the decoder takes both.
type consulPair struct {
	Key   string
	Value []byte
}

func consulEntries(pairs []consulPair) []entry {
	list := make([]entry, 0, len(pairs))
	for _, p := range pairs {
		list = append(list, entry{p.Key, string(p.Value)})
	}
	return list
}

// readLines reads what etcdctl prints without a format: a line for each key, with
// API v3 followed by a line for its value.
func readLines(data []byte) (Dump, error) {
	var list []entry
	open := false // the line before was a key
	stray := 0
	for line := range bytes.Lines(data) {
		text := strings.TrimSpace(string(line))
		_, _, known := split(text)
		switch {
		case known:
			list = append(list, entry{key: text})
		case open:
			list[len(list)-1].value = text
		case text != "":
			stray++
		}
		open = known
	}
	if len(list) == 0 {
		return Dump{}, errors.Newf("the dump is neither JSON nor a list of keys of a program that is known: %s", recognised)
	}
	dump, err := readTrees(list)
	if err == nil && stray > 0 {
		dump.Warnings = append(dump.Warnings, errors.Newf("%d lines are neither a key nor its value and were passed over: a dump with -w json is read more surely", stray).Error())
	}
	return dump, err
}
