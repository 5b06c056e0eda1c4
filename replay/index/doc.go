// SPDX-License-Identifier: Apache-2.0

// Package index keeps what the log tells of holdings in a file, so that a question
// about the past costs what came since and not the whole log.
//
// # The story
//
// An [Index] has a file, or will have one: what a [projection.Timeline] knew at one
// revision, and how to read on from there. [Index.History] opens it, reads what
// came since from the store, and returns a history that says the same as one made
// of the whole log. [Index.Save] writes the file anew when much has come since;
// the daemon does so now and again ([Index.Keep]), so that commands find it warm.
//
// # The file
//
// It is written whole beside its place and renamed: readers and writers of any
// number of processes need no lock, and a reader keeps the file it has opened. It
// is made of blocks (holdings, their outlines, their allocations in order, the
// running time), each with a checksum in the table of contents at the end, and is
// read a block at a time: who held an address needs the outlines alone, and the
// few blocks with that address's holdings.
//
// # Damage
//
// The file can be deleted at any time. Nothing is read from a block whose checksum is
// wrong; what was answered without it is not to be believed, and
// [replay.History.Err] tells of it. [Index.History] has looked at all blocks before
// it returns; [Index.Ask] looks at those it needs, and asks again of the log where
// one is damaged. Either way the next question drops a damaged file.
package index
