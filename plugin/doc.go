// SPDX-License-Identifier: Apache-2.0

// Package plugin is the side that Docker sees: the IPAM protocol on a socket.
//
// A request's way: [Server] reads the body, refuses what cannot be one, and
// hands it to a [Driver], which turns Docker's words into those of package actor
// and the answer, or the refusal, back into Docker's.
//
// The protocol is Docker's remote IPAM API (moby, daemon/libnetwork/ipams/remote
// and its api package), the types are those of go-plugins-helpers/ipam. What
// engines really send differs from what is written down in places; where this
// package minds that, it says so.
//
// # Errors
//
// What the driver refuses goes out as {"Error": "…"} with status 200, which the
// user sees as "remote: …". What is no request at all goes out as {"Err": "…"}
// with its HTTP status. Docker never tries again after either.
//
// # Concurrency
//
// Requests run at the same time, as many as Docker sends. Everything exported is
// safe for concurrent use.
package plugin
