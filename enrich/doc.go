// SPDX-License-Identifier: Apache-2.0

// Package enrich joins the log of a firewall, a proxy or a flow exporter with who
// held its addresses at the time of each line.
//
// # The story
//
// [Join] copies a log from a reader to a writer. A reader goroutine cuts it into
// chunks of whole records, workers add to each record what is known of its
// addresses, and the chunks are written in the order in which they came. Memory is
// bounded by the bytes under way, whatever the length of the log and of its lines.
//
// What is known of the addresses are numbers (package replay's Lookup): a line is
// answered without looking at the history, and an answer that was written once is
// copied. Where a log is still being written, the history is read again for lines
// that are later than what is known, once a second at most.
//
// What a log looks like is found out from how it begins: CSV with a header, tab
// separated values as Zeek writes them, or a JSON object on each line; packed with
// gzip or zstd or not ([Unpack]). Each of these is a dialect, which knows where a
// record ends, where its fields are, and where something can be added.
//
// # Nothing is lost
//
// A line stays byte for byte what it was; cells or a member are added behind it. A
// line that cannot be read goes through unchanged, in its place, and is counted
// under its [Reason]. An answer that may be wrong is not given: a line from an hour
// that a clock showed twice, one with more fields than the header, one that is
// later than the history or before it began goes through unchanged as well. Where
// the clocks of the hosts leave open who held an address, the line says so.
package enrich
