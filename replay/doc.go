// SPDX-License-Identifier: Apache-2.0

// Package replay answers questions about any moment: who held an address then,
// what an address, a host or a pool ever held, what the log says and whether
// the guards agree.
//
// # The story
//
// [Load] reads the log from a [Source] and keeps it as a [Journal]: the records,
// and the [History] of holdings they tell. A moment on a command line (package
// timespec) becomes a [Moment], a place in the order of the log. Questions about
// holdings are methods of History: [History.Who], [History.Holders], [History.Of];
// those about the events themselves are the Journal's: [Journal.Events],
// [Journal.Steps], [Journal.Replay].
//
// Two things are answered without reading the log, because the guards hold the
// present: [HoldersNow] and [PoolsNow]. That both ways give the same is what
// [Compare] looks at: it rebuilds every pool from the log alone and lists what
// the guards say otherwise.
//
// # Time
//
// Order is the store's revision, never a clock. A query by time T means: after
// the last record whose running time is not later than T, where the running
// time is the latest time of any commit so far that was not marked suspect. One
// thing is known better than the log's order tells it: a release that had to
// wait for the store carries the moment Docker released. From that moment on a
// query by time no longer counts the holding, a query by revision does.
//
// # Answers
//
// A [Holding] and an [Event] have a JSON form that is promised to scripts. What
// is not known is null there, never guessed.
//
// # Who was behind it
//
// What the engine told of containers and networks comes into the log after the
// allocation, and may come after its end. It tells of the whole holding; only of a
// container that got another name, each name has its time. Where nobody saw when
// it changed, an answer names none.
//
// # Concurrency
//
// A History never changes once it is loaded, and may be read by many.
package replay
