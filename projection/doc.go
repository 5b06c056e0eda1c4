// SPDX-License-Identifier: Apache-2.0

// Package projection is the state that follows from events: who holds which
// address of a pool, and since when.
//
// A [Pool] is what the guards of one pool say, with a bitmap of the addresses
// taken beside it. It comes from the log alone ([New] and [Pool.Apply] of every
// record) or from the guards at any revision and the records after it
// ([FromGuards]), and is the same either way: the daemon allocates on it, and an
// auditor replays it, with the same code.
//
// A [Timeline] keeps what a Pool forgets: every holding there ever was, with
// its beginning and its end. What it knew at one revision can be [Sealed] and kept
// elsewhere: a timeline that goes on from there says the same as one made of the
// whole log.
//
// # Guarantees
//
// Everything here is a pure function of records: no I/O, no clock, no
// goroutine. Records must be applied in the order of their revisions; one that
// was applied before is passed over.
//
// # Errors
//
// A record that does not fit the state before it, or that holds an event of a
// newer version, is refused with an error of package events, and so is every one
// after it.
package projection
