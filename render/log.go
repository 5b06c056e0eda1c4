// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"
)

// Log returns a writer of JSON lines, one a call, that escapes what a terminal would
// obey or hide: who names containers and networks writes into the log as well.
func Log(w io.Writer) io.Writer { return logWriter{w} }

type logWriter struct{ w io.Writer }

// Write implements [io.Writer].
func (l logWriter) Write(line []byte) (int, error) {
	hidden := func(r rune) bool { return r >= utf8.RuneSelf && !unicode.IsPrint(r) }
	if bytes.IndexFunc(line, hidden) < 0 {
		return l.w.Write(line)
	}
	seen := make([]byte, 0, len(line)+32)
	for _, r := range string(line) {
		switch {
		case !hidden(r):
			seen = utf8.AppendRune(seen, r)
		case r > 0xffff:
			seen = fmt.Appendf(seen, `\\U%08x`, r) // JSON has no shorter one in a single piece
		default:
			seen = fmt.Appendf(seen, `\u%04x`, r)
		}
	}
	if _, err := l.w.Write(seen); err != nil {
		return 0, err
	}
	return len(line), nil
}
