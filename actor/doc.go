// SPDX-License-Identifier: Apache-2.0

// Package actor decides who gets which address.
//
// # The story
//
// A [Host] is this machine's daemon on the log. It has joined under its name,
// keeps its presence alive, answers RequestPool on the catalogue as it stands in
// the store, and keeps one [Pool] for every pool it has a grant in.
//
// A Pool is one goroutine. Requests reach it through a bounded mailbox; what the
// log says reaches it through the log's watch; how its commits went is posted
// back to it. Nothing shares its memory, and it never waits for I/O:
//
//  1. A request is decided at once, against the projection with the overlay of
//     what is in flight on top: an address is picked and marked pending.
//  2. Decided events gather while earlier commits are on their way, and go
//     together. A lone request on an idle actor goes at once.
//  3. A goroutine per commit runs the transaction and posts the outcome.
//     Success answers the requesters. After a lost race, who had no wish of
//     their own is decided again; who asked for the very address is refused.
//  4. The projection advances only by the log's watch, in revision order.
//
// # Guarantees
//
// A request that was answered is in the log. One that was refused is not, or a
// compensating event follows it: when the store stays silent, the requester is
// refused within seconds and the commit's fate is settled behind its back.
//
// A caller that leaves before its answer (its context ends) leaves nothing
// behind: what was allocated for it is released again.
//
// Stopping drains: whatever was accepted is answered or refused before
// [Host.Run] returns, and no goroutine is left.
package actor
