// SPDX-License-Identifier: Apache-2.0

// Package backup writes a log into a file, and makes a log of such a file again.
//
// # The file
//
// It is lines of JSON, packed with zstd, so that `zstdcat FILE | jq` is enough in an
// emergency:
//
//	{"backup":{"format":1,"version":"1.4.0","time":"…","prefix":"/ipamlog/v1/","revision":4711,"store":{…}}}
//	{"revision":2,"stream":"catalogue","id":"01M7…","commit":{…}}
//	{"head":"catalogue","commits":1,"revision":2}
//	{"key":"held/01M7…/10.50.0.2","value":{…}}
//	{"end":{"commits":1,"heads":1,"guards":1,"sha256":"…"}}
//
// First which log it is and at which revision; then each commit, in the order of the
// revisions; how many each stream ever had, as its head says, which a deleted commit
// does not change; and the guards. All is of one revision, though daemons write
// meanwhile. Commits and guards are, byte for byte, what stands in the store: what a
// newer version wrote comes back as it was. The last line holds how many there are,
// and a SHA-256 of the lines before it: a file that is cut off or damaged is known as
// one before anything is restored from it.
//
// A file that replaces another, or is new, appears whole or not at all.
//
// # Restoring
//
// Into an empty place only. The revisions keep their numbers, and new ones are
// higher; but the store is another one, with an id of its own, because daemons that
// knew the old one may have seen more than is in it. See docs/decisions, 21.
package backup
