// SPDX-License-Identifier: Apache-2.0

// Command bench measures the daemon beside the etcd it stands on.
//
// Speeds of a machine drift, and say nothing about another machine. So nothing
// is measured alone: in turns, on the same etcd, as many clients ask the daemon
// for addresses over its plugin socket as put values of the same size straight
// into etcd, and what is printed is the ratio, round by round.
//
// The daemon is the real one, built from this module and run as a process of its
// own with its embedded etcd. Its clients are goroutines here, one connection
// each, that ask for an address and give it back, over and over; both count as a
// request, for both are events in the log, on disk before they are answered. The
// puts come over etcd's own socket by etcd's own client, each under a new key; a
// put's value has the size of the log entry of one lone allocation.
//
// All share one machine, and so do the daemons of the hosts that share a pool:
// each of those reads every event of it, at the cost of the same CPUs. Hosts of
// their own would not pay for one another.
//
// Questions about the past are measured by themselves, on a log of a million events
// (package bulk): as processes of their own, from the start to the answer, with and
// without the index.
//
//	go run ./bench
//	go run ./bench --rounds 9 --duration 3s --clients 64
//	go run ./bench --clients 0 --hosts 0 --past 1000000
package main
