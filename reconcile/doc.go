// SPDX-License-Identifier: Apache-2.0

// Package reconcile compares what the log says this host holds with what its engine
// uses, and heals what differs: engines lose releases, and answers get lost on the way
// to them.
//
// # A look
//
// A [Reconciler] looks at the engine at its start, again and again, and whenever the
// engine has come back. First it asks the pools what this host holds; then the engine
// which networks there are, and what is attached to each; then it judges:
//
//   - An endpoint's holding that the engine does not know becomes suspected. If a look
//     that began a grace later does not find it either, it is reclaimed. If one does, it
//     is cleared.
//   - An address that the engine uses on a network of a grant, and that nobody holds, at
//     two looks a grace apart, is allocated to that endpoint again. If another holds it,
//     that is a conflict: it is written into the log, and told loudly.
//   - A grant that no network of the engine can be of, at two looks a grace apart, is
//     closed.
//   - A network whose grant a take-over of this host has closed, or begun to close, gets it
//     back at once, and its containers what they use of it, as far as nobody else has it.
//   - On a network that the log had lost, and on all of them in a store that was restored or
//     adopted, what is used is allocated at once. The host gives nothing out there before
//     ([actor.Unlooked]), and is told of each look how it went.
//
// # Why nothing is taken away
//
// What is judged was held before the engine was asked, and a verdict is about one
// allocation, never an address or a name. The pool's actor drops a verdict about what was
// asked for, or asked for again, since the look began: an engine writes an endpoint down
// after it has got its address. The commit compares the guard with what was judged, and
// that this daemon is still the host's. And between the suspicion and the end lie a grace
// and a second look, so that a start that takes long is seen in time. An engine that does
// not answer, or not completely, is not looked at. Gateways and auxiliary addresses live
// and die with their grant; nothing is ever taken because of its age.
package reconcile
