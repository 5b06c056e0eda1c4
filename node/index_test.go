// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/bench/bulk"
	"github.com/ipamlog/ipamlog/embedded/etcdtest"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

func joined(d *served) func() string {
	return func() string {
		if d.node.Index() == nil {
			return "it has not joined"
		}
		return ""
	}
}

// TestNode_index: a few hosts all keep an index; of many those on which somebody has
// asked.
func TestNode_index(t *testing.T) {
	etcd := etcdtest.Start(t)
	story := func(events int) {
		t.Helper()
		if err := bulk.Write(t.Context(), etcd.Client(), etcdlog.DefaultPrefix, bulk.Story{Events: events, Held: 100}.Commits(), nil); err != nil {
			t.Fatal(err)
		}
	}
	story(7_000)
	alone := func(prefix string) {
		t.Helper()
		if _, err := etcd.Client().Delete(t.Context(), prefix, clientv3.WithPrefix()); err != nil {
			t.Fatal(err)
		}
	}
	const others = etcdlog.DefaultPrefix + "alive/other-"
	crowd := func(n int) {
		t.Helper()
		for i := range n {
			if _, err := etcd.Client().Put(t.Context(), fmt.Sprintf("%s%d", others, i), `{"machine":"m","pid":1,"incarnation":1}`); err != nil {
				t.Fatal(err)
			}
		}
	}
	refresh := func(d *served, kept bool) {
		t.Helper()
		if err := d.node.RefreshIndex(t.Context()); err != nil {
			t.Fatal(err)
		}
		if is := strings.HasPrefix(d.node.Index().Describe(t.Context()), "index "); is != kept {
			t.Errorf("there is an index: %v", is)
		}
	}
	d := serve(t, "h1", etcd.Endpoint())
	d.eventually("join", joined(d))
	crowd(40)
	refresh(d, false)
	alone(others)
	crowd(20)
	refresh(d, true)

	crowd(40)
	late := serve(t, "h2", etcd.Endpoint())
	late.eventually("join", joined(late))
	refresh(late, false)
	if _, err := late.node.Index().History(t.Context(), nil); err != nil { // somebody asks
		t.Fatal(err)
	}
	refresh(late, true)

	// One that was kept while there were few is not brought up to date among many.
	before := d.node.Index().Describe(t.Context())
	late.grant()
	late.gets(1)
	refresh(d, true)
	if after := d.node.Index().Describe(t.Context()); after != before {
		t.Errorf("read on among many, though nobody asked: %s, before %s", after, before)
	}
}
