// SPDX-License-Identifier: Apache-2.0

// Package timespec understands moments as people write them on a command
// line: "yesterday 03:12", "-2h", "@4711".
//
// Whoever asks who held an address must know which moment was answered for. A
// silent misreading is worse than an error: so the whole input is understood
// or none of it, and [Spec.String] says what was understood, to be printed
// with the answer.
//
// # Grammar
//
// Letters may be small or capital; white space may be repeated.
//
//	@4711                          a revision of the log
//	now
//	-2h  -90m  -1h30m              that long before now
//	2h ago  3 hours ago            the same
//	2 days ago  1 week ago  -2d    the same clock time on an earlier day
//	2026-11-21 03:12               also with T between, seconds, a fraction
//	2026-11-21                     the beginning of that day
//	03:12                          on this day
//	today 03:12  yesterday at 03:12
//	tuesday 03:12                  the latest such moment that is not to come
//	last tuesday 03:12             the same, and not today
//	Nov 21 03:12:07                as syslog writes it: the latest such day
//	21/Nov/2026:03:12:07 +0100     as web servers write it
//
// A clock time may be followed by its zone: Z, UTC, +01:00 or +0100. Without one it
// is in the caller's zone, and so is the day of "today".
//
// # Clock changes
//
// Where clocks were put forward, some clock times never were; where they were
// put back, some were twice. Both are refused, and the error names the two
// readings. A day without a clock time begins with its first moment, whatever
// its clock then showed.
package timespec
