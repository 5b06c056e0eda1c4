// SPDX-License-Identifier: Apache-2.0

// Package model says how one etcd gets on with many hosts, from what each thing costs it.
//
// etcd is taken as two stations. At the first, some cores work on what is asked: commits,
// telling the daemons that watch a pool of them, leases, daemons that bring their index of
// the past up to date. All wait in one queue and have a slice in turn, as goroutines do. At
// the second, commits wait until they are on disk; all that came while one flush was under
// way go with the next one, together. That is all: members of a cluster, elections,
// compaction, and a disk that is slow now and then are not in it.
//
// [Site.Utilisation] needs no simulation. [Run] does one: commits come at random, and what
// is told are the times they took. The same seed gives the same answer.
package model
