// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/render"
)

// TestLog: whatever a container is called, its line in the log shows it, hides nothing,
// and is JSON that says the same.
func TestLog(t *testing.T) {
	for _, name := range []string{"c1", "größe 日本", "x\u009b2J", "a\u202eb", "\x1b[31m", "zero\u200bwidth", "tag \U000e0041", "\xff"} {
		var out bytes.Buffer
		log := zerolog.New(render.Log(&out))
		log.Info().Str("container", name).Msg("seen")
		if strings.ContainsFunc(out.String(), func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' }) {
			t.Errorf("%q is hidden in %q", name, out.String())
		}
		var line struct{ Container string }
		if err := json.Unmarshal(out.Bytes(), &line); err != nil {
			t.Errorf("%q: %v", out.String(), err)
		}
		if want := strings.ToValidUTF8(name, "\ufffd"); line.Container != want && !strings.Contains(name, "tag") {
			t.Errorf("%q says %q", out.String(), line.Container)
		}
	}
}
