// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"io"
)

// Secret is text that is not to be seen: however it is printed, logged or
// encoded, it shows only whether there is one. string(s) reveals it.
type Secret string

// String returns "***", or nothing for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// Format prints [Secret.String] for every verb of package fmt.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText has encodings such as JSON show [Secret.String].
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
