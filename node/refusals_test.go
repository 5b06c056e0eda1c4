// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/ipamlog/ipamlog/embedded/etcdtest"
)

// TestRefusals: while etcd takes no writes, the releases that wait for it are tried
// more and more seldom, and those of many pools make no more lines than those of one.
func TestRefusals(t *testing.T) {
	t.Parallel()
	etcd := startEtcd(t, shortDir(t), func(c *embed.Config) { c.QuotaBackendBytes = 8 << 20 })
	endpoint := "unix://" + etcd.Clients[0].Addr().String()
	admin := etcdtest.Dial(t, endpoint)
	d := serve(t, "h1", endpoint)
	const pools = 5
	leave := map[string]string{} // pool: address
	for n := range pools {
		var granted struct{ PoolID, Address string }
		d.eventually("a pool", func() (said string) {
			granted, said = d.call("RequestPool", object{"AddressSpace": "ipamlog-local", "Pool": fmt.Sprintf("10.5%d.0.0/24", n)})
			return said
		})
		got, said := d.call("RequestAddress", object{"PoolID": granted.PoolID})
		if said != "" {
			t.Fatal(said)
		}
		leave[granted.PoolID], _, _ = strings.Cut(got.Address, "/")
	}
	for i := 0; ; i++ {
		_, err := admin.Put(t.Context(), fmt.Sprintf("/somebody-else/%d", i), strings.Repeat("x", 256<<10))
		if errors.Is(err, rpctypes.ErrNoSpace) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for pool, address := range leave {
		if _, said := d.call("ReleaseAddress", object{"PoolID": pool, "Address": address}); said != "" {
			t.Errorf("a release was refused: %s", said)
		}
	}
	if n := d.spooled(); n != pools {
		t.Errorf("%d releases are spooled", n)
	}
	said, tried := strings.Count(d.log.String(), "a commit was refused"), etcd.Server.CommittedIndex()
	time.Sleep(15 * time.Second) // which is what this is about
	lines, tries := strings.Count(d.log.String(), "a commit was refused")-said, etcd.Server.CommittedIndex()-tried
	t.Logf("%d lines and %d tries in 15 s", lines, tries)
	if lines < 1 || lines > 3 {
		t.Errorf("it said %d times in 15 s that a commit was refused", lines)
	}
	// After 2, 4 and 8 seconds, which etcd answers by raising its alarm again.
	if tries < pools || tries > 4*pools {
		t.Errorf("%d releases were tried %d times in 15 s", pools, tries)
	}
}
