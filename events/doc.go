// SPDX-License-Identifier: Apache-2.0

// Package events is the vocabulary of ipamlog: what can happen to an address,
// how it is written down, and what it changes.
//
// # The story
//
// Whatever changes who holds which address is an [Event]. Events that happen
// together are a [Commit], which is appended to a stream: a pool has a stream
// of its own, hosts share the stream [Catalogue]. A commit that was accepted
// by the store has a revision and is a [Record]. Records in the order of their
// revisions are the log, and the log is the only memory there is.
//
// Beside the log stand the [Guards]: for each address now held, each grant,
// each pool and each host one small value. They are what the events say, folded
// by [Guards.Apply], and nothing else. A writer names the guards its decision
// rests on; the store accepts the commit only while they are unchanged, and
// writes the new ones in the same transaction. So two hosts never hold one
// address, and reading the guards is as good as reading the whole log.
//
// # Encoding
//
// Commits are JSON, made to be read by a person with etcdctl alone. [Encode] is
// strict: an event that lacks what it needs is refused. [Decode] is tolerant:
// fields and event types it does not know are kept, shown and written back, so
// that a newer writer's words survive an older reader. The golden files in
// testdata pin the format.
//
// Every daemon of a pool reads every event of it, so what there is most of is
// read by a small reader of exactly what [Encode] writes (canonical.go), and only
// what that one does not recognise by the tolerant decoder. A field that is added
// to such an event is added to its reader too; a test tells who forgets it.
//
// # Concurrency
//
// Everything here is plain data and pure functions: no I/O, no clock, no
// goroutine. Values may be read by many; nothing may be changed while read.
package events
