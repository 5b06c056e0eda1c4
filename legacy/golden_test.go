// SPDX-License-Identifier: Apache-2.0

package legacy_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ipamlog/ipamlog/legacy"
)

var update = flag.Bool("update", false, "write what is read now as what is wanted")

// Beside every dump lies what is to be read out of it. Dumps of one store in
// several formats lie beside the same.
func TestDumps(t *testing.T) {
	for dump, want := range map[string]string{
		"oam.json":           "oam.want",
		"oam-v3.json":        "oam.want",
		"oam-v3.txt":         "oam.want",
		"oam-poisoned.json":  "oam-poisoned.want",
		"oam-masks.json":     "oam-masks.want",
		"skylark.json":       "skylark.want",
		"july.json":          "july.want",
		"swan.json":          "swan.want",
		"consul-export.json": "consul.want",
		"consul-http.json":   "consul.want",
		"docker.json":        "docker.want",
	} {
		t.Run(dump, func(t *testing.T) {
			read, err := readFile(t, dump)
			if err != nil {
				t.Fatal(err)
			}
			check(t, read)
			got := told(read)
			file := filepath.Join("testdata", want)
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			golden, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(golden), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func readFile(t *testing.T, name string) (legacy.Dump, error) {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	return legacy.Read(file)
}

// told writes a dump for people to compare.
func told(d legacy.Dump) string {
	var b strings.Builder
	fmt.Fprintf(&b, "source %s\n", d.Source)
	for _, p := range d.Pools {
		fmt.Fprintf(&b, "\npool %s %q %s\n", p.Space, p.Name, p.Subnet)
		for _, r := range p.Ranges {
			fmt.Fprintf(&b, "  range %s\n", r)
		}
		for _, r := range p.HostRanges {
			fmt.Fprintf(&b, "  hosts %s\n", r)
		}
		if p.Router.IsValid() {
			fmt.Fprintf(&b, "  router %s\n", p.Router)
		}
		for _, h := range p.Held {
			fmt.Fprintf(&b, "  %s %s", h.Kind, h.Address)
			if h.Host != "" {
				fmt.Fprintf(&b, " host=%s", h.Host)
			}
			if h.Endpoint != "" {
				fmt.Fprintf(&b, " endpoint=%s", h.Endpoint)
			}
			if h.MAC != "" {
				fmt.Fprintf(&b, " mac=%s", h.MAC)
			}
			if h.Note != "" {
				fmt.Fprintf(&b, " (%s)", h.Note)
			}
			b.WriteString("\n")
		}
	}
	for _, w := range d.Warnings {
		fmt.Fprintf(&b, "\nwarning: %s\n", w)
	}
	return b.String()
}
