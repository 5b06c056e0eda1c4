// SPDX-License-Identifier: Apache-2.0

// Package legacy reads what other address managers stored, so that a site can
// move to ipamlog without giving an address out twice.
//
// [Read] is given a dump and finds out by its content what wrote it:
//
//   - oam-docker-ipam (Shrike) and its descendants skylark, july and swan keep
//     one etcd key for each address. Dumps of etcd's API v2 as JSON, and of API
//     v3 as JSON or as lines, are read.
//   - kvipamdriver keeps libnetwork's bitmaps in Consul. The arrays that
//     consul kv export and the HTTP API give are read.
//   - Docker itself tells its networks with docker network inspect.
//
// What comes out says nothing of where it came from: subnets, the ranges in
// them, and addresses that are held.
//
// # Doubt
//
// Those stores were written without transactions, and show it: addresses that
// are free and assigned at once, hosts' addresses among the containers', ranges
// that run over the end of their subnet. The reading that cannot give an address
// out twice is taken (held wins, hosts go before containers), and each
// such reading is a sentence in [Dump.Warnings]. What has no safe reading, like a
// subnet whose mask is unknown, is an error that names the key and what to do.
//
// Facts a store does not have stay empty. None has times; only skylark says which
// host holds an address; kvipamdriver does not tell a gateway from a container.
package legacy
