// SPDX-License-Identifier: Apache-2.0

// Package e2e plays the life of Docker hosts on the real thing: engines as
// Debian ships them, in namespaces of their own (see package lab), and the
// daemon as it is built, started as its users start it.
//
// Its tests know three tellers of the truth and set them against each other:
//
//   - Docker: what docker network inspect, docker inspect and the bridges of the
//     host say is in use;
//   - the present: ipamlog pools and ipamlog holders, read from the guards;
//   - the past: ipamlog replay, who and history, rebuilt from the log alone.
//
// After a step that went well all three agree to the letter ([agree]). Where
// something was killed on the way, Docker may have lost a release, and the log
// then holds more than Docker uses; never less, and never one address for two
// ([sound]).
//
// The tests need root and what package lab needs.
package e2e
