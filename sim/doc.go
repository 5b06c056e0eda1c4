// SPDX-License-Identifier: Apache-2.0

// Command sim says how many hosts, pools and events a second one etcd carries.
//
// What each thing costs was measured, by this program too, on a real etcd in a process of
// its own: commits, telling daemons of them, leases, daemons that start, the index of the
// past, bytes. Package model makes of that how busy etcd is with so many hosts, and how
// long commits take; the tables of docs/scale.md are its output. What the model makes of
// 16 hosts on one pool is compared with what they did in truth.
//
//	go run ./sim                          # by the costs that are kept beside the source
//	go run ./sim --cores 8 --index 0
//	go run ./sim --calibrate              # measured here and now, about a minute
//	go run ./sim --calibrate --keep sim/costs.json
package main
