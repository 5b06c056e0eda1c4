// SPDX-License-Identifier: Apache-2.0

package etcdlog_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// TestFound_nested: a slip in a prefix begins no log inside another.
func TestFound_nested(t *testing.T) {
	client := etcdtest.Start(t).Client()
	ctx := t.Context()
	for n := range 20 { // somebody else's, which are no log
		for _, key := range []string{"/aaa/%d", "/aaa/log/%d", "/ipamlog/meta/%d", "/zzz/meta/%d/store"} {
			if _, err := client.Put(ctx, fmt.Sprintf(key, n), ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	first := etcdlog.New(client, "/ipamlog/v1/")
	if _, err := first.Found(ctx); err != nil {
		t.Fatal(err)
	}
	join(t, first, "h1")
	if _, err := client.Put(ctx, "/other/v1/meta/restoring", "{}"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ prefix, said string }{
		{"/ipamlog/v1/log/", "the prefix /ipamlog/v1/log/ is inside /ipamlog/v1/, where another ipamlog log is: "},
		{"/ipamlog/v1/a/b/c/", "is inside /ipamlog/v1/, where another"},
		{"/ipamlog/", "inside the prefix /ipamlog/, at /ipamlog/v1/, is another ipamlog log: "},
		{"/", "inside the prefix /, at /ipamlog/v1/, is another"},
		{"/other/", "at /other/v1/, is another"},
		{"/other/v1/meta/", "is inside /other/v1/, where another"},
		{"/ipamlog/v1/", ""},
		{"/ipamlog/v2/", ""},
		{"/ipamlog/v10/", ""},
		{"/aaa/", ""},
		{"/zzz/meta/", ""},
	} {
		log := etcdlog.New(client, tt.prefix)
		_, err := log.Found(ctx)
		if tt.said == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.prefix, err)
			}
			continue
		}
		if !errors.Is(err, etcdlog.ErrNested) || !strings.Contains(err.Error(), tt.said) {
			t.Errorf("%s: %v", tt.prefix, err)
		}
		if _, err := log.Restore(ctx, etcdlog.Origin{}); !errors.Is(err, etcdlog.ErrNested) {
			t.Errorf("%s: a restore: %v", tt.prefix, err)
		}
	}
	found, err := client.Get(ctx, "/ipamlog/v1/log/meta/store")
	if err != nil || len(found.Kvs) > 0 {
		t.Errorf("it began all the same: %v %v", found, err)
	}
}
