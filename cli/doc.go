// SPDX-License-Identifier: Apache-2.0

// Package cli is the command line: a tree of commands ([New]), and the one way
// in which a command's end becomes an exit status and a sentence ([Run]).
//
// # Rules
//
// Answers go to standard output, and nothing else does. What is said about an
// answer (which moment it is for, that something is missing) goes to standard
// error, as warnings and errors do; those begin with "ipamlog: ", are one
// sentence that says what to do, and have neither capital nor full stop.
//
// A command asks its questions of package replay and prints through package
// render; there is no knowledge of addresses here.
package cli
