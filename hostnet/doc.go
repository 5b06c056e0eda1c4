// SPDX-License-Identifier: Apache-2.0

// Package hostnet is what create-network does to a machine: a bridge that has
// the host's address from the log, the uplink as its port, and on it the Docker
// network whose containers are neighbours of all other hosts'.
//
// It goes in three parts. [Machine.Inspect] gathers facts and changes nothing.
// [NewPlan] is a pure function of those facts and of what is wished for: it
// refuses what cannot be, and else lists what is left to do, so that a second
// run finds nothing. [Machine.Apply] does it, step by step; when a step fails,
// or the context ends, all steps that were done are undone, the last one first:
// not what was found done, and an error marked [ErrLeft] says that something is
// left. [Machine.Lock] keeps a second run away meanwhile.
//
// # The order of the steps
//
// What may well fail comes first, and the connections of the machine are touched
// last: the bridge is made with the host's address on it, but without the route
// to the subnet, for it carries nothing yet; Docker makes its network on it; the
// configuration files are written; and then only, in one go, the uplink moves. A
// move takes some milliseconds and needs no restart of anything: the addresses
// are added to the bridge before they are taken from the uplink, each route is
// replaced and never missing, and the bridge has the hardware address of its
// uplink, so that no neighbour has to learn a new one. Connections over the
// uplink survive it.
//
// # What Docker demands of the bridge
//
// Docker's bridge driver looks for the first address on the bridge that lies in
// the network's subnet. If that is the network's gateway it leaves the bridge as
// it is; if not, it takes that address away and puts the gateway there. It does
// so when the network is made and at each start of the engine. So the host's
// address has to come before all others of the subnet, now and after a reboot,
// and a bridge where it cannot is refused.
//
// An engine that starts without the bridge, after a boot that did not bring it
// back, makes it: with that address, the containers that it starts again, and no
// uplink. A run then gives it the uplink and its hardware address.
package hostnet
