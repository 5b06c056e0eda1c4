// SPDX-License-Identifier: Apache-2.0

// Package engine is Docker's API as far as ipamlog asks it: the networks of
// the engine on this host, which it lists, makes and removes; what its containers
// are; and the events that tell when to look again.
//
// It speaks to any engine since 20.10: the version of the API is agreed upon
// with the first request. What the engine says is a [Network] here, in the
// terms of the other packages, a [Container] or an [Event]; what it refuses is an
// error of one sentence, and those that callers decide on are marked
// [ErrUnreachable], [ErrNoNetwork], [ErrNoContainer] and [ErrNetworkExists].
//
// Nothing here may be called while a request of the engine to the plugin waits
// for an answer: the engine holds locks meanwhile, and both would wait for
// ever.
package engine
