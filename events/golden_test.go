// SPDX-License-Identifier: Apache-2.0

package events_test

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/events"
)

// What was written once is read for ever: a golden file is never changed, so the
// flag adds those that are missing and touches no other.
var update = flag.Bool("update", false, "add the golden files that are missing")

var equate = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netipx.IPRange{}), cmpopts.EquateEmpty()}

func TestGoldenFilesHoldTheSamples(t *testing.T) {
	for name, want := range samples() {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", "v1", name+".json")
			encoded, err := events.Encode(want)
			if err != nil {
				t.Fatal(err)
			}
			golden, err := os.ReadFile(file)
			if os.IsNotExist(err) && *update {
				err = os.WriteFile(file, encoded, 0o644)
				golden = encoded
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(golden), string(encoded)); diff != "" {
				t.Errorf("the encoding changed; that needs a new version (-golden +now):\n%s", diff)
			}
			got, err := events.Decode(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, equate); diff != "" {
				t.Errorf("decoded (-sample +got):\n%s", diff)
			}
		})
	}
}

// TestGoldenFilesSurvive reads every file there ever was, those that no sample
// makes any more and those of newer writers included.
func TestGoldenFilesSurvive(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "v*", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			golden, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			commit, err := events.Decode(golden)
			if err != nil {
				t.Fatal(err)
			}
			foreign := false
			for i, e := range commit.Events {
				shown, err := events.EncodeEvent(e)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(string(golden), string(shown)) {
					t.Errorf("event %d is shown as %s, which the file does not say", i, shown)
				}
				_, unknown := e.(events.Unknown)
				foreign = foreign || unknown
			}
			if foreign {
				return // to be shown, not to be written as one's own
			}
			encoded, err := events.Encode(commit)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(golden), string(encoded)); diff != "" {
				t.Errorf("written back (-golden +got):\n%s", diff)
			}
		})
	}
}

// TestEveryTypeIsGolden reads the source, so that a new event type cannot be
// forgotten here.
func TestEveryTypeIsGolden(t *testing.T) {
	source, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	types := 0
	ast.Inspect(source, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Type") {
			return true
		}
		wire, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		types++
		golden, err := os.ReadFile(filepath.Join("testdata", "v1", wire+".json"))
		if err != nil {
			t.Errorf("%s has no golden file: %v", wire, err)
			return true
		}
		commit, err := events.Decode(golden)
		if err != nil || len(commit.Events) != 1 || commit.Events[0].Type() != wire {
			t.Errorf("the golden file of %s holds %v (%v)", wire, commit.Events, err)
		}
		return true
	})
	if types != len(full()) {
		t.Errorf("%d types in the source, %d in full()", types, len(full()))
	}
}
