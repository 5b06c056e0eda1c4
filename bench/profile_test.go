// SPDX-License-Identifier: Apache-2.0

package main

import (
	"sync"
	"testing"

	"github.com/ipamlog/ipamlog/embedded/etcdtest"
)

// BenchmarkActor is what a profile is taken of: callers of one pool's actor, with their
// etcd, in one process. An operation is a request or a release.
func BenchmarkActor(b *testing.B) {
	host, err := joinHere(b.Context(), etcdtest.Start(b).Endpoint(), "here")
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := host.leave(); err != nil {
			b.Error(err)
		}
	}()
	grant, err := host.open(b.Context(), "10.9.0.0/16")
	if err != nil {
		b.Fatal(err)
	}
	callers := newCallers(host.Host, grant, 64)
	b.ReportAllocs()
	b.ResetTimer()
	var calling sync.WaitGroup
	for i, c := range callers {
		calling.Go(func() {
			for n := i; n < b.N/2; n += len(callers) {
				if _, _, err := c.turn(b.Context()); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	calling.Wait()
}
