// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf16"

	"github.com/cockroachdb/errors"
)

// JSON prints one value that is not a list: indented, or on one line for
// [FormatJSONL].
func JSON(out Output, value any) error {
	text, err := JSONLine(value)
	if err != nil {
		return err
	}
	if out.Format != FormatJSONL {
		text = indent(text, "")
	}
	_, err = out.Writer.Write(append(text, '\n'))
	return errors.Wrap(err, "print JSON")
}

// JSONLine returns the JSON of one value on one line, without the line break, as
// [FormatJSONL] has it.
func JSONLine(value any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	// Readers are programs and people, not HTML pages: "a & b" stays legible.
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, errors.Wrap(err, "encode record as JSON")
	}
	return visibleJSON(bytes.TrimSuffix(text.Bytes(), []byte("\n"))), nil
}

// indent spreads JSON over lines; all but the first begin with the prefix.
func indent(line []byte, prefix string) []byte {
	var out bytes.Buffer
	// What the encoder wrote is valid.
	_ = json.Indent(&out, line, prefix, "  ")
	return out.Bytes()
}

// visibleJSON escapes what encoding/json lets through though a terminal may
// obey it: DEL, the C1 controls (0x9b begins an escape sequence), direction
// marks. Such a character can only stand inside a string.
func visibleJSON(text []byte) []byte {
	if !bytes.ContainsFunc(text, unseen) {
		return text
	}
	var out bytes.Buffer
	for _, r := range string(text) {
		switch {
		case !unseen(r):
			out.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.Bytes()
}
