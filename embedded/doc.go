// SPDX-License-Identifier: Apache-2.0

// Package embedded is the etcd a daemon runs inside itself when it is told of
// no cluster: zero set-up on one machine, and the same log, transactions,
// watches and leases as on many.
//
// # Who can reach it
//
// Only who may open its socket. The server lives in the folder etcd of the data
// directory, which is closed to all but its owner (mode 0700), and listens on
// one unix socket there (mode 0600). It opens no port, and no listener for
// peers: a lone member needs none. Readers in other processes go by the
// directory alone, with [Endpoint]; the daemon itself has [Server.Client], which
// calls straight into the server.
//
// One process at a time holds a data directory, by a lock that the kernel drops
// with the process. A second one is refused at once and told the pid of the
// first, and after a kill -9 the next start needs nobody's help.
//
// # How it lives and ends
//
// [Start] returns when writes are served. [Server.Run] waits, as an actor of an
// oklog/run group does, and tells when etcd stopped by itself; [Server.Close]
// stops it. Run leaves the server running, so that the other actors can still
// write their last words: close it after the group is done. An etcd that can no
// longer write to its disk ends the process, with a line in the log at level
// fatal; what it acknowledged before is kept.
//
// # What it costs
//
// Measured on two cores of a shared virtual machine, with fsync, by
//
//	go test -run xxx -bench . ./embedded
//
//	commit of two keys, in-process    120 µs p50, 0.5 ms p99
//	commit of two keys, socket        340 µs p50, 1.2 ms p99
//	start on nothing                  0.35 s, nearly all of it raft's election
//	start on a little                 0.28 s
//	defragmentation, 10,000 events    55 ms, in which writes wait
//	defragmentation, 100,000 events   300 ms
//	idle                              0.5 % of a core, 29 MiB resident
//
// The tick of 100 ms is a compromise between start and idle: 500 ms saves a third
// of the idle time and makes a start take up to 2.5 s. A start after 200,000
// commits and a kill takes 0.9 s with ticks of 10 ms; it grows with the number
// of keys.
//
// # What it stores
//
// An acknowledged write is in the write-ahead log and survives a kill. That log
// takes 32 MiB from the start, and some 64 MiB when busy. The database file holds
// every live key and the revisions superseded in the last 10 to 20 minutes, so
// that who reads at a pinned revision can finish; older ones are compacted away.
// Compaction makes room inside the file; once the file is larger than 64 MiB
// and less than half of it in use, it is rewritten at a moment when nobody
// has written for ten seconds.
//
// The quota is 8 GiB, the most etcd recommends: some ten million events. Past
// it the store takes only reads and deletes. From half of it on, a rewrite waits
// for no quiet moment; and when a rewrite made room, writes are taken again without
// anybody ending etcd's alarm by hand.
package embedded
