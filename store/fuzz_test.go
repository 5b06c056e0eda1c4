// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"

	"github.com/ipamlog/ipamlog/store"
)

// FuzzRecollect: what is remembered of the store is understood and can be written down
// again, or is told to be damaged.
func FuzzRecollect(f *testing.F) {
	f.Add([]byte(`{"store":"01KAHR4M5N0000000000000002","stream":"catalogue","commit":"01KAHR4M5N0000000000000003","revision":7}`))
	f.Add([]byte(`{"store":"01KAHR4M5N0000000000000002","revision":7,"clock":{"boot":"aa87fba6-9a54-4329-bb8f-ea6491a9e384","time":"2026-11-22T13:22:32.668359Z","since_boot":59258665599893}}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`null`))
	f.Add([]byte(``))
	f.Add([]byte(`{"store":"x","revision":-1}`))
	dir := f.TempDir()
	written, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(written) > 0 {
		f.Fatal(written, err)
	}
	memory, _, err := store.Recollect(dir)
	if err != nil {
		f.Fatal(err)
	}
	if err := store.Remember(dir, memory); err != nil {
		f.Fatal(err)
	}
	if written, err = filepath.Glob(filepath.Join(dir, "*")); err != nil || len(written) != 1 {
		f.Fatal(written, err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(written[0], data, 0o600); err != nil {
			t.Fatal(err)
		}
		memory, known, err := store.Recollect(dir)
		if err != nil {
			if !errors.Is(err, store.ErrMemory) {
				t.Fatal(err)
			}
			return
		}
		if err := store.Remember(dir, memory); err != nil {
			t.Fatalf("%+v cannot be written down: %v", memory, err)
		}
		again, still, err := store.Recollect(dir)
		if diff := cmp.Diff(memory, again); diff != "" || err != nil || !known || !still {
			t.Errorf("%v %v %v\n%s", known, still, err, diff)
		}
	})
}
