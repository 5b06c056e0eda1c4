// SPDX-License-Identifier: Apache-2.0

// Package etcdlog is the log on etcd: append, read, watch.
//
// # Keys
//
// Below one prefix stand:
//
//	log/<stream>/<ulid>      one commit, never rewritten
//	heads/<stream>           the stream's last commit, which counts them
//	held/<pool>/<address>    who holds the address now
//	grants/<pool>/<grant>    a grant that is open or closing
//	pools/<space>/<pool>     a pool
//	hosts/<host>             a host ever seen
//	alive/<host>             a daemon alive, bound to a lease
//	meta/store               which store this is
//	segments/<revision>      a stretch of the log that was sealed into an archive
//	meta/archiving           who archives
//
// and in a store that was restored from a backup
//
//	restored/<stream>        the stream's head before that
//	meta/restoring           while it lasts: the store is not to be used
//
// All but log/, heads/, restored/, segments/, alive/ and meta/ are guards: see package events.
//
// # Revisions
//
// The revisions that this package takes and returns are the log's: etcd's own, and in a
// restored store more by its base. What was restored keeps the revision it always had.
//
// # Append
//
// [Writer.Append] is the only way to write, and it takes events, not guards: what
// the guards become is computed from the events, and every guard touched is
// compared with the revision the writer saw. A guard that changes without its
// event, or under a decision made on an older value, cannot be written.
//
// An answer that never came is resolved, not guessed at: the same transaction is
// sent again under the same ULID, which its log key makes harmless, until the
// caller's context ends. What is then still unknown ([ErrUnknown]) is ended with
// [Writer.Close]: a void commit under that ULID, unless it did commit. Whichever is
// there first is the truth, and a straggler that arrives later fails.
//
// # Read and follow
//
// Every range that may be long is bounded at both ends, because etcd walks all
// the rest of an open one. [Log.Read] gives a stream, or the whole log, at one
// revision and in its order. [Log.Follow] gives a pool's guards at one revision
// and then every record after it, and goes on by itself over compaction, lost
// connections, restarts of etcd and changes of its leader.
//
// # Concurrency
//
// A [Log] is safe for concurrent use.
package etcdlog
