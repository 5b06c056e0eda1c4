// SPDX-License-Identifier: Apache-2.0

// Package operator is what a person changes in the log by hand: how a pool's
// subnet is divided, which addresses are kept out of use, which are given back
// although nobody released them, which are a host's own, and what another address
// manager left behind.
//
// # The story
//
// An [Operator] is no daemon. It writes under a host's name without having joined,
// so it can do what needs no presence, while the daemons go on. Each change is
// decided on the guards as the store has them at one revision, and committed
// against those; when somebody was faster it is decided again. So a refusal is
// about what is, and an agreement about what was written.
//
// A change is one commit where it can be. Those that are too large for one
// ([Operator.Reserve], [Operator.Import]) are checked as a whole before the first;
// what a refused reservation has written is taken back, and an import can be run
// again.
//
// # What is said
//
// Errors are sentences. Those marked [ErrInvalid] are about how something was
// asked; those marked [ErrNotFound] and [ErrAmbiguous] about what it means in this
// log. All others say what stands in the way. What was done is an [Outcome]: a few
// sentences, and notes about what the person may not have thought of.
//
// # What was decided
//
//   - A range may have the router in it, as users of oam-docker-ipam have it: the
//     router is left out, and that is told. Network and broadcast address are
//     refused.
//   - A pool's last range is not removed while the pool is in use, unless that is
//     forced: without one containers would get all of a subnet in which there may be
//     other machines.
//   - Another router takes the place of one that nothing holds. One that networks
//     hold (as gateway or auxiliary address) stays.
//   - A subnet that only a named pool has is not taken for a new pool without a
//     name, unless --pool says the subnet.
//   - The same holds of a pool that an import made: one without ranges stands by
//     what is held in it, and ends with the last of that.
//   - An address of a host that a device of this machine still has is not released,
//     whatever Docker knows of it.
//   - What a dissolved swarm held is given back when every daemon that is alive says that
//     it answers no swarm. That word is compared when a grant is set to closing, and a
//     daemon takes it back before it answers one.
//   - An address of a container is not released in its first minute: its engine may
//     not know it yet.
//   - Gateways and auxiliary addresses of an imported Docker network are reserved
//     as containers' are: the network that replaces it needs them given back.
//
// # When the daemons follow
//
// A daemon learns of another layout by watching the log, within moments. What it
// has committed in those moments stands: who holds an address keeps it. An address
// is never held twice, whatever is changed meanwhile: every allocation compares
// the guard of its address.
package operator
