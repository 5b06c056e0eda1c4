// SPDX-License-Identifier: Apache-2.0

// Command chaos drives daemons while everything around them breaks, and checks what
// they answered.
//
// # What runs
//
// Three hosts of a laboratory (package lab, so it takes root) run the daemon that
// this source makes, on one etcd of three members. On each host clients speak
// Docker's plugin protocol over the plugin socket, many at a time: networks are
// created and removed, containers start and stop, on pools that all hosts share and
// of which some are so small that every address is fought for.
//
// # What breaks
//
// Meanwhile daemons and members are killed, paused and cut off, connections between
// them lose answers and are reset or silent, clients hang up before they have heard
// their answer, clocks jump, and the store is compacted. What comes when is drawn from
// a seed, which is printed, and brings the same troubles again when it is given; what
// they meet depends on the moment, so that a failure may take more than one run to
// come back.
//
// # What is checked
//
// From time to time everybody holds still, and the guards in the store are compared
// with what the clients know. At the end all is given back, nothing may be held any
// more, the log must keep its rules (package replay), every answer must be in it,
// and what the clients saw must be what an allocator could have answered that does
// one thing after the other: that is what porcupine finds out, address by address.
// Where a client does not know what became of its request, the log says it.
//
//	go run ./chaos --duration 10m
//	go run ./chaos --duration 10m --seed 42
package main
