// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"net/netip"
	"testing"
)

// What is read as a plain address is one, and no other.
func FuzzPlainAddress(f *testing.F) {
	for _, text := range []string{"10.50.0.1", "255.255.255.255", "0.0.0.0", "256.1.1.1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1..2.3", "1.2.3.4 ", "::1", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		want, err := netip.ParseAddr(text)
		got, ok := plainAddress(text)
		if ok != (err == nil && want.Is4()) || ok && got != want {
			t.Errorf("%q: %v %v, want %v %v", text, got, ok, want, err)
		}
	})
}
