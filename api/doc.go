// SPDX-License-Identifier: Apache-2.0

// Package api answers the questions of the command line over HTTP, so that who
// investigates needs no credentials of the store. It can only read.
//
// A [Server] is served from the start of the daemon, and refuses until
// [Server.Attach] gives it a [Source]. A request goes through the table in
// routes.go: [Access] lets it in, a question is read out of its query
// (question.go), a slot is taken (slots.go), and the answer is written in the
// JSON that the commands print (answer.go) or as a problem of RFC 9457
// (problem.go). What there is to ask is described in openapi.yaml, which is
// served too; tests hold the two to each other.
//
// # Hostile clients
//
// The daemon stands under every start of a container, and its API must not be
// what brings it down. So few questions are answered at once and few wait, bodies
// are not read, queries are short, nobody can be slow for long, and what ends
// with the client is ended. A parameter that is not known is refused, because an
// answer to another question than the one that was meant is worse than none.
package api
