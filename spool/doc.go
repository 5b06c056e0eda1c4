// SPDX-License-Identifier: Apache-2.0

// Package spool keeps releases that Docker made while the store was away.
//
// Docker says a release once and forgets it, whatever it is answered. One that the
// store does not take in time is therefore accepted here: it is on this machine's
// disk before Docker hears so, and stays until the log has it, over restarts of the
// daemon and power cuts.
//
// # The file
//
// A [Spool] is one file of lines, which is only ever appended to. Each line is a
// checksum and a JSON object: a release that was accepted, which allocation it
// turned out to mean, or that it is done or set aside. Every line is synced before
// it counts. A last line that a power cut has torn was not accepted, and is cut off;
// what else cannot be read is kept aside in a file of its own, and never stops the
// rest. When much of the file is done, it is written anew beside its place and
// renamed.
//
// # What a release means
//
// A release is of what was held when Docker made it, and must never free what was
// held later. Mostly its allocation is known when it is accepted. Where it is not,
// [Spool.Resolve] notes it before the log is told: from then on the release can be
// repeated without harm.
package spool
