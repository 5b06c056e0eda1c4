// SPDX-License-Identifier: Apache-2.0

// Command bench measures the daemon beside the etcd it stands on.
//
// Speeds of a machine drift, and say nothing about another machine. So nothing
// is measured alone: in turns, on the same etcd, as many clients ask for addresses
// as put values of the same size straight into etcd, and what is printed is the
// ratio, round by round.
//
// # The table
//
// The daemon is the real one, built from this module and run as a process of its
// own with its embedded etcd. Its clients are goroutines here, one connection
// each, that ask for an address and give it back, over and over; both count as a
// request, for both are events in the log, on disk before they are answered. The
// actor is asked the same in this process, without HTTP; it comes to etcd over
// etcd's socket. The puts come over that socket too, by etcd's own client, each
// under a new key; a put's value has the size of the log entry of one lone
// allocation. Bare transactions write what a lone allocation and its release do,
// on as many conditions: what they cost more than a put is the price of the guards,
// and what ours are ahead of them comes from sharing commits.
//
// All share one machine, and so do the daemons of the hosts that share a pool:
// each of those reads every event of it, at the cost of the same CPUs. Hosts of
// their own would not pay for one another.
//
// What other allocators reached beside bare puts elsewhere, ours are held against
// by the same ratio.
//
// # Instead of the table
//
// Questions about the past are measured by themselves, on a log of a million events
// (package bulk): as processes of their own, from the start to the answer, with and
// without the index. So is the start of a daemon on long logs, and after an absence,
// and what pools and held addresses cost in memory. Curves draw what a request costs
// over what grows: how full a pool is, how many hosts share it, how long the log is.
//
//	go run ./bench
//	go run ./bench --short --json short.json
//	go run ./bench --rounds 9 --duration 3s --clients 64 --fills 0 --pools none --hosts 0
//	go run ./bench --past 1000000
//	go run ./bench --start 30000,100000,1000000 --away 100000
//	go run ./bench --memory 1000 --held 1000000
//	go run ./bench --start 30000,100000,1000000 --curves curves
package main
