// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"strings"
	"testing"
	"unicode"

	"github.com/ipamlog/ipamlog/operator"
)

// FuzzParse: what names addresses on the command line is understood as it is written, or
// refused in one sentence.
func FuzzParse(f *testing.F) {
	for _, seed := range [][2]string{
		{"10.0.0.1/24", "10.0.0.9/24"},
		{"10.0.0.1-10.0.0.9", "10.0.0.0/30"},
		{"fd00::1", "fd00::ffff"},
		{"::ffff:10.0.0.1", ""},
		{"fe80::1%eth0", "fe80::9%eth0"},
		{"10.0.0.9", "10.0.0.1"},
		{"10.0.0.1", "fd00::1"},
		{"10.0.0.1-", "\x1b[2J"},
		{"10.0.0.0/33", "255.255.255.255/0"},
	} {
		f.Add(seed[0], seed[1])
	}
	sentence := func(t *testing.T, err error) {
		t.Helper()
		if said := err.Error(); said == "" || strings.ContainsFunc(said, unicode.IsControl) {
			t.Errorf("%q is no sentence", said)
		}
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if _, err := operator.ParseRange(a, b); err != nil {
			sentence(t, err)
		}
		if _, err := operator.ParseReleasing(a); err != nil {
			sentence(t, err)
		}
		stretch, err := operator.ParseStretch(a)
		if err != nil {
			sentence(t, err)
			return
		}
		if !stretch.IsValid() || stretch.From().Zone() != "" || stretch.From().Is4In6() {
			t.Errorf("%q was understood as %v", a, stretch)
		}
		if again, err := operator.ParseStretch(stretch.String()); err != nil || again != stretch {
			t.Errorf("%q was understood as %v, and that as %v (%v)", a, stretch, again, err)
		}
	})
}
