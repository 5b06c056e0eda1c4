// SPDX-License-Identifier: Apache-2.0

// Package archive moves the old part of a log out of etcd, into files that prove
// themselves.
//
// # The story
//
// An [Archiver] asks the log for its oldest part (etcdlog's Oldest), makes a segment of
// it, puts that into a [Place], and writes it down in the store. Then it deletes the
// part's commits from etcd, a few at a time. From the moment that begins, whoever reads
// the log reads them from the segment, through a [Shelf]; the answers are the same.
//
// It may be stopped anywhere. What a segment's record in the store says is true: sealed,
// and still in etcd as well; removing; removed. What is in the place and has no record
// counts for nothing, and the next archiver clears it away.
//
// # The files
//
// A segment is JSON lines, packed with zstd. The first line says what it is: which log,
// which revisions, how many commits, of which time; each further one is a commit, byte
// for byte as it stood in the store, with its revision, stream and id.
//
// These lines are the leaves of one Merkle tree over the whole log, as RFC 6962 has it.
// The head of each segment has the tree before it, as far as it takes to go on from
// there, and the root after it. Beside each segment stands a checkpoint: C2SP's signed
// statement about the size and root of the tree, which also names the file and its
// SHA-256.
//
// # The proof
//
// [Verify] needs the files and a public key. That a byte was changed shows in the file's
// SHA-256 or its checkpoint's signature; that commits were changed, removed or inserted
// by somebody who packed the file anew shows in the tree; that a segment is missing
// shows in the next one. That the last ones are missing shows only to who knows more
// than the files: the store, or somebody who has kept a later checkpoint.
//
// # What is forgotten
//
// A [Forgetter] deletes segments from the beginning on, for good, and puts a residue in
// their place: those of their events on which the state at the border rests (what is held
// and has not ended, pools, grants), and nothing else. It is signed as well, so that
// nobody who cannot sign can pass a segment that he took away for forgotten. The
// checkpoints of the segments stay: they bridge the tree up to the border.
package archive
