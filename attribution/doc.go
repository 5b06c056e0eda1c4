// SPDX-License-Identifier: Apache-2.0

// Package attribution finds out whose an address is: which container, of which
// image, on which network. Docker does not say so when it asks for an address, so
// its engine is asked afterwards, and what it told is appended to the log as
// events.AddressAttributed. An attribution is right, or there is none.
//
// The [Ledger] knows what this host holds, because the pools' actors tell it (it
// is their actor.Witness). The [Attributor] looks at the engine: it lists the
// networks, inspects those that may be a pool's, and hands what it sees to the
// ledger, which says to which holding each endpoint belongs. What is known of the
// container then (containers.go) is put into words and appended (teller.go).
//
// # Why it is never wrong
//
// A look at a network begins before the engine is asked and ends after it has
// answered. The engine writes an endpoint down after it was given its address, and
// strikes it out before it gives the address back. So an endpoint that was seen
// belongs to an allocation whose address was told before the look ended, and whose
// end, if there was one, came into the log after the look began. The ledger hears of
// a beginning before Docker does, and of an end after the log has it: it knows that
// allocation at the end of the look, and has not seen it end before the look began.
// Of all allocations of this host it therefore takes those with the endpoint's
// address, in a pool that the network can be of, and with its MAC where they have
// one; if exactly one of them overlaps the look, it is that one. If there are
// several, nothing is said, and the next look will tell.
//
// That rests on the engine holding nothing that the log does not. Where an operator
// released by hand what was in use, or the store is an older copy, an endpoint may
// have no allocation: so one that an earlier look has seen is never taken for an
// allocation that began after that look. Every network of ours is therefore looked at
// as soon as it is listed and again with every sweep, whether or not anything is held
// there, and none is forgotten because one list lacks it. What was on a network
// before the first look may be older than everything that is held. If the log has no
// other allocation of its address with its MAC, it is that one's all the same
// (recall.go); else it has to claim an allocation when the allocation's own must be
// written down, and once more when an end that came before must be told. If two
// endpoints claim one allocation neither has it, then or later. While the lease of
// this daemon does not stand, another may speak for the host, and no look counts.
//
// A gateway is nobody's but its network's. Its network is the one on which an
// endpoint of the same grant was seen; or the only one that can be the grant's,
// while the grant is the only one that can be the network's, at two looks so far
// apart that no network is listed for that long without its grant.
package attribution
