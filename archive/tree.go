// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"slices"

	"github.com/cockroachdb/errors"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// Tree is the Merkle tree over the first commits of a log (RFC 6962, section 2.1), of
// which no more is kept than it takes to add to it: the roots of its full subtrees, the
// widest first. The zero value is the empty tree. Not safe for concurrent use.
type Tree struct {
	size   int64
	hashes map[int64]tlog.Hash // by their index in package tlog's order of storing
}

// newTree returns a tree of a size with the given edge.
func newTree(size int64, edge []tlog.Hash) (*Tree, error) {
	places := edgeOf(size)
	if len(places) != len(edge) {
		return nil, errors.Newf("a tree of %d commits has an edge of %d hashes, not of %d", size, len(places), len(edge))
	}
	t := &Tree{size: size, hashes: make(map[int64]tlog.Hash, len(edge))}
	for i, place := range places {
		t.hashes[place] = edge[i]
	}
	return t, nil
}

// treeAt returns the tree that a segment's record tells of. It fails where the record's
// edge and root do not belong together.
func treeAt(at etcdlog.TreeHead) (*Tree, error) {
	t, err := newTree(at.Size, at.Edge)
	if err != nil {
		return nil, err
	}
	root, err := t.root()
	if err == nil && root != at.Root {
		err = errors.Newf("the edge of the tree of %d commits gives the root %s, not %s", at.Size, root, at.Root)
	}
	return t, err
}

// edgeOf are the places of the full subtrees that a tree consists of, the widest first.
func edgeOf(size int64) []int64 {
	var places []int64
	for level := 62; level >= 0; level-- {
		if size>>level&1 == 1 {
			places = append(places, tlog.StoredHashIndex(level, size>>level-1))
		}
	}
	return places
}

// ReadHashes implements [tlog.HashReader].
func (t *Tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, 0, len(indexes))
	for _, i := range indexes {
		hash, ok := t.hashes[i]
		if !ok {
			return nil, errors.AssertionFailedf("hash %d of a tree of %d commits is not kept", i, t.size)
		}
		list = append(list, hash)
	}
	return list, nil
}

// add appends a leaf.
func (t *Tree) add(leaf tlog.Hash) error {
	made, err := tlog.StoredHashesForRecordHash(t.size, leaf, t)
	if err != nil {
		return errors.Wrap(err, "add to the tree")
	}
	if t.hashes == nil {
		t.hashes = map[int64]tlog.Hash{}
	}
	was := edgeOf(t.size)
	first := tlog.StoredHashIndex(0, t.size)
	for i, hash := range made {
		t.hashes[first+int64(i)] = hash
	}
	t.size++
	now := edgeOf(t.size)
	for _, place := range was {
		if !slices.Contains(now, place) {
			delete(t.hashes, place)
		}
	}
	for i := range made[:len(made)-1] { // all but the widest have a parent by now
		delete(t.hashes, first+int64(i))
	}
	return nil
}

// root is the hash of the whole tree.
func (t *Tree) root() (tlog.Hash, error) {
	hash, err := tlog.TreeHash(t.size, t)
	return hash, errors.Wrap(err, "find the root of the tree")
}

// head is what a segment's record keeps of the tree.
func (t *Tree) head() (etcdlog.TreeHead, error) {
	root, err := t.root()
	if err != nil {
		return etcdlog.TreeHead{}, err
	}
	edge, err := t.ReadHashes(edgeOf(t.size))
	return etcdlog.TreeHead{Size: t.size, Root: root, Edge: edge}, err
}
